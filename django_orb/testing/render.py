"""A row of the account as the invoice that Orb would show."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any

from .bills import Bill, BillKey
from .calendars import DAY, month_start, shown, stamp
from .ids import digest, letters, make_id
from .money import ZERO, money, rounded
from .rows import Row
from .templates import Template, dumps, quoted, slot

_EMPTY = b"[]"
_NULL = b"null"
_RETRY_DAYS = 3
_MAX_ATTEMPTS = 4

_INVOICE = Template(
    {
        name: slot(name)
        for name in [
            "id",
            "invoice_number",
            "invoice_source",
            "status",
            "currency",
            "subtotal",
            "total",
            "amount_due",
            "invoice_date",
            "due_date",
            "created_at",
            "issued_at",
            "paid_at",
            "voided_at",
            "scheduled_issue_at",
            "eligible_to_issue_at",
            "will_auto_issue",
        ]
    }
    | {"issue_failed_at": None, "sync_failed_at": None}
    | {
        name: slot(name)
        for name in [
            "payment_started_at",
            "payment_failed_at",
            "payment_received_at",
            "auto_collection",
            "customer",
            "subscription",
            "billing_address",
        ]
    }
    | {"shipping_address": None}
    | {name: slot(name) for name in ("customer_tax_id", "discount", "discounts")}
    | {
        "minimum": None,
        "minimum_amount": None,
        "maximum": None,
        "maximum_amount": None,
    }
    | {
        name: slot(name)
        for name in [
            "customer_balance_transactions",
            "credit_notes",
            "payment_attempts",
            "line_items",
        ]
    }
    | {"hidden_line_item_count": 0, "memo": slot("memo")}
    | {name: slot(name) for name in ("metadata", "hosted_invoice_url", "invoice_pdf")}
)


class Links:
    """The portal and PDF links; signed anew on every read when that is asked for."""

    def __init__(self) -> None:
        self.signed_anew = False

    def hosted_invoice_url(self, invoice_id: str) -> str:
        token = make_id("portal", invoice_id)
        return f"https://portal.withorb.com/view?token={token}{self._signature('.')}"

    def invoice_pdf(self, invoice_id: str) -> str:
        file = make_id("pdf", invoice_id)
        signature = self._signature("?signature=")
        return f"https://assets.withorb.com/invoice/SANDBOX/{file}{signature}"

    def _signature(self, separator: str) -> str:
        return separator + secrets.token_hex(16) if self.signed_anew else ""

    def refreshed(self, payload: dict[str, Any]) -> dict[str, Any]:
        if payload["invoice_pdf"] is None:
            return payload
        return payload | {
            "hosted_invoice_url": self.hosted_invoice_url(payload["id"]),
            "invoice_pdf": self.invoice_pdf(payload["id"]),
        }


class Renderer:
    def __init__(self, seed: int, levels: int, first_month: int, prefix: str) -> None:
        self.links = Links()
        self._seed = seed
        self._levels = levels
        self._first_month = first_month
        self._prefix = prefix
        self._bills: dict[BillKey, Bill] = {}

    def bill(self, key: BillKey) -> Bill:
        bill = self._bills.get(key)
        if bill is None:
            bill = self._bills[key] = Bill(self._seed, key, self._levels)
        return bill

    def invoice(self, row: Row) -> bytes:
        if row.payload is None:
            return self._derived(row)
        if self.links.signed_anew:
            return dumps(self.links.refreshed(row.payload))
        return row.body or dumps(row.payload)

    def _derived(self, row: Row) -> bytes:
        bill = self.bill(row.bill)
        chance = digest(self._seed, "render", row.id)
        money_side = _Money(row, bill, chance)
        values = self._line_values(row, bill, chance)
        values["line_items"] = bill.lines.render(values)
        values |= self._identity(row)
        values |= self._times(row)
        values |= self._customer(row)
        values |= money_side.values()
        return _INVOICE.render(values)

    def _line_values(self, row: Row, bill: Bill, chance: bytes) -> dict[str, bytes]:
        customer = row.customer
        values = {"customer_id": quoted(customer.id)}
        values |= _line_ids(self._seed, row.id, bill.line_count, chance)
        if row.source == "one_off":
            start, end = row.date, row.date + 30 * DAY
            return values | _periods(start, end, start, end)
        month = self._first_month + row.period
        day, zone = customer.billing_day, customer.region.time_zone
        before, start, end = (month_start(month + n, day, zone) for n in (-1, 0, 1))
        if row.source == "partial":
            return values | _periods(before, row.date, row.date, start)
        return values | _periods(before, start, start, end)

    def _identity(self, row: Row) -> dict[str, bytes]:
        # Drafts have no links yet (the sheet's sample of a draft; confidence low).
        drafted = row.status == "draft"
        pdf = _NULL if drafted else quoted(self.links.invoice_pdf(row.id))
        portal = _NULL if drafted else quoted(self.links.hosted_invoice_url(row.id))
        return {
            "id": quoted(row.id),
            "invoice_number": b'"%b-%05d"' % (self._prefix.encode(), row.number),
            "invoice_source": quoted(row.source),
            "status": quoted(row.status),
            "hosted_invoice_url": portal,
            "invoice_pdf": pdf,
        }

    def _times(self, row: Row) -> dict[str, bytes]:
        draft, auto = row.status == "draft", row.scheduled is not None
        settled = stamp(row.settled)
        return {
            "invoice_date": stamp(row.date),
            "due_date": _NULL if draft else stamp(row.due),
            "created_at": stamp(row.created),
            "issued_at": stamp(row.issued),
            "paid_at": settled if row.status == "paid" else _NULL,
            "voided_at": settled if row.status == "void" else _NULL,
            "scheduled_issue_at": stamp(row.scheduled),
            "eligible_to_issue_at": stamp(row.scheduled or row.date)
            if draft
            else _NULL,
            "will_auto_issue": b"true" if draft and auto else b"false",
        }

    def _customer(self, row: Row) -> dict[str, bytes]:
        customer = row.customer
        subscribed = row.source != "one_off"
        return {
            "customer": customer.minified,
            "subscription": customer.subscription if subscribed else _NULL,
            "billing_address": customer.address,
            "customer_tax_id": customer.tax_id,
            "metadata": customer.metadata,
            "memo": _memo(row),
        }


def _memo(row: Row) -> bytes:
    terms = row.customer.net_terms
    if not terms:
        return _NULL
    if row.customer.region.code == "de":
        return (
            f'"Zahlbar innerhalb von {terms} Tagen ohne Abzug. Vielen Dank!"'.encode()
        )
    return b'"Net %d. Please quote the invoice number with your transfer."' % terms


def _line_ids(seed: int, row_id: str, count: int, chance: bytes) -> dict[str, bytes]:
    ids = letters(chance)
    if count * 12 > len(ids):
        ids += letters(digest(seed, "more", row_id))
    raw = ids.encode()
    return {f"line{n}": b'"%b"' % raw[n * 12 : n * 12 + 12] for n in range(count)}


def _periods(
    used_from: int, used_to: int, ahead_from: int, ahead_to: int
) -> dict[str, bytes]:
    return {
        "used_from": stamp(used_from),
        "used_to": stamp(used_to),
        "ahead_from": stamp(ahead_from),
        "ahead_to": stamp(ahead_to),
    }


class _Money:
    """The side of an invoice that has to do with being paid."""

    def __init__(self, row: Row, bill: Bill, chance: bytes) -> None:
        self._row = row
        self._bill = bill
        self._chance = chance
        self._currency = row.customer.currency
        self._final = row.status != "draft"
        # Orb does not let synced invoices use the balance
        # (https://docs.withorb.com/api-reference/customer/list-balance-transactions).
        may_apply = self._final and row.status != "synced" and bill.total > 0
        self._applied = self._share(7 + chance[62] % 40, may_apply and chance[63] < 14)
        noted = chance[61] < 6 and row.status in {"issued", "paid"} and bill.total > 0
        self._credited = self._share(10, noted and not self._applied)

    def _share(self, percent: int, wanted: bool) -> Decimal:
        return (
            rounded(self._bill.total * percent / 100, self._currency)
            if wanted
            else ZERO
        )

    @property
    def amount_due(self) -> Decimal:
        # A credit note lowers what an issued invoice asks for; on a paid one it is
        # a refund: https://docs.withorb.com/invoicing/credit-notes
        adjusted = self._credited if self._row.status == "issued" else ZERO
        return self._bill.total - self._applied - adjusted

    def values(self) -> dict[str, bytes]:
        bill, currency = self._bill, self._currency
        return {
            "currency": quoted(currency),
            "subtotal": quoted(money(bill.subtotal, currency)),
            "total": quoted(money(bill.total, currency)),
            "amount_due": quoted(money(self.amount_due, currency)),
            "discount": bill.discount,
            "discounts": bill.discounts,
            "customer_balance_transactions": self._transactions(),
            "credit_notes": self._credit_notes(),
            **self._collection(),
        }

    def _transactions(self) -> bytes:
        if not self._applied:
            return _EMPTY
        row, amount = self._row, self._applied
        issued = row.issued or row.date
        entries = [
            balance_entry(
                row.id, "applied_to_invoice", amount, amount, issued, self._currency
            )
        ]
        if row.status == "void":
            entries.append(
                balance_entry(
                    row.id,
                    "return_from_voiding",
                    amount,
                    ZERO,
                    row.settled or issued,
                    self._currency,
                )
            )
        return dumps(entries)

    def _credit_notes(self) -> bytes:
        if not self._credited:
            return _EMPTY
        return dumps(
            [
                {
                    "id": make_id("credit note", self._row.id),
                    "credit_note_number": f"CN-{self._row.number:05d}",
                    "memo": "Agreed with the customer",
                    "reason": "Order change",
                    "total": money(self._credited, self._currency),
                    "type": "adjustment" if self._row.status == "issued" else "refund",
                    "voided_at": None,
                }
            ]
        )

    def _collection(self) -> dict[str, bytes]:
        row = self._row
        auto = self._final and row.customer.collection == "auto"
        times = self._attempt_times()
        paid = row.status == "paid"
        failed = times[:-1] if paid else times
        received = row.settled if paid and self._bill.total else None
        return {
            "auto_collection": _auto_collection(
                auto, times, self._next_attempt(auto, times)
            ),
            "payment_started_at": stamp(times[-1]) if times else _NULL,
            "payment_failed_at": stamp(failed[-1]) if failed else _NULL,
            "payment_received_at": stamp(received),
            "payment_attempts": self._attempts(times, failed) if times else _EMPTY,
        }

    def _attempt_times(self) -> list[int]:
        row, count = self._row, self._row.attempts
        if not count:
            return []
        step = _RETRY_DAYS * DAY
        if row.status == "paid" and row.settled is not None:
            return [row.settled - step * n for n in reversed(range(count))]
        return [(row.issued or row.date) + 3600 + step * n for n in range(count)]

    def _next_attempt(self, auto: bool, times: list[int]) -> int | None:
        if not auto or self._row.status != "issued" or len(times) >= _MAX_ATTEMPTS:
            return None
        last = times[-1] + _RETRY_DAYS * DAY if times else None
        return last or (self._row.issued or self._row.date) + 3600

    def _attempts(self, times: list[int], failed: list[int]) -> bytes:
        amount = money(self.amount_due, self._currency).encode()
        return b"[%b]" % b",".join(
            _attempt(self._row.id, n, amount, moment, moment not in failed)
            for n, moment in enumerate(times)
        )


def _auto_collection(auto: bool, times: list[int], upcoming: int | None) -> bytes:
    return (
        b'{"enabled":%b,"next_attempt_at":%b,"previously_attempted_at":%b,'
        b'"num_attempts":%d}'
    ) % (
        b"true" if auto else b"false",
        stamp(upcoming),
        stamp(times[-1]) if times else _NULL,
        len(times),
    )


def _attempt(
    row_id: str, position: int, amount: bytes, moment: int, succeeded: bool
) -> bytes:
    key = letters(digest("attempt", row_id, position)).encode()
    receipt = b'"https://assets.withorb.com/receipt/%b"' % key[40:56]
    return (
        b'{"id":"%b","amount":"%b","created_at":%b,"payment_provider":"stripe",'
        b'"payment_provider_id":"pi_%b","receipt_pdf":%b,"succeeded":%b}'
    ) % (
        key[:16],
        amount,
        stamp(moment),
        key[16:40],
        receipt if succeeded else _NULL,
        b"true" if succeeded else b"false",
    )


def balance_entry(
    invoice_id: str,
    action: str,
    amount: Decimal,
    starting: Decimal,
    moment: int,
    currency: str,
) -> dict[str, Any]:
    """A change of the customer's balance; a positive balance is credit."""
    rises = action != "applied_to_invoice"
    return {
        "id": make_id(action, invoice_id, moment),
        "action": action,
        "type": "increment" if rises else "decrement",
        "amount": money(amount, currency),
        "starting_balance": money(starting, currency),
        "ending_balance": money(starting + (amount if rises else -amount), currency),
        "created_at": shown(moment),
        "description": None,
        "invoice": {"id": invoice_id},
        "credit_note": None,
    }
