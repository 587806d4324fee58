"""
Orb's list of webhook events: what never arrived here, and what changed since.

Read from where the last reading ended, with some overlap, since neither the order of
the list nor how late an event may appear in it is promised. What is new in it goes
the way of a delivered event; what was delivered is known by its id.

Source: https://docs.withorb.com/api-reference/webhook/list-webhook-events
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from . import events, exact_json, inbox
from .client import OrbClient, next_cursor
from .clock import SLACK, clock_of
from .conf import get_settings
from .exceptions import (
    OrbBadRequestError,
    OrbError,
    OrbNotFoundError,
    OrbPayloadError,
    OrbPermissionError,
    OrbRateLimitError,
    OrbURLNotFoundError,
)
from .models import SyncRun, SyncWindow, WebhookEvent, WebhookFeed
from .webhooks import OrbEvent, parse_event

logger = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=15)
FIRST_LOOK = timedelta(hours=1)
# An account without a list is asked again after a day, and a list that has shown
# nothing for a day is not trusted to show all.
DAY = timedelta(days=1)
PAGE_SIZE = 100
# How long a step may go on to process what it found; the rest waits for `recover`.
PROCESS_SECONDS = 30.0
MAX_DEFERRALS = 5

_NOT_OFFERED = (
    OrbBadRequestError,
    OrbNotFoundError,
    OrbPermissionError,
    OrbURLNotFoundError,
)


class Reading(NamedTuple):
    """What an incremental run reads: all that is open or recent, and the events."""

    sweeps: bool
    events: bool


def plan(*, sweep: bool, using: str) -> Reading:
    """
    What the next incremental run should read; `sweep` asks for all.

    The list of events does for a time where it is lively: new drafts, and what
    changes within drafts, have no events.
    """
    feed = _feed(using)
    now = clock_of(using).latest()
    if feed is None:
        return Reading(sweeps=True, events=True)
    is_lively = feed.newest_at is not None and feed.newest_at > now - DAY
    suffices = feed.is_offered and is_lively and _was_swept(now, using)
    return Reading(
        sweeps=sweep or not suffices,
        events=feed.is_offered or not now - DAY <= feed.asked_at <= now + SLACK,
    )


def _was_swept(now: datetime, using: str) -> bool:
    """Whether a run read what is open, less than `SWEEP_MINUTES` ago."""
    recent = now - timedelta(minutes=get_settings().SWEEP_MINUTES)
    swept = SyncRun.objects.using(using).filter(
        kind__in=[SyncRun.Kind.INCREMENTAL, SyncRun.Kind.FULL],
        state=SyncRun.State.SUCCEEDED,
        started_at__gt=recent,
        started_at__lte=now + SLACK,
        windows__kind=SyncWindow.Kind.LIST,
    )
    return swept.exists()


class Found(NamedTuple):
    """Where the next page of events begins, if there is one, and what this one cost."""

    following: str | None = None
    requests: int = 1


def read(window: SyncWindow, client: OrbClient, *, using: str) -> Found:
    """
    Read a page and process what is new in it.

    Raises:
        OrbError: Orb did not answer; try again later.
    """
    feed = _feed(using) or _begin(window.run, using)
    until = window.run.started_at - OVERLAP
    if feed.read_until > window.run.started_at:
        # The clock was set back, and how far its events were read is not known.
        feed.read_until = window.run.started_at - DAY
    try:
        page = client.fetch_webhook_events_page(
            created_at_gte=feed.read_until, limit=PAGE_SIZE, cursor=window.cursor
        )
    except OrbError as err:
        is_hopeless = window.deferrals >= MAX_DEFERRALS
        is_limit = isinstance(err, OrbRateLimitError)
        if not isinstance(err, _NOT_OFFERED) and (is_limit or not is_hopeless):
            raise
        logger.info(
            "Orb's list of webhook events cannot be used; syncs do without it, and "
            "ask for it again in a day. %s",
            err,
        )
        _note(using, is_offered=False, asked_at=clock_of(using).latest())
        return Found()
    found = [one for item in page["data"] if (one := _read_item(item)) is not None]
    newest = _newest(found, feed.newest_at, clock_of(using).latest() + events.SKEW)
    source = WebhookEvent.Source.FEED.value
    inbox.store_all(found, using=using, source=source)
    fetches = _process([event.id for event, _ in found], client, using=using)
    following = next_cursor(page)
    if following == window.cursor:
        following = None
    if following is None and until > feed.read_until:
        feed.read_until = until
    _note(
        using,
        is_offered=True,
        asked_at=clock_of(using).latest(),
        read_until=feed.read_until,
        newest_at=newest,
    )
    return Found(following, 1 + fetches)


def _process(event_ids: list[str], client: OrbClient, *, using: str) -> int:
    """Process what nobody did yet; how often Orb was asked for an invoice."""
    deadline = time.monotonic() + PROCESS_SECONDS
    waiting = WebhookEvent.objects.using(using).filter(
        pk__in=event_ids, state=WebhookEvent.State.RECEIVED
    )
    fetches = 0
    for event_id in waiting.order_by("created_at").values_list("pk", flat=True):
        if time.monotonic() > deadline:
            break
        fetches += events.process_event(event_id, using=using, client=client)
    return fetches


def _read_item(item: Any) -> tuple[OrbEvent, str] | None:
    """A member of the list, as if it had been delivered."""
    payload = item.get("payload") if isinstance(item, dict) else None
    try:
        body = _write(payload)
        return parse_event(body.encode()), body
    except (OrbPayloadError, ValueError) as err:
        logger.warning("An event in Orb's list was passed over: %s", err)
        return None


def _write(payload: Any) -> str:
    try:
        return exact_json.dumps(payload)
    except ValueError:
        if not isinstance(payload, dict):
            raise
        # Something that cannot be stored: the invoice's id will do.
        invoice = payload.get("invoice")
        invoice_id = invoice.get("id") if isinstance(invoice, dict) else None
        reduced = exact_json.storable({**payload, "invoice": invoice_id})
        return exact_json.dumps(reduced)


def _newest(
    found: list[tuple[OrbEvent, str]], newest: datetime | None, until: datetime
) -> datetime | None:
    """When the newest event was made; a time that is yet to come says nothing."""
    times = [at for event, _ in found if (at := event.created_at) and at <= until]
    return max([*times, *filter(None, [newest])], default=None)


def _feed(using: str) -> WebhookFeed | None:
    return WebhookFeed.objects.using(using).first()


def _begin(run: SyncRun, using: str) -> WebhookFeed:
    start = run.started_at
    feed, _ = WebhookFeed.objects.using(using).get_or_create(
        pk=1,
        defaults={
            "is_offered": False,
            "read_until": start - FIRST_LOOK,
            "asked_at": start,
        },
    )
    return feed


def _note(using: str, **changes: Any) -> None:
    WebhookFeed.objects.using(using).filter(pk=1).update(**changes)
