"""What is on an invoice: lines priced once, shared by invoices that are alike."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any, NamedTuple

from .catalog import (
    CURRENCY_FACTORS,
    DISCOUNTS,
    EXTRAS,
    PARTIALS,
    PLANS,
    SERVICES,
    Item,
)
from .ids import make_id
from .lines import Discount, Line, Totals, totals
from .prices import Price
from .regions import REGIONS
from .templates import Template, dumps, slot

_PRICED_AT = "2023-06-01T09:12:44+00:00"


class BillKey(NamedTuple):
    """All that decides the amounts of an invoice."""

    kind: str
    currency: str
    region: str
    discount: str
    level: int
    extra: str = ""


class Bill:
    """The lines of an invoice, with slots for what differs between invoices."""

    def __init__(self, seed: int, key: BillKey, levels: int) -> None:
        self._seed = seed
        self._key = key
        self._fraction = key.level / levels
        lines = [line.payload() for line in self._lines()]
        sums: Totals = totals(lines)
        self.line_count = len(lines)
        self.subtotal = sums.subtotal
        self.total = sums.total
        self.lines = Template(lines)
        self.discounts = dumps(self._discounts(lines))
        self.discount = self.discounts[1:-1] or b"null"

    def _lines(self) -> list[Line]:
        return [self._line(n, item) for n, item in enumerate(self._items())]

    def _items(self) -> list[Item]:
        kind, _, position = self._key.kind.partition(":")
        items: tuple[Item, ...]
        if kind == "service":
            items = SERVICES[int(position)]
        elif kind == "partial":
            items = PARTIALS[int(position)]
        else:
            items = PLANS[kind]
        extra = EXTRAS.get(self._key.extra)
        return [*items, extra] if extra else [*items]

    def _line(self, position: int, item: Item) -> Line:
        currency = self._key.currency
        model = item.price.model.scaled(CURRENCY_FACTORS[currency])
        quantity = self._quantity(item)
        mode = "used" if item.price.usage else "ahead"
        return Line(
            id=slot(f"line{position}"),
            name=item.price.name,
            charge=model.charge(quantity, currency),
            price=self._price(item.price, quantity),
            currency=currency,
            start_date=slot(f"{mode}_from"),
            end_date=slot(f"{mode}_to"),
            discount=self._discount(position),
            credits_share=self._credits_share(item),
            partial_share=self._partial_share(item),
            taxes=REGIONS[self._key.region].taxes if self._key.region else (),
            usage_customer_ids=[slot("customer_id")] if item.price.usage else None,
        )

    def _quantity(self, item: Item) -> Decimal:
        if not item.varies:
            return item.typical
        chance = random.Random(f"{self._key.kind}/{item.price.name}/{self._key.level}")  # noqa: S311
        factor = 0.3 + 1.6 * self._fraction**2 + 0.12 * chance.random()
        quantity = item.typical * Decimal(f"{factor:.6f}")
        places = item.typical.as_tuple().exponent
        return max(
            Decimal(1), round(quantity, -places if isinstance(places, int) else 0)
        )

    def _price(self, price: Price, quantity: Decimal) -> dict[str, Any]:
        kind, currency = self._key.kind, self._key.currency
        scaled = Price(
            price.name,
            price.model.scaled(CURRENCY_FACTORS[currency]),
            price.usage,
            "one_time" if ":" in kind else price.cadence,
        )
        return scaled.payload(
            currency=currency,
            price_id=make_id(self._seed, "price", kind, price.name, currency),
            item_id=item_id(self._seed, price.name),
            created_at=_PRICED_AT,
            quantity=quantity,
        )

    def _discount(self, position: int) -> Discount | None:
        discount = DISCOUNTS.get(self._key.discount)
        if discount is None or discount.percentage:
            return discount
        # A fixed amount is taken off once: from the first line.
        return discount if position == 0 else None

    def _credits_share(self, item: Item) -> Decimal:
        """Prepaid credits cover a part of what the assistant uses."""
        covered = "AI" in item.price.name and self._key.kind == "enterprise"
        return Decimal("0.6") if covered else Decimal(0)

    def _partial_share(self, item: Item) -> Decimal:
        covered = self._key.extra == "threshold" and "ingestion" in item.price.name
        return Decimal("0.5") if covered else Decimal(0)

    def _discounts(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        discount = DISCOUNTS.get(self._key.discount)
        if discount is None or not discount.invoice_level:
            return []
        price_ids = [line["price"]["id"] for line in lines if line["adjustments"]]
        return [discount.payload(price_ids, self._key.currency)]


def item_id(seed: int, name: str) -> str:
    return make_id(seed, "item", name)
