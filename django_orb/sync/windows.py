"""
Work on one window of a run, step by step.

A step asks Orb for one page (or a few single invoices) and commits these invoices, the
counts and the cursor in one transaction, if this worker still holds the window's lease
and no other has done the step meanwhile.
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
from django_orb.account import READS, hold_back
from django_orb.client import OrbClient, longest_request_seconds
from django_orb.db import StatementLog, is_free, primary
from django_orb.exact_json import storable_text
from django_orb.exceptions import OrbConfigurationError, OrbError, OrbRateLimitError
from django_orb.mirror import Observation, Origin, WriteResult
from django_orb.models import SyncAbsence, SyncRun, SyncWindow

from . import page_sizes
from .bad_pages import may_pass, next_step
from .page_reader import PageReader
from .planning import add_sweep
from .steps import STEP_SECONDS, Step, WindowFailedError

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIN_LEASE_SECONDS = 120.0
# A lease that was renewed longer ago is renewed before the step of another window.
RENEW_SECONDS = 30.0
# The longest that a message is delayed. Redis would deliver it twice after its
# visibility time-out, and RabbitMQ closes consumers that hold messages for long:
# https://docs.celeryq.dev/en/stable/userguide/calling.html#eta-and-countdown
MAX_WAIT_SECONDS = 60
MAX_ATTEMPTS = 10
# Failures of Orb in a row, about 16 hours of them, after which a run ends.
MAX_DEFERRALS = 1000


class LeaseLostError(Exception):
    """Another worker has the window, or the run was ended; write nothing."""


@dataclass(frozen=True)
class Progress:
    """The outcome of a turn at a window; wait `wait_seconds` before the next one."""

    is_done: bool = False
    is_lost: bool = False
    wait_seconds: float = 0.0


def new_lease() -> str:
    return uuid.uuid4().hex


def lease_seconds() -> float:
    """Return how long a lease holds: longer than a step takes, even with others beside it."""
    # A step whose time is up finishes its current request, and one more at most.
    request = longest_request_seconds(retries=0)
    return max(MIN_LEASE_SECONDS, RENEW_SECONDS + STEP_SECONDS + 2 * request)


def longest_lease() -> timedelta:
    """Return how far ahead a lease may end: after a wait that Orb asked for."""
    return timedelta(seconds=lease_seconds() + MAX_WAIT_SECONDS)


def lease_window(window: SyncWindow) -> str | None:
    """
    Lease a pending window. Return the lease; None if it is not free.

    The lease expires if its holder does not renew it for `lease_seconds()`.
    """
    # The lease that was read is part of the condition below, so that one of two
    # workers gets the window.
    now = primary.now()
    lease = new_lease()
    taken = (
        primary.rows(SyncWindow)
        .filter(pk=window.pk, state=SyncWindow.State.PENDING, lease=window.lease)
        .filter(is_free(now, longest=longest_lease()))
        .update(lease=lease, lease_expires_at=now + timedelta(seconds=lease_seconds()))
    )
    return lease if taken else None


def release_window(window_id: int, lease: str) -> None:
    """Release a window at once, so that another worker need not wait."""
    windows = primary.rows(SyncWindow).filter(pk=window_id, lease=lease)
    windows.update(lease_expires_at=None)


def renew_leases(leases: Sequence[str]) -> None:
    """Renew leases whose holder is alive. A lease that was lost stays lost."""
    primary.rows(SyncWindow).filter(lease__in=leases).update(**_sign_of_life())


Connect = Callable[[], AbstractContextManager[OrbClient]]


def work(
    window_id: int,
    lease: str,
    *,
    connect: Connect,
    page_size: int,
    seconds: float = float("inf"),
) -> Progress:
    """
    Take steps until the window is done or lost, has to wait, or `seconds` are over.

    `connect` opens a client for Orb. Errors are recorded in the row.

    Raises:
        WindowFailedError: the window cannot be finished; the run should end.
    """
    deadline = time.monotonic() + seconds
    log = StatementLog()
    try:
        window = begin(window_id, lease)
    except LeaseLostError:
        return Progress(is_lost=True)
    with ExitStack() as stack:

        def open_reader() -> tuple[OrbClient, PageReader]:
            client = stack.enter_context(connect())
            executor = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            return client, PageReader(client, page_size, executor)

        opened, progress = _try(open_reader, window, page_size)
        if opened is None:
            return progress
        client, reader = opened
        while True:
            progress = take_step(window, reader, client)
            log.forget()
            if progress != Progress() or time.monotonic() >= deadline:
                return progress


def take_step(window: SyncWindow, reader: PageReader, client: OrbClient) -> Progress:
    """
    Ask Orb for what comes next in a window that was begun, and store it.

    Raises:
        WindowFailedError: the window cannot be finished; the run should end.
    """

    def take() -> None:
        step = next_step(window, reader, client)
        _commit_step(window, step, reader.page_size)

    _, progress = _try(take, window, reader.page_size)
    if progress == Progress() and window.state == SyncWindow.State.DONE:
        return Progress(is_done=True)
    return progress


def _try(
    action: Callable[[], T], window: SyncWindow, page_size: int
) -> tuple[T | None, Progress]:
    """Call the action. Record an error in the row, and return how to go on."""
    try:
        return action(), Progress()
    except LeaseLostError:
        return None, Progress(is_lost=True)
    except (OrbError, OrbConfigurationError) as err:
        wait = _defer(window, err, page_size)
    except Exception as err:
        logger.exception(
            "A step of %s failed.", window, extra={"orb_run_id": window.run_id}
        )
        wait = _note_failure(window, err)
    return None, Progress(wait_seconds=wait)


def begin(window_id: int, lease: str) -> SyncWindow:
    """
    Load the window, and count the attempt: some pages kill the process.

    Raises:
        LeaseLostError: another worker has the window now, or the run was ended.
        WindowFailedError: too many attempts at the same page did not finish.
    """
    mine = primary.rows(SyncWindow).filter(
        pk=window_id, lease=lease, state=SyncWindow.State.PENDING
    )
    window = mine.select_related("run").first()
    if window is None or not window.run.is_active or not window.is_known:
        raise LeaseLostError
    if window.attempts >= MAX_ATTEMPTS:
        raise WindowFailedError(
            f"Gave up after {MAX_ATTEMPTS} attempts at the same page. {window.error}"
        )
    window.attempts += 1
    if not mine.update(attempts=window.attempts, **_sign_of_life()):
        raise LeaseLostError
    return window


def attempts_of(window_id: int) -> int:
    """Return how many attempts at the window's next step did not finish."""
    found = primary.rows(SyncWindow).filter(pk=window_id)
    return found.values_list("attempts", flat=True).first() or 0


