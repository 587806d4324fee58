"""Check the services' arguments before anything is sent, and turn them into bodies."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypedDict

from django.utils.translation import gettext_noop

from django_orb import exact_json
from django_orb.client import is_id
from django_orb.conf import get_settings
from django_orb.exact_json import require_storable
from django_orb.exceptions import OrbInputError
from django_orb.models.operation_types import type_of
from django_orb.parsing import MAX_PLACES, MAX_WHOLE_DIGITS, fits_money

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Enough to write any number that a money column holds.
MAX_CHARACTERS = 100
# What a page still shows whole.
MAX_NOTE = 1000
# A hundred years: our own limit, since Orb names none.
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
    Check a line item's arguments and return the body of Orb's request.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    name = name.strip() if name else ""
    item_id = item_id.strip() if item_id else ""
    if not name and not item_id:
        raise OrbInputError(
            gettext_noop("Give the line a name, or an item."), field="name"
        )
    _require_period(start_date, end_date)
    # Orb's schema has a text for the amount, written here without an exponent, and a
    # number for the quantity.
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


def read_note(note: object) -> str:
    """
    Return why an operation is done, without spaces around it; lines may be broken.

    Raises:
        OrbInputError: it cannot be kept; `field` is "note".
    """
    if note is None:
        return ""
    if not isinstance(note, str):
        raise OrbInputError("note must be a text.", field="note")
    text = note.replace("\r\n", "\n").strip()
    if len(text) > MAX_NOTE:
        raise OrbInputError(
            gettext_noop("The note is longer than 1000 characters."), field="note"
        )
    # Cs are halves of surrogate pairs, which no UTF-8 can hold.
    if any(unicodedata.category(one) in ("Cc", "Cs") for one in text.replace("\n", "")):
        raise OrbInputError(
            gettext_noop("The note has a control character, such as a tab or a NUL."),
            field="note",
        )
    return text


def require_note(kind: str, note: object) -> str:
    """
    Return the note of an operation, which `NOTES_REQUIRED` may demand.

    Raises:
        OrbInputError: it cannot be kept, or there is none; `field` is "note".
    """
    text = read_note(note)
    if not text and type_of(kind).asks_for_note and get_settings().NOTES_REQUIRED:
        raise OrbInputError(
            gettext_noop("Say in a note why: this installation requires it."),
            field="note",
        )
    return text


class NewLineItem(TypedDict):
    """A line of a one-off invoice: so many units of an item, each at `unit_amount`."""

    item_id: str
    name: str
    quantity: Decimal | int | str
    unit_amount: Decimal | int | str
    start_date: date
    end_date: date


class InvoiceDetails(TypedDict, total=False):
    """Optional values of a one-off invoice, by Orb's own names."""

    net_terms: int | None
    due_date: date | None
    auto_collection: bool | None
    will_auto_issue: bool
    memo: str | None
    discount: Mapping[str, Any] | None
    metadata: Mapping[str, str] | None


def invoice_body(
    *,
    customer_id: str | None,
    external_customer_id: str | None,
    currency: str,
    invoice_date: date,
    line_items: Sequence[NewLineItem],
    **details: Unpack[InvoiceDetails],
) -> dict[str, Any]:
    """
    Check a one-off invoice's arguments and return the body of Orb's request.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    if bool(customer_id) == bool(external_customer_id):
        raise OrbInputError(
            gettext_noop("Give either Orb's id of the customer or yours."),
            field="customer_id",
        )
    if not line_items:
        raise OrbInputError("Give at least one line.", field="line_items")
    texts = {
        "customer_id": customer_id,
        "external_customer_id": external_customer_id,
        "currency": currency,
    }
    body: dict[str, Any] = {}
    for field, text in texts.items():
        if text or field == "currency":
            require_text(text, field)
            body[field] = str(text).strip()
    _require_date(invoice_date, "invoice_date")
    body["invoice_date"] = invoice_date.isoformat()
    body["line_items"] = [_new_line(line) for line in line_items]
    return {**body, **_details(details)}


def _new_line(line: NewLineItem) -> dict[str, Any]:
    for field, text in (("name", line["name"]), ("item_id", line["item_id"])):
        require_text(text, field)
    start_date, end_date = line["start_date"], line["end_date"]
    _require_period(start_date, end_date)
    return {
        "name": line["name"].strip(),
        "item_id": line["item_id"].strip(),
        "model_type": "unit",
        "quantity": exact_number(line["quantity"], "quantity"),
        "unit_config": {
            "unit_amount": f"{exact_number(line['unit_amount'], 'unit_amount'):f}"
        },
        "start_date": start_date.isoformat(),
        "end_date": end_date.isoformat(),
    }


def _details(given: InvoiceDetails) -> dict[str, Any]:
    """Check and return the details that were given; Orb decides the others."""
    details: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None
    }
    _require_terms(given.get("net_terms"))
    if "due_date" in details:
        _require_date(details["due_date"], "due_date")
        details["due_date"] = details["due_date"].isoformat()
    _require_one_of_terms(details)
    for field in ("auto_collection", "will_auto_issue"):
        if not isinstance(details.get(field, False), bool):
            raise OrbInputError(f"{field} must be True or False.", field=field)
    if "memo" in details:
        require_text(details["memo"], "memo")
    if "metadata" in details:
        details["metadata"] = _metadata(details["metadata"])
    if "discount" in details:
        _require_storable(details["discount"], "discount")
        details["discount"] = _as_recorded(details["discount"], "discount")
    return details


def _as_recorded(value: Mapping[str, Any], field: str) -> Any:
    """Return JSON as the operation's row gives it back, so that a key is recognised."""
    try:
        return exact_json.loads(exact_json.dumps(dict(value)))
    except (TypeError, ValueError) as err:
        raise OrbInputError(f"{field} is not JSON: {err}", field=field) from err


