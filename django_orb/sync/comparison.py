"""
Compare an invoice as Orb sends it with the rows that should hold it.

Only the parsers of dates and numbers are shared with the writer: `INVOICE` and
`LINE` say again, by hand, what a column should hold, so that its mistakes show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, Literal

from django_orb.parsing import parse_datetime, parse_decimal

Kind = Literal[
    "not_mirrored",  # Orb has it, the mirror does not
    "gone",  # stored, not marked as missing, but Orb answers 404
    "marked_missing",  # marked as missing, but Orb shows it
    "payload",  # a value of the stored payload
    "column",  # a column of the invoice
    "line",  # a line, its position, or one of its columns
    "child",  # a credit note, payment attempt, balance transaction or tax, likewise
    "unstable",  # written here again each time that it was compared
    "unknown",  # asked for by id, but neither side has it
]


TAXES = "tax_amounts"
# The greatest lengths of ids and of kinds that their columns hold.
ID_LENGTH = 128
WORD_LENGTH = 64


class _Nothing:
    """The mark of a side that has no such value; null is a value."""

    def __repr__(self) -> str:
        return "(nothing)"


NOTHING = _Nothing()


@dataclass(frozen=True)
class Difference:
    """
    One value that differs between Orb and the mirror.

    `reason` says why Orb's state is not here, if that is known. `is_repaired` is
    None unless a repair was tried.
    """

    invoice_id: str
    kind: Kind
    field: str
    orb: Any
    here: Any
    invoice_number: str = ""
    reason: str = ""
    is_repaired: bool | None = None


@dataclass(frozen=True)
class StoredInvoice:
    """
    The rows of an invoice, its lines and its other lists, as column values by name.

    `children` has them by the name of Orb's list; `tax_amounts` has those of all lines.
    """

    row: dict[str, Any]
    lines: list[dict[str, Any]]
    children: dict[str, list[dict[str, Any]]]


Reader = Callable[[Any], Any]
# A field, Orb's value, and the stored value.
Finding = tuple[str, Any, Any]


def _text(value: Any) -> str:
    if not isinstance(value, str | None):
        raise ValueError("not a text")
    return value or ""


def _folded(value: Any) -> str:
    return _text(value).casefold()[:100]


def _moment(value: Any) -> datetime | None:
    return None if value is None else parse_datetime(value)


def _money(value: Any) -> Decimal | None:
    return None if value is None else parse_decimal(value)


def _word(value: Any) -> str:
    if len(_text(value)) > WORD_LENGTH:
        raise ValueError("too long for its column")
    return _text(value)


def _id(value: Any) -> str:
    if len(_text(value)) > ID_LENGTH:
        raise ValueError("too long for its column")
    return _text(value)


def _answer(value: Any) -> bool | None:
    return None if value is None else _flag(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | None):
        raise ValueError("not a boolean")
    return bool(value)


# By column: the path of Orb's value, and the function that reads it.
INVOICE: dict[str, tuple[str, Reader]] = {
    "id": ("id", _text),
    "invoice_number": ("invoice_number", _text),
    "invoice_number_key": ("invoice_number", _folded),
    "invoice_source": ("invoice_source", _text),
    "status": ("status", _text),
    "currency": ("currency", _text),
    "subtotal": ("subtotal", _money),
    "total": ("total", _money),
    "amount_due": ("amount_due", _money),
    "customer_id": ("customer.id", _text),
    "external_customer_id": ("customer.external_customer_id", _text),
    "external_customer_key": ("customer.external_customer_id", _folded),
    "subscription_id": ("subscription.id", _text),
    "invoice_date": ("invoice_date", _moment),
    "due_date": ("due_date", _moment),
    "created_at": ("created_at", _moment),
    "issued_at": ("issued_at", _moment),
    "paid_at": ("paid_at", _moment),
    "voided_at": ("voided_at", _moment),
    "scheduled_issue_at": ("scheduled_issue_at", _moment),
    "eligible_to_issue_at": ("eligible_to_issue_at", _moment),
    "will_auto_issue": ("will_auto_issue", _flag),
    "issue_failed_at": ("issue_failed_at", _moment),
    "sync_failed_at": ("sync_failed_at", _moment),
    "payment_started_at": ("payment_started_at", _moment),
    "payment_failed_at": ("payment_failed_at", _moment),
    "payment_received_at": ("payment_received_at", _moment),
    "memo": ("memo", _text),
}
LINE: dict[str, tuple[str, Reader]] = {
    "name": ("name", _text),
    "quantity": ("quantity", _money),
    "amount": ("amount", _money),
    "subtotal": ("subtotal", _money),
    "adjusted_subtotal": ("adjusted_subtotal", _money),
    "credits_applied": ("credits_applied", _money),
    "partially_invoiced_amount": ("partially_invoiced_amount", _money),
    "start_date": ("start_date", _moment),
    "end_date": ("end_date", _moment),
    "grouping": ("grouping", _text),
    "item_id": ("price.item.id", _text),
    "price_id": ("price.id", _text),
    "price_type": ("price.price_type", _text),
    "price_model_type": ("price.model_type", _text),
}
CHILDREN: dict[str, dict[str, tuple[str, Reader]]] = {
    "credit_notes": {
        "credit_note_number": ("credit_note_number", _text),
        "type": ("type", _word),
        "total": ("total", _money),
        "reason": ("reason", _text),
        "memo": ("memo", _text),
        "voided_at": ("voided_at", _moment),
    },
    "payment_attempts": {
        "amount": ("amount", _money),
        "created_at": ("created_at", _moment),
        "payment_provider": ("payment_provider", _word),
        "payment_provider_id": ("payment_provider_id", _text),
        "receipt_pdf": ("receipt_pdf", _text),
        "succeeded": ("succeeded", _answer),
    },
    "customer_balance_transactions": {
        "action": ("action", _word),
        "type": ("type", _word),
        "amount": ("amount", _money),
        "starting_balance": ("starting_balance", _money),
        "ending_balance": ("ending_balance", _money),
        "created_at": ("created_at", _moment),
        "description": ("description", _text),
        "credit_note_id": ("credit_note.id", _id),
    },
}
TAX: dict[str, tuple[str, Reader]] = {
    "amount": ("amount", _money),
    "tax_rate_description": ("tax_rate_description", _text),
    "tax_rate_percentage": ("tax_rate_percentage", _money),
    "tax_reason": ("tax_reason", _text),
}
# Orb signs links again in each answer: see `_links`. Named again by hand, as above: what
# `SIGNED_LINKS` named by mistake would be a difference that neither side shows.
LINKS = ("hosted_invoice_url", "invoice_pdf")
INVOICE_COLUMNS = (*INVOICE, *LINKS, "payload", "rounded_fields", "missing_since")
LINE_COLUMNS = (*LINE, "invoice_id", "orb_id", "position", "rounded_fields")
CHILD_COLUMNS = {
    name: (*table, "invoice_id", "orb_id", "position", "rounded_fields")
    for name, table in CHILDREN.items()
}
TAX_COLUMNS = (*TAX, "line_item_id", "position", "rounded_fields")

_SIGNED = (*LINKS, "receipt_pdf")
_DECIMAL_PLACES = 18
_TOO_MUCH = Decimal("99999999999999999999.9999999999999999995")
_WIDE = Context(prec=1000)
_HALF_UNIT = Decimal("5E-19")
# The largest relative error of a decimal that SQLite stores as a float.
_FLOAT_ERROR = Decimal("1E-14")


def differences(
    payload: Mapping[str, Any], stored: StoredInvoice, *, exact_digits: int | None
) -> Iterator[tuple[Kind, str, Any, Any]]:
    """
    Yield kind, field, Orb's value and the stored value of every difference.

    `exact_digits` is how many significant digits the database's decimals hold, or
    None if they hold as many as their columns say.
    """
    row = stored.row
    if row["missing_since"] is not None:
        shown = payload.get("status", NOTHING)
        yield "marked_missing", "missing_since", shown, row["missing_since"]
    for finding in _columns(INVOICE, payload, row, exact_digits):
        yield "column", *finding
    for finding in _links(payload, row):
        yield "column", *finding
    for finding in _lines(payload, stored.lines, exact_digits):
        yield "line", *finding
    for finding in _children(payload, stored, exact_digits):
        yield "child", *finding
    for finding in _values(payload, row["payload"]):
        yield "payload", *finding


def _columns(
    table: Mapping[str, tuple[str, Reader]],
    payload: Mapping[str, Any],
    row: Mapping[str, Any],
    exact_digits: int | None,
    *,
    is_child: bool = False,
) -> Iterator[Finding]:
    rounded = []
    for column, (path, read) in table.items():
        sent, here = _dig(payload, path), row[column]
        try:
            orb = read(sent)
            if is_child and isinstance(orb, Decimal) and orb.copy_abs() >= _TOO_MUCH:
                raise ValueError("too large for its column")
        except (ValueError, TypeError, ArithmeticError):
            orb = sent  # the writer cannot have stored it either
            if is_child:
                orb = read(None)
                rounded.append(column)
        if isinstance(orb, Decimal) and not _fits(orb, exact_digits):
            rounded.append(column)
            is_same = isinstance(here, Decimal) and _is_near(orb, here, exact_digits)
        else:
            is_same = _same(orb, here)
        if not is_same:
            yield column, orb, here
    flagged = row["rounded_fields"]
    if not isinstance(flagged, list) or sorted(map(str, flagged)) != sorted(rounded):
        yield "rounded_fields", rounded, flagged


def _fits(value: Decimal, exact_digits: int | None) -> bool:
    _, digits, exponent = value.normalize(_WIDE).as_tuple()
    if exact_digits is not None and len(digits) > exact_digits:
        return False
    return isinstance(exponent, int) and exponent >= -_DECIMAL_PLACES


def _is_near(orb: Decimal, here: Decimal, exact_digits: int | None) -> bool:
    slack = _HALF_UNIT
    if exact_digits is not None:
        slack = max(slack, _WIDE.multiply(_WIDE.abs(orb), _FLOAT_ERROR))
    return _WIDE.abs(_WIDE.subtract(orb, here)) <= slack


def _links(payload: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the links; an older signature is right if the payload here has it too."""
    kept = row["payload"] if isinstance(row["payload"], dict) else {}
    for name in LINKS:
        orb, here = payload.get(name) or "", row[name]
        if here != orb and not (orb and here and here == kept.get(name)):
            yield name, orb, here


