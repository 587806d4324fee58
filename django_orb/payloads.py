"""
From Orb's JSON to columns.

What goes where is read off the models: a field is filled from the key of its
own name, except for the few that `_PATHS` flattens or `_OURS` leaves out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache
from typing import Any

from dateutil.parser import isoparse
from django.db import models

from . import exact_json
from .exceptions import OrbPayloadError
from .fields import search_key
from .models import Invoice, InvoiceLineItem

# Part of every content hash: a new number makes every row be written once more.
MAPPER_VERSION = 1

# Signed anew in every answer, so a different one is no change; that one appears is.
SIGNED_LINKS = ("hosted_invoice_url", "invoice_pdf", "receipt_pdf")

_PATHS: dict[str, tuple[str, ...]] = {
    "customer_id": ("customer", "id"),
    "external_customer_id": ("customer", "external_customer_id"),
    "subscription_id": ("subscription", "id"),
    "orb_id": ("id",),
    "item_id": ("price", "item", "id"),
    "price_id": ("price", "id"),
    "price_type": ("price", "price_type"),
    "price_model_type": ("price", "model_type"),
}
_OURS = {
    Invoice: {
        "invoice_number_key",
        "external_customer_key",
        "payload",
        "rounded_fields",
        "missing_since",
        "mirrored_at",
    },
    InvoiceLineItem: {"id", "invoice", "position", "rounded_fields"},
}

_MONEY = Context(prec=38, rounding=ROUND_HALF_EVEN)
_CENT = Decimal(1).scaleb(-18)
_MAX_MONEY = Decimal(10) ** 20
SQLITE_EXACT_DIGITS = 15
_SHORT = SQLITE_EXACT_DIGITS


@dataclass(frozen=True)
class MappedInvoice:
    """One invoice as rows: column values by attribute name."""

    id: str
    columns: dict[str, Any]
    lines: list[dict[str, Any]]


@dataclass(frozen=True)
class _Column:
    name: str
    path: tuple[str, ...]
    convert: Callable[[Any], Any]
    required: bool
    default: Any
    max_length: int | None
    is_money: bool


def map_invoice(
    payload: Mapping[str, Any], *, exact_digits: int | None = None
) -> MappedInvoice:
    """
    Turn one invoice's JSON into column values.

    `exact_digits` is how many significant digits the database's decimals hold,
    None for all 38; what a column rounds is named in `rounded_fields`.

    Raises:
        OrbPayloadError: it cannot be stored whole; the message names the field.
    """
    invoice_id = invoice_id_of(payload)
    columns = map_columns(Invoice, payload, exact_digits=exact_digits)
    columns["invoice_number_key"] = search_key(columns["invoice_number"])
    columns["external_customer_key"] = search_key(columns["external_customer_id"])
    columns["payload"] = payload
    return MappedInvoice(
        id=invoice_id,
        columns=columns,
        lines=_map_lines(payload, exact_digits),
    )


def invoice_id_of(payload: Any) -> str:
    """
    The id in a payload.

    Raises:
        OrbPayloadError: it is no JSON object, or has no usable id.
    """
    if not isinstance(payload, dict):
        raise OrbPayloadError(f"An invoice is {type(payload).__name__}, not an object.")
    return usable_id(payload.get("id"))


def usable_id(value: Any) -> str:
    """
    The value, if it can be an invoice's id.

    Raises:
        OrbPayloadError: it cannot.
    """
    if not isinstance(value, str) or not value:
        raise OrbPayloadError("An invoice has no id.")
    return value


def content_hash(payload: Mapping[str, Any]) -> str:
    """
    A digest that is equal when the content is.

    The order of keys, the form of numbers (1.50 or 1.5) and signed links do not
    count.

    Raises:
        OrbPayloadError: the payload cannot be written as JSON in UTF-8.
    """
    try:
        text = exact_json.canonical(_without_signatures(payload))
        data = text.encode()
    except ValueError as err:
        raise OrbPayloadError(f"The payload cannot be stored: {err}") from err
    digest = hashlib.blake2b(data, digest_size=16, salt=b"%d" % MAPPER_VERSION)
    return digest.hexdigest()


def map_columns(
    model: type[models.Model],
    payload: Mapping[str, Any],
    *,
    exact_digits: int | None = None,
    paths: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Any]:
    """
    Read the model's columns, and `rounded_fields`, from one JSON object.

    `paths` overrides where single columns are read.

    Raises:
        OrbPayloadError: a required value is absent or a value has no such form.
    """
    values: dict[str, Any] = {}
    rounded: list[str] = []
    for column in _columns(model):
        path = column.path if paths is None else paths.get(column.name, column.path)
        raw = payload.get(path[0]) if len(path) == 1 else _dig(payload, path)
        if raw is None:
            if column.required:
                raise OrbPayloadError(f"{'.'.join(path)} is missing.")
            values[column.name] = column.default
            continue
        try:
            value = column.convert(raw)
        except (ValueError, TypeError, ArithmeticError) as err:
            raise OrbPayloadError(
                f"{'.'.join(path)} is {_quote(raw)}, which is not understood."
            ) from err
        if column.is_money:
            # So few digits fit everywhere; an exponent makes more of them.
            if raw.__class__ is not str or len(raw) > _SHORT or not _is_plain(raw):
                value = _fit(column, path, value, exact_digits, rounded)
        elif column.max_length and len(value) > column.max_length:
            raise OrbPayloadError(
                f"{'.'.join(path)} has {len(value)} characters, "
                f"more than the {column.max_length} that fit."
            )
        values[column.name] = value
    values["rounded_fields"] = rounded
    return values


def _is_plain(digits: str) -> bool:
    return "e" not in digits and "E" not in digits


def _fit(
    column: _Column,
    path: tuple[str, ...],
    value: Decimal,
    exact_digits: int | None,
    rounded: list[str],
) -> Decimal:
    fitted, is_exact = fit_decimal(value, exact_digits)
    if fitted is None:
        raise OrbPayloadError(f"{'.'.join(path)} is too large: {_quote(str(value))}.")
    if not is_exact:
        rounded.append(column.name)
    return fitted


def fit_decimal(
    value: Decimal, exact_digits: int | None = None
) -> tuple[Decimal | None, bool]:
    """The value as a money column holds it (None: too large), and whether exactly."""
    if abs(value) >= _MAX_MONEY:
        return None, False
    fitted = value.quantize(_CENT, context=_MONEY)
    exact = fitted == value
    if exact and exact_digits is not None:
        exact = len(value.normalize(_MONEY).as_tuple().digits) <= exact_digits
    return fitted, exact


def parse_datetime(value: Any) -> datetime:
    """
    An aware datetime from Orb's text; without an offset it is UTC.

    Raises:
        ValueError: the text is no ISO 8601 date or time.
    """
    if not isinstance(value, str):
        raise ValueError("not a text")
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        # Python 3.10 takes no "Z" and no fractions but of 3 or 6 digits.
        parsed = isoparse(value)
    if parsed.tzinfo is timezone.utc:
        return parsed
    if parsed.tzinfo is None:
        return parsed.replace(tzinfo=timezone.utc)
    return parsed.astimezone(timezone.utc)


def parse_decimal(value: Any) -> Decimal:
    """
    A finite `Decimal` from Orb's text or number.

    Raises:
        ValueError: it is neither.
        InvalidOperation: the text is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise ValueError("not a number")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number


