"""The invoice list's filters; none of them costs a query per row or per choice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from django_orb.models import Invoice, InvoiceLineItem

Invoices = QuerySet[Invoice, Invoice]
Lines = QuerySet[InvoiceLineItem, InvoiceLineItem]


class CurrencyFilter(admin.SimpleListFilter):
    title = "currency"
    parameter_name = "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = Invoice.objects.order_by().values_list("currency", flat=True)
        return [(currency, currency) for currency in sorted(set(found.distinct()))]

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        return queryset.filter(currency=self.value()) if self.value() else queryset


class YesNoFilter(admin.SimpleListFilter):
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]


class OverdueFilter(YesNoFilter):
    title = "overdue"
    parameter_name = "overdue"

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        # As `InvoiceQuerySet.overdue()`; its complement needs the conditions.
        late = {
            "status": Invoice.Status.ISSUED,
            "missing_since": None,
            "amount_due__gt": 0,
            "due_date__lt": datetime.now(timezone.utc),
        }
        if self.value() == "yes":
            return queryset.filter(**late)
        if self.value() == "no":
            return queryset.exclude(**late)
        return queryset


class MissingFilter(YesNoFilter):
    title = "missing in Orb"
    parameter_name = "missing"

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        if self.value() in {"yes", "no"}:
            return queryset.filter(missing_since__isnull=self.value() == "no")
        return queryset


def _month(now: datetime, offset: int) -> datetime:
    months = now.year * 12 + now.month - 1 + offset
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=timezone.utc)


def _year(now: datetime, offset: int) -> datetime:
    return datetime(now.year + offset, 1, 1, tzinfo=timezone.utc)


Bounds = Callable[[datetime], tuple[datetime, datetime | None]]


class InvoiceDateFilter(admin.SimpleListFilter):
    """Fixed spans, because `date_hierarchy` reads every row to offer its own."""

    title = "date (UTC)"
    parameter_name = "dated"

    spans: dict[str, tuple[str, Bounds]] = {
        "this_month": ("This month", lambda now: (_month(now, 0), _month(now, 1))),
        "last_month": ("Last month", lambda now: (_month(now, -1), _month(now, 0))),
        "this_year": ("This year", lambda now: (_year(now, 0), _year(now, 1))),
        "last_year": ("Last year", lambda now: (_year(now, -1), _year(now, 0))),
        "future": ("In the future", lambda now: (now, None)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, title) for name, (title, _) in self.spans.items()]

    def queryset(self, request: HttpRequest, queryset: Invoices) -> Invoices:
        span = self.spans.get(self.value() or "")
        if span is None:
            return queryset
        start, end = span[1](datetime.now(timezone.utc))
        queryset = queryset.filter(invoice_date__gte=start)
        return queryset.filter(invoice_date__lt=end) if end else queryset


class PriceTypeFilter(admin.SimpleListFilter):
    """Orb's two kinds of price, without looking through all lines for them."""

    title = "kind of price"
    parameter_name = "price_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("usage_price", "Usage"), ("fixed_price", "Fixed fee")]

    def queryset(self, request: HttpRequest, queryset: Lines) -> Lines:
        return queryset.filter(price_type=self.value()) if self.value() else queryset
