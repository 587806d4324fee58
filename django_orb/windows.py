"""
Work on one window of a run, step by step.

A step asks Orb for one page (or a handful of single invoices) and commits what
came, the counts and the cursor in one transaction, provided that the window is
still leased to this worker and nobody did the step meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, Q

from . import mirror
from .client import OrbClient
from .clock import clock_of
from .exceptions import (
    OrbAPIError,
    OrbConflictError,
    OrbConnectionError,
    OrbError,
    OrbRateLimitError,
    OrbResponseError,
    OrbServerError,
)
from .mirror import Observation, WriteResult
from .models import SyncAbsence, SyncRun, SyncWindow
from .steps import PageReader, Step, WindowFailedError, take_step

LEASE_SECONDS = 120
MAX_WAIT_SECONDS = 60
MAX_ATTEMPTS = 10


class LeaseLostError(Exception):
    """Another worker has the window, or the run was ended; write nothing."""


@dataclass(frozen=True)
class Progress:
    """How a turn at a window ended; `wait_seconds` before the next makes sense."""

    is_done: bool = False
    is_lost: bool = False
    wait_seconds: float = 0.0


def new_lease() -> str:
    return uuid.uuid4().hex


def lease_window(window: SyncWindow, *, using: str) -> str | None:
    """
    Take a window that is due and not in anybody's hands; None if it is not.

    The lease holds until its holder has been silent for `LEASE_SECONDS`.
    """
    now = clock_of(using).latest()
    lease = new_lease()
    taken = (
        SyncWindow.objects.using(using)
        .filter(pk=window.pk, state=SyncWindow.State.PENDING, lease=window.lease)
        .filter(Q(lease_expires_at=None) | Q(lease_expires_at__lt=now))
        .update(lease=lease, lease_expires_at=now + timedelta(seconds=LEASE_SECONDS))
    )
    return lease if taken else None


def release_window(window_id: int, lease: str, *, using: str) -> None:
    """Give a window back at once, so that another worker need not wait."""
    windows = SyncWindow.objects.using(using).filter(pk=window_id, lease=lease)
    windows.update(lease_expires_at=None)


def work(
    window_id: int,
    lease: str,
    *,
    client: OrbClient,
    page_size: int,
    using: str,
    seconds: float = float("inf"),
    on_step: Callable[[], None] = lambda: None,
) -> Progress:
    """
    Do the window's steps until it is done, lost, waiting, or `seconds` are over.

    Raises:
        WindowFailedError: it will never be done; the run should end.
    """
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(max_workers=1) as executor:
        reader = PageReader(client, page_size, executor)
        while True:
            try:
                window = _begin_step(window_id, lease, using=using)
                step = take_step(window, reader, client, using)
                is_done = _commit_step(window, step, using=using)
            except LeaseLostError:
                return Progress(is_lost=True)
            except (OrbAPIError, OrbConnectionError, OrbResponseError) as err:
                seconds_to_wait = _defer(window, err, using=using)
                return Progress(wait_seconds=seconds_to_wait)
            on_step()
            if is_done:
                return Progress(is_done=True)
            if time.monotonic() >= deadline:
                return Progress()


def _begin_step(window_id: int, lease: str, *, using: str) -> SyncWindow:
    now = clock_of(using).latest()
    mine = SyncWindow.objects.using(using).filter(
        pk=window_id,
        lease=lease,
        state=SyncWindow.State.PENDING,
        run__state=SyncRun.State.RUNNING,
    )
    window = mine.select_related("run").first()
    if window is None:
        raise LeaseLostError
    if window.attempts >= MAX_ATTEMPTS:
        raise WindowFailedError(
            f"Gave up after {MAX_ATTEMPTS} attempts at the same page. {window.error}"
        )
    mine_still = SyncWindow.objects.using(using).filter(pk=window_id, lease=lease)
    if not mine_still.update(
        attempts=F("attempts") + 1,
        heartbeat_at=now,
        lease_expires_at=now + timedelta(seconds=LEASE_SECONDS),
    ):
        raise LeaseLostError
    return window


def _commit_step(window: SyncWindow, step: Step, *, using: str) -> bool:
    """Store what the step found and move the window on; whether it is done."""
    is_exhausted = window.is_exhausted or step.is_last
    changes = {"doubtful_ids": window.doubtful_ids, **step.changes}
    is_done = False

    def move_on(result: WriteResult) -> None:
        nonlocal is_done
        doubtful = [*changes["doubtful_ids"], *result.doubtful]
        is_done = is_exhausted and not doubtful
        state = SyncWindow.State.DONE if is_done else SyncWindow.State.PENDING
        counts = {
            "pages": int(step.is_page),
            "requests": step.requests,
            "created": len(result.created),
            "updated": len(result.updated),
            "unchanged": len(result.unchanged),
            "failed": len(result.failed),
        }
        mine = SyncWindow.objects.using(using).filter(
            pk=window.pk, lease=window.lease, step=window.step
        )
        moved = mine.update(
            **{name: F(name) + count for name, count in counts.items()},
            **{**changes, "doubtful_ids": doubtful},
            is_exhausted=is_exhausted,
            state=state,
            step=window.step + 1,
            attempts=0,
            deferrals=0,
            not_before=None,
            error="",
        )
        if not moved:
            raise LeaseLostError
        _record_absences(window.run, step.absent, using)

    mirror.write(step.observations, using=using, run_id=window.run_id, also=move_on)
    return is_done


def _record_absences(run: SyncRun, absent: Sequence[Observation], using: str) -> None:
    SyncAbsence.objects.using(using).bulk_create(
        [
            SyncAbsence(
                run=run,
                invoice_id=one.invoice_id,
                started_at=one.interval.started_at,
                ended_at=one.interval.ended_at,
            )
            for one in absent
        ],
        ignore_conflicts=True,
    )


def _defer(window: SyncWindow, err: OrbError, *, using: str) -> float:
    """
    Note in the row when to try again; seconds from now.

    Raises:
        WindowFailedError: waiting will not help, as with a key that Orb refuses.
    """
    patient = (
        OrbRateLimitError,
        OrbServerError,
        OrbConflictError,
        OrbConnectionError,
        OrbResponseError,
    )
    is_timeout = isinstance(err, OrbAPIError) and err.status_code == 408
    if not isinstance(err, patient) and not is_timeout:
        raise WindowFailedError(str(err)) from err
    advised = getattr(err, "retry_after_seconds", None) or 2**window.deferrals
    seconds = float(min(advised, MAX_WAIT_SECONDS))
    now = clock_of(using).latest()
    mine = SyncWindow.objects.using(using).filter(pk=window.pk, lease=window.lease)
    mine.update(
        attempts=0,
        deferrals=window.deferrals + 1,
        not_before=now + timedelta(seconds=seconds),
        lease_expires_at=now + timedelta(seconds=seconds + LEASE_SECONDS),
        heartbeat_at=now,
        error=str(err),
    )
    return seconds
