"""Invoice lines: their amounts after discounts and prepaid credits, and their taxes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from .ids import make_id
from .money import ZERO, money, number, rounded
from .prices import Charge


@dataclass(frozen=True)
class Tax:
    description: str
    percentage: Decimal
    reason: str = "taxed"

    def amount(self, amount: Decimal, currency: str) -> dict[str, Any]:
        tax = rounded(amount * self.percentage / 100, currency)
        return {
            "amount": money(tax, currency),
            "tax_rate_description": self.description,
            "tax_rate_percentage": f"{self.percentage.normalize():f}",
            "tax_reason": self.reason,
        }


@dataclass(frozen=True)
class Discount:
    """A percentage (0.1 is a tenth) or, if that is zero, a fixed amount."""

    reason: str
    percentage: Decimal = ZERO
    amount: Decimal = ZERO
    invoice_level: bool = False

    def applied(self, subtotal: Decimal, currency: str) -> Decimal:
        if self.percentage:
            return rounded(subtotal * self.percentage, currency)
        return min(subtotal, rounded(self.amount, currency))

    def adjustment(self, price_id: str, applied: Decimal, currency: str) -> Any:
        kind = "percentage_discount" if self.percentage else "amount_discount"
        return {
            "id": make_id("adjustment", price_id, self.reason),
            "adjustment_type": kind,
            kind: self._value(currency),
            "amount": money(applied, currency),
            **self._scope([price_id]),
            "is_invoice_level": self.invoice_level,
            "reason": self.reason,
            "replaces_adjustment_id": None,
        }

    def payload(self, price_ids: list[str], currency: str) -> dict[str, Any]:
        """Return the discount as the invoice itself shows it."""
        kind = "percentage" if self.percentage else "amount"
        return {
            "discount_type": kind,
            f"{kind}_discount": self._value(currency),
            **self._scope(price_ids),
            "reason": self.reason,
        }

    def _value(self, currency: str) -> float | str:
        if self.percentage:
            return float(self.percentage)
        return money(self.amount, currency)

    def _scope(self, price_ids: list[str]) -> dict[str, Any]:
        only = {"field": "price_id", "operator": "includes", "values": price_ids}
        return {"applies_to_price_ids": price_ids, "filters": [only]}


@dataclass(frozen=True)
class Line:
    """A line before it is serialised; its id and dates may still be slots."""

    id: str
    name: str
    charge: Charge
    price: dict[str, Any]
    currency: str
    start_date: str
    end_date: str
    discount: Discount | None = None
    credits_share: Decimal = ZERO
    partial_share: Decimal = ZERO
    taxes: tuple[Tax, ...] = ()
    usage_customer_ids: list[str] | None = None

    @cached_property
    def discounted(self) -> Decimal:
        # A negative line is a credit, and a discount on it would raise the bill.
        if self.discount is None or self.charge.subtotal <= 0:
            return ZERO
        return self.discount.applied(self.charge.subtotal, self.currency)

    @cached_property
    def adjusted(self) -> Decimal:
        return self.charge.subtotal - self.discounted

    @cached_property
    def prepaid(self) -> Decimal:
        return rounded(self.adjusted * self.credits_share, self.currency)

    @cached_property
    def partially_invoiced(self) -> Decimal:
        return rounded(self.adjusted * self.partial_share, self.currency)

    @cached_property
    def amount(self) -> Decimal:
        return self.adjusted - self.prepaid - self.partially_invoiced

    def payload(self) -> dict[str, Any]:
        # The order of the steps follows
        # https://docs.withorb.com/invoicing/invoice-calculation-examples
        return {
            "id": self.id,
            "name": self.name,
            "quantity": number(self.charge.quantity),
            "amount": money(self.amount, self.currency),
            "subtotal": money(self.charge.subtotal, self.currency),
            "adjusted_subtotal": money(self.adjusted, self.currency),
            "credits_applied": money(self.prepaid, self.currency),
            "partially_invoiced_amount": money(self.partially_invoiced, self.currency),
            "start_date": self.start_date,
            "end_date": self.end_date,
            "grouping": None,
            "filter": None,
            "usage_customer_ids": self.usage_customer_ids,
            "adjustments": self._adjustments(),
            "sub_line_items": self.charge.sub_line_items,
            "tax_amounts": tax_amounts(self.amount, self.taxes, self.currency),
            "price": self.price,
        }

    def _adjustments(self) -> list[dict[str, Any]]:
        if self.discount is None or self.charge.subtotal <= 0:
            return []
        applied = self.discounted
        return [self.discount.adjustment(self.price["id"], applied, self.currency)]


def tax_amounts(
    amount: Decimal, taxes: tuple[Tax, ...], currency: str
) -> list[dict[str, Any]]:
    return [tax.amount(amount, currency) for tax in taxes]


@dataclass(frozen=True)
class Totals:
    subtotal: Decimal
    total: Decimal


def totals(lines: list[dict[str, Any]]) -> Totals:
    """Add up the lines; a line's amount does not include its tax (Orb's docs)."""
    subtotal = sum((Decimal(line["subtotal"]) for line in lines), ZERO)
    amount = sum((Decimal(line["amount"]) for line in lines), ZERO)
    tax = sum(
        (Decimal(tax["amount"]) for line in lines for tax in line["tax_amounts"]), ZERO
    )
    return Totals(subtotal, amount + tax)
