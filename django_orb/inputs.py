"""Arguments of the services, checked in the caller's words before anything is sent."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from .exceptions import OrbInputError


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
        raise OrbInputError("Give the line a name, or an item.", field="name")
    for field, value in (("start_date", start_date), ("end_date", end_date)):
        _require_date(value, field)
    if end_date < start_date:
        raise OrbInputError("The end is before the start.", field="end_date")
    body: dict[str, Any] = {
        "amount": f"{_number(amount, 'amount'):f}",
        "quantity": _number(quantity, "quantity"),
        "start_date": start_date.isoformat(),
        "end_date": end_date.isoformat(),
    }
    if name:
        body["name"] = name
    if item_id:
        body["item_id"] = item_id
    return body


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


def _number(value: Decimal | int | str, field: str) -> Decimal:
    if isinstance(value, (float, bool)):
        raise OrbInputError(
            f"{field} is a {type(value).__name__}; give a Decimal or a str, which are "
            "exact.",
            field=field,
        )
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as err:
        raise OrbInputError(
            f"{field} is not a number: {value!r}.", field=field
        ) from err
    if not number.is_finite():
        raise OrbInputError(f"{field} is not a number: {value!r}.", field=field)
    return number
