"""The catalogue of a made-up company: a data platform, sold by plan and by usage."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .lines import Discount
from .prices import Matrix, Package, Price, Tier, Tiered, Unit

# A list price in US dollars is multiplied by these. They are round numbers, as in
# the price lists of real companies, not exchange rates.
CURRENCY_FACTORS = {
    "USD": Decimal(1),
    "EUR": Decimal("0.9"),
    "GBP": Decimal("0.8"),
    "CAD": Decimal("1.3"),
    "AUD": Decimal("1.5"),
    "JPY": Decimal(150),
}


@dataclass(frozen=True)
class Item:
    """A price within a plan, and the quantity that an average customer uses of it."""

    price: Price
    typical: Decimal
    varies: bool = True


def _fixed(name: str, unit_amount: str, typical: str = "1") -> Item:
    varies = typical != "1"
    return Item(Price(name, Unit(Decimal(unit_amount))), Decimal(typical), varies)


def _tiers(*steps: tuple[int | None, str]) -> Tiered:
    tiers = []
    first = 0
    for last, unit_amount in steps:
        tiers.append(Tier(first, last, Decimal(unit_amount)))
        first = last or 0
    return Tiered(tuple(tiers))


_API_REQUESTS = Price(
    "API requests",
    _tiers((100_000, "0"), (1_000_000, "0.00035"), (None, "0.00022")),
    usage=True,
)
_INGESTION = Price(
    "Data ingestion (GB)",
    _tiers((50, "0"), (1_000, "0.45"), (10_000, "0.32"), (None, "0.21")),
    usage=True,
)
_STORAGE = Price("Log storage (GB-month)", Unit(Decimal("0.118")), usage=True)
_EMAILS = Price("Email notifications", Package(Decimal("1.50"), 1_000), usage=True)
_MESSAGES = Price("SMS alerts", Package(Decimal("8.00"), 100), usage=True)
_TOKENS = Price("AI assistant tokens", Unit(Decimal("0.0000045")), usage=True)
_COMPUTE = Price(
    "Compute hours",
    Matrix(
        ("region", "instance"),
        (
            (("us-east-1", "standard"), Decimal("0.096")),
            (("eu-west-1", "standard"), Decimal("0.107")),
            (("us-east-1", "memory-optimized"), Decimal("0.252")),
            (("ap-northeast-1", "memory-optimized"), Decimal("0.304")),
        ),
        Decimal("0.12"),
    ),
    usage=True,
)

PLANS: dict[str, tuple[Item, ...]] = {
    "developer": (
        _fixed("Developer plan", "0.00"),
        Item(_API_REQUESTS, Decimal(31_000)),
        Item(_EMAILS, Decimal(0), varies=False),
    ),
    "starter": (
        _fixed("Starter plan", "49.00"),
        _fixed("Seats", "12.00", "4"),
        Item(_API_REQUESTS, Decimal(380_000)),
        Item(_EMAILS, Decimal(8_200)),
    ),
    "team": (
        _fixed("Team plan", "249.00"),
        _fixed("Seats", "24.00", "14"),
        Item(_API_REQUESTS, Decimal(1_900_000)),
        Item(_INGESTION, Decimal("640.5")),
        Item(_STORAGE, Decimal("2150.25")),
    ),
    "business": (
        _fixed("Business plan", "1200.00"),
        _fixed("Seats", "38.00", "45"),
        Item(_INGESTION, Decimal("4200.75")),
        Item(_COMPUTE, Decimal("3100.5")),
        Item(_MESSAGES, Decimal(2_350)),
        _fixed("Priority support", "500.00"),
    ),
    "enterprise": (
        _fixed("Enterprise plan", "6500.00"),
        _fixed("Seats", "55.00", "180"),
        Item(_INGESTION, Decimal("21800.25")),
        Item(_COMPUTE, Decimal("16400.75")),
        Item(_TOKENS, Decimal(148_000_000)),
        _fixed("Premier support", "2500.00"),
    ),
    "usage": (
        Item(_API_REQUESTS, Decimal(5_200_000)),
        Item(_INGESTION, Decimal("910.4")),
        Item(_STORAGE, Decimal("4800.6")),
        Item(_COMPUTE, Decimal("870.25")),
        Item(_TOKENS, Decimal(9_400_000)),
    ),
}

PLAN_WEIGHTS = {
    "developer": 4,
    "starter": 22,
    "team": 34,
    "business": 22,
    "enterprise": 8,
    "usage": 10,
}

# Billed between two regular invoices: seats added, or a threshold of usage reached.
PARTIALS: tuple[tuple[Item, ...], ...] = (
    (_fixed("Seats (added mid-cycle)", "19.00", "6"),),
    (Item(_INGESTION, Decimal("5200.5")), Item(_COMPUTE, Decimal("2400.25"))),
    (_fixed("Plan upgrade (prorated)", "412.50"), _fixed("Seats", "31.00", "9")),
)

_LONG_SERVICE = (
    "Professional services under statement of work no. 7: discovery workshops, "
    "migration of the existing alert rules, dashboards and retention policies, "
    "knowledge transfer to the platform team in two sessions, a written runbook "
    "for the on-call rotation, and thirty days of hypercare after go-live, "
    "including travel within the region; hours are billed as agreed, "
    "and unused hours lapse at the end of the quarter"
)

SERVICES: tuple[tuple[Item, ...], ...] = (
    (_fixed("Onboarding workshop", "750.00", "2"),),
    (
        _fixed("Data migration", "180.00", "24"),
        _fixed("Project management", "140.00", "6"),
    ),
    (_fixed("Solution architect (hours)", "210.00", "12"),),
    (_fixed("Administrator training", "1450.00"), _fixed("Travel", "385.40")),
    (_fixed("Schulung für Administratoren (Köln)", "1450.00"),),
    (_fixed("導入支援パッケージ", "3200.00"),),
    (_fixed(_LONG_SERVICE, "195.00", "40"),),
    (_fixed("Security review", "4800.00"), _fixed("Penetration test report", "950.00")),
)

# Lines that some regular invoices have in addition.
EXTRAS: dict[str, Item] = {
    "sla_credit": _fixed("SLA credit: incident of the previous month", "-35.00"),
    "goodwill": _fixed("Goodwill credit", "-120.00"),
    "archive": _fixed("Archive export, “cold” storage, 7 years ✓", "64.90"),
}

DISCOUNTS: dict[str, Discount] = {
    "launch": Discount("Launch partner", percentage=Decimal("0.1")),
    "nonprofit": Discount("Non-profit programme", percentage=Decimal("0.3")),
    "annual": Discount(
        "Annual commitment", percentage=Decimal("0.15"), invoice_level=True
    ),
    "startup": Discount("Startup programme", amount=Decimal("40.00")),
}


def item_names() -> set[str]:
    groups = [*PLANS.values(), *PARTIALS, *SERVICES, tuple(EXTRAS.values())]
    return {item.price.name for group in groups for item in group}
