"""
Work on one window of a run, step by step.

A step asks Orb for one page (or a handful of single invoices) and commits what
came, the counts and the cursor in one transaction, provided that the window is
still leased to this worker and nobody did the step meanwhile.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django_orb import metrics, mirror
from django_orb.client import OrbClient, longest_request_seconds
from django_orb.db import StatementLog, clock_of, is_free
from django_orb.exceptions import OrbConfigurationError, OrbError, OrbRateLimitError
from django_orb.mirror import Observation, Origin, WriteResult
from django_orb.models import SyncAbsence, SyncRun, SyncWindow
from django_orb.rate_limit import READS, hold_back, top_up

from .page_sizes import larger, smaller
from .passing import may_pass, next_step
from .planning import add_sweep
from .steps import (
    STEP_SECONDS,
    PageReader,
    Step,
    WindowFailedError,
    is_fetch,
    most_per_step,
    size_of_step,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIN_LEASE_SECONDS = 120.0
MAX_WAIT_SECONDS = 60
MAX_ATTEMPTS = 10
# Failures of Orb in a row, about 16 hours of them, after which a run ends.
MAX_DEFERRALS = 1000
# Steps that have to go well at a size before more is asked for again.
CAREFUL_STEPS = 10
# As many failures in a row mean that asking for one invoice failed, too.
FAILURES_DOWN_TO_ONE = 5


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
    # After its time is up a step ends with the request it is at, and one more.
    request = longest_request_seconds(retries=0)
    return max(MIN_LEASE_SECONDS, STEP_SECONDS + 2 * request)


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


Connect = Callable[[], AbstractContextManager[OrbClient]]


def work(
    window_id: int,
    lease: str,
    *,
    connect: Connect,
    page_size: int,
    using: str,
    seconds: float = float("inf"),
    on_step: Callable[[], None] = lambda: None,
) -> Progress:
    """
    Do the window's steps until it is done, lost, waiting, or `seconds` are over.

    `connect` opens a client for Orb. Whatever goes wrong is written into the row.

    Raises:
        WindowFailedError: it will never be done; the run should end.
    """
    deadline = time.monotonic() + seconds
    log = StatementLog(using)
    try:
        window = _begin(window_id, lease, using=using)
    except LeaseLostError:
        return Progress(is_lost=True)
    with ExitStack() as stack:

        def open_reader() -> tuple[OrbClient, PageReader]:
            client = stack.enter_context(connect())
            executor = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            return client, PageReader(client, page_size, executor)

        def take_step() -> None:
            top_up(client)
            step = next_step(window, reader, client, using)
            _commit_step(window, step, page_size, using=using)

        opened, progress = _try(open_reader, window, page_size, using=using)
        if opened is None:
            return progress
        client, reader = opened
        while True:
            _, progress = _try(take_step, window, page_size, using=using)
            if progress != Progress():
                return progress
            log.forget()
            on_step()
            if window.state == SyncWindow.State.DONE:
                return Progress(is_done=True)
            if time.monotonic() >= deadline:
                return Progress()


def _try(
    action: Callable[[], T], window: SyncWindow, page_size: int, *, using: str
) -> tuple[T | None, Progress]:
    """Do it; what goes wrong is noted in the row, and how it goes on is returned."""
    try:
        return action(), Progress()
    except LeaseLostError:
        return None, Progress(is_lost=True)
    except (OrbError, OrbConfigurationError) as err:
        wait = _defer(window, err, page_size, using=using)
    except Exception as err:
        logger.exception(
            "A step of %s failed.", window, extra={"orb_run_id": window.run_id}
        )
        wait = _note_failure(window, err, using=using)
    return None, Progress(wait_seconds=wait)


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


def _commit_step(window: SyncWindow, step: Step, page_size: int, *, using: str) -> None:
    """
    Store what the step found and move the window on, the row and the object.

    Raises:
        LeaseLostError: somebody else has the window now; nothing was stored.
    """
    changes: dict[str, Any] = {}

    def move_on(result: WriteResult) -> None:
        moved_on = {
            **_sign_of_life(using),
            **_size_after(window, step, page_size),
            **_changes(window, step, result),
        }
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
        if step.needs_sweep:
            add_sweep(window.run, using=using)

    mirror.write(
        step.observations,
        using=using,
        run_id=window.run_id,
        origin=Origin.of_run(window.run),
        also=move_on,
    )
    for name, value in changes.items():
        setattr(window, name, value)
    if step.is_page:
        metrics.page_read(window.run.kind)


def _changes(window: SyncWindow, step: Step, result: WriteResult) -> dict[str, Any]:
    doubtful = step.changes.get("doubtful_ids", window.doubtful_ids)
    doubtful = [*doubtful, *result.doubtful]
    is_exhausted = window.is_exhausted or step.is_last
    is_done = is_exhausted and not doubtful
    return {
        "attempts": 1,  # the next step begins at once
        "deferrals": 0,
        "not_before": None,
        "error": "",
        **step.changes,
        "doubtful_ids": doubtful,
        "is_exhausted": is_exhausted,
        "state": SyncWindow.State.DONE if is_done else SyncWindow.State.PENDING,
        "step": window.step + 1,
    }


def _size_after(window: SyncWindow, step: Step, page_size: int) -> dict[str, Any]:
    """Ask for more again once enough steps went well, or what failed was passed."""
    if not window.page_size or not step.requests or "page_size" in step.changes:
        return {}
    has_passed = any(seen.refusal for seen in step.observations)
    was_away = window.page_size == 1 and window.deferrals >= FAILURES_DOWN_TO_ONE
    careful = 0 if has_passed or was_away else max(0, window.careful_steps - 1)
    if careful:
        return {"careful_steps": careful}
    most = most_per_step(window, page_size)
    size = larger(window.page_size, most)
    return {"careful_steps": 0, "page_size": 0 if size == most else size}


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


def _defer(window: SyncWindow, err: Exception, page_size: int, *, using: str) -> float:
    """
    Note in the row when to try again, and with how much; seconds from now.

    Raises:
        WindowFailedError: waiting will not help, as with a key that Orb refuses.
    """
    if isinstance(err, WindowFailedError):
        raise err
    if not may_pass(err):
        raise WindowFailedError(str(err)) from err
    if window.deferrals >= MAX_DEFERRALS:
        raise WindowFailedError(
            f"Gave up after Orb failed {window.deferrals} times in a row. {err}"
        ) from err
    advised = getattr(err, "retry_after_seconds", None)
    changes: dict[str, Any] = {}
    if isinstance(err, OrbRateLimitError):
        seconds = advised or 2 ** min(window.deferrals, 10)
        hold_back(READS, min(seconds, MAX_WAIT_SECONDS), using=using)
    else:
        changes = _ask_for_less(window, page_size)
        changes |= {"unreadable_lt": None, "readable_lt": None}
        seconds = 1 if "page_size" in changes else 2 ** min(window.deferrals, 10)
    seconds = float(min(seconds, MAX_WAIT_SECONDS))
    _wait(
        window,
        seconds,
        using=using,
        attempts=0,
        deferrals=window.deferrals + 1,
        error=str(err),
        **changes,
    )
    return seconds


def _ask_for_less(window: SyncWindow, page_size: int) -> dict[str, Any]:
    """Single invoices are fetched one by one anyway; lists are not."""
    size = size_of_step(window, page_size)
    if is_fetch(window) or size == 1:
        return {}
    return {"page_size": smaller(size), "careful_steps": CAREFUL_STEPS}


def _note_failure(window: SyncWindow, err: Exception, *, using: str) -> float:
    """An attempt at the step failed, here and not at Orb; seconds until the next."""
    seconds = float(min(2**window.attempts, MAX_WAIT_SECONDS))
    text = f"{type(err).__name__}: {err}".replace("\0", "")
    _wait(window, seconds, using=using, error=text)
    return seconds


def _wait(window: SyncWindow, seconds: float, *, using: str, **changes: Any) -> None:
    now = clock_of(using).latest()
    mine = SyncWindow.objects.using(using).filter(pk=window.pk, lease=window.lease)
    mine.update(
        not_before=now + timedelta(seconds=seconds),
        lease_expires_at=now + timedelta(seconds=seconds + lease_seconds()),
        heartbeat_at=now,
        **changes,
    )
