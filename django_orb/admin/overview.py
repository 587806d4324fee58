"""Show on one page how things are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import dateformat, timezone
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import ago, local_moment, money
from django_orb.models import (
    Invoice,
    InvoiceOperation,
    Overview,
    SyncRun,
    WebhookEvent,
)
from django_orb.reports import (
    AGES,
    Ageing,
    as_of,
    read_receivables,
    report_zone,
)

from . import overview_figures
from .attention import read_concerns
from .badges import run_badge
from .caching import keep
from .cells import Cell, amount_of
from .charts import Chart, bar_chart
from .freshness import read_freshness
from .overview_figures import Turnover
from .readonly import ReadOnlyAdmin

CACHE_SECONDS = 300
CHARTS = 3  # currencies that get a picture; all have a table
LATE = {
    SyncRun.Kind.INCREMENTAL: timedelta(hours=2),
    SyncRun.Kind.FULL: timedelta(days=2),
}
AGE_NAMES = {
    "not_due": _("not due"),
    "30": _("1-30"),
    "60": _("31-60"),
    "90": _("61-90"),
    "older": _("over 90"),
    "undated": _("undated"),
}


@dataclass(frozen=True)
class Table:
    """A currency's figures, and a picture of them if it has one."""

    currency: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    chart: Chart | None


@dataclass(frozen=True)
class Health:
    kind: str
    words: str
    is_late: bool
    badge: Any = ""


@admin.register(Overview)
class OverviewAdmin(ReadOnlyAdmin):
    """A page in the place of a list; users who may view invoices may see it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_orb.view_invoice")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Overview"),
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            **self.page_context(request),
        }
        return TemplateResponse(request, "admin/django_orb/overview.html", context)

    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        figures, read_at = read_figures()
        list_url = reverse(
            "admin:django_orb_invoice_changelist", current_app=self.admin_site.name
        )
        return {
            "freshness": read_freshness(),
            "health": [read_health(kind) for kind in LATE],
            "queues": read_queues(),
            "concerns": read_concerns(request, self.admin_site.name),
            "receivables": [
                receivables_table(one, list_url, place < CHARTS)
                for place, one in enumerate(figures.receivables)
            ],
            "turnover": [
                turnover_table(one, figures.months, place < CHARTS)
                for place, one in enumerate(figures.turnover)
            ],
            "time_zone": figures.time_zone,
            "read_at": local_moment(read_at),
        }


@dataclass(frozen=True)
class Figures:
    receivables: list[Ageing]
    turnover: list[Turnover]
    months: list[datetime]
    time_zone: str


def read_figures() -> tuple[Figures, datetime]:
    """
    Return the sums over all invoices, and when they were read: minutes ago at most.
    """
    zone = report_zone()

    def read() -> Figures:
        now = timezone.now()
        bounds = overview_figures.months(now, zone)
        return Figures(
            read_receivables(Invoice.objects.all(), as_of(now=now)),
            overview_figures.turnover(bounds),
            bounds,
            zone.key,
        )

    return keep(f"overview {zone.key}", CACHE_SECONDS, read)


def receivables_table(one: Ageing, list_url: str, has_chart: bool) -> Table:
    cells = [
        amount_of(
            amount,
            one.currency,
            f"{list_url}?{urlencode({'age': age.name, 'currency': one.currency})}",
        )
        for age, amount in zip(AGES, one.by_age, strict=True)
    ]
    titles = [str(age.title) for age in AGES]
    rows = [(title, [cell]) for title, cell in zip(titles, cells, strict=True)]
    rows.append((gettext("All"), [amount_of(one.all, one.currency)]))
    chart = bar_chart(
        [str(AGE_NAMES[age.name]) for age in AGES],
        {gettext("amount due"): [amount.total for amount in one.by_age]},
        [[f"{title}: {cell.amount}, {cell.count}" for title, (cell,) in rows[:-1]]],
    )
    return Table(
        one.currency, [gettext("Amount due")], rows, chart if has_chart else None
    )


def turnover_table(one: Turnover, bounds: list[datetime], has_chart: bool) -> Table:
    names = [dateformat.format(bound, "M Y") for bound in bounds[:-1]]
    series = {gettext("Invoiced"): one.invoiced, gettext("Paid"): one.paid}
    rows = [
        (
            name,
            [amount_of(amounts[place], one.currency) for amounts in series.values()],
        )
        for place, name in enumerate(names)
    ]
    chart = bar_chart(
        [dateformat.format(bound, "M") for bound in bounds[:-1]],
        {title: [one.total for one in amounts] for title, amounts in series.items()},
        [
            [
                f"{name}, {title}: {money(amount.total, one.currency)}"
                for name, amount in zip(names, amounts, strict=True)
            ]
            for title, amounts in series.items()
        ],
    )
    return Table(one.currency, list(series), rows[::-1], chart if has_chart else None)


def read_health(kind: SyncRun.Kind) -> Health:
    """Return whether runs of a kind succeed often enough; one query."""
    last = list(SyncRun.objects.filter(kind=kind).order_by("-pk")[:20])
    good = next((one for one in last if one.state == SyncRun.State.SUCCEEDED), None)
    label = str(kind.label)
    if not last:
        return Health(label, gettext("No run yet."), is_late=True)
    words = (
        gettext("No run has succeeded lately.")
        if good is None or good.finished_at is None
        else gettext("The latest successful run ended %(ago)s.")
        % {"ago": ago(good.finished_at)}
    )
    ended = good.finished_at if good else None
    is_late = ended is None or timezone.now() - ended > LATE[kind]
    if last[0].state == SyncRun.State.FAILED:
        words = " ".join([words, gettext("The latest run failed.")])
    return Health(label, words, is_late, run_badge(last[0]))


def read_queues() -> list[str]:
    """Say in words what is waiting to be processed; two queries."""
    events = WebhookEvent.objects.filter(state=WebhookEvent.State.RECEIVED).count()
    operations = InvoiceOperation.objects.filter(
        state=InvoiceOperation.State.PENDING
    ).count()
    waiting = []
    if events:
        text = ngettext(
            "%(count)s webhook event waits.", "%(count)s webhook events wait.", events
        )
        waiting.append(text % {"count": number_format(events, force_grouping=True)})
    if operations:
        text = ngettext(
            "%(count)s operation waits for Orb.",
            "%(count)s operations wait for Orb.",
            operations,
        )
        count = number_format(operations, force_grouping=True)
        waiting.append(text % {"count": count})
    return waiting
