"""Filter the list of invoices. No filter costs a query per row or per choice."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import MAXYEAR, date, datetime, timedelta, timezone
from typing import Any

from django.contrib import admin
from django.db.models import Max, Min, QuerySet
from django.http import HttpRequest
from django.utils import dateformat
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.customer_labels import label_of
from django_orb.db import primary
from django_orb.formatting import in_zone, report_zone, short
from django_orb.models import Invoice, InvoiceLineItem
from django_orb.models.invoice_status import OWED, overdue_at
from django_orb.reports import AGES, begin_of

from .attention import INVOICES
from .customer_links import CUSTOMER_VAR, OWED_CHOICE

Invoices = QuerySet[Invoice, Invoice]
Lines = QuerySet[InvoiceLineItem, InvoiceLineItem]


class CurrencyFilter(admin.SimpleListFilter):
    title = _("currency")
    parameter_name = "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(currency, currency) for currency in read_currencies()]

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        return queryset.filter(currency=self.value()) if self.value() else queryset


def read_currencies() -> list[str]:
    """
    Return all currencies, by going from one to the next in the index.

    `SELECT DISTINCT` would read every invoice.
    """
    connection = primary.connection()
    table = connection.ops.quote_name(Invoice._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(_CURRENCIES.format(table=table))
        return [currency for (currency,) in cursor.fetchall()]


# A loose index scan, which PostgreSQL does not do for DISTINCT
# (https://wiki.postgresql.org/wiki/Loose_indexscan).
_CURRENCIES = """
    WITH RECURSIVE known (currency) AS (
        SELECT MIN(currency) FROM {table}
        UNION ALL
        SELECT (SELECT MIN(currency) FROM {table} WHERE currency > known.currency)
        FROM known WHERE known.currency IS NOT NULL
    )
    SELECT currency FROM known WHERE currency IS NOT NULL
