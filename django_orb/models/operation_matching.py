"""Compare what Orb answers with what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django_orb.exceptions import OrbResponseError
from django_orb.parsing import parse_datetime, parse_decimal

if TYPE_CHECKING:
    from .operations import InvoiceOperation

_DAY = timedelta(days=1)
_CLOCKS = timedelta(minutes=5)
# Orb shows a day as its midnight at the customer, in UTC.
_ZONES = timedelta(hours=15)


def require_invoice(payload: Any, invoice_id: str) -> dict[str, Any]:
    """
    Return the payload if it is this invoice, with all that operations look for.

    Raises:
        OrbResponseError: it is something else.
    """
    invoice = require_id(payload, invoice_id)
    if not is_invoice(invoice, invoice_id):
        raise OrbResponseError(f"Orb's answer is no whole invoice {invoice_id}.")
    return invoice


def require_id(payload: Any, invoice_id: str) -> dict[str, Any]:
    """
    Return the payload if it has the id that was asked for.

    What stands between us and Orb, such as a proxy under maintenance, may answer with
    another object, which would look like an invoice without a status, lines and links.

    Raises:
        OrbResponseError: it is something else.
    """
    if not isinstance(payload, dict) or payload.get("id") != invoice_id:
        raise OrbResponseError(f"Orb's answer is not the invoice {invoice_id}.")
    return payload


def is_invoice(payload: Any, invoice_id: str) -> bool:
    """Return whether the payload is this invoice, with a status and lines."""
    if not isinstance(payload, Mapping) or payload.get("id") != invoice_id:
        return False
    status, lines = payload.get("status"), payload.get("line_items")
    return (
        isinstance(status, str)
        and bool(status)
        and isinstance(lines, list)
        and all(isinstance(line, Mapping) for line in lines)
    )


def shows_before(operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
    """Return whether an edit would still replace what it was meant to replace."""
    before = operation.before.get("metadata")
    if before is None:
        return False
    # Orb merges metadata: only the keys that are given change, and null clears all.
    shown, wanted = payload.get("metadata") or {}, operation.body["metadata"]
    if wanted is None:
        return bool(shown == before)
    return all(shown.get(key) == before.get(key) for key in wanted)


def shares_metadata(body: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Return whether an edit replaces metadata that an earlier one has set."""
    if "metadata" not in body or "metadata" not in earlier:
        return False
    new, old = body["metadata"], earlier["metadata"]
    # None clears all.
    return new is None or old is None or not set(new).isdisjoint(old)


def merged_edits(
    earlier: Mapping[str, Any], later: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the edit that does the same as two, one after the other."""
    merged = {**earlier, **later}
    old, new = earlier.get("metadata"), later.get("metadata")
    if old is not None and new is not None:
        merged["metadata"] = {**old, **new}
    return merged


def is_as_asked(line: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    item = ((line.get("price") or {}).get("item") or {}).get("id")
    if "name" in body and line.get("name") != body["name"]:
        return False
    if "item_id" in body and item != body["item_id"]:
        return False
    try:
        # By their values: Orb does not say how it writes a number that was sent as
        # "12.0".
        numbers = all(
            parse_decimal(line.get(name)) == parse_decimal(body.get(name))
            for name in ("quantity", "amount")
        )
        days = all(
            _is_near(line.get(name), body.get(name))
            for name in ("start_date", "end_date")
        )
    except (ValueError, ArithmeticError):
        return False
    return numbers and days


def is_asked_for(invoice: Mapping[str, Any], operation: InvoiceOperation) -> bool:
    """Return whether it has what was asked for; additions by others do not count."""
    body, shown = operation.body, invoice.get("line_items") or []
    try:
        # Orb's clock may be behind.
        is_younger = parse_datetime(invoice.get("created_at")) > (
            operation.created_at - _CLOCKS
        )
        day = parse_datetime(body["invoice_date"])
        is_of_the_day = abs(parse_datetime(invoice.get("invoice_date")) - day) < _ZONES
        has_lines = all(
            any(_is_asked_line(line, asked) for line in shown)
            for asked in body["line_items"]
        )
    except (ValueError, ArithmeticError):
        return False
    metadata = invoice.get("metadata") or {}
    return (
        is_younger
        and is_of_the_day
        and has_lines
        and invoice.get("currency") == body["currency"]
        and invoice.get("invoice_source") == "one_off"
        and all(
            metadata.get(key) == value
            for key, value in (body.get("metadata") or {}).items()
        )
    )


def _is_asked_line(line: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """One of `POST /invoices` names the price of one, one of an invoice the sum."""
    price: Mapping[str, Any] = line.get("price") or {}
    unit_amount = (price.get("unit_config") or {}).get("unit_amount")
    return (
        line.get("name") == asked["name"]
        and (price.get("item") or {}).get("id") == asked["item_id"]
        and parse_decimal(line.get("quantity")) == parse_decimal(asked["quantity"])
        and parse_decimal(unit_amount)
        == parse_decimal(asked["unit_config"]["unit_amount"])
    )


def _is_near(shown: Any, asked: Any) -> bool:
    """Orb shows the asked day as the customer's midnight, in UTC."""
    moment, day = parse_datetime(shown), parse_datetime(f"{asked}T00:00:00+00:00")
    return abs(moment - day) <= _DAY
