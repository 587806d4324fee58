"""
Add up over the whole mirror what is owed, and what was invoiced and paid.

Different currencies are never added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Sum, Value, When

from django_orb.conf import get_settings
from django_orb.models import Invoice

ZERO = Decimal(0)
MONTHS = 12


#: Open, with something to pay.
OWED = Q(status=Invoice.Status.ISSUED, missing_since=None, amount_due__gt=0)


@dataclass(frozen=True)
class Age:
    """A span of days after the due date: from `first` on, and before `end`."""

    name: str
    first: int | None = None
    end: int | None = None

    def condition(self, now: datetime) -> Q:
        """Match open invoices whose payment is so late at `now`."""
        if self.name == "undated":
            return Q(due_date=None)
        found = Q()
        if self.end is not None:
            found &= Q(due_date__gte=now - timedelta(days=self.end))
        if self.first is not None:
            found &= Q(due_date__lt=now - timedelta(days=self.first))
        return found


AGES = (
    Age("not_due", end=0),
    Age("30", first=0, end=30),
    Age("60", first=30, end=60),
    Age("90", first=60, end=90),
    Age("older", first=90),
    Age("undated"),
)


@dataclass(frozen=True)
class Amount:
    """A number of invoices, and their sum."""

    count: int = 0
    total: Decimal = ZERO


@dataclass(frozen=True)
class Receivables:
    """The open amounts in one currency, in the order of `AGES`."""

    currency: str
    by_age: list[Amount]

    @property
    def all(self) -> Amount:
        return Amount(
            sum(one.count for one in self.by_age),
            sum((one.total for one in self.by_age), ZERO),
        )


@dataclass(frozen=True)
class Turnover:
    """The amounts invoiced and paid in one currency, in the order of the months."""

    currency: str
    invoiced: list[Amount]
    paid: list[Amount]


def receivables(now: datetime) -> list[Receivables]:
    """Return what is to be paid on open invoices by age, the busiest currency first."""
    sums: dict[str, Any] = {}
    for age in AGES:
        condition = age.condition(now)
        sums[f"count_{age.name}"] = Count("pk", filter=condition)
        sums[f"total_{age.name}"] = Sum("amount_due", filter=condition)
    owed = Invoice.objects.filter(OWED).order_by()
    rows: Any = owed.values("currency").annotate(**sums)
    found = [
        Receivables(
            row["currency"],
            [
                Amount(row[f"count_{age.name}"], row[f"total_{age.name}"] or ZERO)
                for age in AGES
            ],
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (-one.all.count, one.currency))


def months(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """
    Return the beginnings of the last months, this one included, and of the next one.
    """
    local = now.astimezone(zone)
    this = local.year * 12 + local.month - 1
    return [
        datetime(month // 12, month % 12 + 1, 1, tzinfo=zone)
        for month in range(this - MONTHS + 1, this + 2)
    ]


def turnover(bounds: list[datetime]) -> list[Turnover]:
    """
    Return what was invoiced and paid in the months between `bounds`, by currency.

    Invoiced is the total of issued, paid and synced invoices by their date. Paid is
    what was due on invoices by the day on which they were paid. Drafts and voids are
    neither.
    """
    final = [Invoice.Status.ISSUED, Invoice.Status.PAID, Invoice.Status.SYNCED]
    invoices = Invoice.objects.filter(missing_since=None)
    invoiced = _by_month(
        invoices.filter(status__in=final), "invoice_date", "total", bounds
    )
    paid = _by_month(
        invoices.filter(status=Invoice.Status.PAID), "paid_at", "amount_due", bounds
    )
    nothing = [Amount()] * (len(bounds) - 1)
    found = [
        Turnover(one, invoiced.get(one, nothing), paid.get(one, nothing))
        for one in {*invoiced, *paid}
    ]
    return sorted(
        found, key=lambda one: (-sum(a.count for a in one.invoiced), one.currency)
    )


def _by_month(
    invoices: QuerySet[Invoice, Invoice], date: str, amount: str, bounds: list[datetime]
) -> dict[str, list[Amount]]:
    # The months' bounds are compared here: MariaDB may have no time zones loaded.
    begins = [bound.astimezone(timezone.utc) for bound in bounds]
    month = Case(
        *(When(**{f"{date}__lt": end}, then=n) for n, end in enumerate(begins[1:])),
        default=Value(-1),
        output_field=IntegerField(),
    )
    rows = (
        invoices.filter(**{f"{date}__gte": begins[0], f"{date}__lt": begins[-1]})
        .order_by()
        .values("currency", month=month)
        .annotate(count=Count("pk"), sum=Sum(amount))
    )
    found: dict[str, list[Amount]] = {}
    for row in rows:
        of_currency = found.setdefault(row["currency"], [Amount() for _ in bounds[1:]])
        of_currency[row["month"]] = Amount(row["count"], row["sum"] or ZERO)
    return found


def report_zone() -> ZoneInfo:
    return ZoneInfo(get_settings().REPORT_TIME_ZONE)
