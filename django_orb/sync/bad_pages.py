"""Get a window past a step that Orb does not answer."""

# Note [Getting past]
# A page that fails is asked for in smaller parts, down to one invoice. If that one
# keeps failing, Orb's list of summaries, which is lighter, tells its id and the next
# cursor; the invoice is then fetched by its id. Without a summary the window searches
# for the latest date before which the list can be read: `unreadable_lt` is lowered in
# growing steps until a page is answered, which also shows that Orb can be reached at
# all. Until then Orb may have been unreachable, so `unreadable_lt` is set back to where
# it began, and the gap between it and `readable_lt` is halved until it is small. If the
# page then keeps failing while Orb answers below it, the gap is passed over: it is
# recorded as one failure, the list goes on below it, and the run fails when it ends,
# because it did not read everything. A single invoice that cannot be fetched although
# Orb answers is recorded as failed.

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django_orb.client import OrbClient
from django_orb.db import Interval, primary
from django_orb.exceptions import (
    OrbAPIError,
    OrbAuthenticationError,
    OrbConflictError,
    OrbConnectionError,
    OrbError,
    OrbRateLimitError,
    OrbResponseError,
    OrbServerError,
    OrbTooLargeError,
)
from django_orb.mirror import NO_ID, Observation, fetching
from django_orb.models import SyncWindow

from .page_reader import PageReader, usable_cursor
from .page_sizes import is_fetch, size_of_step
from .steps import (
    MAX_DEATHS,
    Step,
    WindowFailedError,
    earliest,
    follow,
    last_date,
    reopen,
    take_step,
    without_events,
)

# Failures of Orb in a row, at any page size, before a single invoice is passed over:
# with the waits between them they take more than a minute.
PATIENCE_WITH_ONE = 8
PATIENCE_WITH_EVENTS = 5
# Failures of a page, counted from when Orb answered below it, before it is passed over:
# with the waits between them they take more than a minute, too.
PATIENCE_WITH_GAP = 6
SMALLEST_GAP = timedelta(seconds=1)
LARGEST_GAP = timedelta(days=40 * 365)
# How far in the future the newest invoice may be dated.
HORIZON = timedelta(days=10 * 365)

_PATIENT = (
    OrbConflictError,
    OrbConnectionError,
    OrbRateLimitError,
    OrbResponseError,
    OrbServerError,
    OrbTooLargeError,
)


def may_pass(err: Exception) -> bool:
    """Tell whether waiting, or asking for less, can help."""
    is_timeout = isinstance(err, OrbAPIError) and err.status_code == 408
    return isinstance(err, _PATIENT) or is_timeout


def next_step(window: SyncWindow, reader: PageReader, client: OrbClient) -> Step:
    """
    Take the window's next step, or get past what Orb cannot show.

    Raises:
        OrbError: Orb did not answer; wait, ask for less, or give up.
    """
    if window.unreadable_lt is not None:
        return _narrow(window, reader)
    deaths = window.attempts - 1
    if deaths >= 2 * MAX_DEATHS and not is_fetch(window):
        reason = f"{deaths} workers died while they read it. {window.error}"
        if window.kind == SyncWindow.Kind.FEED:
            return without_events(window, reason, requests=0)
        passed = _pass_by_summary(window, reader)
        if passed is None:
            raise WindowFailedError(reason.strip())
        return passed
    try:
        return take_step(window, reader, client)
    except OrbRateLimitError:
        raise
    except OrbError as err:
        step = _get_past(err, window, reader, client)
        if step is None:
            raise
        return step


def _get_past(
    err: OrbError, window: SyncWindow, reader: PageReader, client: OrbClient
) -> Step | None:
    """Return a step that avoids what Orb fails at; None if it is too early for that."""
    if isinstance(err, OrbAuthenticationError):
        return None
    if is_fetch(window):
        is_hopeless = window.deferrals >= PATIENCE_WITH_ONE or not may_pass(err)
        if not is_hopeless or not fetching.answers(client):
            return None
        return _fetch_or_refuse(err, window, reader, client)
    if window.kind == SyncWindow.Kind.FEED:
        is_hopeless = window.deferrals >= PATIENCE_WITH_EVENTS or not may_pass(err)
        return without_events(window, str(err)) if is_hopeless else None
    if (
        size_of_step(window, reader.page_size) > 1
        or window.deferrals < PATIENCE_WITH_ONE
        or not may_pass(err)
    ):
        return None
    return _pass_by_summary(window, reader) or _start_narrowing(window)


def _fetch_or_refuse(
    err: OrbError, window: SyncWindow, reader: PageReader, client: OrbClient
) -> Step:
    """Fetch once more, as Orb may have come back only now, or record a failure."""
    if may_pass(err):
        try:
            return take_step(window, reader, client)
        except OrbRateLimitError:
            raise
        except OrbError as again:
            err = again
    return take_step(window, reader, client, refusal=str(err))


