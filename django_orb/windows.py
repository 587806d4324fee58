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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import F, Q

from . import mirror
from .client import OrbClient
from .clock import Timed, clock_of, timed
from .exceptions import (
    OrbAPIError,
    OrbBadRequestError,
    OrbConflictError,
    OrbConnectionError,
    OrbError,
    OrbRateLimitError,
    OrbResponseError,
    OrbServerError,
)
from .mirror import Observation, WriteResult
from .models import Invoice, InvoiceFailure, SyncAbsence, SyncRun, SyncWindow
from .payloads import parse_datetime
from .refresh import observe_invoices

LEASE_SECONDS = 120
MAX_WAIT_SECONDS = 60
FETCHES_PER_STEP = 20
MAX_ATTEMPTS = 10


class LeaseLostError(Exception):
    """Another worker has the window, or the run was ended; write nothing."""


class WindowFailedError(OrbError):
    """The window cannot be finished, and why."""


@dataclass(frozen=True)
class Progress:
    """How a turn at a window ended; `wait_seconds` before the next makes sense."""

    is_done: bool = False
    is_lost: bool = False
    wait_seconds: float = 0.0


@dataclass
class _Step:
    """What one step found, and where it leaves the window."""

    observations: list[Observation]
    requests: int = 1
    is_page: bool = False
    is_last: bool = False
    absent: list[Observation] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)


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
        reader = _PageReader(client, page_size, executor)
        while True:
            try:
                window = _begin_step(window_id, lease, using=using)
                step = _take_step(window, reader, client, using)
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


class _PageReader:
    """Reads pages of the list, one ahead: the network while the database works."""

    def __init__(
        self, client: OrbClient, page_size: int, executor: ThreadPoolExecutor
    ) -> None:
        self._client = client
        self._page_size = page_size
        self._executor = executor
        self._ahead: tuple[str, Future[Timed[dict[str, Any]]]] | None = None

    def read(self, window: SyncWindow) -> Timed[dict[str, Any]]:
        cursor = window.cursor
        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == cursor:
            answer = ahead[1].result()
        else:
            answer = self._fetch(window, cursor)
        next_cursor = _next_cursor(answer.value)
        if next_cursor and next_cursor != cursor:
            future = self._executor.submit(self._fetch, window, next_cursor)
            self._ahead = next_cursor, future
        return answer

    def _fetch(self, window: SyncWindow, cursor: str) -> Timed[dict[str, Any]]:
        return timed(
            lambda: self._client.fetch_invoices_page(
                status=window.statuses,
                invoice_date_gte=window.invoice_date_gte,
                invoice_date_lt=window.invoice_date_lt,
                limit=self._page_size,
                cursor=cursor or None,
            )
        )


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


def _take_step(
    window: SyncWindow, reader: _PageReader, client: OrbClient, using: str
) -> _Step:
    if window.doubtful_ids:
        return _fetch_doubtful(window, client, using)
    if window.kind == SyncWindow.Kind.LIST:
        return _read_page(window, reader, using)
    if window.kind == SyncWindow.Kind.FETCH:
        return _fetch_chosen(window, client, using)
    return _check_unseen(window, client, using)


def _read_page(window: SyncWindow, reader: _PageReader, using: str) -> _Step:
    try:
        answer = reader.read(window)
    except OrbBadRequestError as err:
        if not window.cursor:
            raise
        return _reopen(window, f"Orb refused the cursor: {err}")
    page = answer.value
    next_cursor = _next_cursor(page)
    if next_cursor and next_cursor == window.cursor:
        return _reopen(window, "Orb repeated a cursor.")
    interval = clock_of(using).interval(answer.started, answer.ended)
    return _Step(
        mirror.read_page(page["data"], interval),
        is_page=True,
        is_last=not next_cursor,
        changes={
            "cursor": next_cursor,
            "last_invoice_date": _last_date(page["data"]) or window.last_invoice_date,
        },
    )


def _reopen(window: SyncWindow, reason: str) -> _Step:
    """Start the list again at the last date seen, inclusive; twice there is failure."""
    last = window.last_invoice_date
    if last is None or window.reopened_from == last:
        raise WindowFailedError(f"{reason} Starting again from {last} did not help.")
    changes = {
        "cursor": "",
        "reopened_from": last,
        "invoice_date_lt": last + timedelta(microseconds=1),
    }
    return _Step([], changes=changes)


def _fetch_doubtful(window: SyncWindow, client: OrbClient, using: str) -> _Step:
    batch = window.doubtful_ids[:FETCHES_PER_STEP]
    rest = window.doubtful_ids[FETCHES_PER_STEP:]
    seen = observe_invoices(client, batch, using=using)
    return _fetched(seen, is_last=False, changes={"doubtful_ids": rest})


def _fetch_chosen(window: SyncWindow, client: OrbClient, using: str) -> _Step:
    start = int(window.cursor or 0)
    end = start + FETCHES_PER_STEP
    seen = observe_invoices(client, window.invoice_ids[start:end], using=using)
    is_last = end >= len(window.invoice_ids)
    return _fetched(seen, is_last=is_last, changes={"cursor": str(end)})


def _check_unseen(window: SyncWindow, client: OrbClient, using: str) -> _Step:
    ids = _unseen_ids(window, using)
    seen = observe_invoices(client, ids, using=using)
    is_last = len(ids) < FETCHES_PER_STEP
    return _fetched(
        seen, is_last=is_last, changes={"cursor": ids[-1] if ids else window.cursor}
    )


def _fetched(
    seen: Sequence[Observation], *, is_last: bool, changes: dict[str, Any]
) -> _Step:
    return _Step(
        [one for one in seen if not one.is_absent],
        requests=len(seen),
        is_last=is_last,
        absent=[one for one in seen if one.is_absent],
        changes=changes,
    )


def _unseen_ids(window: SyncWindow, using: str) -> list[str]:
    """The next ids that the run should have met and did not."""
    run = window.run
    unseen = Q(observation__run_id=None) | Q(observation__run_id__lt=run.pk)
    invoices = Invoice.objects.using(using).filter(
        unseen, pk__gt=window.cursor, missing_since=None
    )
    if run.kind != SyncRun.Kind.FULL:
        invoices = invoices.unsettled()
    failures = (
        InvoiceFailure.objects.using(using)
        .filter(
            Q(run_id=None) | Q(run_id__lt=run.pk),
            pk__gt=window.cursor,
        )
        .exclude(pk__startswith=mirror.NO_ID)
    )
    ids: set[str] = set()
    for query in (invoices, failures):
        ids.update(query.order_by("pk").values_list("pk", flat=True)[:FETCHES_PER_STEP])
    return sorted(ids)[:FETCHES_PER_STEP]


def _commit_step(window: SyncWindow, step: _Step, *, using: str) -> bool:
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


def _next_cursor(page: dict[str, Any]) -> str:
    metadata = page.get("pagination_metadata") or {}
    return metadata.get("next_cursor") or ""


def _last_date(payloads: Sequence[Any]) -> Any:
    """The invoice date at the end of a page, where the page has a readable one."""
    for payload in reversed(payloads):
        try:
            return parse_datetime(payload["invoice_date"])
        except (KeyError, TypeError, ValueError):
            continue
    return None
