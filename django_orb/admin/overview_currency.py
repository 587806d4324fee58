"""Show one currency's figures on the overview, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import urlencode

from django.utils import dateformat, timezone
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from django_orb.customer_labels import read_labels
from django_orb.formatting import money, report_zone, short
from django_orb.models import Invoice
from django_orb.reports import (
    AGES,
    Ageing,
    Amount,
    as_of,
    customers_owing,
    read_customers,
    read_receivables,
)
from django_orb.templatetags.orb_admin import address_of

from . import overview_figures
from .caching import keep
from .cells import Cell, amount_of
from .charts import Chart, bar_chart
from .customer_links import customer_url
from .overview_figures import Turnover

CACHE_SECONDS = 300
DEBTORS = 7
#: Over how many of the last months the days of sales outstanding are counted.
SALES_MONTHS = 3
BAR = 100  # the width of the longest bar in a table


@dataclass(frozen=True)
class Figures:
    """The sums over all invoices; `days` is by currency, in the order of the months."""

    receivables: list[Ageing]
    turnover: list[Turnover]
    days: dict[str, list[Decimal | None]]
    months: list[datetime]
    time_zone: str
    read_at: datetime

    @property
    def currencies(self) -> list[str]:
        """All currencies, beginning with that of most invoices."""
        invoiced = [one.currency for one in self.turnover]
        owed = [one.currency for one in self.receivables]
        return list(dict.fromkeys([*invoiced, *owed]))


@dataclass(frozen=True)
class Row:
    """A row of a table; `bar` is the width of its bar, of 100."""

    name: str
    cells: list[Cell]
    bar: int = 0
    url: str = ""


@dataclass(frozen=True)
class Graph:
    """A chart, and its figures as a table."""

    chart: Chart
    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class CurrencyView:
    """One currency's figures; `days_of_sales` is "" if nothing was invoiced lately."""

    currency: str
    ages: list[Row]
    is_owed: bool
    debtors: list[Row]
    turnover: Graph | None
    days: Graph | None
    days_of_sales: str


def read_figures() -> tuple[Figures, datetime]:
    """
    Return the sums over all invoices, and when they were read, which is minutes ago at
    most.
    """
    zone = report_zone()

    def read() -> Figures:
        now = timezone.now()
        bounds = overview_figures.months(now, zone)
        return Figures(
            read_receivables(Invoice.objects.all(), as_of(now=now)),
            overview_figures.turnover(bounds),
            # The trend of days is that of paid invoices: what was owed at the end of
            # each of twelve months takes seconds a month with a million invoices.
            overview_figures.days_to_payment(bounds),
            bounds,
            zone.key,
            now,
        )

    return keep(f"overview {zone.key}", CACHE_SECONDS, read)


def read_currency(figures: Figures, chosen: str, site: str) -> CurrencyView | None:
    """Return the chosen currency, or else that of most invoices; None without any."""
    if not figures.currencies:
        return None
    currency = chosen if chosen in figures.currencies else figures.currencies[0]
    empty = Ageing(currency, [Amount()] * len(AGES))
    owed = _of(currency, figures.receivables) or empty
    turnover = _of(currency, figures.turnover)
    days = figures.days.get(currency)
    return CurrencyView(
        currency,
        ages=age_rows(owed, site),
        is_owed=bool(owed.all.count),
        debtors=read_debtors(currency, site) if owed.all.count else [],
        turnover=turnover_graph(turnover, figures.months) if turnover else None,
        days=days_graph(days, figures.months) if days else None,
        days_of_sales=days_of_sales(owed, turnover, figures),
    )


def _of(currency: str, found: Sequence[Any]) -> Any:
    return next((one for one in found if one.currency == currency), None)


