"""The next invoice of a subscription, which is fetched on demand and never stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from django_orb import exact_json
from django_orb.exceptions import OrbPayloadError
from django_orb.models import InvoiceLineItem
from django_orb.parsing import parse_datetime, parse_decimal

from .mapping import map_columns, quote

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class UpcomingLineItem:
    """A line as of now; the names are those of `InvoiceLineItem`."""

    orb_id: str
    name: str
    quantity: Decimal | None
    amount: Decimal
    start_date: datetime | None
    end_date: datetime | None


@dataclass(frozen=True, kw_only=True)
class UpcomingInvoice:
    """
    Orb's forecast of a subscription's next invoice: not final, and not stored.

    Amounts are in `currency`. `target_date` is its future invoice date; like all of
    Orb's dates it is midnight at the customer, given in UTC.
    """

    subscription_id: str
    customer_id: str
    external_customer_id: str
    currency: str
    subtotal: Decimal | None
    total: Decimal | None
    amount_due: Decimal | None
    target_date: datetime | None
    invoice_number: str
    line_items: list[UpcomingLineItem]
    payload: Mapping[str, Any] = field(repr=False)


def read_upcoming(payload: Mapping[str, Any]) -> UpcomingInvoice:
    """
    Convert the answer of `OrbClient.fetch_upcoming_invoice`.

    A value that could not be stored, such as a number of a thousand digits, is replaced
    by words in `payload`, as in an invoice, so that it can be shown and cached.

    Raises:
        OrbPayloadError: a value has another type or form.
    """
    payload = exact_json.storable(payload)
    customer = _object(payload, "customer")
    return UpcomingInvoice(
        subscription_id=_text(_object(payload, "subscription"), "id"),
        customer_id=_text(customer, "id"),
        external_customer_id=_text(customer, "external_customer_id"),
        currency=_text(payload, "currency"),
        subtotal=_read(payload, "subtotal", parse_decimal),
        total=_read(payload, "total", parse_decimal),
        amount_due=_read(payload, "amount_due", parse_decimal),
        target_date=_read(payload, "target_date", parse_datetime),
        invoice_number=_text(payload, "invoice_number"),
        line_items=_read_lines(payload),
        payload=payload,
    )


def _object(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise OrbPayloadError(f"{name} is not an object.")
    return value


def _read_lines(payload: Mapping[str, Any]) -> list[UpcomingLineItem]:
    lines = payload.get("line_items")
    if lines is None:
        return []
    if not isinstance(lines, list) or not all(isinstance(x, Mapping) for x in lines):
        raise OrbPayloadError("line_items is not a list of objects.")
    return [_read_line(line) for line in lines]


def _read(
    payload: Mapping[str, Any], name: str, convert: Callable[[Any], T]
) -> T | None:
    raw = payload.get(name)
    try:
        return None if raw is None else convert(raw)
    except (ValueError, ArithmeticError) as err:
        text = quote(raw)
        raise OrbPayloadError(f"{name} is {text}, which is not understood.") from err


def _text(payload: Mapping[str, Any], name: str) -> str:
    return _read(payload, name, _require_text) or ""


def _require_text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("not a text")
    return raw


def _read_line(line: Mapping[str, Any]) -> UpcomingLineItem:
    # In older accounts, the lines of upcoming invoices have no id.
    orb_id = _text(line, "id")
    columns = map_columns(InvoiceLineItem, {**line, "id": orb_id or "-"})
    names = ("name", "quantity", "amount", "start_date", "end_date")
    return UpcomingLineItem(orb_id=orb_id, **{name: columns[name] for name in names})
