"""What one step of a window asks Orb, and what came; nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Exists, OuterRef, Q

from . import feed, mirror
from .client import OrbClient, next_cursor
from .clock import Timed, clock_of, timed
from .exceptions import OrbBadRequestError, OrbError
from .mirror import Observation
from .models import Invoice, InvoiceFailure, SyncRun, SyncWindow
from .pages import RawPage
from .payloads import parse_datetime
from .raw import RawInvoice, Shape
from .refresh import observe_invoices
from .threads import in_this_context

FETCHES_PER_STEP = 20
STEP_SECONDS = 60.0
# A page that ended so many workers is read invoice by invoice; the invoice that
# does so by itself is passed over.
MAX_DEATHS = 3

_DATED = Shape(plain=("invoice_date",))


class WindowFailedError(OrbError):
    """The window cannot be finished, and why."""


@dataclass
class Step:
    """What one step found, and where it leaves the window."""

    observations: list[Observation]
    requests: int = 1
    is_page: bool = False
    is_last: bool = False
    absent: list[Observation] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    page: RawPage | None = None

    def last_invoice_date(self) -> datetime | None:
        """The one at the end of a page; None where there is no readable one."""
        return _last_date(self.page.invoices) if self.page else None


class PageReader:
    """Reads pages of the list, one ahead: the network while the database works."""

    def __init__(
        self, client: OrbClient, page_size: int, executor: ThreadPoolExecutor
    ) -> None:
        self._client = client
        self.page_size = page_size
        self._executor = executor
        self._ahead: tuple[str, Future[Timed[RawPage]]] | None = None

    def read(self, window: SyncWindow) -> Timed[RawPage]:
        cursor = window.cursor
        if window.singles_left:
            return self._fetch(window, cursor, limit=1)
        ahead, self._ahead = self._ahead, None
        if ahead and ahead[0] == cursor:
            answer = ahead[1].result()
        else:
            answer = self._fetch(window, cursor)
        following = next_cursor(answer.value.envelope)
        if following and following != cursor:
            fetch = partial(self._fetch_ahead, window, following)
            future = self._executor.submit(in_this_context(fetch))
            self._ahead = following, future
        return answer

    def _fetch_ahead(self, window: SyncWindow, cursor: str) -> Timed[RawPage]:
        answer = self._fetch(window, cursor)
        for invoice in answer.value.invoices:
            invoice.digest  # noqa: B018
        return answer

    def _fetch(
        self, window: SyncWindow, cursor: str, limit: int | None = None
    ) -> Timed[RawPage]:
        return timed(
            lambda: self._client.read_invoices_page(
                status=window.statuses,
                invoice_date_gte=window.invoice_date_gte,
                invoice_date_lt=window.invoice_date_lt,
                limit=limit or self.page_size,
                cursor=cursor or None,
            )
        )


def take_step(
    window: SyncWindow, reader: PageReader, client: OrbClient, using: str
) -> Step:
    if window.doubtful_ids:
        return _fetch_doubtful(window, client, using)
    if window.kind == SyncWindow.Kind.LIST:
        return _read_page(window, reader, using)
    if window.kind == SyncWindow.Kind.FETCH:
        return _fetch_chosen(window, client, using)
    if window.kind == SyncWindow.Kind.FEED:
        return _read_events(window, client, using)
    return _check_unseen(window, client, using)


def _read_page(window: SyncWindow, reader: PageReader, using: str) -> Step:
    is_deadly = window.attempts > MAX_DEATHS
    if is_deadly and not window.singles_left:
        return Step([], requests=0, changes={"singles_left": reader.page_size})
    try:
        answer = reader.read(window)
    except OrbBadRequestError as err:
        if not window.cursor:
            raise
        return _reopen(window, f"Orb refused the cursor: {err}")
    page = answer.value
    following = next_cursor(page.envelope)
    if following and following == window.cursor:
        return _reopen(window, "Orb repeated a cursor.")
    interval = clock_of(using).interval(answer.started, answer.ended)
    seen = mirror.read_page(page.invoices, interval)
    if is_deadly:
        reason = f"Reading it ended {window.attempts - 1} workers. {window.error}"
        seen = [replace(one, refusal=reason.strip()) for one in seen]
    return Step(
        seen,
        is_page=True,
        is_last=following is None,
        changes={
            "cursor": following or "",
            "singles_left": max(0, window.singles_left - 1),
        },
        page=page,
    )


def _reopen(window: SyncWindow, reason: str) -> Step:
    """Start the list again at the last date seen, inclusive; twice there is failure."""
    last = window.last_invoice_date
    if last is None or window.reopened_from == last:
        raise WindowFailedError(f"{reason} Starting again from {last} did not help.")
    changes = {
        "cursor": "",
        "reopened_from": last,
        "invoice_date_lt": last + timedelta(microseconds=1),
    }
    return Step([], changes=changes)


def _fetch_doubtful(window: SyncWindow, client: OrbClient, using: str) -> Step:
    seen = _observe(client, window.doubtful_ids, using)
    rest = window.doubtful_ids[len(seen) :]
    return _fetched(seen, is_last=False, changes={"doubtful_ids": rest})


def _fetch_chosen(window: SyncWindow, client: OrbClient, using: str) -> Step:
    start = int(window.cursor or 0)
    seen = _observe(client, window.invoice_ids[start:], using)
    end = start + len(seen)
    is_last = end >= len(window.invoice_ids)
    return _fetched(seen, is_last=is_last, changes={"cursor": str(end)})


def _check_unseen(window: SyncWindow, client: OrbClient, using: str) -> Step:
    ids = _unseen_ids(window, using)
    seen = _observe(client, ids, using)
    is_last = len(seen) == len(ids) < FETCHES_PER_STEP
    cursor = seen[-1].invoice_id if seen else window.cursor
    return _fetched(seen, is_last=is_last, changes={"cursor": cursor})


def _read_events(window: SyncWindow, client: OrbClient, using: str) -> Step:
    found = feed.read(window, client, using=using)
    return Step(
        [],
        requests=found.requests,
        is_last=found.following is None,
        changes={"cursor": found.following or ""},
    )


def _observe(
    client: OrbClient, invoice_ids: Sequence[str], using: str
) -> list[Observation]:
    """Ask for as many as a step has time for, at least for one."""
    batch = invoice_ids[:FETCHES_PER_STEP]
    return observe_invoices(client, batch, using=using, seconds=STEP_SECONDS)


def _fetched(
    seen: Sequence[Observation], *, is_last: bool, changes: dict[str, Any]
) -> Step:
    return Step(
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
    failed_now = InvoiceFailure.objects.using(using).filter(
        pk=OuterRef("pk"), run_id__gte=run.pk
    )
    invoices = Invoice.objects.using(using).filter(
        ~Exists(failed_now), unseen, pk__gt=window.cursor, missing_since=None
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


def _last_date(invoices: Sequence[RawInvoice]) -> datetime | None:
    """The invoice date at the end of a page, where the page has a readable one."""
    for invoice in reversed(invoices):
        try:
            return parse_datetime(invoice.read_only(_DATED)["invoice_date"])
        except (KeyError, TypeError, ValueError):
            continue
    return None
