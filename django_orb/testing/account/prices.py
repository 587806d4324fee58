"""Prices of the four kinds that most accounts use, and the cost of a quantity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

from .ids import make_id
from .money import ZERO, money, number, rate, rounded


@dataclass(frozen=True)
class Charge:
    """The cost of a line before adjustments, and the parts that it consists of."""

    quantity: Decimal
    subtotal: Decimal
    sub_line_items: list[dict[str, Any]] = field(default_factory=list)


class Model(Protocol):
    """The rule by which a quantity becomes an amount of money."""

    @property
    def model_type(self) -> str: ...
    def scaled(self, factor: Decimal) -> Model: ...
    def config(self) -> dict[str, Any]: ...
    def charge(self, quantity: Decimal, currency: str) -> Charge: ...


@dataclass(frozen=True)
class Unit:
    unit_amount: Decimal
    model_type: str = "unit"

    def scaled(self, factor: Decimal) -> Unit:
        return Unit(self.unit_amount * factor)

    def config(self) -> dict[str, Any]:
        amount = rate(self.unit_amount)
        return {"unit_amount": amount, "prorated": False, "scaling_factor": None}

    def charge(self, quantity: Decimal, currency: str) -> Charge:
        return Charge(quantity, rounded(self.unit_amount * quantity, currency))


@dataclass(frozen=True)
class Package:
    package_amount: Decimal
    package_size: int
    model_type: str = "package"

    def scaled(self, factor: Decimal) -> Package:
        return Package(self.package_amount * factor, self.package_size)

    def config(self) -> dict[str, Any]:
        amount = rate(self.package_amount)
        return {"package_amount": amount, "package_size": self.package_size}

    def charge(self, quantity: Decimal, currency: str) -> Charge:
        packages = math.ceil(quantity / self.package_size)
        return Charge(quantity, rounded(self.package_amount * packages, currency))


@dataclass(frozen=True)
class Tier:
    first_unit: int
    last_unit: int | None
    unit_amount: Decimal

    def config(self) -> dict[str, Any]:
        return {
            "first_unit": self.first_unit,
            "last_unit": self.last_unit,
            "unit_amount": rate(self.unit_amount),
        }

    def share(self, quantity: Decimal) -> Decimal:
        """Return how much of the quantity falls into this tier."""
        top = quantity
        if self.last_unit is not None:
            top = min(quantity, Decimal(self.last_unit))
        return max(ZERO, top - self.first_unit)


_ORDINALS = ["One", "Two", "Three", "Four", "Five"]


@dataclass(frozen=True)
class Tiered:
    tiers: tuple[Tier, ...]
    model_type: str = "tiered"

    def scaled(self, factor: Decimal) -> Tiered:
        return Tiered(
            tuple(replace(t, unit_amount=t.unit_amount * factor) for t in self.tiers)
        )

    def config(self) -> dict[str, Any]:
        return {"tiers": [tier.config() for tier in self.tiers], "prorated": False}

    def charge(self, quantity: Decimal, currency: str) -> Charge:
        parts: list[dict[str, Any]] = []
        total = ZERO
        for ordinal, tier in zip(_ORDINALS, self.tiers, strict=False):
            share = tier.share(quantity)
            if not share and parts:
                break
            amount = rounded(share * tier.unit_amount, currency)
            total += amount
            parts.append(_tier_line(f"Tier {ordinal}", tier, share, amount, currency))
        return Charge(quantity, total, parts)


def _tier_line(
    name: str, tier: Tier, quantity: Decimal, amount: Decimal, currency: str
) -> dict[str, Any]:
    return {
        "type": "tier",
        "name": name,
        "quantity": number(quantity),
        "amount": money(amount, currency),
        "grouping": None,
        "tier_config": tier.config(),
    }


@dataclass(frozen=True)
class Matrix:
    dimensions: tuple[str, ...]
    cells: tuple[tuple[tuple[str, ...], Decimal], ...]
    default_unit_amount: Decimal
    model_type: str = "matrix"

    def scaled(self, factor: Decimal) -> Matrix:
        cells = tuple((values, amount * factor) for values, amount in self.cells)
        return Matrix(self.dimensions, cells, self.default_unit_amount * factor)

    def config(self) -> dict[str, Any]:
        return {
            "default_unit_amount": rate(self.default_unit_amount),
            "dimensions": list(self.dimensions),
            "matrix_values": [
                {
                    "dimension_values": list(values),
                    "unit_amount": rate(amount),
                    "scaling_factor": None,
                }
                for values, amount in self.cells
            ],
            "scaling_factor": None,
        }

    def charge(self, quantity: Decimal, currency: str) -> Charge:
        parts = []
        total = ZERO
        for (values, unit_amount), share in zip(
            self.cells, self._shares(quantity), strict=True
        ):
            amount = rounded(share * unit_amount, currency)
            total += amount
            parts.append(_matrix_line(values, share, amount, currency))
        return Charge(quantity, total, parts)

    def _shares(self, quantity: Decimal) -> list[Decimal]:
        """Put half into the first cell, half of the rest into the second, and so on."""
        shares = []
        for _ in self.cells[1:]:
            half = (quantity / 2).quantize(Decimal("0.01"))
            shares.append(half)
            quantity -= half
        return [*shares, quantity]


def _matrix_line(
    values: tuple[str, ...], quantity: Decimal, amount: Decimal, currency: str
) -> dict[str, Any]:
    return {
        "type": "matrix",
        "name": ", ".join(values),
        "quantity": number(quantity),
        "scaled_quantity": None,
        "amount": money(amount, currency),
        "grouping": None,
        "matrix_config": {"dimension_values": list(values)},
    }


@dataclass(frozen=True)
class Price:
    """A price of a plan, or of a single charge."""

    name: str
    model: Model
    usage: bool = False
    cadence: str = "monthly"

    def scaled(self, factor: Decimal, cadence: str) -> Price:
        return Price(self.name, self.model.scaled(factor), self.usage, cadence)

    def payload(
        self,
        *,
        currency: str,
        price_id: str,
        item_id: str,
        created_at: str,
        item_name: str | None = None,
    ) -> dict[str, Any]:
        """
        Return the price as Orb shows it, with the config under `<model_type>_config`.

        `with_quantity` adds the part that differs from line to line.
        """
        metric = {"id": make_id("metric", item_id)} if self.usage else None
        return {
            "id": price_id,
            "name": self.name,
            "external_price_id": None,
            "price_type": "usage_price" if self.usage else "fixed_price",
            "model_type": self.model.model_type,
            f"{self.model.model_type}_config": self.model.config(),
            "cadence": self.cadence,
            "billing_mode": "in_arrear" if self.usage else "in_advance",
            "billing_cycle_configuration": {"duration": 1, "duration_unit": "month"},
            "invoicing_cycle_configuration": None,
            "billable_metric": metric,
            "fixed_price_quantity": None,
            "plan_phase_order": None,
            "currency": currency,
            "conversion_rate": None,
            "conversion_rate_config": None,
            "credit_allocation": None,
            "discount": None,
            "minimum": None,
            "minimum_amount": None,
            "maximum": None,
            "maximum_amount": None,
            "composite_price_filters": None,
            "invoice_grouping_key": None,
            "replaces_price_id": None,
            "dimensional_price_configuration": None,
            "license_type": None,
            "item": {"id": item_id, "name": item_name or self.name},
            "created_at": created_at,
            "metadata": {},
        }


def with_quantity(price: dict[str, Any], quantity: Decimal) -> dict[str, Any]:
    """Add the quantity to a fixed price; for usage, only the line has it."""
    if price["price_type"] == "usage_price":
        return price
    return price | {"fixed_price_quantity": number(quantity)}