def _lines(
    payload: Mapping[str, Any], rows: list[dict[str, Any]], exact_digits: int | None
) -> Iterator[Finding]:
    stored = {row["orb_id"]: row for row in rows}
    sent = payload.get("line_items")
    for position, line in enumerate(sent if isinstance(sent, list) else ()):
        line_id = _dig(line, "id")
        place = f"line_items[{line_id}]"
        row = stored.pop(line_id, None) if isinstance(line_id, str) else None
        if row is None:
            yield place, _dig(line, "name") or line_id, NOTHING
            continue
        if row["position"] != position:
            yield f"{place}.position", position, row["position"]
        for column, orb, here in _columns(LINE, line, row, exact_digits):
            yield f"{place}.{column}", orb, here
    for line_id, row in stored.items():
        yield f"line_items[{line_id}]", NOTHING, row["name"] or line_id


def _children(
    payload: Mapping[str, Any], stored: StoredInvoice, exact_digits: int | None
) -> Iterator[Finding]:
    """Compare what an invoice has beside its lines; odd values leave columns empty."""
    rows = {
        _place(name, row): (name, row)
        for name, children in stored.children.items()
        for row in children
    }
    for place, name, position, item in _sent_children(payload, stored.lines):
        if place not in rows:
            yield place, item.get("id") or _as_number(position), NOTHING
            continue
        _, row = rows.pop(place)
        if row["position"] != position:
            yield f"{place}.position", position, row["position"]
        for column, orb, here in _columns(
            TAX if name == TAXES else CHILDREN[name],
            item,
            row,
            exact_digits,
            is_child=True,
        ):
            if column != "receipt_pdf" or not _is_kept(orb, here, stored.row):
                yield f"{place}.{column}", orb, here
    for place, (_, row) in rows.items():
        yield place, NOTHING, row.get("orb_id") or _as_number(row["position"])


