"""Ask Orb for one step of a window, and return what came; nothing is written here."""

# Note [Circles]
# A list whose cursors form a circle never ends, and a window does not remember all of
# its cursors. It remembers the next cursor of the page that last reached an earlier
# date, and after that the one 1, 2, 4, 8, .. pages later: a circle of any length
# returns to a remembered cursor (Brent's algorithm). A list that goes on with new
# cursors but without earlier dates is given up after `MAX_STALLED` pages.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Exists, OuterRef, Q

from django_orb import mirror
from django_orb.client import OrbClient, RawInvoice, Shape, next_cursor
from django_orb.db import Interval, primary
from django_orb.exact_json import storable_text
from django_orb.exceptions import OrbBadRequestError, OrbError, OrbResponseError
from django_orb.mirror import Observation, observe_invoices
from django_orb.models import Invoice, InvoiceFailure, SyncRun, SyncWindow
from django_orb.parsing import parse_datetime
from django_orb.webhooks import polling

from .page_reader import PageReader
from .page_sizes import FETCHES_PER_STEP, is_fetch, size_of_step

STEP_SECONDS = 60.0
# A page at which this many workers died is split up; a single invoice is skipped.
MAX_DEATHS = 3
# Pages in a row that may reach no earlier date, even at one invoice a page.
MAX_STALLED = 10_000

_DATED = Shape(plain=("invoice_date",))


class WindowFailedError(OrbError):
    """The window cannot be finished; the message says why, and is stored."""

    def __init__(self, reason: str) -> None:
        super().__init__(storable_text(reason))


@dataclass
class Step:
    """
    The findings of one step, and the changes that it makes to its window.

    `needs_sweep` says that the run has to read the lists of open and recent
    invoices, although it was planned without them. `seconds` is how long Orb took for
    a page.
    """

    observations: list[Observation]
    requests: int = 1
    is_page: bool = False
    is_last: bool = False
    seconds: float = 0.0
    absent: list[Observation] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    needs_sweep: bool = False


def take_step(
    window: SyncWindow, reader: PageReader, client: OrbClient, refusal: str = ""
) -> Step:
    """
    Ask Orb for what comes next in the window.

    If `refusal` is given, the next single invoice is recorded as failed for this
    reason, and is not fetched.
    """
    deaths, size = window.attempts - 1, size_of_step(window, reader.page_size)
    if deaths >= MAX_DEATHS and size > 1:
        changes = {"page_size": 1, "careful_steps": size}
        return Step([], requests=0, changes=changes)
    killed = ""
    if deaths >= MAX_DEATHS:
        killed = f"{deaths} workers died while they read it. {window.error}".strip()
    refusal = refusal or killed
    if refusal and is_fetch(window):
        observe = partial(_refuse, refusal)
    else:
        observe = partial(_observe, client, reader, size, window.attempts <= 1)
    if window.doubtful_ids:
        return _fetch_doubtful(window, observe)
    if window.kind == SyncWindow.Kind.LIST:
        return _read_page(window, client, reader, refusal)
    if window.kind == SyncWindow.Kind.FETCH:
        return _fetch_chosen(window, observe)
    if window.kind == SyncWindow.Kind.FEED:
        return _read_events(window, client, size, may_process=not killed)
    return _check_unseen(window, observe)


def is_page(window: SyncWindow) -> bool:
    """Tell whether the next step reads a page of the list and nothing goes before it."""
    is_list = window.kind == SyncWindow.Kind.LIST and not window.doubtful_ids
    return is_list and window.unreadable_lt is None and window.attempts <= 1


def _read_page(
    window: SyncWindow, client: OrbClient, reader: PageReader, refusal: str
) -> Step:
    try:
        answer = reader.read(window)
    except OrbBadRequestError as err:
        # A first page that is refused is not the fault of a cursor.
        if not window.cursor:
            raise
        return reopen(window, f"Orb refused the cursor: {err}")
    page = answer.value
    interval = primary.clock().interval(answer.started, answer.ended)
    seen = mirror.read_page(page.invoices, interval, client=client)
    if refusal:
        seen = [replace(found, refusal=refusal) for found in seen]
    last = earliest(last_date(page.invoices), window.last_invoice_date)
    try:
        following = next_cursor(page.envelope)
    except OrbResponseError as err:
        return reopen(window, str(err), seen, last)
    if following and following in (window.cursor, window.cursor_mark):
        return reopen(window, "Orb repeated a cursor.", seen, last)
    changes = follow(window, following, has_moved=last != window.last_invoice_date)
    return Step(
        seen,
        is_page=True,
        is_last=following is None,
        seconds=answer.ended - answer.started,
        changes={**changes, "last_invoice_date": last},
    )


def follow(
    window: SyncWindow, following: str | None, *, has_moved: bool
) -> dict[str, Any]:
    """Return the changes that go on at a cursor; see Note [Circles]."""
    stalled = 0 if has_moved else window.stalled_pages + 1
    if stalled > MAX_STALLED:
        raise WindowFailedError(
            f"Orb's list does not end: {MAX_STALLED} pages in a row led no further."
        )
    changes = {"cursor": following or "", "stalled_pages": stalled}
    # At 0, 1, 2, 4, 8, ..
    if stalled & (stalled - 1) == 0:
        changes["cursor_mark"] = following or ""
    return changes


