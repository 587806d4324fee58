"""Changes of an invoice's payload: issue, payment, voiding."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .calendars import shown
from .customers import Customer
from .ids import make_id
from .lines import tax_amounts, totals
from .links import links
from .money import ZERO, money
from .payments import MAX_ATTEMPTS, RETRY, balance_entry

Payload = dict[str, Any]

# https://docs.withorb.com/invoicing/customer-balance-transactions: an amount below the
# provider's minimum (about 0.50) is not collected but carried over.
SMALLEST_PAYMENT = Decimal("0.50")
FIRST_ATTEMPT = 3600


@dataclass(frozen=True)
class Change:
    """A payload after a change, and the customer's balance after it."""

    payload: Payload
    balance: Decimal


def with_totals(payload: Payload) -> Payload:
    """Return the payload with the sums of its lines, after the lines changed."""
    sums = totals(payload["line_items"])
    currency = payload["currency"]
    total = money(sums.total, currency)
    subtotal = money(sums.subtotal, currency)
    return payload | {"subtotal": subtotal, "total": total, "amount_due": total}


def issue(
    payload: Payload, customer: Customer, balance: Decimal, moment: int, due: int
) -> Change:
    """Issue a draft: set tax, due date and links, and use the customer's balance."""
    lines = [_taxed(line, customer) for line in payload["line_items"]]
    portal, pdf = links(payload["id"])
    issued = with_totals(payload | {"line_items": lines}) | {
        "status": "issued",
        "issued_at": shown(moment),
        "due_date": shown(due),
        "scheduled_issue_at": None,
        "eligible_to_issue_at": None,
        "will_auto_issue": False,
        "hosted_invoice_url": portal,
        "invoice_pdf": pdf,
    }
    change = _with_balance_applied(issued, balance, moment)
    change = _with_small_amount_carried_over(change, moment)
    if Decimal(change.payload["amount_due"]) > 0:
        return Change(_to_be_collected(change.payload, moment), change.balance)
    # https://docs.withorb.com/invoicing/structure: with nothing due it is paid at once.
    paid = change.payload | {"status": "paid", "paid_at": shown(moment)}
    return Change(paid, change.balance)


def _taxed(line: Payload, customer: Customer) -> Payload:
    # Own choice: tax is calculated at issue, since the documents' draft has none.
    taxes, currency = customer.region.taxes, customer.currency
    return line | {"tax_amounts": tax_amounts(Decimal(line["amount"]), taxes, currency)}


def _with_balance_applied(payload: Payload, balance: Decimal, moment: int) -> Change:
    # Credit lowers the amount due, at most to zero; a debt raises it.
    applied = min(balance, max(ZERO, Decimal(payload["amount_due"])))
    change = _with_entry(payload, "applied_to_invoice", -applied, balance, moment)
    return Change(_with_due(change.payload, -applied), change.balance)


def _with_small_amount_carried_over(change: Change, moment: int) -> Change:
    due = Decimal(change.payload["amount_due"])
    if not 0 < due < SMALLEST_PAYMENT or change.payload["currency"] == "JPY":
        return change
    owed = _with_entry(
        change.payload, "small_invoice_carryover", -due, change.balance, moment
    )
    return Change(_with_due(owed.payload, -due), owed.balance)


def _with_due(payload: Payload, difference: Decimal) -> Payload:
    due = Decimal(payload["amount_due"]) + difference
    return payload | {"amount_due": money(due, payload["currency"])}


def _with_entry(
    payload: Payload, action: str, change: Decimal, balance: Decimal, moment: int
) -> Change:
    """Change the customer's balance, and show the change on the invoice."""
    if not change:
        return Change(payload, balance)
    currency = payload["currency"]
    entry = balance_entry(payload["id"], action, change, balance, moment, currency)
    entries = [*payload["customer_balance_transactions"], entry]
    shown_on = payload | {"customer_balance_transactions": entries}
    return Change(shown_on, balance + change)


def _to_be_collected(payload: Payload, moment: int) -> Payload:
    collection = payload["auto_collection"]
    if not collection["enabled"]:
        return payload
    first = collection | {"next_attempt_at": shown(moment + FIRST_ATTEMPT)}
    return payload | {"auto_collection": first}


def void(payload: Payload, balance: Decimal, moment: int) -> Change:
    """
    Void an issued invoice, and give back what it used of the customer's balance.

    Own choice, as the documents show none: a void invoice keeps its `amount_due`.
    Source: https://docs.withorb.com/api-reference/invoice/void-invoice
    """
    used = [
        Decimal(entry["starting_balance"]) - Decimal(entry["ending_balance"])
        for entry in payload["customer_balance_transactions"]
        if entry["action"] == "applied_to_invoice"
    ]
    voided = payload | {"status": "void", "voided_at": shown(moment)}
    # https://support.withorb.com/articles/3850102153: no more payment is attempted.
    voided["auto_collection"] = payload["auto_collection"] | {"next_attempt_at": None}
    return _with_entry(voided, "return_from_voiding", sum(used, ZERO), balance, moment)


def mark_paid(payload: Payload, moment: int, received: int | None = None) -> Payload:
    collection = payload["auto_collection"] | {"next_attempt_at": None}
    return payload | {
        "status": "paid",
        "paid_at": shown(moment),
        "payment_received_at": shown(moment if received is None else received),
        "auto_collection": collection,
    }


def undo_mark_paid(payload: Payload) -> Payload:
    """Make it issued again; Orb has an event for this, but not an API call."""
    return payload | {"status": "issued", "paid_at": None, "payment_received_at": None}


def attempt_payment(payload: Payload, moment: int, succeeds: bool) -> Payload:
    """Charge the payment method, successfully or not."""
    made = payload["auto_collection"]["num_attempts"] + 1
    again = (
        not succeeds and payload["auto_collection"]["enabled"] and made < MAX_ATTEMPTS
    )
    tried = payload | {
        "payment_started_at": shown(moment),
        "payment_attempts": [
            *payload["payment_attempts"],
            _attempt(payload, made, moment, succeeds),
        ],
        "auto_collection": payload["auto_collection"]
        | {
            "num_attempts": made,
            "previously_attempted_at": shown(moment),
            "next_attempt_at": shown(moment + RETRY) if again else None,
        },
    }
    if not succeeds:
        return tried | {"payment_failed_at": shown(moment)}
    return mark_paid(tried, moment)


def _attempt(payload: Payload, made: int, moment: int, succeeds: bool) -> Payload:
    key = make_id("attempt", payload["id"], made)
    receipt = f"https://assets.withorb.com/receipt/{key}"
    return {
        "id": key,
        "amount": payload["amount_due"],
        "created_at": shown(moment),
        "payment_provider": "stripe",
        "payment_provider_id": f"pi_{key}",
        "receipt_pdf": receipt if succeeds else None,
        "succeeded": succeeds,
    }


def provider_facts(payload: Payload) -> Payload:
    """Return the properties with which payment events name the provider."""
    attempt = (payload["payment_attempts"] or [{}])[-1]
    provider_id = attempt.get("payment_provider_id")
    return {
        "payment_provider": "stripe",
        "payment_provider_id": provider_id,
        "payment_provider_transaction_id": provider_id,
    }
