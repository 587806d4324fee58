"""Show on one page what needs attention, and the figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import ago, local_moment
from django_orb.models import InvoiceOperation, Overview, SyncRun, WebhookEvent

from .attention import read_concerns
from .badges import run_badge
from .freshness import read_freshness
from .overview_currency import read_currency, read_figures
from .readonly import PageAdmin

LATE = {
    SyncRun.Kind.INCREMENTAL: timedelta(hours=2),
    SyncRun.Kind.FULL: timedelta(days=2),
}
CURRENCY_VAR = "currency"


@dataclass(frozen=True)
class Health:
    kind: str
    words: str
    is_late: bool
    badge: Any = ""


@admin.register(Overview)
class OverviewAdmin(PageAdmin):
    title = _("Overview")
    template = "admin/django_orb/overview.html"

    def answer(self, request: HttpRequest) -> dict[str, Any]:
        site = self.admin_site.name
        figures, read_at = read_figures()
        return {
            "freshness": read_freshness(),
            "health": [read_health(kind) for kind in LATE],
            "queues": read_queues(),
            "concerns": read_concerns(request, site),
            "shown": read_currency(figures, request.GET.get(CURRENCY_VAR, ""), site),
            "currencies": figures.currencies,
            "time_zone": figures.time_zone,
            "read_at": local_moment(read_at),
        }


def read_health(kind: SyncRun.Kind) -> Health:
    """Return whether runs of a kind succeed often enough; one query."""
    # A success before these is not lately, however quick the runs are.
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
