"""
Delete old rows, but only of what is finished.

Every table that grows has a decision here:

- `WebhookEvent`: processed and ignored ones are deleted `WEBHOOK_RETENTION_DAYS` after
  they came, failed ones after `FAILED_WEBHOOK_RETENTION_DAYS`. Those that have not been
  tried yet, or that a worker holds, stay.
- `InvoiceChange`: `CHANGE_RETENTION_DAYS` after it was announced. A change that still
  waits for its receivers stays, however old it is.
- `InvoiceOperation`: kept forever unless `OPERATION_RETENTION_DAYS` is set, because it
  is the audit trail, and because its row is what makes an idempotency key count once.
  Pending ones, those that need attention and those that the mirror does not show yet
  always stay.
- `SyncRun`, and with it `SyncWindow` and `SyncAbsence`: `RUN_RETENTION_DAYS` after its
  end. The latest successful run of each kind stays.
- `Invoice`, `InvoiceLineItem` and the other rows that an invoice carries are the
  mirror, from which nothing is deleted.
- `InvoiceObservation` has a narrow row for each id that was ever asked for, also for
  those that Orb does not know. It stays: without it an older answer that comes late
  would be taken for the newest.
- `InvoiceFailureReason` has a row for each invoice and kind of failure at most. Those
  of failures that are over stay, so that a late or repeated event does not bring them
  back after the event itself was deleted.
- `OverdueNotice` has a row for each number of `OVERDUE_DAYS` that was announced for an
  invoice, so that it is not announced again. `OverdueThreshold` has one for each number.
- `InvoiceFailure` and `InvoiceRecheck` have at most one row for each invoice. A run
  deletes the first once the invoice can be stored or is gone, and `recover` deletes the
  second once the invoice has been fetched; until then both are needed.
- `CustomerErasure` stays: it keeps a customer's personal data out, and is the record of
  the erasure.
- `MirroredAccount`, `ErasureGate`, `WebhookFeed`, `RequestBudget` and `LastOccurrence`
  have a fixed number of rows.

Rows are deleted in batches by primary key, each in a transaction of its own that checks
the condition again: a worker may have leased the row since it was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Q, QuerySet

from django_orb.conf import OrbSettings
from django_orb.db import primary, run_in_transaction
from django_orb.models import (
    InvoiceChange,
    InvoiceOperation,
    SyncAbsence,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)

ROWS_AT_ONCE = 1000
RUNS_AT_ONCE = 100

DONE = (WebhookEvent.State.PROCESSED, WebhookEvent.State.IGNORED)
REFUSED = (InvoiceOperation.State.REFUSED, InvoiceOperation.State.CANCELLED)


def prune(conf: OrbSettings, *, now: datetime) -> dict[str, int]:
    """Delete the rows that the settings no longer keep. Return how many of each kind."""
    kinds: list[tuple[str, int | None, Callable[..., int]]] = [
        ("webhook events", conf.WEBHOOK_RETENTION_DAYS, prune_events),
        (
            "failed webhook events",
            conf.FAILED_WEBHOOK_RETENTION_DAYS,
            prune_failed_events,
        ),
        ("invoice changes", conf.CHANGE_RETENTION_DAYS, prune_changes),
        ("operations", conf.OPERATION_RETENTION_DAYS, prune_operations),
        ("sync runs", conf.RUN_RETENTION_DAYS, prune_runs),
    ]
    counts = {}
    for name, days, delete in kinds:
        is_kept = days is None or days < 1
        before = now if days is None else now - timedelta(days=days)
        counts[name] = 0 if is_kept else delete(before=before)
    return counts


def prune_events(*, before: datetime) -> int:
    """Delete processed and ignored events that came before a time. Return how many."""
    events = primary.rows(WebhookEvent).filter(state__in=DONE)
    # In the order of an index, so that a batch is found without sorting all rows.
    return _delete(events.filter(received_at__lt=before), "-received_at", "-pk")


def prune_failed_events(*, before: datetime) -> int:
    """
    Delete failed events that came before a time. Return how many.

    An event that a worker holds stays: it may be processed at this moment.
    """
    failed = primary.rows(WebhookEvent).filter(
        state=WebhookEvent.State.FAILED, lease=""
    )
    return _delete(failed.filter(received_at__lt=before), "-received_at", "-pk")


def prune_changes(*, before: datetime) -> int:
    """Delete changes that were announced before a time. Return how many."""
    changes = primary.rows(InvoiceChange)
    return _delete(changes.filter(announced_at__lt=before), "announced_at", "pk")


def prune_operations(*, before: datetime) -> int:
    """
    Delete operations that ended before a time. Return how many.

    A successful operation has ended only once the mirror shows it.
    """
    is_shown = Q(state=InvoiceOperation.State.SUCCEEDED, mirrored_at__lt=before)
    ended = primary.rows(InvoiceOperation).filter(
        is_shown | Q(state__in=REFUSED), finished_at__lt=before
    )
    return _delete(ended, "pk")


def prune_runs(*, before: datetime) -> int:
    """
    Delete runs that ended before a time. Return how many.

    The latest successful run of each kind stays: it tells what the mirror knows. The
    rows of a run are deleted first, since they may be as many as there are invoices.
    """
    runs = primary.rows(SyncRun).order_by()
    good = runs.filter(state=SyncRun.State.SUCCEEDED).values("kind")
    newest = good.annotate(newest=Max("pk")).values_list("newest", flat=True)
    ended = runs.filter(finished_at__lt=before).exclude(pk__in=list(newest))
    count = 0
    while ids := _first(ended, "pk", limit=RUNS_AT_ONCE):
        _delete(primary.rows(SyncAbsence).filter(run__in=ids), "pk")
        _delete(primary.rows(SyncWindow).filter(run__in=ids), "pk")
        deleted = _delete(ended.filter(pk__in=ids), "pk")
        count += deleted
        if not deleted:
            break
    return count


def _delete(rows: QuerySet[Any], *order: str) -> int:
    """Delete rows in batches, each in a transaction of its own. Return how many."""
    count = 0
    while ids := _first(rows, *order, limit=ROWS_AT_ONCE):
        # If the project listens to signals of deletion, Django loads the rows first.
        batch = rows.filter(pk__in=ids).order_by().only("pk")
        deleted, _ = run_in_transaction(batch.delete)
        count += deleted
        # Workers have taken all of them since they were chosen; the next batch
        # would be the same.
        if not deleted:
            break
    return count


def _first(rows: QuerySet[Any], *order: str, limit: int) -> list[Any]:
    return list(rows.order_by(*order).values_list("pk", flat=True)[:limit])
