"""
Celery tasks: they wake up work that is recorded in rows.

A message that is lost costs a minute, until `recover` sends another; one that
comes twice finds its lease gone or its step done, and ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from celery import Task, shared_task

from . import maintenance, metrics, mirror, services
from .conf import get_settings
from .connection import open_account
from .db import StatementLog, clock_of
from .mirror import change_log
from .models import SyncRun
from .publishing import broker, run_eagerly
from .status import noted
from .sync import runs, windows
from .webhooks import inbox, processing

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# How long a task keeps a worker before the host's own tasks get their turn.
TURN_SECONDS = 20


def _task(function: Callable[P, R]) -> Task[P, R]:
    """Make a task that is sent again if its worker dies, and keeps no statements."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        using = mirror.database_alias()
        log = StatementLog(using)
        name = _scheduled_name(function.__name__, args, kwargs)
        try:
            span = metrics.span(f"django_orb.{function.__name__}")
            with span, noted(name, using=using):
                return function(*args, **kwargs)
        finally:
            log.forget()

    make = shared_task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
    task: Task[P, R] = make(run)
    return task


def _scheduled_name(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Under which name its last run is noted, if it is one that is scheduled."""
    if name != "sync_invoices":
        return name
    given = {**dict(zip(("mode", "since"), args, strict=False)), **kwargs}
    return "" if given.get("since") else f"{name} {given.get('mode', 'incremental')}"


@_task
def sync_invoices(
    mode: str = "incremental", since: str | None = None, sweep: bool = False
) -> int:
    """
    Start a run, or join the active one of its kind; the run's id.

    `since` is an ISO 8601 date and time with an offset. `sweep` has an incremental
    run read all that is open or recent, also where Orb's events would do.
    """
    using = mirror.database_alias()
    start = datetime.fromisoformat(since) if since else None
    kind = services.run_kind(mode=mode, since=start)
    run = runs.start_or_join(kind, using=using, since=start, sweep=sweep)
    publish_due(run, using=using)
    return run.pk


@_task
def sync_page(window_id: int, lease: str) -> None:
    """Work on a run's window for a while, then hand it on."""
    using = mirror.database_alias()
    progress = runs.turn(
        window_id,
        lease,
        connect=partial(open_account, using=using, retries=0),
        using=using,
        seconds=TURN_SECONDS,
    )
    if progress.is_lost:
        return
    if not progress.is_done:
        wait = progress.wait_seconds
        if not publish(sync_page, window_id, lease, seconds=wait):
            # `recover` need not wait for the lease to end.
            windows.release_window(window_id, lease, using=using)
        return
    run = SyncRun.objects.using(using).get(windows=window_id)
    runs.advance(run, using=using)
    publish_due(run, using=using)


@_task
def sync_invoice(invoice_id: str) -> None:
    """Fetch one invoice from Orb into the mirror."""
    services.fetch_invoice(invoice_id)


@_task
def process_webhook_event(event_id: str) -> None:
    """Bring what a stored webhook event tells into the mirror."""
    processing.process_event(event_id, using=mirror.database_alias())


@_task
def recover() -> None:
    """
    Take up what died or waited; run it every minute.

    Webhook events that nobody processed, changes that were not announced, windows
    whose worker went silent, runs that were not finished, operations whose outcome
    nobody recorded, and those that the mirror does not show yet.
    """
    using = mirror.database_alias()
    maintenance.do_all(
        partial(_wake_events, using),
        partial(change_log.announce, using=using),
        *(
            partial(_advance, run, using)
            for run in SyncRun.objects.using(using).filter(state=SyncRun.State.RUNNING)
        ),
        send_operations,
        using=using,
    )


def _wake_events(using: str) -> None:
    for event_id in inbox.due_events(using=using):
        publish(process_webhook_event, event_id)


def _advance(run: SyncRun, using: str) -> None:
    runs.advance(run, using=using)
    publish_due(run, using=using)


@_task
def send_operations() -> None:
    """Send what is queued for a while, then hand it on."""
    using = mirror.database_alias()
    has_answered = maintenance.finish_operations(using=using, seconds=TURN_SECONDS)
    # If Orb does not answer, the rest waits for `recover`.
    if has_answered and maintenance.are_operations_stuck(using=using):
        publish(send_operations)


@_task
def prune() -> None:
    """Delete what is finished and older than the settings keep it."""
    using = mirror.database_alias()
    now = clock_of(using).latest()
    counts = maintenance.prune(get_settings(), now=now, using=using)
    for name, count in counts.items():
        logger.info("%s %s were deleted.", count, name)


def publish_due(
    run: SyncRun, *, using: str, send: Callable[..., bool] | None = None
) -> None:
    """Send a message for each window that is due and in nobody's hands."""
    send = send or publish
    for window in runs.due_windows(using=using, run=run):
        lease = windows.lease_window(window, using=using)
        if lease and not send(sync_page, window.pk, lease):
            windows.release_window(window.pk, lease, using=using)


def wake(task: Task[Any, Any], *args: object) -> bool:
    """As `publish`, and never longer than about a second: where a person waits."""
    if task.app.conf.task_always_eager:
        return publish(task, *args)
    return broker.ask(lambda: publish(task, *args))


def publish(task: Task[Any, Any], *args: object, seconds: float = 0.0) -> bool:
    """
    Send a message if the broker takes it at once; whether it did.

    The rows are the queue, so a broker that is away delays work and loses none.
    """
    if task.app.conf.task_always_eager:
        return run_eagerly(task, args, seconds=seconds)
    options: dict[str, Any] = {"countdown": seconds} if seconds else {}
    queue = get_settings().CELERY_QUEUE
    if queue:
        options["queue"] = queue
    try:
        task.apply_async(args=args, retry=False, **options)
    except Exception:
        logger.warning("The broker took no message for %s.", task.name, exc_info=True)
        return False
    return True
