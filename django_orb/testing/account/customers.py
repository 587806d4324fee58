from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .catalog import PLAN_WEIGHTS
from .ids import make_id
from .lines import Tax
from .regions import REGIONS, Region
from .templates import dumps, quoted

_FIRST = [
    "Northwind",
    "Brightpath",
    "Cobalt",
    "Lumen",
    "Harbor",
    "Juniper",
    "Meridian",
    "Atlas",
    "Fernhill",
    "Quarry",
    "Redwood",
    "Silverline",
    "Tidewater",
    "Umbra",
    "Vantage",
    "Willow",
    "Zephyr",
    "Alder",
    "Basalt",
    "Cedar",
    "Driftwood",
    "Ember",
    "Foxglove",
    "Granite",
    "Hollow",
    "Indigo",
    "Keystone",
    "Larkspur",
    "Monarch",
    "Nimbus",
    "Orchard",
    "Pinnacle",
    "Quill",
    "Rowan",
    "Saffron",
    "Thistle",
    "Upland",
    "Verdant",
    "Westbrook",
    "Yarrow",
]
_SECOND = [
    "Labs",
    "Logistics",
    "Health",
    "Analytics",
    "Robotics",
    "Foods",
    "Media",
    "Energy",
    "Finance",
    "Travel",
    "Software",
    "Security",
    "Mobility",
    "Pharma",
    "Games",
    "Insurance",
    "Retail",
    "Studios",
    "Networks",
    "Systems",
]
_UNICODE = (
    "Müller Maschinenbau",
    "Société Lumière",
    "東京ソフトウェア",
    "Åkerlund Ström",
    "Łódź Fintech",
    "Naïve Robotics 🤖",
)


@dataclass(slots=True)
class Customer:
    """A customer, with the JSON of all that is the same on each of their invoices."""

    id: str
    name: str
    external_id: str | None
    region: Region
    plan: str | None
    subscription_id: str | None
    discount: str
    net_terms: int
    collection: str
    late: bool
    billing_day: int
    first_month: int
    last_month: int
    usage: float
    growth: float
    minified: bytes
    subscription: bytes
    address: bytes
    tax_id: bytes
    metadata: bytes

    @property
    def currency(self) -> str:
        return self.region.currency


def plain_customer(
    customer_id: str,
    *,
    name: str,
    external_customer_id: str | None,
    currency: str,
    time_zone: str,
    tax_percentage: str,
    net_terms: int,
) -> Customer:
    """Return a customer without address, subscription or card, for tests to bill."""
    percentage = Decimal(tax_percentage)
    taxes = (Tax("Tax", percentage),) if percentage else ()
    identity = {"id": customer_id, "external_customer_id": external_customer_id}
    return Customer(
        id=customer_id,
        name=name,
        external_id=external_customer_id,
        region=Region("", "", currency, time_zone, None, (), (), taxes),
        plan=None,
        subscription_id=None,
        discount="",
        net_terms=net_terms,
        collection="manual",
        late=False,
        billing_day=1,
        first_month=1,
        last_month=1,
        usage=0,
        growth=0,
        minified=dumps(identity),
        subscription=b"null",
        address=b"null",
        tax_id=b"null",
        metadata=b"{}",
    )


def make_customers(seed: int, count: int, months: int) -> list[Customer]:
    return [make_customer(seed, index, months) for index in range(count)]


def make_customer(seed: int, index: int, months: int) -> Customer:
    chance = random.Random(f"{seed}/customer/{index}")  # noqa: S311
    region = _pick(chance, {r: r.weight for r in REGIONS.values()})
    customer_id = make_id(seed, "customer", index)
    name = _name(index)
    external_id = None if index % 17 == 11 else name.lower().replace(" ", "-")
    # Some customers have no subscription, only one-off invoices.
    plan = None if index % 19 == 7 else _pick(chance, PLAN_WEIGHTS)
    subscription_id = make_id(seed, "subscription", index) if plan else None
    collection = _collection(chance, plan)
    first_month, last_month = _tenure(chance, index, months)
    return Customer(
        id=customer_id,
        name=name,
        external_id=external_id,
        region=region,
        plan=plan,
        subscription_id=subscription_id,
        discount=chance.choices(
            ["", "launch", "annual", "startup", "nonprofit"], [60, 14, 12, 9, 5]
        )[0],
        net_terms=0 if collection == "auto" else chance.choice([15, 30, 30, 30, 45]),
        collection=collection,
        late=chance.random() < 0.15,
        billing_day=1 if chance.random() < 0.75 else chance.randint(2, 28),
        first_month=first_month,
        last_month=last_month,
        usage=chance.random(),
        growth=chance.uniform(-0.01, 0.03),
        minified=dumps({"id": customer_id, "external_customer_id": external_id}),
        subscription=b'{"id":%b}' % quoted(subscription_id)
        if subscription_id
        else b"null",
        address=dumps(_address(chance, region)),
        tax_id=dumps(_tax_id(chance, region)),
        metadata=dumps(_metadata(chance, collection)),
    )


def _pick(chance: random.Random, weights: dict[Any, int]) -> Any:
    return chance.choices(list(weights), list(weights.values()))[0]


def _name(index: int) -> str:
    if index % 23 == 5:
        name = _UNICODE[index // 23 % len(_UNICODE)]
    else:
        # All pairs of the two lists are used before a pair is repeated.
        first = _FIRST[index % len(_FIRST)]
        second = _SECOND[(index + index // len(_FIRST)) % len(_SECOND)]
        name = f"{first} {second}"
    pairs = len(_FIRST) * len(_SECOND)
    return name if index < len(_UNICODE) * 23 else f"{name} {index // pairs + 2}"


def _collection(chance: random.Random, plan: str | None) -> str:
    """Choose how they pay: by card, by transfer, or through an accounting system."""
    if plan in {"enterprise", "business", None}:
        return chance.choices(["auto", "manual", "sync"], [18, 66, 16])[0]
    return chance.choices(["auto", "manual", "sync"], [62, 35, 3])[0]


def _tenure(chance: random.Random, index: int, months: int) -> tuple[int, int]:
    """Choose the first and last month with an invoice, relative to the present (0)."""
    if index % 3 == 0:
        first = -months
    else:
        first = -int(chance.triangular(1, months, 3))
    churned = chance.random() < 0.12 and index % 3 and first < -3
    return first, -chance.randint(1, -first - 1) if churned else 1


def _address(chance: random.Random, region: Region) -> dict[str, Any] | None:
    if chance.random() < 0.15:
        return None
    city, postal_code = chance.choice(region.cities)
    line1 = f"{chance.randint(1, 240)} {chance.choice(region.streets)}"
    return {
        "line1": line1,
        "line2": chance.choice([None, None, None, "Floor 4", "Suite 210"]),
        "city": city,
        "state": region.state,
        "postal_code": postal_code,
        "country": region.country,
    }


def _tax_id(chance: random.Random, region: Region) -> dict[str, str] | None:
    if region.tax_id_type is None or chance.random() < 0.3:
        return None
    digits = (str(chance.randint(0, 9)) for _ in region.tax_id_format)
    value = "".join(next(digits) if c == "#" else c for c in region.tax_id_format)
    return {"country": region.country, "type": region.tax_id_type, "value": value}


def _metadata(chance: random.Random, collection: str) -> dict[str, str]:
    if collection == "auto" or chance.random() < 0.4:
        return {}
    metadata = {"po_number": f"PO-{chance.randint(1000, 99999)}"}
    if chance.random() < 0.3:
        metadata["cost_center"] = chance.choice(["R&D", "Operations", "Überhang 100%"])
    return metadata