def payment_body(
    *, payment_received_date: date, external_id: str | None, notes: str | None
) -> dict[str, Any]:
    """
    Check a payment's arguments and return the body of Orb's request.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    _require_date(payment_received_date, "payment_received_date")
    body: dict[str, Any] = {"payment_received_date": payment_received_date.isoformat()}
    for field, value in (("external_id", external_id), ("notes", notes)):
        if value is not None and not isinstance(value, str):
            raise OrbInputError(f"{field} must be a text.", field=field)
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
    Check an edit's arguments and return the body of Orb's request.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
    """
    body: dict[str, Any] = {}
    if metadata is not UNCHANGED:
        merged = None if metadata is None else _metadata(metadata)
        # Without a key they change nothing, and every invoice would show them as done.
        if merged != {}:
            body["metadata"] = merged
    if net_terms is not UNCHANGED:
        _require_terms(net_terms)
        body["net_terms"] = net_terms
    if due_date is not UNCHANGED:
        if due_date is not None:
            _require_date(due_date, "due_date")
        body["due_date"] = None if due_date is None else due_date.isoformat()
    if not body:
        raise OrbInputError(gettext_noop("There is nothing to change."))
    _require_one_of_terms(body)
    return body


def _require_one_of_terms(body: Mapping[str, Any]) -> None:
    if body.get("net_terms") is not None and body.get("due_date") is not None:
        raise OrbInputError(
            gettext_noop(
                "Give net terms or a due date: the one follows from the other."
            ),
            field="due_date",
        )


def _metadata(metadata: object) -> dict[str, str | None]:
    if not isinstance(metadata, Mapping):
        raise OrbInputError("metadata must map texts to texts.", field="metadata")
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:
            raise OrbInputError("A key of metadata must be a text.", field="metadata")
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
            "net_terms must be a whole number of days from 0 (due on issue) to "
            f"{MAX_TERMS}.",
            field="net_terms",
        )


def _require_period(start_date: date, end_date: date) -> None:
    for field, value in (("start_date", start_date), ("end_date", end_date)):
        _require_date(value, field)
    if end_date < start_date:
        raise OrbInputError(
            gettext_noop("The end is before the start."), field="end_date"
        )


def _require_date(value: object, field: str) -> None:
    # In Python each datetime is a date, and its day depends on a time zone.
    if not isinstance(value, date) or isinstance(value, datetime):
        raise OrbInputError(
            f"{field} must be a date without a time: Orb reads it in the customer's "
            "time zone.",
            field=field,
        )


def require_text(value: object, field: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise OrbInputError(f"{field} is empty.", field=field)
    _require_storable(value, field)


def require_orb_id(value: object, field: str) -> None:
    """
    Make sure that Orb can be asked for an id.

    Raises:
        OrbInputError: it cannot be one of Orb's.
    """
    require_text(value, field)
    if not is_id(str(value)):
        raise OrbInputError(f"{value!r} is not an id in Orb.", field=field)


def exact_number(value: Decimal | int | str, field: str) -> Decimal:
    """
    Read a number without losing a digit.

    Raises:
        OrbInputError: it is not a number, or a float, which may have lost some already.
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
