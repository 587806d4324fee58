"""A line item that a client asks for, and the line that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from .bodies import Body, reading
from .calendars import midnight, shown
from .customers import Customer
from .ids import make_id
from .lines import Discount, Line
from .prices import Charge, Price, Unit, with_quantity


@dataclass(frozen=True)
class NewLine:
    amount: Decimal
    quantity: Decimal
    start_date: date
    end_date: date
    name: str | None = None
    item_id: str | None = None
    unit_amount: Decimal | None = None
    discount: Discount | None = None

    def discounted_by(self, discount: Discount | None) -> NewLine:
        return replace(self, discount=discount)

    def payload(
        self, customer: Customer, item: tuple[str, str], line_id: str, moment: int
    ) -> dict[str, Any]:
        """
        Return the line as Orb answers it: dates become the customer's midnight, in UTC.

        Own choice: `end_date` is taken as it is given, without adding a day.
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
            discount=self.discount,
        ).payload()

    def _unit_amount(self) -> Decimal:
        if self.unit_amount is not None:
            return self.unit_amount
        # The amount of a line item is its total, not its unit price.
        return self.amount / self.quantity if self.quantity else self.amount


def parse_line_item(fields: dict[str, Any]) -> tuple[str, NewLine]:
    """
    Read the body of POST /invoice_line_items. Return the invoice's id and the line.

    Raises:
        Problem: 400, naming every field that is wrong.
    """
    with reading(fields) as body:
        invoice_id = body.text("invoice_id")
        start_date, end_date = period(body)
        line = NewLine(
            amount=body.amount("amount"),
            quantity=body.number("quantity"),
            start_date=start_date,
            end_date=end_date,
            name=body.optional_text("name"),
            item_id=body.optional_text("item_id"),
        )
        if line.name is None and line.item_id is None:
            body.wrong("name", "one of name and item_id is required")
    return invoice_id, line


def period(body: Body) -> tuple[date, date]:
    start, end = body.day("start_date"), body.day("end_date")
    if date.min not in {start, end} and end < start:
        body.wrong("end_date", "before start_date")
    return start, end


def parse_one_off_line(body: Body) -> NewLine:
    """Read a member of the `line_items` of POST /invoices."""
    if body.text("model_type") not in {"unit", ""}:
        body.wrong("model_type", "only unit is possible")
    config = body.optional_object("unit_config")
    if config is None:
        body.wrong("unit_config", "an object is required")
    unit_amount = config.amount("unit_amount") if config else Decimal(0)
    quantity = body.number("quantity")
    start_date, end_date = period(body)
    return NewLine(
        amount=unit_amount * quantity,
        quantity=quantity,
        start_date=start_date,
        end_date=end_date,
        name=body.text("name"),
        item_id=body.text("item_id"),
        unit_amount=unit_amount,
    )
