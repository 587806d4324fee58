"""What happens to an invoice's payload when its status changes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .calendars import DAY, parsed, shown
from .customers import Customer
from .lines import tax_amounts, totals
from .links import Links
from .money import ZERO, money
from .payments import balance_entry

Payload = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A payload after a change, and the customer's balance with it."""

    payload: Payload
    balance: Decimal


def with_totals(payload: Payload) -> Payload:
    """The sums of the lines, for an invoice whose lines changed."""
    sums = totals(payload["line_items"])
    currency = payload["currency"]
    total = money(sums.total, currency)
    subtotal = money(sums.subtotal, currency)
    return payload | {"subtotal": subtotal, "total": total, "amount_due": total}


def issue(
    payload: Payload, customer: Customer, balance: Decimal, moment: int, links: Links
) -> Change:
    """Freeze a draft: tax, due date, the customer's balance, the links."""
    lines = [_taxed(line, customer) for line in payload["line_items"]]
    issued = with_totals(payload | {"line_items": lines})
    date = parsed(payload["invoice_date"]) or moment
    due = payload["due_date"] or shown(date + customer.net_terms * DAY)
    issued |= {
        "status": "issued",
        "issued_at": shown(moment),
        "due_date": due,
        "scheduled_issue_at": None,
        "eligible_to_issue_at": None,
        "will_auto_issue": False,
        **links.fields(payload["id"]),
    }
    change = _with_balance_applied(issued, balance, moment)
    if Decimal(change.payload["amount_due"]) > 0:
        return change
    # https://docs.withorb.com/invoicing/structure: nothing to pay is paid at issue.
    paid = change.payload | {"status": "paid", "paid_at": shown(moment)}
    return Change(paid, change.balance)


def _taxed(line: Payload, customer: Customer) -> Payload:
    # Own choice: tax is worked out at issue; the sheet's draft has none.
    taxes, currency = customer.region.taxes, customer.currency
    return line | {"tax_amounts": tax_amounts(Decimal(line["amount"]), taxes, currency)}


def _with_balance_applied(payload: Payload, balance: Decimal, moment: int) -> Change:
    total = Decimal(payload["total"])
    applied = max(ZERO, min(balance, total))
    if not applied:
        return Change(payload, balance)
    currency = payload["currency"]
    entry = balance_entry(
        payload["id"], "applied_to_invoice", applied, balance, moment, currency
    )
    entries = [*payload["customer_balance_transactions"], entry]
    change = {
        "amount_due": money(total - applied, currency),
        "customer_balance_transactions": entries,
    }
    return Change(payload | change, balance - applied)


def void(payload: Payload, balance: Decimal, moment: int) -> Change:
    """
    Take an issued invoice back; what it took from the balance returns.

    Own choice, since no document shows one: a void invoice keeps `amount_due`.
    Source: https://docs.withorb.com/api-reference/invoice/void-invoice
    """
    entries = payload["customer_balance_transactions"]
    applied = sum(
        (Decimal(e["amount"]) for e in entries if e["action"] == "applied_to_invoice"),
        ZERO,
    )
    voided = payload | {"status": "void", "voided_at": shown(moment)}
    # https://support.withorb.com/articles/3850102153: no payment is attempted now.
    voided["auto_collection"] = payload["auto_collection"] | {"next_attempt_at": None}
    if applied:
        entry = balance_entry(
            payload["id"],
            "return_from_voiding",
            applied,
            balance,
            moment,
            payload["currency"],
        )
        voided["customer_balance_transactions"] = [*entries, entry]
    return Change(voided, balance + applied)


def mark_paid(payload: Payload, moment: int, received: int | None = None) -> Payload:
    collection = payload["auto_collection"] | {"next_attempt_at": None}
    return payload | {
        "status": "paid",
        "paid_at": shown(moment),
        "payment_received_at": shown(moment if received is None else received),
        "auto_collection": collection,
    }
