"""Arguments of the services, checked in the caller's words before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

from django.utils.translation import gettext_noop

from django_orb.exact_json import require_storable
from django_orb.exceptions import OrbInputError
from django_orb.parsing import MAX_PLACES, MAX_WHOLE_DIGITS, fits_money

# More than any number that a money column holds is written with.
MAX_CHARACTERS = 100
# A hundred years: own choice, since Orb names no limit.
MAX_TERMS = 36_500


class Unchanged(Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "unchanged"


# For arguments in which None means something to Orb.
UNCHANGED: Final = Unchanged.UNCHANGED


def line_item_body(
    *,
    name: str | None,
    item_id: str | None,
    quantity: Decimal | int | str,
    amount: Decimal | int | str,
    start_date: date,
    end_date: date,
) -> dict[str, Any]:
    """
    Check a line item's arguments and write them as Orb's request has them.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    name = name.strip() if name else ""
    item_id = item_id.strip() if item_id else ""
    if not name and not item_id:
        raise OrbInputError(
            gettext_noop("Give the line a name, or an item."), field="name"
        )
    for field, value in (("start_date", start_date), ("end_date", end_date)):
        _require_date(value, field)
    if end_date < start_date:
        raise OrbInputError(
            gettext_noop("The end is before the start."), field="end_date"
        )
    body: dict[str, Any] = {
        "amount": f"{exact_number(amount, 'amount'):f}",
        "quantity": exact_number(quantity, "quantity"),
        "start_date": start_date.isoformat(),
        "end_date": end_date.isoformat(),
    }
    for field, text in (("name", name), ("item_id", item_id)):
        if text:
            _require_storable(text, field)
            body[field] = text
    return body


def payment_body(
    *, payment_received_date: date, external_id: str | None, notes: str | None
) -> dict[str, Any]:
    """
    Check what is said of a payment and write it as Orb's request has it.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    _require_date(payment_received_date, "payment_received_date")
    body: dict[str, Any] = {"payment_received_date": payment_received_date.isoformat()}
    for field, value in (("external_id", external_id), ("notes", notes)):
        if value is not None and not isinstance(value, str):
            raise OrbInputError(f"{field} is a text.", field=field)
        if value and value.strip():
            _require_storable(value, field)
            body[field] = value.strip()
    return body


def update_body(
    *,
    metadata: Mapping[str, str | None] | Unchanged | None,
    net_terms: int | Unchanged | None,
    due_date: date | Unchanged | None,
) -> dict[str, Any]:
    """
    Check what is to be edited and write it as Orb's request has it.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    body: dict[str, Any] = {}
    if metadata is not UNCHANGED:
        body["metadata"] = None if metadata is None else _metadata(metadata)
    if net_terms is not UNCHANGED:
        _require_terms(net_terms)
        body["net_terms"] = net_terms
    if due_date is not UNCHANGED:
        if due_date is not None:
            _require_date(due_date, "due_date")
        body["due_date"] = None if due_date is None else due_date.isoformat()
    if not body or body.get("metadata", True) == {}:
        raise OrbInputError(gettext_noop("There is nothing to change."))
    if body.get("net_terms") is not None and body.get("due_date") is not None:
        raise OrbInputError(
            gettext_noop(
                "Give net terms or a due date: the one follows from the other."
            ),
            field="due_date",
        )
    return body


def _metadata(metadata: object) -> dict[str, str | None]:
    if not isinstance(metadata, Mapping):
        raise OrbInputError("metadata maps texts to texts.", field="metadata")
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:
            raise OrbInputError("A key of metadata is a text.", field="metadata")
        if value is not None and not isinstance(value, str):
            raise OrbInputError(
                f"metadata[{key!r}] is a {type(value).__name__}; give a text, or None "
                "to remove it.",
                field="metadata",
            )
    _require_storable(dict(metadata), "metadata")
    return dict(metadata)


def _require_terms(value: object) -> None:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (is_count and 0 <= value <= MAX_TERMS):  # type: ignore[operator]
        raise OrbInputError(
            f"net_terms is a whole number of days from 0 (due on issue) to {MAX_TERMS}.",
            field="net_terms",
        )


def _require_date(value: object, field: str) -> None:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise OrbInputError(
            f"{field} is a date without a time: Orb reads it in the customer's "
            "time zone.",
            field=field,
        )


def require_text(value: object, field: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise OrbInputError(f"{field} is empty.", field=field)
    _require_storable(value, field)


def exact_number(value: Decimal | int | str, field: str) -> Decimal:
    """
    Read a number without losing a digit.

    Raises:
        OrbInputError: it is none, or a float, which has lost some already.
    """
    if isinstance(value, (float, bool)):
        raise OrbInputError(
            f"{field} is a {type(value).__name__}; give a Decimal or a str, which are "
            "exact.",
            field=field,
        )
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        raise OrbInputError(
            f"{field} is longer than {MAX_CHARACTERS} characters.", field=field
        )
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as err:
        raise OrbInputError(
            f"{field} is not a number: {value!r}.", field=field
        ) from err
    if not number.is_finite():
        raise OrbInputError(f"{field} is not a number: {value!r}.", field=field)
    _require_storable(number, field)
    if not fits_money(number):
        raise OrbInputError(
            f"{field} has more than {MAX_WHOLE_DIGITS} digits before the point or more "
            f"than {MAX_PLACES} after it.",
            field=field,
        )
    return number


def _require_storable(value: object, field: str) -> None:
    try:
        require_storable(value)
    except ValueError as err:
        raise OrbInputError(f"{field} cannot be recorded: {err}", field=field) from err
