"""Plan the windows that a run consists of."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

from django_orb.conf import get_settings
from django_orb.db import primary
from django_orb.models import Invoice, SyncRun, SyncWindow
from django_orb.webhooks import polling

STATUSES = tuple(Invoice.Status.values)
UNSETTLED = (Invoice.Status.DRAFT.value, Invoice.Status.ISSUED.value)
# A full run cuts recent years into windows that workers can read at the same time.
WINDOW_MONTHS = 3
WINDOW_COUNT = 8

_PENDING, _WAITING = SyncWindow.State.PENDING, SyncWindow.State.WAITING
_LIST, _CHECK = SyncWindow.Kind.LIST, SyncWindow.Kind.CHECK


def plan_windows(
    run: SyncRun, now: datetime, invoice_ids: list[str], reading: polling.Reading
) -> list[SyncWindow]:
    """
    Return the windows that a new run begins with; they are not saved yet.

    A full run leaves nothing out, since nothing proves that an invoice is as it was. A
    paid or void one may still get a credit note, other metadata or a payment that is
    undone; Orb has no time of the last change, and promises neither that its list of
    events is complete nor how long it is kept.
    """
    if run.kind == SyncRun.Kind.ONE:
        fetch = SyncWindow.Kind.FETCH
        planned = [SyncWindow(kind=fetch, state=_PENDING, invoice_ids=invoice_ids)]
    elif run.kind == SyncRun.Kind.PARTIAL:
        planned = [_list(STATUSES, start=run.since)]
    elif run.kind == SyncRun.Kind.INCREMENTAL:
        events = SyncWindow(kind=SyncWindow.Kind.FEED, state=_PENDING)
        planned = [
            *(_sweep(now) if reading.sweeps else []),
            *([events] if reading.events else []),
        ]
    else:
        # Open at both ends: the oldest invoice is not known, and
        # Orb dates drafts ahead.
        edges = [None, *_edges(now), None]
        planned = [
            _list(STATUSES, start=start, end=end)
            for start, end in itertools.pairwise(edges)
        ]
        planned.append(SyncWindow(kind=_CHECK, state=_WAITING))
    return _numbered(run, planned)


def add_sweep(run: SyncRun) -> None:
    """Add the lists of open and recent invoices to a run planned for events only."""
    windows = primary.rows(SyncWindow).filter(run=run)
    # A step may be taken twice, and more than one step may ask for it.
    if windows.filter(kind=_LIST).exists():
        return
    planned = _sweep(primary.now())
    primary.rows(SyncWindow).bulk_create(_numbered(run, planned, first=windows.count()))


def _sweep(now: datetime) -> list[SyncWindow]:
    lookback = now - timedelta(days=get_settings().LOOKBACK_DAYS)
    return [
        _list(UNSETTLED),
        _list(STATUSES, start=lookback),
        SyncWindow(kind=_CHECK, state=_WAITING),
    ]


def _list(
    statuses: tuple[str, ...],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> SyncWindow:
    return SyncWindow(
        kind=_LIST,
        state=_PENDING,
        statuses=list(statuses),
        invoice_date_gte=start,
        invoice_date_lt=end,
    )


def _numbered(
    run: SyncRun, planned: list[SyncWindow], first: int = 0
) -> list[SyncWindow]:
    for position, window in enumerate(planned, first):
        window.run = run
        window.position = position
    return planned


def _edges(now: datetime) -> list[datetime]:
    """Return the starts of months, in UTC, at which history is cut into windows."""
    edges = []
    for index in range(WINDOW_COUNT):
        months = now.year * 12 + now.month - 1 - index * WINDOW_MONTHS
        edges.append(datetime(months // 12, months % 12 + 1, 1, tzinfo=timezone.utc))
    return edges[::-1]