def age_rows(owed: Ageing, site: str) -> list[Row]:
    url = address_of(site, "invoice_changelist")
    most = max((one.total for one in owed.by_age), default=Decimal(0))
    rows = []
    for age, amount in zip(AGES, owed.by_age, strict=True):
        query = urlencode({"age": age.name, "currency": owed.currency})
        cell = amount_of(amount, owed.currency, f"{url}?{query}" if url else "")
        bar = round(BAR * amount.total / most) if most > 0 else 0
        rows.append(Row(str(age.title), [cell], bar))
    rows.append(Row(gettext("All"), [amount_of(owed.all, owed.currency)]))
    return rows


def read_debtors(currency: str, site: str) -> list[Row]:
    """Return the customers who owe most, each with the part that is overdue."""

    def read() -> list[Ageing]:
        every, now = Invoice.objects.all(), as_of()
        most = customers_owing(every, now, currency)[:DEBTORS]
        return read_customers(every, now, currency, most)

    # Only of the currency that is shown, and so apart from the other figures.
    found, _ = keep(f"debtors {currency}", CACHE_SECONDS, read)
    customers = [one.customer for one in found if one.customer]
    # The cache has ids only: names are the project's to change.
    labels = read_labels(customers)
    rows = []
    for one, customer in zip(found, customers, strict=True):
        label = labels.get(customer)
        name = customer.external_customer_id or customer.customer_id
        # Without what is not due yet, and what has no due date.
        overdue = sum(one.by_age[1:-1], Amount())
        rows.append(
            Row(
                short(label.name if label else name),
                [amount_of(one.all, currency), amount_of(overdue, currency)],
                url=customer_url(site, customer.customer_id),
            )
        )
    return rows


def turnover_graph(one: Turnover, bounds: list[datetime]) -> Graph:
    names = _names(bounds)
    series = {gettext("Invoiced"): one.invoiced, gettext("Paid"): one.paid}
    rows = [
        Row(
            name,
            [amount_of(amounts[place], one.currency) for amounts in series.values()],
        )
        for place, name in enumerate(names)
    ]
    chart = bar_chart(
        _short_names(bounds),
        {title: [one.total for one in amounts] for title, amounts in series.items()},
        [
            [
                f"{name}, {title}: {money(amount.total, one.currency)}"
                for name, amount in zip(names, amounts, strict=True)
            ]
            for title, amounts in series.items()
        ],
    )
    return Graph(chart, list(series), rows[::-1])


def days_graph(days: list[Decimal | None], bounds: list[datetime]) -> Graph:
    names = _names(bounds)
    texts = [gettext("no payment") if one is None else in_days(one) for one in days]
    chart = bar_chart(
        _short_names(bounds),
        {gettext("Days"): [one or Decimal(0) for one in days]},
        [[f"{name}: {text}" for name, text in zip(names, texts, strict=True)]],
    )
    rows = [Row(name, [Cell(text)]) for name, text in zip(names, texts, strict=True)]
    return Graph(chart, [gettext("Days")], rows[::-1])


def days_of_sales(owed: Ageing, turnover: Turnover | None, figures: Figures) -> str:
    """
    Say in how many days as much was invoiced as is owed now.

    They are counted by what was invoiced in this month and the two before it.
    """
    if turnover is None:
        return ""
    invoiced = sum((one.total for one in turnover.invoiced[-SALES_MONTHS:]), Decimal(0))
    # More credits than charges would make the days negative.
    if invoiced <= 0:
        return ""
    # The last bound is the beginning of the next month.
    passed = figures.read_at - figures.months[-1 - SALES_MONTHS]
    return in_days(owed.all.total / invoiced * Decimal(passed.total_seconds()) / 86_400)


def in_days(days: Decimal) -> str:
    whole = int(days.to_integral_value(ROUND_HALF_UP))
    number = number_format(whole, force_grouping=True)
    return ngettext("%(days)s day", "%(days)s days", whole) % {"days": number}


def _names(bounds: list[datetime]) -> list[str]:
    return [dateformat.format(bound, "M Y") for bound in bounds[:-1]]


def _short_names(bounds: list[datetime]) -> list[str]:
    return [dateformat.format(bound, "M") for bound in bounds[:-1]]