def _pass_by_summary(window: SyncWindow, reader: PageReader) -> Step | None:
    """Leave the next invoice to a fetch by its id; None if Orb does not tell the id."""
    options = {"cursor": window.cursor or None, "limit": 1, "summaries": True}
    try:
        page = reader.fetch(window, **options).value
    except OrbError:
        return None
    following = usable_cursor(page)
    ids = [invoice.id for invoice in page.invoices]
    if len(ids) != 1 or not isinstance(ids[0], str) or following == window.cursor:
        return None
    has_ended = not (page.envelope.get("pagination_metadata") or {}).get("has_more")
    if following is None and not has_ended:
        return None
    left = {"doubtful_ids": [*window.doubtful_ids, ids[0]], "careful_steps": 0}
    last = earliest(last_date(page.invoices), window.last_invoice_date)
    if following and following == window.cursor_mark:
        again = reopen(window, "Orb repeated a cursor.", last=last)
        return replace(again, requests=2, changes={**again.changes, **left})
    has_moved = last != window.last_invoice_date
    changes = follow(window, following, has_moved=has_moved)
    return Step(
        [],
        requests=2,
        is_last=following is None,
        changes={**changes, **left, "last_invoice_date": last},
    )


def _start_narrowing(window: SyncWindow) -> Step:
    changes = {
        "unreadable_lt": _top(window),
        "readable_lt": None,
        "deferrals": window.deferrals,
    }
    return Step([], requests=0, changes=changes)


def _top(window: SyncWindow) -> datetime:
    last, end = window.last_invoice_date, window.invoice_date_lt
    if last is None:
        return end or window.run.started_at + HORIZON
    top = last + timedelta(microseconds=1)
    return min(top, end) if end else top


def _narrow(window: SyncWindow, reader: PageReader) -> Step:
    """Try one more date; see Note [Getting past]."""
    upper, lower = window.unreadable_lt, window.readable_lt
    assert upper is not None  # noqa: S101
    if lower is not None and upper - lower <= SMALLEST_GAP:
        return _close_gap(window, reader, lower, upper)
    probe = _next_probe(window, upper, lower)
    changes: dict[str, Any] = {"deferrals": window.deferrals}
    try:
        reader.fetch(window, invoice_date_lt=probe, cursor=None, limit=1)
    except OrbRateLimitError:
        raise
    except OrbError as err:
        is_lowest = _top(window) - probe >= LARGEST_GAP or probe == _bottom(window)
        if not may_pass(err) or (lower is None and is_lowest):
            raise  # Orb answers at no date, so the page is not the cause
        return Step([], changes={**changes, "unreadable_lt": probe, "error": str(err)})
    if lower is None:
        changes |= {"unreadable_lt": _top(window), "deferrals": 0}
    return Step([], changes={**changes, "readable_lt": probe, "error": window.error})


def _close_gap(
    window: SyncWindow, reader: PageReader, lower: datetime, upper: datetime
) -> Step:
    """
    Go on below the gap, or at the window's cursor if Orb answers there by now.

    Raises:
        OrbError: it may yet answer there; wait.
    """
    is_patience_over = window.deferrals >= PATIENCE_WITH_GAP
    if is_patience_over:  # and Orb has to be there for it to be the page's fault
        reader.fetch(window, invoice_date_lt=lower, cursor=None, limit=1)
    try:
        reader.fetch(window, cursor=window.cursor or None, limit=1)
    except OrbRateLimitError:
        raise
    except OrbError as err:
        if not is_patience_over or not may_pass(err):
            raise
        return _pass_gap(window, lower, upper)
    return Step([], changes={"unreadable_lt": None, "readable_lt": None})


def _next_probe(
    window: SyncWindow, upper: datetime, lower: datetime | None
) -> datetime:
    if lower is not None:
        return lower + (upper - lower) / 2
    top = _top(window)
    if upper == top:
        return top - timedelta(microseconds=1)
    probe = top - max(SMALLEST_GAP, 4 * (top - upper))
    bottom = _bottom(window)
    return max(probe, bottom) if bottom else probe


def _bottom(window: SyncWindow) -> datetime | None:
    start = window.invoice_date_gte
    return start + timedelta(microseconds=1) if start else None


def _pass_gap(window: SyncWindow, lower: datetime, upper: datetime) -> Step:
    now = primary.now()
    name = f"{NO_ID}, dated {lower:%Y-%m-%d %H:%M:%S})"
    reason = (
        f"Orb did not answer for an invoice dated between {lower} and {upper}; "
        "others of these dates may not have been read either. "
        f"{window.error}"
    )
    return Step(
        [Observation(name, None, Interval(now, now), refusal=reason.strip())],
        changes={
            "cursor": "",
            "cursor_mark": "",
            "stalled_pages": 0,
            "has_gap": True,
            "invoice_date_lt": lower,
            "unreadable_lt": None,
            "readable_lt": None,
            "careful_steps": 0,
        },
    )
