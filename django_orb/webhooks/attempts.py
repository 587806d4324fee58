"""Lease events to one worker at a time, finish them, and try again those that failed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.db.models import F, Q, QuerySet

from django_orb import metrics
from django_orb.client import longest_request_seconds
from django_orb.db import has_come, is_free, primary, run_in_transaction
from django_orb.mirror import call_receivers, send_robust
from django_orb.models import WebhookEvent
from django_orb.signals import webhook_failed, webhook_received

MIN_LEASE_SECONDS = 300.0
# How long the second message of an event may take to arrive.
SECOND_MESSAGE_SECONDS = 300
# An event waits this long for its second attempt, and twice as long for each later.
FIRST_WAIT_SECONDS = 10
MAX_WAIT_SECONDS = 3600
# The longest wait that Orb's advice can cause, as in a run.
MAX_ADVISED_SECONDS = 60.0
# After so many attempts in a row that killed their worker a person decides. Each
# holds a worker's place for a lease, and the waits between them grow.
MAX_DEATHS = 8
GIVEN_UP = (
    f"{MAX_DEATHS} attempts in a row did not finish: their workers died, or lost the "
    "database. It waits until a person has it processed again."
)
DIED = "An attempt did not finish: its worker died, or lost the database."
LONGEST_MESSAGE = timedelta(seconds=SECOND_MESSAGE_SECONDS)
LONGEST_WAIT = timedelta(seconds=MAX_WAIT_SECONDS)

State = WebhookEvent.State
OPEN = WebhookEvent.OPEN


def longest_lease() -> timedelta:
    """Return how long a lease holds before another worker may take the events."""
    # It asks Orb once, and once more if the answers cannot be put in order.
    request = longest_request_seconds(retries=0)
    return timedelta(seconds=max(MIN_LEASE_SECONDS, 2 * request + 60))


def take(event_id: str) -> list[WebhookEvent]:
    """
    Lease an event, and the other events that wait for the same invoice.

    Return nothing if it is finished, or if another worker is at work on the invoice:
    that worker calls `take_arrived` at the end.
    """
    event = _events().filter(pk=event_id, state__in=OPEN)
    found = event.values_list("invoice_id", "lease").first()
    if found is None:
        return []
    invoice_id, lease = found
    if invoice_id:
        return _take_group(invoice_id)
    event = _events().filter(pk=event_id)
    if lease:
        _end_dead(event)
    return _lease(event)


def take_arrived(invoice_id: str) -> list[WebhookEvent]:
    """Lease the events that came for an invoice meanwhile."""
    waiting = _events().filter(invoice_id=invoice_id, state=State.RECEIVED)
    return _take_group(invoice_id) if waiting.exists() else []


def _take_group(invoice_id: str) -> list[WebhookEvent]:
    group = _events().filter(invoice_id=invoice_id, state__in=OPEN)
    if group.exclude(lease="").exists():
        if group.exclude(is_free(primary.now(), longest=longest_lease())).exists():
            return []
        _end_dead(group)
    return _lease(group)


def _lease(events: QuerySet[WebhookEvent]) -> list[WebhookEvent]:
    """
    Lease events that no worker holds. Return them, oldest first.

    If there are several, one fetch answers for all, so their bodies are not loaded:
    there may be many, each with a whole invoice.
    """
    now = primary.now()
    lease, longest = uuid.uuid4().hex, longest_lease()
    free = events.filter(is_free(now, longest=longest), state__in=OPEN)
    # Counted before the attempt, so that one that kills its worker counts, too.
    leased = {"lease": lease, "lease_expires_at": now + longest}
    count = run_in_transaction(
        lambda: free.update(**leased, attempts=F("attempts") + 1)
    )
    mine = events.filter(lease=lease).order_by("received_at", "pk")
    return list(mine if count == 1 else mine.defer("body"))


def finish(events: Sequence[WebhookEvent], state: str) -> None:
    """
    Finish events that are still leased to the caller, and call the receivers.

    Raises:
        Exception: receivers could not be called now; this event is not finished, nor
            are those after it.
    """
    now = primary.now()
    changes = {"state": state, "finished_at": now, "error": "", **_RELEASED}
    if not webhook_received.has_listeners(WebhookEvent):
        # One statement for all. With receivers each event needs a transaction of its
        # own: if its receiver fails, only that one is tried again.
        mine = _mine(events)
        if run_in_transaction(lambda: mine.update(**changes)):
            metrics.events_ended(events, state, now)
        return
    for event in events:
        finish_it = partial(_finish, event, changes)
        if run_in_transaction(finish_it):
            metrics.events_ended([event], state, now)


def _finish(event: WebhookEvent, changes: dict[str, Any]) -> bool:
    if not _mine([event]).update(**changes):
        return False
    # The caller's event is not changed: all of this may have to be done again.
    now = _events().defer("body").get(pk=event.pk)
    call_receivers(webhook_received, WebhookEvent, event=now)
    return True


def fail(events: Sequence[WebhookEvent], error: Exception, trace: str) -> None:
    """Record why events could not be processed, and when to try again."""
    now = primary.now()
    advised = getattr(error, "retry_after_seconds", None) or 0.0
    least = timedelta(seconds=min(advised, MAX_ADVISED_SECONDS))
    failed = []
    for event in events:
        changes = {
            "state": State.FAILED.value,
            "next_attempt_at": now + max(least, _wait(event.attempts - 1)),
            "deaths": 0,
            "error": trace,
            **_RELEASED,
        }
        if _mine([event]).update(**changes):
            failed.append(_events().defer("body").get(pk=event.pk))
    metrics.events_ended(failed, State.FAILED.value, now)
    for event in failed:
        send_robust(webhook_failed, WebhookEvent, event=event, error=error)


def _end_dead(events: QuerySet[WebhookEvent]) -> set[str]:
    """
    End the attempts whose lease ran out, and tell that they failed, as `fail` does.

    A lease that ended without being released is that of a worker that died, or that lost
    the database. If the worker is only slow, it can no longer finish the event. After
    the first such attempt the event is due at once, since it waited for its lease; after
    each further one it waits longer, and at last for a person. Return the ids of those
    that wait.
    """
    now = primary.now()
    ids = set()
    free = events.filter(is_free(now, longest=longest_lease()), state__in=OPEN)
    for event in free.exclude(lease="").order_by("received_at", "pk").defer("body"):
        is_given_up = event.deaths + 1 >= MAX_DEATHS
        wait = _wait(event.deaths - 1) if event.deaths else timedelta()
        changes = {
            "state": State.FAILED.value,
            "deaths": event.deaths + 1,
            "next_attempt_at": None if is_given_up else now + wait,
            "error": GIVEN_UP if is_given_up else DIED,
            **_RELEASED,
        }
        # With the lease in the condition, one of several workers tells it.
        if _mine([event]).update(**changes):
            if wait:
                ids.add(event.pk)
            ended = _events().defer("body").get(pk=event.pk)
            metrics.events_ended([ended], State.FAILED.value, now)
            error = RuntimeError(ended.error)
            send_robust(webhook_failed, WebhookEvent, event=ended, error=error)
    return ids


_RELEASED = {"lease": "", "lease_expires_at": None}


def _wait(attempts: int) -> timedelta:
    seconds = FIRST_WAIT_SECONDS * 2 ** max(0, min(attempts, 20))
    return timedelta(seconds=min(seconds, MAX_WAIT_SECONDS))


def _mine(events: Sequence[WebhookEvent]) -> QuerySet[WebhookEvent]:
    ids = [event.pk for event in events]
    return _events().filter(pk__in=ids, lease=events[0].lease, state__in=OPEN)


def due_events(*, limit: int = 1000) -> list[str]:
    """
    Return the ids of events that are due, the longest due first.

    An id is not returned again until its message has had time to arrive.
    """
    now = primary.now()
    due = (
        _events()
        .filter(is_free(now, longest=longest_lease()), state__in=OPEN)
        .filter(
            has_come("next_attempt_at", now, longest=LONGEST_WAIT)
            | has_come("next_attempt_at", now, longest=LONGEST_MESSAGE) & Q(attempts=0)
        )
        .order_by("next_attempt_at", "pk")
    )
    ids = list(due.values_list("pk", flat=True)[:limit])
    again_at = now + LONGEST_MESSAGE
    # A worker may have leased one since.
    free = is_free(now, longest=longest_lease())
    taken = _events().filter(free, pk__in=ids, state__in=OPEN)
    dead = _end_dead(taken)
    ids = [event_id for event_id in ids if event_id not in dead]
    taken.filter(pk__in=ids).update(next_attempt_at=again_at)
    return ids


def retry_now(event_ids: Sequence[str]) -> None:
    """Make failed events due at once, even those that were given up."""
    failed = _events().filter(pk__in=event_ids, state=State.FAILED)
    failed.update(next_attempt_at=primary.now(), deaths=0)


def _events() -> QuerySet[WebhookEvent]:
    return primary.rows(WebhookEvent)
