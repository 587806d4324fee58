"""The payment fields of an invoice: balance, credit notes, attempts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .bills import Bill
from .calendars import DAY, shown, stamp
from .ids import make_id
from .money import ZERO, money, rounded
from .rows import Row
from .templates import dumps, quoted

RETRY = 3 * DAY
MAX_ATTEMPTS = 4

_EMPTY = b"[]"
_NULL = b"null"


def payment_values(row: Row, bill: Bill, chance: bytes) -> dict[str, bytes]:
    """Return the values of the payment slots; `chance` decides who used credit."""
    values = {
        "amount_due": bill.total_json,
        "customer_balance_transactions": _EMPTY,
        "credit_notes": _EMPTY,
    }
    if bill.total > 0 and row.status != "draft":
        if chance[63] < 14 and row.status != "synced":
            # In Orb, synced invoices cannot use the balance:
            # https://docs.withorb.com/api-reference/customer/list-balance-transactions
            values |= _balance_used(row, bill, 7 + chance[62] % 40)
        elif chance[61] < 6 and row.status in {"issued", "paid"}:
            values |= _credit_note(row, bill)
    received = row.status == "paid" and bill.total
    values["payment_received_at"] = stamp(row.settled) if received else _NULL
    values |= _tried(row, values["amount_due"]) if row.attempts else _untried(row)
    return values


def _balance_used(row: Row, bill: Bill, percent: int) -> dict[str, bytes]:
    currency = row.customer.currency
    amount = rounded(bill.total * percent / 100, currency)
    issued = row.issued or row.date
    entries = [
        balance_entry(row.id, "applied_to_invoice", -amount, amount, issued, currency)
    ]
    if row.status == "void":
        voided = row.settled or issued
        entries.append(
            balance_entry(row.id, "return_from_voiding", amount, ZERO, voided, currency)
        )
    return {
        "amount_due": quoted(money(bill.total - amount, currency)),
        "customer_balance_transactions": dumps(entries),
    }


def _credit_note(row: Row, bill: Bill) -> dict[str, bytes]:
    # A credit note lowers the amount due of an issued invoice; on a paid one it is a
    # refund: https://docs.withorb.com/invoicing/credit-notes
    currency = row.customer.currency
    amount = rounded(bill.total / 10, currency)
    lowers = row.status == "issued"
    note = {
        "id": make_id("credit note", row.id),
        "credit_note_number": f"CN-{row.number:05d}",
        "memo": "Agreed with the customer",
        "reason": "Order change",
        "total": money(amount, currency),
        "type": "adjustment" if lowers else "refund",
        "voided_at": None,
    }
    due = bill.total - amount if lowers else bill.total
    return {"amount_due": quoted(money(due, currency)), "credit_notes": dumps([note])}


def _untried(row: Row) -> dict[str, bytes]:
    enabled = b"true" if row.customer.collection == "auto" else b"false"
    return {
        "auto_collection": _COLLECTION % (enabled, stamp(next_attempt(row)), _NULL, 0),
        "payment_started_at": _NULL,
        "payment_failed_at": _NULL,
        "payment_attempts": _EMPTY,
    }


def _tried(row: Row, amount: bytes) -> dict[str, bytes]:
    times = attempt_times(row)
    failed = times[:-1] if row.status == "paid" else times
    last = stamp(times[-1])
    attempts = [
        _attempt(row, n, amount, moment, n >= len(failed))
        for n, moment in enumerate(times)
    ]
    following = stamp(next_attempt(row))
    return {
        "auto_collection": _COLLECTION % (b"true", following, last, len(times)),
        "payment_started_at": last,
        "payment_failed_at": stamp(failed[-1]) if failed else _NULL,
        "payment_attempts": b"[%b]" % b",".join(attempts),
    }


_COLLECTION = b'{"enabled":%b,"next_attempt_at":%b,"previously_attempted_at":%b,"num_attempts":%d}'


def attempt_times(row: Row) -> list[int]:
    """Return when payment was tried; if it was paid, the last time is when."""
    if row.status == "paid" and row.settled is not None:
        return [row.settled - RETRY * n for n in reversed(range(row.attempts))]
    first = (row.issued or row.date) + 3600
    return [first + RETRY * n for n in range(row.attempts)]


def next_attempt(row: Row) -> int | None:
    """Return when payment is tried next; None after the last attempt (Orb's SDK)."""
    tries = row.status == "issued" and row.customer.collection == "auto"
    if not tries or row.attempts >= MAX_ATTEMPTS:
        return None
    first = (row.issued or row.date) + 3600
    return first + RETRY * row.attempts


_ATTEMPT = (
    b'{"id":"%b","amount":%b,"created_at":%b,"payment_provider":"stripe",'
    b'"payment_provider_id":"pi_%b","receipt_pdf":%b,"succeeded":%b}'
)


def _attempt(row: Row, n: int, amount: bytes, moment: int, succeeded: bool) -> bytes:
    # The invoice's id, rotated by one more character for each attempt.
    key = (row.id[n + 1 :] + row.id[: n + 1]).encode()
    receipt = b'"https://assets.withorb.com/receipt/%b"' % key
    return _ATTEMPT % (
        key,
        amount,
        stamp(moment),
        key,
        receipt if succeeded else _NULL,
        b"true" if succeeded else b"false",
    )


def balance_entry(
    invoice_id: str,
    action: str,
    change: Decimal,
    starting: Decimal,
    moment: int,
    currency: str,
) -> dict[str, Any]:
    """Return an entry for a change of the customer's balance; credit is positive."""
    return {
        "id": make_id(action, invoice_id, moment),
        "action": action,
        "type": "increment" if change > 0 else "decrement",
        "amount": money(abs(change), currency),
        "starting_balance": money(starting, currency),
        "ending_balance": money(starting + change, currency),
        "created_at": shown(moment),
        "description": None,
        "invoice": {"id": invoice_id},
        "credit_note": None,
    }