def _sign_of_life() -> dict[str, datetime]:
    now = primary.now()
    expires_at = now + timedelta(seconds=lease_seconds())
    return {"heartbeat_at": now, "lease_expires_at": expires_at}


def _commit_step(window: SyncWindow, step: Step, page_size: int) -> None:
    """
    Store what the step found, and advance the window: the row and the object.

    Raises:
        LeaseLostError: another worker has the window now; nothing was stored.
    """
    changes: dict[str, Any] = {}

    def move_on(result: WriteResult) -> None:
        moved_on = {
            **_sign_of_life(),
            **page_sizes.size_after_success(window, step, page_size),
            **_changes(window, step, result),
        }
        for name, count in _counts(step, result).items():
            # The row has the same counts, if it is still at this step.
            moved_on[name] = getattr(window, name) + count
        changes.clear()  # from an attempt that was rolled back
        changes.update(
            (name, value)
            for name, value in moved_on.items()
            if value != getattr(window, name)
        )
        # With the step in the condition, a message that came twice, whose tasks share a
        # lease, writes the same page once.
        mine = primary.rows(SyncWindow).filter(
            pk=window.pk, lease=window.lease, step=window.step
        )
        if not mine.update(**changes):
            raise LeaseLostError
        _record_absences(window.run, step.absent)
        if step.needs_sweep:
            add_sweep(window.run)

    mirror.write(
        step.observations,
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
        **step.changes,
        "error": storable_text(step.changes.get("error", "")),
        "doubtful_ids": doubtful,
        "is_exhausted": is_exhausted,
        "state": SyncWindow.State.DONE if is_done else SyncWindow.State.PENDING,
        "step": window.step + 1,
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


def _record_absences(run: SyncRun, absent: Sequence[Observation]) -> None:
    primary.rows(SyncAbsence).bulk_create(
        [
            SyncAbsence(
                run=run,
                invoice_id=seen.invoice_id,
                started_at=seen.interval.started_at,
                ended_at=seen.interval.ended_at,
                supersedes=seen.supersedes,
            )
            for seen in absent
        ],
        ignore_conflicts=True,
    )


def _defer(window: SyncWindow, err: Exception, page_size: int) -> float:
    """
    Record when to try again, and for how much. Return the seconds until then.

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
    # Orb's own SDK obeys such advice after any error that it repeats.
    # Source: https://github.com/orbcorp/orb-python (`src/orb/_base_client.py`)
    advised = getattr(err, "retry_after_seconds", None)
    seconds = advised or 2 ** min(window.deferrals, 10)
    changes: dict[str, Any] = {}
    if isinstance(err, OrbRateLimitError):
        hold_back(READS, min(seconds, MAX_WAIT_SECONDS))
    else:
        changes = page_sizes.size_after_failure(window, page_size)
        if window.readable_lt is None:  # Orb answered at no date
            changes["unreadable_lt"] = None
        if "page_size" in changes and not advised:
            seconds = 1
    seconds = float(min(seconds, MAX_WAIT_SECONDS))
    _wait(
        window,
        seconds,
        # Orb failed, and not this process: attempts are counted to find
        # pages that kill it.
        attempts=0,
        deferrals=window.deferrals + 1,
        error=str(err),
        **changes,
    )
    return seconds


def _note_failure(window: SyncWindow, err: Exception) -> float:
    """Record that the step failed here, not at Orb. Return the seconds to wait."""
    seconds = float(min(2**window.attempts, MAX_WAIT_SECONDS))
    _wait(window, seconds, error=f"{type(err).__name__}: {err}")
    return seconds


def _wait(window: SyncWindow, seconds: float, *, error: str, **changes: Any) -> None:
    now = primary.now()
    mine = primary.rows(SyncWindow).filter(pk=window.pk, lease=window.lease)
    mine.update(
        not_before=now + timedelta(seconds=seconds),
        # Kept during the wait: whoever goes on after it has this lease.
        lease_expires_at=now + timedelta(seconds=seconds + lease_seconds()),
        heartbeat_at=now,
        error=storable_text(error),
        **changes,
    )
