"""
Decide in one place which of Orb's data is personal, and leave it out.

Of an erased customer's data these stay: ids that Orb made, numbers, amounts, currencies, dates,
statuses, what was sold (items, prices, the names of line items), taxes, and the payment
provider's references. Everything else is blanked, whether it is known to be personal or
is a key that Orb may add one day:

- the project's own id of the customer (often an e-mail address), and whatever else
  `customer` may hold;
- billing and shipping address, tax id, memo, and metadata of the invoice and of prices;
- links to the invoice, its PDF and its receipts, since these show all of the above;
- free texts: reasons of discounts, adjustments and credit notes, memos of credit
  notes, descriptions of balance transactions;
- what usage was grouped and filtered by, since it may name people: `grouping`, `filter`,
  and the names and cells of sub-line-items.

In a webhook event, `properties` are blanked too; in an operation its note, its outcome in
words, and the free texts and the project's own ids in its body.

Keys stay, so that code which reads payloads finds them: a text becomes null, an object or
a list becomes empty.

Source: https://docs.withorb.com/api-reference/invoice/fetch-invoice
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class AllBut:
    """Everything stays except the values of these keys, at any depth."""

    names: frozenset[str]


# True keeps a whole value. A mapping keeps only the keys that it has, in an object or in
# each object of a list.
Kept: TypeAlias = "bool | AllBut | Mapping[str, Kept]"

_NO_REASON = AllBut(frozenset({"reason"}))
_ID = {"id": True}
# How deep JSON is searched; deeper JSON cannot be stored.
_MAX_DEPTH = 100
# How many levels of an event are searched for customers: the event, what it is about, and
# what belongs to that, as in `properties.balance_transaction.invoice`.
_EVENT_LEVELS = 4


def _whole(names: str) -> dict[str, Kept]:
    return dict.fromkeys(names.split(), True)


LINE: dict[str, Kept] = {
    **_whole(
        "id name quantity amount subtotal adjusted_subtotal credits_applied "
        "partially_invoiced_amount start_date end_date usage_customer_ids tax_amounts "
        "minimum_amount maximum_amount"
    ),
    "adjustments": _NO_REASON,
    "discount": _NO_REASON,
    "minimum": _NO_REASON,
    "maximum": _NO_REASON,
    "price": AllBut(frozenset({"metadata", "external_price_id", "reason"})),
    "sub_line_items": _whole("type quantity amount tier_config scaled_quantity"),
}
INVOICE: dict[str, Kept] = {
    **_whole(
        "id invoice_number invoice_source status currency subtotal total amount_due "
        "minimum_amount maximum_amount hidden_line_item_count auto_collection "
        "will_auto_issue invoice_date target_date due_date created_at issued_at paid_at "
        "voided_at scheduled_issue_at eligible_to_issue_at issue_failed_at "
        "sync_failed_at payment_failed_at payment_started_at payment_received_at"
    ),
    "customer": _ID,
    "subscription": _ID,
    "discount": _NO_REASON,
    "discounts": _NO_REASON,
    "minimum": _NO_REASON,
    "maximum": _NO_REASON,
    "line_items": LINE,
    "credit_notes": _whole("id credit_note_number total type voided_at"),
    "payment_attempts": _whole(
        "id amount created_at payment_provider payment_provider_id succeeded"
    ),
    "customer_balance_transactions": {
        **_whole("id action type amount starting_balance ending_balance created_at"),
        "invoice": _ID,
        "credit_note": _ID,
    },
}
_TRANSACTION = INVOICE["customer_balance_transactions"]
# What an event is about, if that is not an invoice.
_RESOURCE: dict[str, Kept] = {
    **_whole("id invoice_id status created_at"),
    "customer": _ID,
    "subscription": _ID,
}
_ENVELOPE = _whole("id created_at type payload_style")
_PROPERTIES: dict[str, Kept] = {
    **_whole(
        "payment_provider payment_provider_id payment_provider_transaction_id "
        "connection_type automatically_marked_as_paid payment_received_date"
    ),
    "balance_transaction": _TRANSACTION,
}
# Texts that people typed, the project's own ids, and tokens.
_OPERATION = AllBut(
    frozenset(
        _whole(
            "external_customer_id memo metadata external_id notes reason "
            "shared_payment_token_id"
        )
    )
)


def blank_invoice(payload: Any) -> Any:
    """Return an invoice without personal data. Blanking it again changes nothing."""
    return _keep(payload, INVOICE)


def blank_event(body: Any, *, is_hint: bool) -> Any:
    """
    Return a webhook event without personal data.

    With `is_hint` its invoice is replaced by its id, so that it is fetched.
    """
    if not isinstance(body, Mapping):
        return None
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in _ENVELOPE:
            kept[name] = value
        elif name == "properties":
            kept[name] = _keep(value, _PROPERTIES)
        elif name != "invoice":
            kept[name] = value if value is None else _keep(value, _RESOURCE)
        elif isinstance(value, Mapping):
            kept[name] = value.get("id") if is_hint else blank_invoice(value)
        else:
            kept[name] = value if isinstance(value, str) else None
    return kept


def blank_result(result: Any) -> Any:
    """Return Orb's answer to an operation, an invoice or a line, without personal data."""
    is_line = isinstance(result, Mapping) and "invoice_number" not in result
    return _keep(result, LINE if is_line else INVOICE)


def blank_request(body: Any) -> Any:
    """Return an operation's body, or what it found before, without personal data."""
    return _keep(body, _OPERATION)


def customer_of(payload: Any) -> str | None:
    """Return Orb's id of an invoice's customer; None if it does not say."""
    customer = payload.get("customer") if isinstance(payload, Mapping) else None
    found = customer.get("id") if isinstance(customer, Mapping) else None
    return found if isinstance(found, str) else None


def customers_in(body: Any) -> set[str]:
    """Return the ids of all customers that an event names on its upper four levels."""
    found: set[str] = set()
    waiting = [(body, 1)]
    while waiting:
        part, depth = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        named = [customer_of(part), part.get("customer_id"), part.get("customer")]
        found.update(name for name in named if isinstance(name, str))
        if depth < _EVENT_LEVELS:
            waiting += [(inner, depth + 1) for inner in part.values()]
    return found


def as_stored(payload: Any, erased: Collection[str]) -> Any:
    """Return an invoice as the mirror should hold it, if these customers are erased."""
    is_erased = bool(erased) and customer_of(payload) in erased
    return blank_invoice(payload) if is_erased else payload


def _keep(value: Any, kept: Kept, depth: int = 0) -> Any:
    if kept is True:
        return value
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_keep(item, kept, depth + 1) for item in value]
    if not isinstance(value, Mapping):
        return value if isinstance(kept, AllBut) else None
    if isinstance(kept, AllBut):
        return {
            name: _nothing(item) if name in kept.names else _keep(item, kept, depth + 1)
            for name, item in value.items()
        }
    assert isinstance(kept, Mapping)  # noqa: S101
    return {
        name: _keep(item, kept[name], depth + 1) if name in kept else _nothing(item)
        for name, item in value.items()
    }


def _nothing(value: Any) -> Any:
    """Return an empty value of the same kind."""
    if isinstance(value, Mapping):
        return {}
    return [] if isinstance(value, list) else None
