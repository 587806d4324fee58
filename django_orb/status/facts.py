"""
Read the facts of a status without Orb: twelve statements, and a savepoint's in a
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import Count, Max, Min, Q

from django_orb.db import primary
from django_orb.models import (
    CustomerErasure,
    InvoiceChange,
    InvoiceFailure,
    InvoiceOperation,
    LastOccurrence,
    MirroredAccount,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)

MAX_WINDOWS = 500
# How long an undelivered event in Orb's list counts. Only events about invoices do, since
# endpoints in Orb may leave out other types; and none from the future, which would be
# ahead of every webhook for good.
LISTED = timedelta(days=1)

Kind = SyncRun.Kind
WHOLE = (Kind.INCREMENTAL.value, Kind.FULL.value)


@dataclass(frozen=True)
class Backlog:
    """How many rows wait, and since when the oldest of them does."""

    count: int = 0
    oldest_at: datetime | None = None


@dataclass(frozen=True)
class KindFacts:
    """Runs of a kind: when one last succeeded, and the state of the newest."""

    succeeded_at: datetime | None
    newest_id: int
    newest_state: str
    newest_error: str


@dataclass(frozen=True)
class ActiveRun:
    """`seen_at` is the last sign of life; `error` is why it waits, if it does."""

    id: int
    kind: str
    started_at: datetime
    seen_at: datetime
    error: str


@dataclass(frozen=True)
class Occurrence:
    at: datetime
    detail: str


@dataclass(frozen=True)
class Facts:
    """
    The facts in the mirror's database; all times are by its clock.

    `runs_error` says why runs could not be read; then there are none here.
    `undelivered_created_at` is the time of the newest event about an invoice that came
    from Orb's list within a day.
    """

    now: datetime
    fingerprint: str
    account_confirmed_at: datetime | None
    runs: Mapping[str, KindFacts]
    active_runs: tuple[ActiveRun, ...]
    occurrences: Mapping[str, Occurrence]
    events_waiting: Backlog
    events_failed: Backlog
    operations_waiting: Backlog
    operations_needing_attention: Backlog
    changes_waiting: Backlog
    changes_failed: Backlog
    invoices_failed: int
    webhook_received_at: datetime | None
    webhook_created_at: datetime | None
    undelivered_created_at: datetime | None
    runs_error: str = ""
    erasures_waiting: Backlog = Backlog()
    erasures_failed: Backlog = Backlog()

    @property
    def succeeded_at(self) -> datetime | None:
        """When a run last brought the whole mirror up to date."""
        times = [run.succeeded_at for run in self.runs.values() if run.succeeded_at]
        return max(times, default=None)


def read_facts() -> Facts:
    """Read the facts; Orb is not asked."""
    account = primary.rows(MirroredAccount).first()
    now = primary.now()
    runs, active, runs_error = _try_to_read_runs()
    events = _read_backlogs(WebhookEvent, "received_at", "received", "failed")
    operations = _read_backlogs(
        InvoiceOperation, "created_at", "pending", "needs_attention"
    )
    webhook = (
        primary.rows(WebhookEvent)
        .filter(source=WebhookEvent.Source.WEBHOOK)
        .order_by("-received_at", "-pk")
        .values_list("received_at", "created_at")
        .first()
    )
    listed = primary.rows(WebhookEvent).filter(
        source=WebhookEvent.Source.FEED,
        type__startswith="invoice",
        received_at__gt=now - LISTED,
        created_at__range=(now - LISTED, now),
    )
    has_failed = Q(failed_at__isnull=False)
    untold = primary.rows(InvoiceChange).filter(announced_at=None)
    changes = untold.aggregate(
        waiting=Count("pk", filter=~has_failed),
        waiting_at=Min("created_at", filter=~has_failed),
        failed=Count("pk", filter=has_failed),
        failed_at=Min("created_at", filter=has_failed),
    )
    cannot = Q(active_customer_id__isnull=False) & ~Q(error="")
    erasures = primary.rows(CustomerErasure).aggregate(
        waiting=Count("pk", filter=~Q(stage="")),
        waiting_at=Min("erased_at", filter=~Q(stage="")),
        failed=Count("pk", filter=cannot),
    )
    return Facts(
        now=now,
        fingerprint=account.fingerprint if account else "",
        account_confirmed_at=account.confirmed_at if account else None,
        runs=runs,
        active_runs=active,
        occurrences={
            one.name: Occurrence(one.at, one.detail)
            for one in primary.rows(LastOccurrence).all()
        },
        events_waiting=events["received"],
        events_failed=events["failed"],
        operations_waiting=operations["pending"],
        operations_needing_attention=operations["needs_attention"],
        changes_waiting=Backlog(changes["waiting"], changes["waiting_at"]),
        changes_failed=Backlog(changes["failed"], changes["failed_at"]),
        invoices_failed=primary.rows(InvoiceFailure).count(),
        webhook_received_at=webhook[0] if webhook else None,
        webhook_created_at=webhook[1] if webhook else None,
        undelivered_created_at=listed.aggregate(at=Max("created_at"))["at"],
        runs_error=runs_error,
        erasures_waiting=Backlog(erasures["waiting"], erasures["waiting_at"]),
        erasures_failed=Backlog(erasures["failed"]),
    )


def _try_to_read_runs() -> tuple[dict[str, KindFacts], tuple[ActiveRun, ...], str]:
    """Read runs, or why they cannot be read, which must not keep other facts back."""
    is_inside = primary.connection().in_atomic_block
    try:
        # After a statement that failed, PostgreSQL refuses all others of a transaction
        # until it is rolled back, if only to a savepoint.
        with primary.atomic() if is_inside else nullcontext():
            return *_read_runs(), ""
    except DatabaseError as err:
        return {}, (), f"{type(err).__name__}: {err}"


def _read_runs() -> tuple[dict[str, KindFacts], tuple[ActiveRun, ...]]:
    runs = primary.rows(SyncRun).order_by()
    succeeded = Q(state=SyncRun.State.SUCCEEDED)
    by_kind = {
        row["kind"]: row
        for row in runs.filter(kind__in=WHOLE)
        .values("kind")
        .annotate(good=Max("finished_at", filter=succeeded), newest=Max("pk"))
    }
    newest_ids = [row["newest"] for row in by_kind.values()]
    is_active = Q(state=SyncRun.State.RUNNING)
    rows = {run.pk: run for run in runs.filter(is_active | Q(pk__in=newest_ids))}
    kinds = {
        kind: KindFacts(row["good"], run.pk, run.state, run.error)
        for kind, row in by_kind.items()
        if (run := rows.get(row["newest"]))
    }
    active = [run for run in rows.values() if run.is_active]
    return kinds, _describe_active(active) if active else ()


def _describe_active(active: list[SyncRun]) -> tuple[ActiveRun, ...]:
    pending = primary.rows(SyncWindow).filter(
        run__in=active, state=SyncWindow.State.PENDING
    )
    windows = list(
        pending.order_by("-heartbeat_at").values_list(
            "run_id", "heartbeat_at", "error"
        )[:MAX_WINDOWS]
    )
    described = []
    for run in active:
        own = [window for window in windows if window[0] == run.pk]
        times = [at for _, at, _ in own if at is not None]
        error = next((error for *_, error in own if error), "")
        described.append(
            ActiveRun(
                run.pk, run.kind, run.started_at, max([run.started_at, *times]), error
            )
        )
    return tuple(described)


def _read_backlogs(
    model: type[WebhookEvent] | type[InvoiceOperation], moment: str, *states: str
) -> dict[str, Backlog]:
    rows = (
        primary.rows(model)
        .filter(state__in=states)
        .order_by()
        .values("state")
        .annotate(count=Count("pk"), oldest=Min(moment))
    )
    found = {row["state"]: Backlog(row["count"], row["oldest"]) for row in rows}
    return {state: found.get(state, Backlog()) for state in states}
