"""
Bring what webhook events tell into the mirror.

An event that shows the whole invoice is an observation like any other: of some instant
between its creation, less the difference of the clocks, and its receipt. Any other
event only says which invoice to fetch, and one fetch answers for all events that came
before it began.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta

from django_orb import mirror
from django_orb.account import READS, hold_back, is_of_account, open_account
from django_orb.client import OrbClient
from django_orb.db import Interval, ends_work, primary, renew_connection
from django_orb.exact_json import storable_text
from django_orb.exceptions import OrbPayloadError, OrbRateLimitError
from django_orb.mirror import (
    Observation,
    Origin,
    WriteResult,
    fetch_until_ordered,
    observe_invoices,
)
from django_orb.models import InvoiceChange, InvoiceObservation, WebhookEvent

from . import attempts
from .failure_reasons import keep_reasons
from .payload import parse_event

logger = logging.getLogger(__name__)

# How far Orb's clock and the database's may be apart.
SKEW = timedelta(minutes=5)
# How long to leave Orb alone when it says that there were too many requests.
PATIENCE_SECONDS = 5.0

# How long to process events that are due before other work gets its turn.
DUE_SECONDS = 300.0

State = WebhookEvent.State


def process_event(event_id: str, *, client: OrbClient | None = None) -> int:
    """
    Process an event, and the other events that wait for its invoice.

    Return how often Orb was asked for the invoice. It is safe to call at any time: an
    event that is finished, or that another worker holds, is left alone. An error is
    recorded in the event, which is tried again later.
    """
    fetches = 0
    events = attempts.take(event_id)
    while events:
        asked = _process(events, client=client)
        if asked is None:
            break
        fetches += asked
        invoice_id = events[0].invoice_id
        events = attempts.take_arrived(invoice_id) if invoice_id else []
    return fetches


def process_due(process: Callable[[str], object] = process_event) -> None:
    """
    Process the events that are due, in this process or as the caller says.

    If Orb hangs, each may take as long as its request: the rest comes due again later.
    """
    deadline = time.monotonic() + DUE_SECONDS
    for event_id in attempts.due_events():
        process(event_id)
        if time.monotonic() > deadline:
            return


def _process(events: Sequence[WebhookEvent], *, client: OrbClient | None) -> int | None:
    """Process events. Return how often Orb was asked; None if it failed."""
    is_about_invoice = bool(events[0].invoice_id)
    state = State.PROCESSED if is_about_invoice else State.IGNORED
    fetches = 0
    try:
        if is_about_invoice:
            fetches = _mirror(events, client=client)
            # Before they are finished: if it fails, the events are tried again.
            keep_reasons(events, skew=SKEW)
        attempts.finish(events, state.value)
    except Exception as err:
        ids = {"orb_event_id": events[-1].pk, "orb_invoice_id": events[-1].invoice_id}
        logger.warning(
            "Event %s was not processed.", events[-1].pk, exc_info=True, extra=ids
        )
        if isinstance(err, OrbRateLimitError):
            seconds = err.retry_after_seconds or PATIENCE_SECONDS
            hold_back(READS, min(seconds, attempts.MAX_ADVISED_SECONDS))
        trace = storable_text(traceback.format_exc())
        # The connection itself may have failed, and the next statement needs one.
        renew_connection()
        attempts.fail(events, err, trace)
        if ends_work(err):
            raise
        return None
    return fetches


def _mirror(events: Sequence[WebhookEvent], *, client: OrbClient | None) -> int:
    """Bring the invoice to the state that it had when the events came, or later."""
    newest = events[-1]
    origin = Origin(InvoiceChange.Origin.WEBHOOK.value, newest.pk)

    def write(seen: Sequence[Observation]) -> WriteResult:
        return mirror.write(seen, origin=origin)

    seen = _observation(newest) if len(events) == 1 else None
    if seen is not None and _is_of_account(newest, seen):
        result = write([seen])
        if not result.doubtful and not result.failed:
            return 0
    if _was_seen_after(events):
        return 0
    if client is not None:
        return _fetch(newest.invoice_id, write, client)
    # An event that fails waits in its row, so that its lease need not cover retries.
    with open_account(retries=0) as own_client:
        return _fetch(newest.invoice_id, write, own_client)


def _observation(event: WebhookEvent) -> Observation | None:
    """Return what the event shows, if it shows the whole invoice."""
    invoice = parse_event(event.body.encode()).invoice
    if invoice is None or event.created_at is None:
        return None
    earliest = min(event.created_at, event.received_at) - SKEW
    return Observation(event.invoice_id, invoice, Interval(earliest, event.received_at))


def _is_of_account(event: WebhookEvent, seen: Observation) -> bool:
    """
    Tell whether the account's own key, or the mirror, vouches for the invoice.

    A signature does not: the secret may be that of another account's endpoint.
    """
    is_by_key = event.source == WebhookEvent.Source.FEED
    return is_by_key or is_of_account(seen.payload)


def _was_seen_after(events: Sequence[WebhookEvent]) -> bool:
    """Tell whether the stored invoice was asked for after the last event came."""
    stored = primary.rows(InvoiceObservation).filter(
        pk=events[0].invoice_id,
        started_at__gt=max(event.received_at for event in events),
    )
    return stored.exists()


def _fetch(
    invoice_id: str,
    write: Callable[[Sequence[Observation]], WriteResult],
    client: OrbClient,
) -> int:
    result = write(observe_invoices(client, [invoice_id]))
    failed = result.failed | fetch_until_ordered(client, result.doubtful, write=write)
    if failed:
        raise OrbPayloadError(failed[invoice_id])
    return 1 + len(result.doubtful)
