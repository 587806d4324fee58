"""
Turn Orb's JSON into column values.

The models say what goes where: a field is filled from the key of its own name, except
for the few that `_PATHS` flattens and those that `_OURS` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache, lru_cache
from typing import Any

from django.db import models

from django_orb import exact_json
from django_orb.client import Shape
from django_orb.db import format_rows, primary
from django_orb.exceptions import OrbPayloadError
from django_orb.models import (
    Invoice,
    InvoiceBalanceTransaction,
    InvoiceCreditNote,
    InvoiceLineItem,
    InvoiceLineTax,
    InvoicePaymentAttempt,
)
from django_orb.models.fields import search_key
from django_orb.parsing import parse_datetime, parse_decimal

# How columns are filled: with a new number every row is written once more, by the
# newest of the releases that run side by side.
MAPPER_VERSION = 2

_PATHS: dict[str, tuple[str, ...]] = {
    "customer_id": ("customer", "id"),
    "external_customer_id": ("customer", "external_customer_id"),
    "subscription_id": ("subscription", "id"),
    "orb_id": ("id",),
    "item_id": ("price", "item", "id"),
    "price_id": ("price", "id"),
    "price_type": ("price", "price_type"),
    "price_model_type": ("price", "model_type"),
    "credit_note_id": ("credit_note", "id"),
}
# The lists of an invoice whose items are rows, beside its lines and their taxes.
CHILDREN: dict[str, type[models.Model]] = {
    "credit_notes": InvoiceCreditNote,
    "payment_attempts": InvoicePaymentAttempt,
    "customer_balance_transactions": InvoiceBalanceTransaction,
}
_CHILDS_OURS = {"id", "invoice", "position", "rounded_fields"}
_OURS: dict[type[models.Model], set[str]] = {
    Invoice: {
        "invoice_number_key",
        "external_customer_key",
        "payload",
        "rounded_fields",
        "missing_since",
        "mirrored_at",
    },
    InvoiceLineItem: _CHILDS_OURS,
    InvoiceLineTax: _CHILDS_OURS | {"line_item"},
    **dict.fromkeys(CHILDREN.values(), _CHILDS_OURS),
    InvoiceCreditNote: _CHILDS_OURS | {"dated_at"},
}

_MONEY = Context(prec=38, rounding=ROUND_HALF_EVEN)
_CENT = Decimal(1).scaleb(-18)
# From here on an amount has 21 digits before the point, once it is rounded.
_MAX_MONEY = Decimal("99999999999999999999.9999999999999999995")
_ID_LENGTH: int = Invoice._meta.get_field("id").max_length or 0
# SQLite keeps decimals as binary floating-point numbers.
# Source: https://www.sqlite.org/floatingpoint.html
SQLITE_EXACT_DIGITS = 15


def digits_kept() -> int | None:
    """Return how many digits the mirror's database keeps of any amount; None: all."""
    is_sqlite = primary.connection().vendor == "sqlite"
    return SQLITE_EXACT_DIGITS if is_sqlite else None


@dataclass(frozen=True)
class MappedInvoice:
    """
    One invoice as rows: column values by attribute name.

    `columns` lacks what is known when the row is written. Taxes name their line by Orb's
    id of it.
    """

    id: str
    columns: dict[str, Any]
    lines: list[dict[str, Any]]
    taxes: list[dict[str, Any]]
    children: dict[str, list[dict[str, Any]]]

    def formatted(self) -> MappedInvoice:
        """Return a copy in which the rows that most invoices have are formatted for COPY."""
        (columns,) = format_rows(Invoice, [self.columns])
        lines: list[dict[str, Any]] = [*format_rows(InvoiceLineItem, self.lines)]
        return replace(self, columns=columns, lines=lines)


@dataclass(frozen=True)
class _Column:
    label: str
    required: bool
    default: Any


# A column's name, its key in the object that holds it, how to read it, and the rest.
_Columns = tuple[tuple[str, str, Callable[[Any], Any], bool, _Column], ...]


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
    lines = _map_lines(payload, exact_digits)
    return MappedInvoice(
        id=invoice_id,
        columns=columns,
        lines=lines,
        taxes=_map_taxes(payload, lines, exact_digits),
        children={
            name: _map_children(payload, name, exact_digits) for name in CHILDREN
        },
    )


