"""What is deleted once it is old enough."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Max

from .models import SyncRun, WebhookEvent

EVENTS_AT_ONCE = 1000
RUNS_AT_ONCE = 100

SETTLED = (WebhookEvent.State.PROCESSED, WebhookEvent.State.IGNORED)


def prune_events(*, before: datetime, using: str) -> int:
    """Delete settled events that came before a time, in batches; how many."""
    count = 0
    events = WebhookEvent.objects.using(using).filter(state__in=SETTLED)
    old = events.filter(received_at__lt=before).values_list("pk", flat=True)
    while ids := list(old[:EVENTS_AT_ONCE]):
        deleted, _ = events.filter(pk__in=ids).delete()
        count += deleted
    return count


def prune_runs(*, before: datetime, using: str) -> int:
    """
    Delete runs that ended before a time, in batches; how many.

    Of each kind the newest that succeeded stays: it tells what the mirror knows.
    """
    runs = SyncRun.objects.using(using).order_by()
    good = runs.filter(state=SyncRun.State.SUCCEEDED).values("kind")
    newest = good.annotate(newest=Max("pk")).values_list("newest", flat=True)
    ended = runs.filter(finished_at__lt=before).exclude(pk__in=list(newest))
    old = ended.order_by("pk").values_list("pk", flat=True)
    count = 0
    while ids := list(old[:RUNS_AT_ONCE]):
        runs.filter(pk__in=ids).delete()
        count += len(ids)
    return count
