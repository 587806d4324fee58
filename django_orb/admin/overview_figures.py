"""
Add up over the whole mirror what was invoiced and paid, and how long payment took.

Different currencies are never added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import (
    Avg,
    Case,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    IntegerField,
    QuerySet,
    Sum,
    Value,
    When,
)

from django_orb.models import Invoice
from django_orb.reports import Amount

MONTHS = 12


@dataclass(frozen=True)
class Turnover:
    """The amounts invoiced and paid in one currency, in the order of the months."""

    currency: str
    invoiced: list[Amount]
    paid: list[Amount]


def months(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """
    Return the first moments of the last months, of this one and of the next one.
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

    Invoiced is the total of issued, paid and synced invoices, by their date. Paid is
    the amount due on invoices, by the day on which they were paid. Drafts and void
    invoices are neither.
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


def days_to_payment(bounds: list[datetime]) -> dict[str, list[Decimal | None]]:
    """
    Return, by currency, how long invoices paid in each month had been outstanding.

    It is the average number of days from issue to payment, of invoices with something
    to pay; None for a month without any.
    """
    took = ExpressionWrapper(F("paid_at") - F("issued_at"), DurationField())
    paid = Invoice.objects.filter(
        missing_since=None, status=Invoice.Status.PAID, amount_due__gt=0
    ).exclude(issued_at=None)
    found: dict[str, list[Decimal | None]] = {}
    for row in _in_months(paid, "paid_at", bounds).annotate(took=Avg(took)):
        of_currency = found.setdefault(row["currency"], [None for _ in bounds[1:]])
        seconds = max(int(row["took"].total_seconds()), 0)
        of_currency[row["month"]] = Decimal(seconds) / 86_400
    return found


def _by_month(
    invoices: QuerySet[Invoice, Invoice], date: str, amount: str, bounds: list[datetime]
) -> dict[str, list[Amount]]:
    found: dict[str, list[Amount]] = {}
    rows = _in_months(invoices, date, bounds)
    for row in rows.annotate(count=Count("pk"), sum=Sum(amount)):
        of_currency = found.setdefault(row["currency"], [Amount() for _ in bounds[1:]])
        of_currency[row["month"]] = Amount(row["count"], row["sum"] or Decimal(0))
    return found


def _in_months(
    invoices: QuerySet[Invoice, Invoice], date: str, bounds: list[datetime]
) -> QuerySet[Invoice, Any]:
    """Group invoices by currency and the number of the month that a date is in."""
    # The bounds come from here, because MariaDB may have no time zones loaded.
    begins = [bound.astimezone(timezone.utc) for bound in bounds]
    month = Case(
        # The first that matches counts, so each needs only the end of its month.
        *(When(**{f"{date}__lt": end}, then=n) for n, end in enumerate(begins[1:])),
        default=Value(-1),
        output_field=IntegerField(),
    )
    during = invoices.filter(**{f"{date}__gte": begins[0], f"{date}__lt": begins[-1]})
    return during.order_by().values("currency", month=month)