@cache
def invoice_keys() -> Shape:
    """Return all keys that `map_invoice` reads."""
    taxes = {"tax_amounts": _shape(InvoiceLineTax)}
    lists = {name: _shape(model) for name, model in CHILDREN.items()}
    lists["line_items"] = replace(_shape(InvoiceLineItem), lists=taxes)
    return replace(_shape(Invoice), lists=lists)


def invoice_id_of(payload: Any) -> str:
    """
    Return the id in a payload.

    Raises:
        OrbPayloadError: it is not a JSON object, or has no usable id.
    """
    if not isinstance(payload, dict):
        raise OrbPayloadError(f"An invoice is {type(payload).__name__}, not an object.")
    return usable_id(payload.get("id"))


def usable_id(value: Any) -> str:
    """
    Return the value if it can be an invoice's id.

    Raises:
        OrbPayloadError: it cannot.
    """
    if not isinstance(value, str) or not value:
        raise OrbPayloadError("An invoice has no id.")
    if len(value) > _ID_LENGTH or exact_json.why_not_text(value):
        raise OrbPayloadError(
            f"An invoice's id is {quote(value)}, which cannot be stored."
        )
    return value


def map_columns(
    model: type[models.Model],
    payload: Mapping[str, Any],
    *,
    exact_digits: int | None = None,
    is_lenient: bool = False,
) -> dict[str, Any]:
    """
    Read the model's columns, and `rounded_fields`, from one JSON object.

    With `is_lenient` a value that is absent or has no such form leaves its column
    empty, and `rounded_fields` names the latter.

    Raises:
        OrbPayloadError: a required value is absent or a value has no such form.
    """
    values: dict[str, Any] = {}
    rounded: list[str] = []
    for path, columns in _columns(model):
        source = _dig(payload, path)
        for name, key, read, is_money, column in columns:
            raw = source.get(key)
            # Older payloads lack keys that Orb has added since: the lines of January 2025
            # have no `adjustments` and no `credits_applied`.
            if raw is None:
                if column.required and not is_lenient:
                    raise OrbPayloadError(f"{column.label} is missing.")
                values[name] = column.default
                continue
            try:
                if not is_money:
                    values[name] = read(raw)
                elif (
                    raw.__class__ is str and (amount := _short_amount(raw)) is not None
                ):
                    values[name] = amount
                else:
                    values[name], is_exact = _amount(raw, exact_digits)
                    if not is_exact:
                        rounded.append(name)
            except (_TooMuchError, ValueError, TypeError, ArithmeticError) as err:
                if not is_lenient:
                    raise _refusal(column, raw, err) from err
                values[name] = column.default
                rounded.append(name)
    values["rounded_fields"] = rounded
    return values


def _refusal(column: _Column, raw: Any, err: Exception) -> OrbPayloadError:
    if isinstance(err, _TooMuchError):
        return OrbPayloadError(f"{column.label} {err}")
    return OrbPayloadError(f"{column.label} is {quote(raw)}, which is not understood.")


class _TooMuchError(Exception):
    """A value has the right type but does not fit. The message says why."""


# Amounts and times are repeated, above all on the lines of an invoice.
@lru_cache(maxsize=4096)
def _short_amount(raw: str) -> Decimal | None:
    """Read an amount that is short enough for every column; None if it is longer."""
    is_short = len(raw) <= SQLITE_EXACT_DIGITS and "e" not in raw.lower()
    return parse_decimal(raw) if is_short else None


def _amount(raw: Any, exact_digits: int | None) -> tuple[Decimal, bool]:
    """Return an amount as its column holds it, and whether exactly."""
    value = parse_decimal(raw)
    fitted, is_exact = fit_decimal(value, exact_digits)
    if fitted is None:
        raise _TooMuchError(f"is too large: {quote(str(value))}.")
    return fitted, is_exact


def fit_decimal(
    value: Decimal, exact_digits: int | None = None
) -> tuple[Decimal | None, bool]:
    """
    Return the value as a money column holds it (None: too large), and whether exactly.
    """
    # `abs` would round to 28 digits first.
    if value.copy_abs() >= _MAX_MONEY:
        return None, False
    if exact_digits is not None:
        # SQLite rounds what it stores, maybe up to more than can be read.
        # Such an invoice would be stored, and every list that it is in would fail.
        shown = Context(prec=exact_digits).create_decimal_from_float(float(value))
        if shown.copy_abs() >= _MAX_MONEY:
            return None, False
    fitted = value.quantize(_CENT, context=_MONEY)
    exact = fitted == value
    if exact and exact_digits is not None:
        exact = len(value.normalize(_MONEY).as_tuple().digits) <= exact_digits
    return fitted, exact


