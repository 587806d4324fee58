"""Start a run, let any worker work on its windows, and finish it once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, IntegrityError
from django.db.models import F, Q, QuerySet

from django_orb import metrics, mirror
from django_orb.account import open_account
from django_orb.client import OrbClient
from django_orb.conf import get_settings
from django_orb.db import (
    Interval,
    has_come,
    is_free,
    is_passing,
    primary,
    run_in_transaction,
)
from django_orb.exact_json import storable_text
from django_orb.exceptions import OrbSyncRunningError, in_english
from django_orb.mirror import Observation, Origin, send_robust
from django_orb.models import Invoice, InvoiceFailure, SyncAbsence, SyncRun, SyncWindow
from django_orb.models.runs import COUNTS
from django_orb.signals import sync_finished
from django_orb.webhooks import polling

from . import missing, overdue, side_by_side, windows
from .planning import plan_windows
from .steps import WindowFailedError

logger = logging.getLogger(__name__)

MARK_BATCH = 100
# How often a run may be refused because of one that has ended by the time of the look.
MAX_STARTS = 3


def start_run(
    kind: str,
    *,
    since: datetime | None = None,
    invoice_ids: Sequence[str] = (),
    accept_missing: bool = False,
    announce: bool = False,
    sweep: bool = False,
) -> SyncRun:
    """
    Record a run and its windows, for any worker to work on.

    Until a full run has succeeded, invoices that are new here may be old in Orb, so they
    are announced only if `announce` is set. If Orb's list of events suffices this
    time, an incremental run reads only that list, unless `sweep` is set.

    Raises:
        OrbSyncRunningError: a run of this kind is already active; its `run`.
    """
    is_exclusive = kind != SyncRun.Kind.ONE
    # Read before the transaction, which has to begin with a write on SQLite.
    announces_new = announce or _was_filled()
    reading = polling.plan(sweep=sweep)
    for attempt in range(1, MAX_STARTS + 1):
        run = SyncRun(
            kind=kind,
            # Unique, and null once the run is over: MariaDB has no unique
            # constraint with a condition, which Django leaves out there.
            active_kind=kind if is_exclusive else None,
            since=since,
            accept_missing=accept_missing,
            announces_new=announces_new,
            started_at=primary.now(),
        )
        try:
            with primary.atomic():
                run.save(using=primary.alias(), force_insert=True)
                planned = plan_windows(run, run.started_at, list(invoice_ids), reading)
                primary.rows(SyncWindow).bulk_create(planned)
        except IntegrityError as err:
            active = primary.rows(SyncRun).filter(active_kind=kind).first()
            if active is not None:
                raise OrbSyncRunningError(
                    f"{in_english(active)} has been running since "
                    f"{active.started_at:%Y-%m-%d %H:%M} UTC, or stopped less than "
                    f"{windows.lease_seconds():.0f} seconds ago.",
                    run=active,
                ) from err
            # It has ended since it was in the way.
            if attempt == MAX_STARTS:
                raise
        else:
            return run
    raise AssertionError("unreachable")


def _was_filled() -> bool:
    full = primary.rows(SyncRun).filter(
        kind=SyncRun.Kind.FULL, state=SyncRun.State.SUCCEEDED
    )
    return full.exists()


def start_or_join(
    kind: str, *, since: datetime | None = None, sweep: bool = False
) -> SyncRun:
    """Start a run as `start_run` does, or return the active one of its kind."""
    try:
        return start_run(kind, since=since, sweep=sweep)
    except OrbSyncRunningError as err:
        run: SyncRun = err.run
        logger.info("%s is already active.", in_english(run), extra=_id_of(run))
        return run


def start_or_resume(
    kind: str,
    *,
    since: datetime | None = None,
    invoice_ids: Sequence[str] = (),
    accept_missing: bool = False,
    announce: bool = False,
) -> SyncRun:
    """
    Start a run, or resume the active one of its kind if no worker holds a window.

    Raises:
        OrbSyncRunningError: a worker does, or the active run has other options.
    """
    try:
        return start_run(
            kind,
            since=since,
            invoice_ids=invoice_ids,
            accept_missing=accept_missing,
            announce=announce,
        )
    except OrbSyncRunningError as err:
        run: SyncRun = err.run
        is_quieter = announce and not run.announces_new
        is_other = run.since != since or run.accept_missing != accept_missing
        if is_other or is_quieter:
            raise
        if _is_held(run):
            raise
        logger.info("%s resumes where it stopped.", in_english(run), extra=_id_of(run))
        return run


def _is_held(run: SyncRun) -> bool:
    """Tell whether a worker holds a window of the run."""
    pending = primary.rows(SyncWindow).filter(run=run, state=SyncWindow.State.PENDING)
    free = is_free(primary.now(), longest=windows.longest_lease())
    return pending.exclude(free).exists()


def due_windows(*, run: SyncRun | None = None) -> list[SyncWindow]:
    """
    Return pending windows of active runs that no worker holds and that are due.

    Windows and runs of kinds that only a newer release knows are left to that release.
    """
    now = primary.now()
    longest_wait = timedelta(seconds=windows.MAX_WAIT_SECONDS)
    due = primary.rows(SyncWindow).filter(
        is_free(now, longest=windows.longest_lease()),
        Q(not_before=None) | has_come("not_before", now, longest=longest_wait),
        state=SyncWindow.State.PENDING,
        kind__in=SyncWindow.Kind.values,
        run__state=SyncRun.State.RUNNING,
        run__kind__in=SyncRun.Kind.values,
    )
    return list(due.filter(run=run) if run else due)


def send_due(run: SyncRun, send: Callable[[int, str], bool]) -> None:
    """
    Lease each window that is due and free, and send it to a worker with its lease.

    If `send` returns False, no worker was reached, and the window is free again.
    """
    for window in due_windows(run=run):
        lease = windows.lease_window(window)
        if lease and not send(window.pk, lease):
            windows.release_window(window.pk, lease)


def work_here(
    run: SyncRun,
    *,
    client: OrbClient,
    on_step: Callable[[SyncRun], None] = lambda run: None,
) -> SyncRun:
    """
    Do a run's work in this process until the run ends. Return the run.

    Up to `CONCURRENCY` windows are read side by side. Wait if Orb asks for it, and for
    windows that other workers hold.
    """
    most = get_settings().CONCURRENCY
    step = partial(on_step, run)
    with side_by_side.opened(client, most=most, on_step=step, fail=fail_window) as work:
        while True:
            due = due_windows(run=run)
            for window in due:
                lease = windows.lease_window(window) if work.count < most else None
                if lease:
                    work.add(window, lease)
            count = work.count
            while work.count == count > 0:
                work.go_on()
            if count:
                continue
            opened = advance(run)
            run.refresh_from_db(using=primary.alias())
            if not run.is_active:
                return run
            if not due and not opened:
                step()
                time.sleep(1)


def resume_here(run: SyncRun) -> None:
    """
    Work in this process on a run that no worker holds, until it ends or has to wait.

    The windows are read one after the other.
    """
    if _is_held(run):
        return
    connect = partial(open_account, retries=0)
    while True:
        due = due_windows(run=run)
        if not due and not advance(run):
            return
        for window in due:
            lease = windows.lease_window(window)
            if lease is None:  # another process resumes it
                return
            if not turn(window.pk, lease, connect=connect).is_done:
                windows.release_window(window.pk, lease)
                return


def turn(
    window_id: int,
    lease: str,
    *,
    connect: windows.Connect,
    seconds: float = float("inf"),
) -> windows.Progress:
    """Work on a window for a while; if it cannot be finished, end its run."""
    try:
        return windows.work(
            window_id,
            lease,
            connect=connect,
            page_size=get_settings().PAGE_SIZE,
            seconds=seconds,
        )
    except WindowFailedError as err:
        fail_window(window_id, lease, str(err))
        return windows.Progress(is_lost=True)


def fail_window(window_id: int, lease: str, reason: str) -> None:
    """End the run of a window that cannot be finished, if the lease still holds."""
    mine = primary.rows(SyncWindow).filter(pk=window_id, lease=lease)
    window = mine.select_related("run").first()
    if window is not None:
        _end(window.run, SyncRun.State.FAILED, reason, because_of=mine)


def advance(run: SyncRun) -> list[SyncWindow]:
    """
    Take a run whose windows are done one stage further: to the check, or to the end.

    Return the windows that became pending. It is safe to call at any time. A run of a
    kind that only a newer release knows is left to that release.
    """
    if run.kind not in SyncRun.Kind.values:
        return []
    with primary.atomic():
        # The update locks the row, even if the database has no SELECT .. FOR UPDATE.
        active = primary.rows(SyncRun).filter(pk=run.pk, state=SyncRun.State.RUNNING)
        if not active.update(state=SyncRun.State.RUNNING):
            return []
        of_run = primary.rows(SyncWindow).filter(run=run)
        if of_run.filter(state=SyncWindow.State.PENDING).exists():
            return []
        waiting = list(of_run.filter(state=SyncWindow.State.WAITING))
        if waiting:
            of_run.filter(state=SyncWindow.State.WAITING).update(
                state=SyncWindow.State.PENDING
            )
            return waiting
    try:
        _finish(run)
    except Exception as err:
        if isinstance(err, DatabaseError) or is_passing(err):
            raise  # `recover` tries it again at the latest
        logger.exception(
            "%s could not be finished.", in_english(run), extra=_id_of(run)
        )
        reason = f"It could not be finished. {type(err).__name__}: {err}"
        _end(run, SyncRun.State.FAILED, storable_text(reason))
    return []


def cancel_run(run: SyncRun) -> None:
    """End an active run; its workers stop after the page they are reading."""
    _end(run, SyncRun.State.CANCELLED, "Cancelled.")


def _finish(run: SyncRun) -> None:
    """Mark invoices that Orb no longer has, add up the counts, and end the run."""
    absences = primary.rows(SyncAbsence).filter(run=run)
    ids = set(absences.values_list("invoice_id", flat=True))
    gone = missing.newly_missing(ids)
    refusal = "" if run.accept_missing else missing.refusal(len(gone))
    if refusal:
        _end(run, SyncRun.State.FAILED, refusal)
        return
    failures = primary.rows(InvoiceFailure)
    failing = set(failures.filter(pk__in=ids).values_list("pk", flat=True))
    # Before the run ends: if the worker dies in between, `recover` finishes the run
    # once more, and what is marked already is not counted again.
    _mark(absences.filter(invoice_id__in=gone | failing), run)
    stored = primary.rows(Invoice)
    unknown = sorted(ids - set(stored.filter(pk__in=ids).values_list("pk", flat=True)))
    if run.kind == SyncRun.Kind.ONE and unknown:
        reason = f"Orb does not know {', '.join(unknown)}."
        _end(run, SyncRun.State.FAILED, reason)
        return
    unread = Q(has_gap=True) | Q(state=SyncWindow.State.FAILED)
    if run.windows.using(primary.alias()).filter(unread).exists():
        reason = f"A part of Orb's list could not be read. {_note_of(run)}"
        _end(run, SyncRun.State.FAILED, reason)
        return
    if run.kind == SyncRun.Kind.FULL:
        # The run read everything: what had no id has one by now, or has failed again.
        old = Q(run_id=None) | Q(run_id__lt=run.pk)
        failures.filter(old, pk__startswith=mirror.NO_ID).delete()
    _end(run, SyncRun.State.SUCCEEDED, _note_of(run))
    if run.kind in (SyncRun.Kind.FULL, SyncRun.Kind.INCREMENTAL):
        overdue.notice(run)


def _note_of(run: SyncRun) -> str:
    """Say what the run could not do."""
    failed = primary.rows(InvoiceFailure).filter(run_id=run.pk).count()
    notes = primary.rows(SyncWindow).filter(run=run).exclude(note="")
    failures = f"{failed} could not be mirrored; see their reasons." if failed else ""
    return " ".join(filter(None, [failures, *notes.values_list("note", flat=True)]))


def _mark(absences: Iterable[SyncAbsence], run: SyncRun) -> None:
    """Mark absent invoices, and count in the last window how many really were."""
    observations = [
        Observation.absent(
            absence.invoice_id,
            Interval(absence.started_at, absence.ended_at),
            absence.supersedes,
        )
        for absence in absences
    ]
    last = run.windows.using(primary.alias()).last()

    def count(result: mirror.WriteResult) -> None:
        if last is not None and result.missing:
            primary.rows(SyncWindow).filter(pk=last.pk).update(
                missing=F("missing") + len(result.missing)
            )

    for start in range(0, len(observations), MARK_BATCH):
        batch = observations[start : start + MARK_BATCH]
        origin = Origin.of_run(run)
        result = mirror.write(batch, run_id=run.pk, origin=origin, also=count)
        mirror.fetch_later(result.doubtful)


def _end(
    run: SyncRun,
    state: str,
    error: str,
    *,
    because_of: QuerySet[SyncWindow] | None = None,
) -> None:
    """
    End a run that is active, because of a window that fails if one is given.

    A window that another worker holds by now ends nothing.
    """

    def end() -> bool:
        active = primary.rows(SyncRun).filter(pk=run.pk, state=SyncRun.State.RUNNING)
        # As in `advance`, the row of the run is locked before those of its windows.
        if not active.update(state=SyncRun.State.RUNNING):
            return False
        # With the run, since a window that failed alone would never be noticed.
        failed = SyncWindow.State.FAILED
        if because_of is not None and not because_of.update(state=failed, error=error):
            return False
        # A worker that still holds a window loses its lease, and can write nothing more:
        # only after that do the counts not change any more.
        primary.rows(SyncWindow).filter(run=run).update(lease="")
        progress = run.progress()
        totals = {name: progress[name] for name in COUNTS}
        active.update(
            state=state,
            active_kind=None,
            finished_at=primary.now(),
            error=error,
            **totals,
        )
        return True

    is_mine = run_in_transaction(end)
    run.refresh_from_db(using=primary.alias())
    if is_mine:
        _log_end(run)
        metrics.run_ended(run.kind, run.state, run.started_at, run.finished_at)
        tell = partial(send_robust, sync_finished, SyncRun, run=run)
        primary.on_commit(tell)


def _log_end(run: SyncRun) -> None:
    counts = ", ".join(f"{getattr(run, name)} {name}" for name in COUNTS)
    words = (run.pk, run.kind, run.state, counts)
    logger.info("Run %s (%s) %s: %s.", *words, extra=_id_of(run))


def _id_of(run: SyncRun) -> dict[str, int]:
    """Return the field that names the run in log records."""
    return {"orb_run_id": run.pk}