"""


class CustomerFilter(admin.SimpleListFilter):
    """One customer's invoices. It offers no choices: the customer's page leads here."""

    title = _("customer")
    parameter_name = CUSTOMER_VAR

    # Customers may be many thousands: only the one that is chosen has a name here.
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.value()
        if not chosen:
            return []
        found = Invoice.objects.for_customer(customer_id=chosen)
        invoice = found.defer("payload").order_by("-invoice_date").first()
        return [(chosen, short(label_of(invoice).name if invoice else chosen))]

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        chosen = self.value()
        return queryset.filter(customer_id=chosen) if chosen else queryset


class YesNoFilter(admin.SimpleListFilter):
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", gettext("Yes")), ("no", gettext("No"))]


class OverdueFilter(YesNoFilter):
    title = _("overdue")
    parameter_name = "overdue"

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        late = overdue_at(datetime.now(timezone.utc))
        if self.value() == "yes":
            return queryset.filter(late)
        if self.value() == "no":
            return queryset.exclude(late)
        return queryset


class AgeFilter(admin.SimpleListFilter):
    """Open invoices by how late their payment is, as on the overview."""

    title = _("days late")
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        every = (OWED_CHOICE, gettext("Something to pay"))
        return [every, *((age.name, age.title) for age in AGES)]

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        if self.value() == OWED_CHOICE:
            return queryset.filter(OWED)
        age = next((one for one in AGES if one.name == self.value()), None)
        if age is None:
            return queryset
        now = datetime.now(timezone.utc)
        return queryset.filter(OWED, age.condition(now))


class AttentionFilter(admin.SimpleListFilter):
    """Invoices that need attention, as on the overview."""

    title = _("needs attention")
    parameter_name = "needs"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, kind[0]) for name, kind in INVOICES.items() if name != "missing"]

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        chosen = INVOICES.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class MissingFilter(YesNoFilter):
    title = _("deleted in Orb")
    parameter_name = "missing"

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        if self.value() in {"yes", "no"}:
            return queryset.filter(missing_since__isnull=self.value() == "no")
        return queryset


class VoidedFilter(YesNoFilter):
    title = _("voided")
    parameter_name = "voided"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() in {"yes", "no"}:
            return queryset.filter(voided_at__isnull=self.value() == "no")
        return queryset


class SucceededFilter(YesNoFilter):
    title = _("succeeded")
    parameter_name = "succeeded"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() in {"yes", "no"}:
            return queryset.filter(succeeded=self.value() == "yes")
        return queryset


Span = tuple[datetime, "datetime | None"]
_SPANS: dict[str, Any] = {
    "this_month": _("This month"),
    "last_month": _("Last month"),
    "this_year": _("This year"),
    "last_year": _("Last year"),
    "future": _("In the future"),
}
_DATED = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")


class InvoiceDateFilter(admin.SimpleListFilter):
    """
    Fixed spans of time; and years, their months and their days.

    Days are those of `REPORT_TIME_ZONE`, and the bounds of the query are moments, which
    an index serves. It resembles `date_hierarchy`, which would read every row to offer its choices.
    """

    title = _("date")
    parameter_name = "dated"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(_SPANS.items())

    def choices(self, changelist: Any) -> Iterator[Any]:
        # Django's has the fixed choices; which others there are depends on the one
        # chosen.
        yield from super().choices(changelist)
        chosen = self.value() or ""
        for value in [*_above(chosen), *self._below(chosen)]:
            yield {
                "selected": value == chosen,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value}
                ),
                "display": _name_of(value),
            }

    def _below(self, chosen: str) -> list[str]:
        """Return the next choices: years, or the months or days of the chosen one."""
        span = _days_of(chosen)
        if span is None:
            # The two ends of an index.
            ends = Invoice.objects.aggregate(
                first=Min("invoice_date"), last=Max("invoice_date")
            )
            if ends["first"] is None:
                return []
            first, last = (
                in_zone(ends[end], report_zone()) for end in ("first", "last")
            )
            years = range(first.year, last.year + 1)
            return [f"{year:04}" for year in reversed(years)]
        if len(chosen) == len("2026"):
            return [f"{chosen}-{month:02}" for month in range(1, 13)]
        if len(chosen) == len("2026-01"):
            days = monthrange(span[0].year, span[0].month)[1]
            return [f"{chosen}-{day:02}" for day in range(1, days + 1)]
        return []

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        chosen = self.value() or ""
        span = _named_span(chosen, datetime.now(timezone.utc)) or _span_of(chosen)
        if span is None:
            return queryset
        start, end = span
        queryset = queryset.filter(invoice_date__gte=start)
        return queryset.filter(invoice_date__lt=end) if end else queryset


def _month(year: int, month: int) -> date:
    """Return the first day of a month, which may be counted on beyond December."""
    months = year * 12 + month - 1
    return date(months // 12, months % 12 + 1, 1)


def _named_span(name: str, now: datetime) -> Span | None:
    today = in_zone(now, report_zone())
    year, month = today.year, today.month
    spans: dict[str, tuple[date, date]] = {
        "this_month": (_month(year, month), _month(year, month + 1)),
        "last_month": (_month(year, month - 1), _month(year, month)),
        "this_year": (_month(year, 1), _month(year + 1, 1)),
        "last_year": (_month(year - 1, 1), _month(year, 1)),
    }
    if name == "future":
        return now, None
    if name not in spans:
        return None
    first, end = spans[name]
    return begin_of(first), begin_of(end)


def _span_of(value: str) -> Span | None:
    """Return the span of "2026", "2026-01" or "2026-01-31"; None if it is not one."""
    days = _days_of(value)
    if days is None:
        return None
    # The days that the list's column, reports and files show.
    first, end = days
    return begin_of(first), begin_of(end) if end else None


def _days_of(value: str) -> tuple[date, date | None] | None:
    """Return the first day of a span, and the day after it, which the calendar may lack."""
    match = _DATED.fullmatch(value)
    if match is None:
        return None
    year, month, day = (int(part) if part else 0 for part in match.groups())
    try:
        first = date(year, month or 1, day or 1)
        if day:
            return first, None if first == date.max else first + timedelta(days=1)
        if year == MAXYEAR and month in (0, 12):
            return first, None
        return first, _month(year, month + 1) if month else _month(year + 1, 1)
    except (ValueError, OverflowError):
        return None


def _above(chosen: str) -> list[str]:
    """Return the choices made so far, the year first."""
    if _days_of(chosen) is None:
        return []
    return [chosen[:length] for length in (4, 7, 10) if length <= len(chosen)]


def _name_of(value: str) -> str:
    days = _days_of(value)
    if days is None or len(value) == len("2026"):
        return value
    pattern = "F Y" if len(value) == len("2026-01") else "j M Y"
    return dateformat.format(days[0], pattern)


class PriceTypeFilter(admin.SimpleListFilter):
    """Orb's two kinds of price, without looking through all lines for them."""

    title = _("kind of price")
    parameter_name = "price_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("usage_price", gettext("Usage")),
            ("fixed_price", gettext("Fixed fee")),
        ]

    def queryset(self, request: HttpRequest, queryset: Lines) -> Lines:
        return queryset.filter(price_type=self.value()) if self.value() else queryset