def _place(name: str, row: Mapping[str, Any]) -> str:
    if name == TAXES:
        return f"line_items[{row['line_item__orb_id']}].{name}[{row['position']}]"
    return f"{name}[{row['orb_id']}]"


def _sent_children(
    payload: Mapping[str, Any], lines: list[dict[str, Any]]
) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """
    Yield each item's place, the name of its list, its position there, and itself.

    Leave out the taxes of lines that are not here: the line itself is a difference.
    """
    here = {line["orb_id"] for line in lines}
    for name in CHILDREN:
        seen = set()
        for position, item in _objects(payload.get(name)):
            child_id = item.get("id")
            is_usable = isinstance(child_id, str) and 0 < len(child_id) <= ID_LENGTH
            if not is_usable or child_id in seen:
                child_id = f"(no id, item {position})"
            seen.add(child_id)
            yield f"{name}[{child_id}]", name, position, item
    for _, line in _objects(payload.get("line_items")):
        taxes = line.get(TAXES) if line.get("id") in here else ()
        for position, item in _objects(taxes):
            place = f"line_items[{line['id']}].{TAXES}[{position}]"
            yield place, TAXES, position, item


def _objects(items: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for position, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield position, item


def _as_number(position: int) -> str:
    return f"item {position}"


def _is_kept(orb: Any, here: Any, row: Mapping[str, Any]) -> bool:
    """Tell whether a receipt's link is the stored payload's, with its signature."""
    attempts = _dig(row["payload"], "payment_attempts")
    kept = [attempt.get("receipt_pdf") for _, attempt in _objects(attempts)]
    return bool(orb and here and here in kept)


def _values(orb: Any, here: Any) -> Iterator[Finding]:
    """Compare two JSON values leaf by leaf; they may be too deep for recursion."""
    waiting: list[tuple[tuple[str, ...], Any, Any]] = [(("payload",), orb, here)]
    while waiting:
        path, sent, stored = waiting.pop()
        if isinstance(sent, dict) and isinstance(stored, dict):
            pairs = _pair(sent, stored, ".{}")
        elif isinstance(sent, list) and isinstance(stored, list):
            left, right = _by_id(sent), _by_id(stored)
            if left is not None and right is not None:
                pairs = _pair(left, right, "[{}]") + _order(left, right)
            else:
                pairs = _pair(dict(enumerate(sent)), dict(enumerate(stored)), "[{}]")
        else:
            if not _same(sent, stored) and not _are_links(path, sent, stored):
                yield "".join(path), sent, stored
            continue
        waiting += [((*path, key), *pair) for key, *pair in reversed(pairs)]


def _pair(
    orb: Mapping[Any, Any], here: Mapping[Any, Any], form: str
) -> list[tuple[str, Any, Any]]:
    return [
        (form.format(key), orb.get(key, NOTHING), here.get(key, NOTHING))
        for key in {**orb, **here}
    ]


def _by_id(items: list[Any]) -> dict[str, Any] | None:
    """Return objects by their ids; None unless each has an id of its own."""
    found = {
        item["id"]: item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("id"), str)
    }
    return found if len(found) == len(items) else None


def _order(
    orb: Mapping[str, Any], here: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Pair the ids that both lists have, in the order of each."""
    orders = [key for key in orb if key in here], [key for key in here if key in orb]
    return [(" (order)", ", ".join(orders[0]), ", ".join(orders[1]))]


def _are_links(path: tuple[str, ...], orb: Any, here: Any) -> bool:
    """Tell whether both are links that Orb signs, which may differ in each answer."""
    is_attempt = len(path) == 4 and path[1] == ".payment_attempts"
    if path[-1].removeprefix(".") not in _SIGNED or not (len(path) == 2 or is_attempt):
        return False
    return bool(orb and here and isinstance(orb, str) and isinstance(here, str))


def _same(orb: Any, here: Any) -> bool:
    if isinstance(orb, bool) or isinstance(here, bool):
        return orb is here  # True == 1 in Python
    return bool(orb == here)


def _dig(value: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
