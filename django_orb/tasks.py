"""
Wake up work that is recorded in rows, by Celery tasks or by a task of Django's.

A lost message costs a minute, until `recover` sends another. A message that comes twice
finds its lease gone or its step done, and its task ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from celery import Task, shared_task

from . import maintenance, metrics, services
from .account import open_account
from .conf import get_settings
from .db import StatementLog, primary
from .models import SyncRun
from .publishing import as_django_task, publish
from .status import noted
from .sync import runs, windows
from .webhooks import processing

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# How long a task keeps a worker before the project's own tasks get their turn.
TURN_SECONDS = 20

# The tasks by the names of their functions.
_TASKS: dict[str, Task[Any, Any]] = {}


def _task(function: Callable[P, R]) -> Task[P, R]:
    """Make a task that is sent again if its worker dies, and forgets its statements."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        log = StatementLog()
        name = _scheduled_name(function.__name__, args, kwargs)
        try:
            span = metrics.span(f"django_orb.{function.__name__}")
            with span, noted(name):
                return function(*args, **kwargs)
        finally:
            log.forget()

    # With `acks_late` alone Celery still acknowledges the message if the process of the
    # task is killed: https://docs.celeryq.dev/en/stable/userguide/tasks.html
    make = shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
    task: Task[P, R] = make(run)
    _TASKS[function.__name__] = task
    return task


def _scheduled_name(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the name under which the last run is recorded; "" if it is unscheduled."""
    if name != "sync_invoices":
        return name
    given = {**dict(zip(("mode", "since"), args, strict=False)), **kwargs}
    return "" if given.get("since") else f"{name} {given.get('mode', 'incremental')}"


@_task
def sync_invoices(
    mode: str = "incremental", since: str | None = None, sweep: bool = False
) -> int:
    """
    Start a run, or join the active one of its kind. Return the run's id.

    `since` is an ISO 8601 date and time with an offset. `sweep` makes an incremental
    run read all open and recent invoices, even if Orb's events would suffice.
    """
    start = datetime.fromisoformat(since) if since else None
    kind = services.run_kind(mode=mode, since=start)
    run = runs.start_or_join(kind, since=start, sweep=sweep)
    runs.send_due(run, partial(publish, sync_page))
    return run.pk


@_task
def sync_page(window_id: int, lease: str) -> None:
    """Work on a run's window for a while, then leave the rest to another task."""
    progress = runs.turn(
        window_id, lease, connect=partial(open_account, retries=0), seconds=TURN_SECONDS
    )
    if progress.is_lost:
        return
    if not progress.is_done:
        wait = progress.wait_seconds
        if not publish(sync_page, window_id, lease, seconds=wait):
            # So `recover` need not wait for the lease to expire.
            windows.release_window(window_id, lease)
        return
    run = primary.rows(SyncRun).get(windows=window_id)
    runs.advance(run)
    runs.send_due(run, partial(publish, sync_page))


@_task
def sync_invoice(invoice_id: str) -> None:
    """Fetch one invoice from Orb into the mirror."""
    services.fetch_invoice(invoice_id)


@_task
def process_webhook_event(event_id: str) -> None:
    """Process a stored webhook event: bring what it says into the mirror."""
    processing.process_event(event_id)


@_task
def recover() -> None:
    """
    Resume what died or waited; run it every minute.

    That is webhook events that were not processed, changes that were not announced,
    windows whose lease expired, runs that were not finished, operations whose outcome
    was not recorded, and those that the mirror does not show yet, invoices whose answers
    could not be put in order, and erasures of customers.
    """
    maintenance.do_outstanding(
        process_event=partial(publish, process_webhook_event),
        resume_run=_advance,
        finish=send_operations,
    )


def _advance(run: SyncRun) -> None:
    runs.advance(run)
    runs.send_due(run, partial(publish, sync_page))


@_task
def send_operations() -> None:
    """Send queued operations for a while, then leave the rest to another task."""
    has_answered = maintenance.finish_operations(seconds=TURN_SECONDS)
    # If Orb does not answer, the rest waits for `recover`.
    if has_answered and maintenance.are_operations_stuck():
        publish(send_operations)


@_task
def prune() -> None:
    """Delete what is finished and older than the settings allow."""
    now = primary.now()
    counts = maintenance.prune(get_settings(), now=now)
    for name, count in counts.items():
        logger.info("%s %s were deleted.", count, name)


@as_django_task
def perform(name: str, *args: Any) -> None:
    """Run one of the tasks, in the backend of Django's tasks that `TASK_BACKEND` names."""
    _TASKS[name].run(*args)