def _map_lines(
    payload: Mapping[str, Any], exact_digits: int | None
) -> list[dict[str, Any]]:
    lines = payload.get("line_items")
    if lines is None:
        raise OrbPayloadError("line_items is missing.")
    if not isinstance(lines, list):
        raise OrbPayloadError("line_items is not a list.")
    mapped: list[dict[str, Any]] = []
    for position, line in enumerate(lines):
        try:
            if not isinstance(line, dict):
                raise OrbPayloadError("it is not an object.")
            columns = map_columns(InvoiceLineItem, line, exact_digits=exact_digits)
        except OrbPayloadError as err:
            raise OrbPayloadError(f"line_items[{position}]: {err}") from err
        columns["position"] = position
        mapped.append(columns)
    if len({line["orb_id"] for line in mapped}) < len(mapped):
        raise OrbPayloadError("line_items holds the same id twice.")
    return mapped


@cache
def _columns(model: type[models.Model]) -> tuple[_Column, ...]:
    return tuple(
        _Column(
            name=field.name,
            path=_PATHS.get(field.name, (field.name,)),
            convert=_converter(field),
            required=not field.null and not field.blank and not field.has_default(),
            default=_default(field),
            max_length=field.max_length,
            is_money=isinstance(field, models.DecimalField),
        )
        for field in model._meta.concrete_fields
        if field.name not in _OURS[model]
    )


def _default(field: models.Field[Any, Any]) -> Any:
    if field.has_default():
        return field.get_default()
    is_text = isinstance(field, (models.CharField, models.TextField))
    return "" if is_text and field.blank else None


def _converter(field: models.Field[Any, Any]) -> Callable[[Any], Any]:
    if isinstance(field, models.DateTimeField):
        return parse_datetime
    if isinstance(field, models.DecimalField):
        return parse_decimal
    if isinstance(field, models.BooleanField):
        return _to_bool
    return _to_text


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a boolean")
    return value


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _dig(payload: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(key)
    return payload


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _without_signatures(payload: Mapping[str, Any]) -> dict[str, Any]:
    content = dict(payload)
    attempts = content.get("payment_attempts")
    if attempts and isinstance(attempts, list):
        content["payment_attempts"] = [
            _mask(attempt) if isinstance(attempt, Mapping) else attempt
            for attempt in attempts
        ]
    return _mask(content)


def _mask(content: Mapping[str, Any]) -> dict[str, Any]:
    masked = dict(content)
    for name in SIGNED_LINKS:
        if masked.get(name):
            masked[name] = True
    return masked
