from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, Sum
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from django_orb.models import SyncRun, SyncWindow

from .badges import run_badge
from .formats import joined, utc_day
from .readonly import ReadOnlyAdmin, ReadOnlyInline

SEEN = F("created") + F("updated") + F("unchanged") + F("failed")


class SyncWindowInline(ReadOnlyInline):
    """What a run is made of, and how far each part came."""

    model = SyncWindow
    verbose_name_plural = "Parts of this run"
    ordering = ("position",)
    fields = (
        "part",
        "badge",
        "span",
        "pages",
        "created",
        "updated",
        "unchanged",
        "failed",
        "missing",
        "heartbeat_at",
        "not_before",
        "error",
    )
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_orb.view_syncrun")

    @admin.display(description="part")
    def part(self, window: SyncWindow) -> str:
        statuses = ", ".join(map(str, window.statuses))
        return joined(": ", window.get_kind_display(), statuses)

    @admin.display(description="state")
    def badge(self, window: SyncWindow) -> SafeString:
        return run_badge(window)

    @admin.display(description="invoice dates (UTC)")
    def span(self, window: SyncWindow) -> str:
        start, end = window.invoice_date_gte, window.invoice_date_lt
        return joined(
            " ",
            f"from {utc_day(start)}" if start else "",
            f"before {utc_day(end)}" if end else "",
        )


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    """What was read from Orb, when, and how it ended."""

    list_display = (
        "started_at",
        "kind",
        "badge",
        "seen",
        "created",
        "updated",
        "failed",
        "missing",
        "took",
        "error",
    )
    list_filter = ("state", "kind")
    inlines = (SyncWindowInline,)
    fields = (
        ("kind", "badge"),
        ("started_at", "finished_at", "took"),
        "since",
        ("seen", "created", "updated", "unchanged", "failed", "missing"),
        ("pages", "requests"),
        "accept_missing",
        "error",
    )
    readonly_fields = ("badge", "seen", "took")

    def get_queryset(self, request: HttpRequest) -> Any:
        # A run's own counts are written at its end; until then its parts know.
        parts = F("windows__created") + F("windows__updated")
        parts += F("windows__unchanged") + F("windows__failed")
        return super().get_queryset(request).annotate(seen_so_far=Sum(parts))

    @admin.display(description="state", ordering="state")
    def badge(self, run: SyncRun) -> SafeString:
        return run_badge(run)

    @admin.display(description="invoices seen")
    def seen(self, run: SyncRun) -> int:
        return run.seen_so_far or run.invoices  # type: ignore[attr-defined]

    @admin.display(description="took")
    def took(self, run: SyncRun) -> str:
        if run.finished_at is None:
            return ""
        seconds = (run.finished_at - run.started_at).total_seconds()
        if seconds < 60:
            return f"{seconds:.1f} seconds"
        return timesince(run.started_at, run.finished_at)
