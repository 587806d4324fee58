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
from datetime import datetime, timedelta
from typing import Any

from . import mirror
from .changes import Origin
from .client import OrbClient
from .clock import clock_of, is_free
from .conf import get_settings
from .database import StatementLog
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
from .pacing import READS, hold_back, top_up
from .steps import STEP_SECONDS, PageReader, Step, WindowFailedError, take_step

MIN_LEASE_SECONDS = 120.0
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


def lease_seconds() -> float:
    """How long a worker may be silent: a step never takes so long."""
    return max(MIN_LEASE_SECONDS, STEP_SECONDS + 2 * get_settings().TIMEOUT_SECONDS)


def longest_lease() -> timedelta:
    """Return how far ahead a lease may end: after a wait that Orb asked for."""
    return timedelta(seconds=lease_seconds() + MAX_WAIT_SECONDS)


def lease_window(window: SyncWindow, *, using: str) -> str | None:
    """
    Take a window that is due and not in anybody's hands; None if it is not.

    The lease holds until its holder has been silent for `lease_seconds()`.
    """
    now = clock_of(using).latest()
    lease = new_lease()
    taken = (
        SyncWindow.objects.using(using)
        .filter(pk=window.pk, state=SyncWindow.State.PENDING, lease=window.lease)
        .filter(is_free(now, longest=longest_lease()))
        .update(lease=lease, lease_expires_at=now + timedelta(seconds=lease_seconds()))
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
    log = StatementLog(using)
    with ThreadPoolExecutor(max_workers=1) as executor:
        reader = PageReader(client, page_size, executor)
        try:
            window = _begin(window_id, lease, using=using)
            while True:
                try:
                    top_up(client)
                    step = take_step(window, reader, client, using)
                    _commit_step(window, step, using=using)
                except (OrbAPIError, OrbConnectionError, OrbResponseError) as err:
                    return Progress(wait_seconds=_defer(window, err, using=using))
                log.forget()
                on_step()
                if window.state == SyncWindow.State.DONE:
                    return Progress(is_done=True)
                if time.monotonic() >= deadline:
                    return Progress()
        except LeaseLostError:
            return Progress(is_lost=True)


def _begin(window_id: int, lease: str, *, using: str) -> SyncWindow:
    """Load the window, and count the start: some pages kill whoever reads them."""
    mine = SyncWindow.objects.using(using).filter(
        pk=window_id, lease=lease, state=SyncWindow.State.PENDING
    )
    window = mine.select_related("run").first()
    if window is None or not window.run.is_active:
        raise LeaseLostError
    if window.attempts >= MAX_ATTEMPTS:
        raise WindowFailedError(
            f"Gave up after {MAX_ATTEMPTS} attempts at the same page. {window.error}"
        )
    window.attempts += 1
    if not mine.update(attempts=window.attempts, **_sign_of_life(using)):
        raise LeaseLostError
    return window


def _sign_of_life(using: str) -> dict[str, datetime]:
    now = clock_of(using).latest()
    expires_at = now + timedelta(seconds=lease_seconds())
    return {"heartbeat_at": now, "lease_expires_at": expires_at}


def _commit_step(window: SyncWindow, step: Step, *, using: str) -> WriteResult:
    """
    Store what the step found and move the window on, the row and the object.

    Raises:
        LeaseLostError: somebody else has the window now; nothing was stored.
    """
    changes: dict[str, Any] = {}

    def move_on(result: WriteResult) -> None:
        moved_on = {**_changes(window, step, result), **_sign_of_life(using)}
        for name, count in _counts(step, result).items():
            moved_on[name] = getattr(window, name) + count  # the row's, by its step
        changes.clear()  # of an attempt that was undone
        changes.update(
            (name, value)
            for name, value in moved_on.items()
            if value != getattr(window, name)
        )
        mine = SyncWindow.objects.using(using).filter(
            pk=window.pk, lease=window.lease, step=window.step
        )
        if not mine.update(**changes):
            raise LeaseLostError
        _record_absences(window.run, step.absent, using)

    result = mirror.write(
        step.observations,
        using=using,
        run_id=window.run_id,
        origin=Origin.of_run(window.run),
        also=move_on,
    )
    for name, value in changes.items():
        setattr(window, name, value)
    return result


def _changes(window: SyncWindow, step: Step, result: WriteResult) -> dict[str, Any]:
    doubtful = step.changes.get("doubtful_ids", window.doubtful_ids)
    doubtful = [*doubtful, *result.doubtful]
    is_exhausted = window.is_exhausted or step.is_last
    is_done = is_exhausted and not doubtful
    return {
        **step.changes,
        "last_invoice_date": step.last_invoice_date() or window.last_invoice_date,
        "doubtful_ids": doubtful,
        "is_exhausted": is_exhausted,
        "state": SyncWindow.State.DONE if is_done else SyncWindow.State.PENDING,
        "step": window.step + 1,
        "attempts": 1,  # the next step begins at once
        "deferrals": 0,
        "not_before": None,
        "error": "",
    }


def _counts(step: Step, result: WriteResult) -> dict[str, int]:
    return {
        "pages": int(step.is_page),
        "requests": step.requests,
        "created": len(result.created),
        "updated": len(result.updated),
        "unchanged": len(result.unchanged),
        "failed": len(result.failed),
    }


def _record_absences(run: SyncRun, absent: Sequence[Observation], using: str) -> None:
    SyncAbsence.objects.using(using).bulk_create(
        [
            SyncAbsence(
                run=run,
                invoice_id=one.invoice_id,
                started_at=one.interval.started_at,
                ended_at=one.interval.ended_at,
                supersedes=one.supersedes,
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
    if isinstance(err, OrbRateLimitError):
        hold_back(READS, seconds, using=using)
    now = clock_of(using).latest()
    mine = SyncWindow.objects.using(using).filter(pk=window.pk, lease=window.lease)
    mine.update(
        attempts=0,
        deferrals=window.deferrals + 1,
        not_before=now + timedelta(seconds=seconds),
        lease_expires_at=now + timedelta(seconds=seconds + lease_seconds()),
        heartbeat_at=now,
        error=str(err),
    )
    return seconds
