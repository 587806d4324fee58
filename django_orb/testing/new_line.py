"""The body of POST /invoice_line_items, and the line it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from .calendars import midnight, shown
from .customers import Customer
from .ids import make_id
from .lines import Line
from .prices import Charge, Price, Unit, with_quantity
from .problems import invalid
from .query import decimal, parse_day


@dataclass(frozen=True)
class NewLine:
    invoice_id: str
    amount: Decimal
    quantity: Decimal
    start_date: date
    end_date: date
    name: str | None = None
    item_id: str | None = None

    def payload(
        self, customer: Customer, item: tuple[str, str], line_id: str, moment: int
    ) -> dict[str, Any]:
        """
        The line as Orb answers it: dates become the customer's midnight in UTC.

        Own choice: `end_date` is taken as it stands, neither made inclusive nor not.
        """
        zone, currency = customer.region.time_zone, customer.currency
        item_id, item_name = item
        name = self.name or item_name
        price = Price(name, Unit(self._unit_amount()), cadence="one_time").payload(
            currency=currency,
            price_id=make_id("price", line_id),
            item_id=item_id,
            created_at=shown(moment),
            item_name=item_name,
        )
        return Line(
            id=line_id,
            name=name,
            charge=Charge(self.quantity, self.amount),
            price=with_quantity(price, self.quantity),
            currency=currency,
            start_date=shown(midnight(self.start_date, zone)),
            end_date=shown(midnight(self.end_date, zone)),
        ).payload()

    def _unit_amount(self) -> Decimal:
        return self.amount / self.quantity if self.quantity else self.amount


def parse_new_line(body: Any) -> NewLine:
    """
    Read the body; numbers in it are `Decimal` or `int`.

    Raises:
        Problem: 400, naming every field that is wrong.
    """
    if not isinstance(body, dict):
        raise invalid("body: not a JSON object")
    reader = _Reader(body)
    line = NewLine(
        invoice_id=reader.text("invoice_id") or "",
        amount=reader.amount(),
        quantity=reader.quantity(),
        start_date=reader.day("start_date"),
        end_date=reader.day("end_date"),
        name=reader.text("name", required=False),
        item_id=reader.text("item_id", required=False),
    )
    if line.name is None and line.item_id is None:
        reader.errors.append("name: one of name and item_id is required")
    if line.end_date < line.start_date:
        reader.errors.append("end_date: before start_date")
    if reader.errors:
        raise invalid(*reader.errors)
    return line


class _Reader:
    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.errors: list[str] = []

    def text(self, name: str, *, required: bool = True) -> str | None:
        value = self._body.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value:
            self.errors.append(f"{name}: a string is required")
            return None
        return value

    def amount(self) -> Decimal:
        # A JSON number is refused: Orb takes the amount as a string.
        try:
            return decimal(self.text("amount") or "0")
        except ValueError:
            self.errors.append("amount: not a decimal number")
            return Decimal(0)

    def quantity(self) -> Decimal:
        value = self._body.get("quantity")
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self.errors.append("quantity: a number is required")
            return Decimal(0)
        return Decimal(value)

    def day(self, name: str) -> date:
        text = self.text(name)
        try:
            return parse_day(text or "")
        except ValueError:
            if text is not None:
                self.errors.append(f"{name}: {text!r} is not a date (YYYY-MM-DD)")
            return date.max if name == "end_date" else date.min
