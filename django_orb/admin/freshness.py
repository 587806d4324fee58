"""Say in words how old the mirror is."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.formats import number_format
from django.utils.translation import gettext

from django_orb.formatting import ago, local_moment
from django_orb.models import SyncRun


@dataclass(frozen=True)
class Freshness:
    text: str
    moment: str = ""
    running: str = ""


def read_freshness() -> Freshness:
    """Return when a run last brought the whole mirror up to date, and what runs now."""
    # Runs since a date, or of chosen invoices, tell nothing about all the others.
    whole = SyncRun.objects.filter(
        kind__in=[SyncRun.Kind.FULL, SyncRun.Kind.INCREMENTAL]
    )
    last = whole.filter(state=SyncRun.State.SUCCEEDED).order_by("-finished_at").first()
    active = SyncRun.objects.filter(state=SyncRun.State.RUNNING).first()
    running = describe_progress(active) if active else ""
    if last is None or last.finished_at is None:
        return Freshness(
            gettext("Not brought up to date with Orb yet."), running=running
        )
    return Freshness(
        (
            gettext("Last brought up to date with Orb %(ago)s")
            % {"ago": ago(last.finished_at)}
        ),
        local_moment(last.finished_at),
        running,
    )


def describe_progress(run: SyncRun) -> str:
    progress = run.progress()
    seen = sum(progress[name] for name in ("created", "updated", "unchanged", "failed"))
    kind = run.get_kind_display()
    return gettext("A sync is running now (%(kind)s, %(count)s invoices so far).") % {
        "kind": kind,
        "count": number_format(seen, force_grouping=True),
    }
