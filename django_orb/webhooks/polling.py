"""
Read Orb's list of webhook events, and process those that never arrived here.

Reading begins where the last one ended, with some overlap, since Orb promises neither
the order of the list nor how late an event may appear in it. A new event is processed
like a delivered one; an event that was delivered is known by its id.

Source: https://docs.withorb.com/api-reference/webhook/list-webhook-events
"""

# Note [Ids first]
# If webhooks arrive, nearly all events of a page are already stored, and reading their
# payloads would be wasted. So the page is read without payloads; if it has unknown ids,
# the events that Orb could not deliver are read. Only the ids decide: if any is still
# unknown, the page itself is read with payloads, whatever Orb says about deliveries.

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django_orb import exact_json
from django_orb.client import OrbClient, next_cursor
from django_orb.conf import get_settings
from django_orb.db import SLACK, primary
from django_orb.exceptions import (
    OrbAPIError,
    OrbBadRequestError,
    OrbFeatureNotAvailableError,
    OrbPayloadError,
)
from django_orb.models import SyncRun, SyncWindow, WebhookEvent, WebhookFeed

from . import inbox, processing
from .payload import OrbEvent, parse_event

logger = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=15)
FIRST_LOOK = timedelta(hours=1)
# An account without a list is asked for it again after a day, and a list that has
# shown nothing for a day is not trusted to show everything.
DAY = timedelta(days=1)
# The most that Orb gives.
PAGE_SIZE = 100
# How long a step may process the events that it found; `recover` does the rest.
PROCESS_SECONDS = 30.0


class Reading(NamedTuple):
    """The lists that an incremental run reads: open and recent invoices, and events."""

    sweeps: bool
    events: bool


def plan(*, sweep: bool) -> Reading:
    """
    Return what the next incremental run should read; `sweep` asks for everything.

    A list that shows recent events suffices, but only for a time: new drafts, and
    changes within drafts, have no events.
    """
    feed = _feed()
    now = primary.now()
    if feed is None:
        return Reading(sweeps=True, events=True)
    is_lively = feed.newest_at is not None and feed.newest_at > now - DAY
    suffices = feed.is_offered and is_lively and _was_swept(now)
    return Reading(
        sweeps=sweep or not suffices,
        # A time in the future was noted before the clock was set back.
        events=feed.is_offered or not now - DAY <= feed.asked_at <= now + SLACK,
    )


def _was_swept(now: datetime) -> bool:
    """Tell whether a run read open invoices less than `SWEEP_MINUTES` ago."""
    recent = now - timedelta(minutes=get_settings().SWEEP_MINUTES)
    swept = primary.rows(SyncRun).filter(
        kind__in=[SyncRun.Kind.INCREMENTAL, SyncRun.Kind.FULL],
        state=SyncRun.State.SUCCEEDED,
        started_at__gt=recent,
        started_at__lte=now + SLACK,
        windows__kind=SyncWindow.Kind.LIST,
    )
    return swept.exists()


class Found(NamedTuple):
    """The cursor of the next page of events, if there is one, and this page's cost."""

    following: str | None = None
    requests: int = 1
    is_offered: bool = True


def read(
    window: SyncWindow,
    client: OrbClient,
    *,
    limit: int,
    seconds: float = PROCESS_SECONDS,
) -> Found:
    """
    Read a page of events and process the new ones, for about `seconds`.

    Raises:
        OrbError: Orb did not answer; try again later.
    """
    feed = _feed()
    start = window.run.started_at
    read_until = feed.read_until if feed else start - FIRST_LOOK
    if read_until > start:
        # The clock was set back, so it is not known how far events were read.
        read_until = start - DAY
    # The same for each page of a list: Orb's cursors are for the filters
    # that they came with.
    since = {"created_at_gte": read_until, "limit": limit}
    try:
        page = _read_page(client, window.cursor, since)
    except OrbAPIError as err:
        if not _says_there_is_none(err):
            raise
        logger.info(
            "Orb's list of webhook events cannot be used; syncs do without it, and "
            "ask for it again in a day. %s",
            err,
        )
        _note(is_offered=False, read_until=read_until)
        return Found(is_offered=False)
    latest = primary.now() + processing.SKEW
    newest = _newest(page.created_at, feed.newest_at if feed else None, latest)
    # Before the position is noted: if the worker dies in between, the page is read
    # again, and its events are known by their ids.
    inbox.store_all(page.events, source=WebhookEvent.Source.FEED.value)
    fetches = _process(page.ids, client, seconds)
    # Not earlier: a list that was not read to its end has to be read
    # again from the start.
    if page.following is None:
        read_until = max(read_until, start - OVERLAP)
    _note(is_offered=True, read_until=read_until, newest_at=newest)
    return Found(page.following, page.requests + fetches)


class _Page(NamedTuple):
    """A page of events: the ids of all, and at least the new ones with their bodies."""

    ids: list[str]
    created_at: list[datetime]
    events: list[tuple[OrbEvent, str]]
    following: str | None
    requests: int