def reopen(
    window: SyncWindow,
    reason: str,
    seen: Sequence[Observation] = (),
    last: datetime | None = None,
) -> Step:
    """Start the list again at the last date seen, inclusive; fail the second time."""
    last = last or window.last_invoice_date
    if last is None or window.reopened_from == last:
        raise WindowFailedError(f"{reason} Starting again from {last} did not help.")
    changes = {
        "cursor": "",
        "cursor_mark": "",
        "stalled_pages": 0,
        "reopened_from": last,
        "last_invoice_date": last,
        # Others of that instant may not have come yet; those that have are unchanged.
        "invoice_date_lt": last + timedelta(microseconds=1),
    }
    return Step(list(seen), is_page=bool(seen), changes=changes)


Observe = Callable[[Sequence[str]], list[Observation]]


def _fetch_doubtful(window: SyncWindow, observe: Observe) -> Step:
    seen = observe(window.doubtful_ids)
    rest = window.doubtful_ids[len(seen) :]
    return _fetched(seen, is_last=False, changes={"doubtful_ids": rest})


def _fetch_chosen(window: SyncWindow, observe: Observe) -> Step:
    start = int(window.cursor or 0)
    seen = observe(window.invoice_ids[start:])
    end = start + len(seen)
    is_last = end >= len(window.invoice_ids)
    return _fetched(seen, is_last=is_last, changes={"cursor": str(end)})


def _check_unseen(window: SyncWindow, observe: Observe) -> Step:
    ids = _unseen_ids(window)
    seen = observe(ids)
    # Fewer answers than ids mean that the time was up or that Orb failed, not the end.
    is_last = len(seen) == len(ids) < FETCHES_PER_STEP
    cursor = seen[-1].invoice_id if seen else window.cursor
    return _fetched(seen, is_last=is_last, changes={"cursor": cursor})


def _read_events(
    window: SyncWindow, client: OrbClient, limit: int, *, may_process: bool
) -> Step:
    found = polling.read(
        window,
        client,
        limit=limit,
        seconds=polling.PROCESS_SECONDS if may_process else 0.0,
    )
    if found.following and found.following in (window.cursor, window.cursor_mark):
        return without_events(window, "Orb repeated a cursor.", found.requests)
    return Step(
        [],
        requests=found.requests,
        is_last=found.following is None,
        changes=follow(window, found.following, has_moved=False),
        needs_sweep=not found.is_offered,
    )


def without_events(window: SyncWindow, reason: str, requests: int = 1) -> Step:
    """Give up the list of events, and have the run read open and recent invoices."""
    note = (
        "Orb's list of webhook events could not be read to its end: "
        f"{reason.strip().rstrip('.')}. Invoices that are open or recent were read "
        "instead."
    )
    return Step(
        [], requests=requests, is_last=True, changes={"note": note}, needs_sweep=True
    )


def _observe(
    client: OrbClient,
    reader: PageReader,
    limit: int,
    is_first_attempt: bool,
    invoice_ids: Sequence[str],
) -> list[Observation]:
    """
    Ask for invoices, at least one, until the step's time is up or Orb fails.

    If an attempt did not finish, they are asked for one by one, so that it is known which
    of them kills the process.
    """
    most = reader.most if is_first_attempt else 1
    return observe_invoices(
        client,
        invoice_ids[:limit],
        seconds=STEP_SECONDS,
        stops_at_error=True,
        # A single one is asked for here, since the threads may be busy with pages.
        submit=reader.submit if most > 1 else None,
        most=most,
    )


def _refuse(refusal: str, invoice_ids: Sequence[str]) -> list[Observation]:
    """Return the first invoice as failed, without asking Orb for it."""
    now = primary.now()
    interval = Interval(now, now)
    return [
        Observation(invoice_id, None, interval, refusal=refusal)
        for invoice_id in invoice_ids[:1]
    ]


def _fetched(
    seen: Sequence[Observation], *, is_last: bool, changes: dict[str, Any]
) -> Step:
    return Step(
        [found for found in seen if not found.is_absent],
        requests=sum(not found.refusal for found in seen),
        is_last=is_last,
        absent=[found for found in seen if found.is_absent],
        changes=changes,
    )


def _unseen_ids(window: SyncWindow) -> list[str]:
    """Return the next ids that the run should have met but did not, in order."""
    run = window.run
    # What a later run has seen needs no check by this one.
    unseen = Q(observation__run_id=None) | Q(observation__run_id__lt=run.pk)
    failed_now = primary.rows(InvoiceFailure).filter(
        pk=OuterRef("pk"), run_id__gte=run.pk
    )
    invoices = Invoice.objects.using(primary.alias()).filter(
        ~Exists(failed_now), unseen, pk__gt=window.cursor, missing_since=None
    )
    if run.kind != SyncRun.Kind.FULL:
        invoices = invoices.unsettled()
    failures = (
        primary.rows(InvoiceFailure)
        .filter(Q(run_id=None) | Q(run_id__lt=run.pk), pk__gt=window.cursor)
        .exclude(pk__startswith=mirror.NO_ID)
    )
    ids: set[str] = set()
    for query in (invoices, failures):
        ids.update(query.order_by("pk").values_list("pk", flat=True)[:FETCHES_PER_STEP])
    return sorted(ids)[:FETCHES_PER_STEP]


def last_date(invoices: Sequence[RawInvoice]) -> datetime | None:
    """Return the last readable invoice date of a page; None if there is not one."""
    for invoice in reversed(invoices):
        try:
            return parse_datetime(invoice.read_only(_DATED)["invoice_date"])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def earliest(*dates: datetime | None) -> datetime | None:
    return min((date for date in dates if date is not None), default=None)
