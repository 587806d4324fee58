"""The lines and sums of an invoice: priced once, shared by invoices that are alike."""

from __future__ import annotations

import zlib
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
from .money import money
from .prices import Price, with_quantity
from .regions import REGIONS
from .templates import Template, dumps, quoted, text_slot

MAX_LINES = 7
# What differs between invoices with the same lines, in the order of `Bill.lines`.
LAYOUT = (
    "customer_id",
    "used_from",
    "used_to",
    "ahead_from",
    "ahead_to",
    *(f"line{n}" for n in range(MAX_LINES)),
)

_PRICED_AT = "2023-06-01T09:12:44+00:00"


class BillKey(NamedTuple):
    """Everything that an invoice's amounts depend on."""

    kind: str
    currency: str
    region: str
    discount: str
    level: int
    extra: str = ""


class PriceBook:
    """The prices of the account, each calculated once."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[tuple[str, str, str], tuple[Price, dict[str, Any]]] = {}

    def find(
        self, kind: str, price: Price, currency: str
    ) -> tuple[Price, dict[str, Any]]:
        """Return the price in that currency, and the JSON that Orb shows for it."""
        key = (kind, price.name, currency)
        if key not in self._known:
            cadence = "one_time" if ":" in kind else price.cadence
            scaled = price.scaled(CURRENCY_FACTORS[currency], cadence)
            payload = scaled.payload(
                currency=currency,
                price_id=make_id(self._seed, "price", *key),
                item_id=item_id(self._seed, price.name),
                created_at=_PRICED_AT,
            )
            self._known[key] = scaled, payload
        return self._known[key]


class Bill:
    """The lines of an invoice, with slots for what differs between invoices."""

    def __init__(self, book: PriceBook, key: BillKey, levels: int) -> None:
        self._book = book
        self._key = key
        self._fraction = key.level / levels
        lines = [self._line(n, item).payload() for n, item in enumerate(self._items())]
        sums: Totals = totals(lines)
        self.total = sums.total
        self.subtotal_json = quoted(money(sums.subtotal, key.currency))
        self.total_json = quoted(money(sums.total, key.currency))
        self.lines = Template(lines, LAYOUT)
        self.discounts = dumps(self._discounts(lines))
        self.discount = self.discounts[1:-1] or b"null"

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
        price, payload = self._book.find(self._key.kind, item.price, currency)
        quantity = self._quantity(item)
        mode = "used" if price.usage else "ahead"
        return Line(
            id=text_slot(f"line{position}"),
            name=price.name,
            charge=price.model.charge(quantity, currency),
            price=with_quantity(payload, quantity),
            currency=currency,
            start_date=text_slot(f"{mode}_from"),
            end_date=text_slot(f"{mode}_to"),
            discount=self._discount(position),
            credits_share=self._credits_share(item),
            partial_share=self._partial_share(item),
            taxes=REGIONS[self._key.region].taxes if self._key.region else (),
            usage_customer_ids=[text_slot("customer_id")] if price.usage else None,
        )

    def _quantity(self, item: Item) -> Decimal:
        if not item.varies:
            return item.typical
        places = item.typical.as_tuple().exponent
        quantity = item.typical * Decimal(f"{self._factor(item):.6f}")
        return max(
            Decimal(1), round(quantity, -places if isinstance(places, int) else 0)
        )

    def _factor(self, item: Item) -> float:
        """Return how many times the typical quantity is used at this level."""
        chance = zlib.crc32(f"{item.price.name}/{self._key.level}".encode()) / 2**32
        return 0.3 + 1.6 * self._fraction**2 + 0.12 * chance

    def _discount(self, position: int) -> Discount | None:
        discount = DISCOUNTS.get(self._key.discount)
        if discount is None or discount.percentage:
            return discount
        # A fixed amount is taken off only once, from the first line.
        return discount if position == 0 else None

    def _credits_share(self, item: Item) -> Decimal:
        """Return the share that prepaid credits cover: only tokens of enterprises."""
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