def _read_page(client: OrbClient, cursor: str, since: dict[str, Any]) -> _Page:
    """Read a page of events, without payloads if that suffices; see Note [Ids first]."""
    requests = 1
    if _do_webhooks_arrive(since["created_at_gte"]):
        try:
            page = client.fetch_webhook_events_page(
                **since, cursor=cursor, include_payload=False
            )
            listed = [_read_summary(item) for item in page["data"]]
            unknown = _unknown(listed)
            events = []
            if unknown and None not in unknown:
                requests += 1
                events = _read_undelivered(client, since, unknown)
            if unknown == {event.id for event, _ in events}:
                return _page(page, listed, events, requests)
        except OrbBadRequestError as err:
            logger.info("Events are read with their payloads. %s", err)
        requests += 1
    page = client.fetch_webhook_events_page(**since, cursor=cursor)
    events = [event for item in page["data"] if (event := _read_item(item)) is not None]
    return _page(page, [event for event, _ in events], events, requests)


def _page(
    page: dict[str, Any],
    listed: list[OrbEvent | None],
    events: list[tuple[OrbEvent, str]],
    requests: int,
) -> _Page:
    found = [event for event in listed if event is not None]
    return _Page(
        [event.id for event in found],
        [event.created_at for event in found if event.created_at],
        events,
        next_cursor(page),
        requests,
    )


def _do_webhooks_arrive(since: datetime) -> bool:
    arrived = primary.rows(WebhookEvent).filter(
        source=WebhookEvent.Source.WEBHOOK, received_at__gte=since
    )
    return arrived.exists()


def _unknown(listed: list[OrbEvent | None]) -> set[str | None]:
    """Return the ids that are not stored; None stands for an event without a usable id."""
    ids = {event.id if event else None for event in listed}
    stored = primary.rows(WebhookEvent).filter(pk__in=ids - {None})
    return ids - {*stored.values_list("pk", flat=True)}


def _read_undelivered(
    client: OrbClient, since: dict[str, Any], unknown: set[str | None]
) -> list[tuple[OrbEvent, str]]:
    """Return the unknown events among the newest that Orb could not deliver."""
    page = client.fetch_webhook_events_page(**since, delivery_success=False)
    found = [event for item in page["data"] if (event := _read_item(item)) is not None]
    return [(event, body) for event, body in found if event.id in unknown]


def _says_there_is_none(err: OrbAPIError) -> bool:
    """Tell whether Orb itself, not a proxy before it, says that there is no list."""
    is_unknown = err.type == "404-url-not-found"
    return is_unknown or isinstance(err, OrbFeatureNotAvailableError)


def _process(event_ids: list[str], client: OrbClient, seconds: float) -> int:
    """Process unprocessed events. Return how often Orb was asked for an invoice."""
    if not seconds:
        return 0
    deadline = time.monotonic() + seconds
    waiting = primary.rows(WebhookEvent).filter(
        pk__in=event_ids, state=WebhookEvent.State.RECEIVED
    )
    fetches = 0
    for event_id in waiting.order_by("created_at").values_list("pk", flat=True):
        if time.monotonic() > deadline:
            break
        fetches += processing.process_event(event_id, client=client)
    return fetches


def _read_summary(item: Any) -> OrbEvent | None:
    """Read an event that is listed without its payload; None if it is unusable."""
    summary = item.get("payload") if isinstance(item, dict) else None
    try:
        return parse_event(exact_json.dumps(summary).encode())
    except (OrbPayloadError, ValueError):
        return None


def _read_item(item: Any) -> tuple[OrbEvent, str] | None:
    """Read a member of the list as if it had been delivered; None if it is unusable."""
    payload = item.get("payload") if isinstance(item, dict) else None
    try:
        body = _write(payload)
        event = parse_event(body.encode())
        if not event.invoice_id and event.type.startswith("invoice."):
            # Stored, it would stand in for the event itself if that is delivered.
            raise OrbPayloadError(f"Event {event.id} does not say about which invoice.")
        return event, body
    except (OrbPayloadError, ValueError) as err:
        logger.warning("An event in Orb's list was passed over: %s", err)
        return None


def _write(payload: Any) -> str:
    try:
        return exact_json.dumps(payload)
    except ValueError:
        if not isinstance(payload, dict):
            raise
        # Something in it cannot be stored: the invoice's id is enough.
        invoice = payload.get("invoice")
        invoice_id = invoice.get("id") if isinstance(invoice, dict) else None
        reduced = exact_json.storable({**payload, "invoice": invoice_id})
        return exact_json.dumps(reduced)


def _newest(
    times: list[datetime], newest: datetime | None, until: datetime
) -> datetime | None:
    """Return when the newest event was created, ignoring times after `until`."""
    plausible = [at for at in times if at <= until]
    return max([*plausible, *filter(None, [newest])], default=None)


def _feed() -> WebhookFeed | None:
    return primary.rows(WebhookFeed).first()


def _note(**changes: Any) -> None:
    changes["asked_at"] = primary.now()
    primary.rows(WebhookFeed).update_or_create(pk=1, defaults=changes)
