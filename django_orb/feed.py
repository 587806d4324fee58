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
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from . import events, exact_json, inbox
from .client import OrbClient, next_cursor
from .clock import clock_of
from .conf import get_settings
from .exceptions import (
    OrbBadRequestError,
    OrbError,
    OrbNotFoundError,
    OrbPayloadError,
    OrbPermissionError,
    OrbRateLimitError,
)
from .models import InvoiceChange, SyncRun, SyncWindow, WebhookEvent, WebhookFeed
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

_NOT_OFFERED = (OrbBadRequestError, OrbNotFoundError, OrbPermissionError)


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
        events=feed.is_offered or feed.asked_at < now - DAY,
    )


def _was_swept(now: datetime, using: str) -> bool:
    """Whether a run read what is open, less than `SWEEP_MINUTES` ago."""
    recent = now - timedelta(minutes=get_settings().SWEEP_MINUTES)
    swept = SyncRun.objects.using(using).filter(
        kind__in=[SyncRun.Kind.INCREMENTAL, SyncRun.Kind.FULL],
        state=SyncRun.State.SUCCEEDED,
        started_at__gt=recent,
        windows__kind=SyncWindow.Kind.LIST,
    )
    return swept.exists()


class Found(NamedTuple):
    """What a page of events brought, and where the next begins, if there is one."""

    following: str | None = None
    requests: int = 1
    created: int = 0
    updated: int = 0


def read(window: SyncWindow, client: OrbClient, *, using: str) -> Found:
    """
    Read a page and process what is new in it.

    Raises:
        OrbError: Orb did not answer; try again later.
    """
    feed = _feed(using) or _begin(window.run, using)
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
    newest = _newest(found, feed.newest_at)
    source = WebhookEvent.Source.FEED.value
    inbox.store_all(found, using=using, source=source)
    brought = _process([event.id for event, _ in found], client, using=using)
    following = next_cursor(page)
    if following == window.cursor:
        following = None
    until = window.run.started_at - OVERLAP
    if following is None and until > feed.read_until:
        feed.read_until = until
    _note(
        using,
        is_offered=True,
        asked_at=clock_of(using).latest(),
        read_until=feed.read_until,
        newest_at=newest,
    )
    return brought._replace(following=following)


def _process(event_ids: list[str], client: OrbClient, *, using: str) -> Found:
    deadline = time.monotonic() + PROCESS_SECONDS
    waiting = WebhookEvent.objects.using(using).filter(
        pk__in=event_ids, state=WebhookEvent.State.RECEIVED
    )
    processed: dict[str, str] = {}
    requests = 1
    for event in waiting.order_by("created_at").only("pk", "invoice_id"):
        if time.monotonic() > deadline:
            break
        requests += events.process_event(event.pk, using=using, client=client)
        processed[event.pk] = event.invoice_id
    changes = InvoiceChange.objects.using(using).filter(
        invoice_id__in=processed.values(),
        origin=InvoiceChange.Origin.WEBHOOK,
        origin_id__in=processed,
    )
    kinds = Counter(changes.values_list("kind", flat=True))
    return Found(
        requests=requests,
        created=kinds[InvoiceChange.Kind.CREATED],
        updated=kinds[InvoiceChange.Kind.UPDATED],
    )


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
        # A NUL in the invoice: its id will do.
        invoice = payload.get("invoice")
        invoice_id = invoice.get("id") if isinstance(invoice, dict) else None
        return exact_json.dumps({**payload, "invoice": invoice_id})


def _newest(
    found: list[tuple[OrbEvent, str]], newest: datetime | None
) -> datetime | None:
    times = [event.created_at for event, _ in found if event.created_at]
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