_time = lru_cache(maxsize=4096)(parse_datetime)


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
        columns["invoice"], columns["position"] = payload["id"], position
        mapped.append(columns)
    # As rows they would be one: the key would keep only the last of them.
    if len({line["orb_id"] for line in mapped}) < len(mapped):
        raise OrbPayloadError("line_items holds the same id twice.")
    return mapped


def _map_taxes(
    payload: Mapping[str, Any], lines: list[dict[str, Any]], exact_digits: int | None
) -> list[dict[str, Any]]:
    taxes = []
    for line, columns in zip(payload["line_items"], lines, strict=True):
        sent = line.get("tax_amounts")
        for position, tax in enumerate(sent if isinstance(sent, list) else ()):
            if isinstance(tax, dict):
                row = map_columns(
                    InvoiceLineTax, tax, exact_digits=exact_digits, is_lenient=True
                )
                row["line_item"], row["position"] = columns["orb_id"], position
                taxes.append(row)
    return taxes


def _map_children(
    payload: Mapping[str, Any], name: str, exact_digits: int | None
) -> list[dict[str, Any]]:
    """Map a list. An item whose id is missing or repeated gets an id that says so."""
    sent = payload.get(name)
    rows: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(sent if isinstance(sent, list) else ()):
        # Leniently: what is odd in a credit note must not fail the whole invoice.
        if isinstance(item, dict):
            row = map_columns(
                CHILDREN[name], item, exact_digits=exact_digits, is_lenient=True
            )
            if not row["orb_id"] or row["orb_id"] in rows:
                row["orb_id"] = f"(no id, item {position})"
                row["rounded_fields"] = [
                    column for column in row["rounded_fields"] if column != "orb_id"
                ]
            row["position"] = position
            rows[row["orb_id"]] = row
    return list(rows.values())


@cache
def _columns(model: type[models.Model]) -> tuple[tuple[tuple[str, ...], _Columns], ...]:
    """Return the columns by the path of the object that holds their values."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for field in model._meta.concrete_fields:
        if field.name in _OURS[model]:
            continue
        *path, key = _PATHS.get(field.name, (field.name,))
        column = _Column(
            label=".".join([*path, key]),
            required=not field.null and not field.blank and not field.has_default(),
            default=_default(field),
        )
        is_money = isinstance(field, models.DecimalField)
        found.setdefault(tuple(path), []).append(
            (field.name, key, _reader(field), is_money, column)
        )
    return tuple((path, tuple(columns)) for path, columns in found.items())


def _shape(model: type[models.Model], below: tuple[str, ...] = ()) -> Shape:
    """Return the keys of the model's columns in the object at this path."""
    depth = len(below)
    paths = [path for path, _ in _columns(model) if path[:depth] == below]
    deeper = {path[depth] for path in paths if len(path) > depth}
    return Shape(
        plain=[
            key
            for path, columns in _columns(model)
            if path == below
            for _, key, *_ in columns
        ],
        objects={key: _shape(model, (*below, key)) for key in sorted(deeper)},
    )


def _default(field: models.Field[Any, Any]) -> Any:
    if field.has_default():
        return field.get_default()
    is_text = isinstance(field, (models.CharField, models.TextField))
    return "" if is_text and field.blank else None


def _reader(field: models.Field[Any, Any]) -> Callable[[Any], Any]:
    if isinstance(field, models.DateTimeField):
        return _time
    if isinstance(field, models.BooleanField):
        return _to_bool
    return _text_up_to(field.max_length) if field.max_length else _to_text


def _text_up_to(length: int) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = _to_text(value)
        if len(text) > length:
            raise _TooMuchError(
                f"has {len(text)} characters, more than the {length} that fit."
            )
        return text

    return read


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a boolean")
    return value


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _dig(payload: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """Return the object at this path, or an empty one if there is none."""
    # `subscription`, for instance, is null on a one-off invoice.
    for key in path:
        payload = payload.get(key)
        if not isinstance(payload, dict):
            return {}
    return payload  # type: ignore[no-any-return]


def quote(value: Any) -> str:
    """Write a value for a message: never too long, whatever it is."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of too many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
