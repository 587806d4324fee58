from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import label_for_field, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import F, Sum
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import joined, local_moment, short, utc_day
from django_orb.models import SyncRun, SyncWindow
from django_orb.sync import STATUSES, runs

from .badges import run_badge, status_label
from .invoice_page import Fact
from .readonly import ReadOnlyAdmin

COUNTED = ("pages", "created", "updated", "unchanged", "failed", "missing")


@dataclass(frozen=True)
class Part:
    """A window of a run, as the run's page shows it."""

    title: str
    span: str
    badge: SafeString
    counts: list[int]
    heartbeat: str
    waits_until: str
    error: str


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    """The runs: what was read from Orb, when, and how it ended."""

    list_display = (
        "number",
        "badge",
        "started",
        "took",
        "seen",
        "created",
        "updated",
        "failed",
        "missing",
        "why",
    )
    list_filter = ("state", "kind")
    fields = ("kind",)
    actions = ("cancel_selected",)

    def has_sync_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.sync_invoice")

    @admin.action(permissions=["sync"], description=_("Cancel selected runs"))
    def cancel_selected(self, request: HttpRequest, queryset: Any) -> None:
        """End active runs. What they wrote stays, and the next run does the rest."""
        count = 0
        for run in queryset.filter(state=SyncRun.State.RUNNING):
            runs.cancel_run(run)
            # It may have ended meanwhile.
            if run.state == SyncRun.State.CANCELLED:
                self.log_change(request, run, _("Cancelled."))
                count += 1
        if not count:
            self.message_user(request, _("None of them is running."), messages.WARNING)
            return
        text = ngettext(
            "%(count)s run was cancelled.", "%(count)s runs were cancelled.", count
        )
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.cancel_view)
        name = "django_orb_syncrun_cancel"
        return [path("<path:object_id>/cancel/", view, name=name), *super().get_urls()]

    # Within the request's transaction, if there is one: nothing is asked of Orb, and
    # receivers are told after the commit.
    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Cancel a run from its own page."""
        if not (
            self.has_sync_permission(request) and self.has_view_permission(request)
        ):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        run = self.get_object(request, unquote(object_id))
        if run is None:
            raise Http404(gettext("There is no such run."))
        self.cancel_selected(request, self.get_queryset(request).filter(pk=run.pk))
        url = reverse(
            "admin:django_orb_syncrun_change",
            args=[run.pk],
            current_app=self.admin_site.name,
        )
        return HttpResponseRedirect(url)

    @admin.display(description=_("error"), empty_value="")
    def why(self, run: SyncRun) -> str:
        return short(run.error)

    def get_queryset(self, request: HttpRequest) -> Any:
        # A run's own counts are written at its end; until then its windows have them.
        parts = F("windows__created") + F("windows__updated")
        parts += F("windows__unchanged") + F("windows__failed")
        return super().get_queryset(request).annotate(seen_so_far=Sum(parts))

    @admin.display(description=_("run"), ordering="pk")
    def number(self, run: SyncRun) -> str:
        return str(run)

    @admin.display(description=_("state"), ordering="state")
    def badge(self, run: SyncRun) -> SafeString:
        return run_badge(run)

    @admin.display(description=_("started"), ordering="started_at")
    def started(self, run: SyncRun) -> str:
        return local_moment(run.started_at)

    @admin.display(description=_("invoices seen"))
    def seen(self, run: SyncRun) -> int:
        return getattr(run, "seen_so_far", 0) or run.invoices

    @admin.display(description=_("took"))
    def took(self, run: SyncRun) -> str:
        end = run.finished_at or timezone.now()
        seconds = (end - run.started_at).total_seconds()
        # Django's `timesince` knows nothing shorter than a minute.
        if seconds < 60:
            return gettext("%(seconds)s seconds") % {
                "seconds": number_format(seconds, 1)
            }
        return timesince(run.started_at, end)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context.update(self.page_context(kwargs["obj"]))
        context["may_cancel"] = kwargs["obj"].is_active and self.has_sync_permission(
            request
        )
        return super().render_change_form(request, context, *args, **kwargs)

    def page_context(self, run: SyncRun) -> dict[str, Any]:
        windows = list(run.windows.using(run._state.db))
        return {
            "title": str(run),
            "subtitle": None,
            "run": run,
            "state": run_badge(run),
            "seen": number_format(self.seen(run), force_grouping=True),
            "facts_by_column": [self.read_times(run), read_counts(run, windows)],
            "counted": [title_of(name) for name in COUNTED],
            "parts": [read_part(window) for window in windows],
        }

    def read_times(self, run: SyncRun) -> list[Fact]:
        rows = [
            (gettext("Kind"), run.get_kind_display()),
            (gettext("Since (UTC)"), utc_day(run.since)),
            (gettext("Started"), local_moment(run.started_at)),
            (gettext("Finished"), local_moment(run.finished_at)),
            (
                gettext("Took") if run.finished_at else gettext("Runs for"),
                self.took(run),
            ),
        ]
        return [Fact(label, value) for label, value in rows if value]


def read_counts(run: SyncRun, windows: list[SyncWindow]) -> list[Fact]:
    """Return the run's counts, or those of its windows while it is active."""
    names = (
        "created",
        "updated",
        "unchanged",
        "failed",
        "missing",
        "pages",
        "requests",
    )
    sources: list[Any] = list(windows) if run.is_active else [run]
    return [
        Fact(
            title_of(name),
            number_format(
                sum(getattr(one, name) for one in sources), force_grouping=True
            ),
        )
        for name in names
    ]


def title_of(name: str) -> str:
    """Return the heading of a count's column."""
    return capfirst(str(label_for_field(name, SyncRun)))


def read_part(window: SyncWindow) -> Part:
    statuses = [] if set(window.statuses) >= set(STATUSES) else window.statuses
    chosen = ", ".join(status_label(status) for status in statuses)
    start, end = utc_day(window.invoice_date_gte), utc_day(window.invoice_date_lt)
    dated = joined(
        " ",
        (gettext("from %(start)s") % {"start": start}) if start else "",
        (gettext("before %(end)s") % {"end": end}) if end else "",
    )
    is_over = window.state in {SyncWindow.State.DONE, SyncWindow.State.FAILED}
    return Part(
        title=window.get_kind_display(),
        span=joined(
            " · ",
            chosen,
            (gettext("dated %(dated)s") % {"dated": dated}) if dated else "",
            gettext("%(count)s ids") % {"count": len(window.invoice_ids)}
            if window.invoice_ids
            else "",
        ),
        badge=run_badge(window),
        counts=[getattr(window, name) for name in COUNTED],
        heartbeat=local_moment(window.heartbeat_at),
        waits_until="" if is_over else local_moment(window.not_before),
        error=window.error,
    )
