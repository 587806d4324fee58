from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_orb import metrics, tasks
from django_orb.client import OrbClient
from django_orb.db.clock import database_now
from django_orb.models import WebhookEvent
from django_orb.signals import webhook_failed
from django_orb.webhooks import attempts, inbox, processing
from django_orb.webhooks.payload import parse_event
from tests.brokers import catch_messages
from tests.deliveries import as_bytes, event, event_of
from tests.put_back import put_back

State = WebhookEvent.State


def store(payload: Any = None) -> str:
    body = as_bytes(payload or event())
    parsed = parse_event(body)
    inbox.store(parsed, body.decode())
    return parsed.id


def about(invoice_id: str) -> str:
    return store(event_of(invoice_id, "invoice.cost_data_exported"))


def take(event_id: str) -> list[str]:
    taken = attempts.take(event_id)
    return [one.pk for one in taken]


def pass_time(**step: float) -> None:
    """Let so much time pass for what the events wait for."""
    for name in ("lease_expires_at", "next_attempt_at", "received_at"):
        earlier = F(name) - timedelta(**step)
        WebhookEvent.objects.update(**{name: earlier})


def due() -> list[str]:
    return attempts.due_events()


def test_one_takes_all_that_waits_for_an_invoice(any_database: str) -> None:
    first, second, other = about("inv1"), about("inv1"), about("inv2")

    assert take(second) == [first, second]
    assert take(first) == []
    assert take(other) == [other]


def test_what_comes_meanwhile_is_left_to_who_is_at_work(any_database: str) -> None:
    first = about("inv1")
    taken = attempts.take(first)
    second = about("inv1")

    assert take(second) == []
    assert attempts.take_arrived("inv1") == []
    attempts.finish(taken, State.PROCESSED.value)

    (arrived,) = attempts.take_arrived("inv1")
    assert arrived.pk == second


def test_events_without_an_invoice_have_nothing_to_do_with_each_other(
    any_database: str,
) -> None:
    first, second = store(event("customer.created")), store(event("customer.edited"))

    assert take(first) == [first]
    assert take(first) == []
    assert take(second) == [second]


def test_settled_event_is_not_taken_again(any_database: str) -> None:
    event_id = about("inv1")
    taken = attempts.take(event_id)

    attempts.finish(taken, State.PROCESSED.value)

    assert take(event_id) == []
    stored = WebhookEvent.objects.get()
    assert (stored.state, stored.attempts) == (State.PROCESSED, 1)
    assert stored.finished_at is not None


def test_dead_workers_event_is_taken_over_and_not_settled_by_it(
    any_database: str,
) -> None:
    event_id = about("inv1")
    dead = attempts.take(event_id)
    pass_time(seconds=attempts.MIN_LEASE_SECONDS + 1)

    heir = attempts.take(event_id)
    attempts.finish(dead, State.IGNORED.value)
    attempts.fail(dead, ValueError(), "too late")
    stored = WebhookEvent.objects.get()
    assert (stored.state, stored.error) == (State.FAILED, attempts.DIED)

    attempts.finish(heir, State.PROCESSED.value)
    assert WebhookEvent.objects.get().state == State.PROCESSED


def test_event_stays_in_its_workers_hands_while_orb_may_still_answer(
    any_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TIMEOUT_SECONDS": 1000}
    request = OrbClient("test-key", timeout_seconds=1000, retries=0).worst_case_seconds
    event_id = about("inv1")
    assert take(event_id) == [event_id]

    for seconds in (0, 2 * request):  # one answer could not be put in order
        pass_time(seconds=seconds)
        assert take(event_id) == due() == []

    pass_time(seconds=61)
    assert due() == take(event_id) == [event_id]


def test_attempts_that_take_their_worker_along_are_counted_and_seen(
    any_database: str,
) -> None:
    event_id = about("inv1")
    for _ in range(3):
        take(event_id)
        pass_time(seconds=attempts.MIN_LEASE_SECONDS + 1)

    assert due() == []
    stored = WebhookEvent.objects.get()
    assert (stored.state, stored.attempts, stored.error) == ("failed", 3, attempts.DIED)
    pass_time(seconds=2 * attempts.FIRST_WAIT_SECONDS + 1)
    assert due() == [event_id]

    taken = attempts.take(event_id)
    attempts.finish(taken, State.PROCESSED.value)
    stored.refresh_from_db()
    assert (stored.state, stored.attempts, stored.error) == ("processed", 4, "")


def test_event_that_takes_each_worker_along_is_left_to_a_person(
    any_database: str,
) -> None:
    """With longer and longer waits, so that others are processed meanwhile."""
    event_id = about("inv1")

    def live(minutes: int) -> list[int]:
        """Return the minutes in which a worker died."""
        deaths = []
        for minute in range(minutes):
            deaths += [minute for one in due() if attempts.take(one)]
            pass_time(seconds=60)
        return deaths

    deaths = live(600)
    waits = [after - before for before, after in pairwise(deaths)]
    assert len(deaths) == attempts.MAX_DEATHS
    assert waits == sorted(waits)
    assert waits[-1] > 10
    stored = WebhookEvent.objects.get()
    assert (stored.state, stored.error) == ("failed", attempts.GIVEN_UP)
    assert stored.next_attempt_at is None

    attempts.retry_now([event_id])
    assert due() == [event_id]
    taken = attempts.take(event_id)
    attempts.fail(taken, ValueError("again"), "trace")
    assert WebhookEvent.objects.get().deaths == 0
    pass_time(seconds=attempts.MAX_WAIT_SECONDS)
    assert due() == [event_id]


@pytest.mark.parametrize("noticed_by", ["recover", "its next message", "a later event"])
def test_each_attempt_that_took_its_worker_along_is_told_and_counted_once(
    any_database: str, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    first, second = about("inv1"), about("inv1")
    told: list[Any] = []
    counted: list[Any] = []

    def listen(event: WebhookEvent, error: Exception, **more: Any) -> None:
        told.append((event.pk, event.state, event.attempts, str(error)))

    def count(events: Any, outcome: str, ended_at: datetime) -> None:
        counted.extend((event.pk, outcome) for event in events)

    def notice(attempt: int) -> None:
        if noticed_by == "recover":
            if attempt > 1:
                assert due() == []
                pass_time(seconds=attempts.FIRST_WAIT_SECONDS + 1)
            assert due() == [first, second]
            assert due() == []
            pass_time(seconds=attempts.SECOND_MESSAGE_SECONDS + 1)
            assert due() == [first, second]
        else:
            is_later = noticed_by == "a later event"
            assert take(about("inv1") if is_later else second)
            WebhookEvent.objects.exclude(pk__in=[first, second]).delete()

    put_back(monkeypatch, metrics, "events_ended", count)
    webhook_failed.connect(listen, sender=WebhookEvent)
    try:
        assert take(first) == [first, second]
        for attempt in (1, 2):
            pass_time(seconds=attempts.MIN_LEASE_SECONDS + 1)
            notice(attempt)
            if noticed_by == "recover":
                assert take(first) == [first, second]
            assert told == [
                (pk, "failed", number, attempts.DIED)
                for number in range(1, attempt + 1)
                for pk in (first, second)
            ]
    finally:
        webhook_failed.disconnect(listen, sender=WebhookEvent)

    assert counted == [(pk, outcome) for pk, outcome, _, _ in told]


def test_event_is_due_when_its_message_had_time_to_arrive(any_database: str) -> None:
    event_id = about("inv1")
    assert due() == []
    pass_time(seconds=inbox.MESSAGE_SECONDS + 1)

    assert due() == [event_id]
    assert due() == []  # its second message is on its way
    pass_time(seconds=attempts.SECOND_MESSAGE_SECONDS + 1)
    assert due() == [event_id]


def test_event_in_somebodys_hands_is_not_due(any_database: str) -> None:
    event_id = about("inv1")
    take(event_id)
    WebhookEvent.objects.update(next_attempt_at=database_now(any_database))

    assert due() == []


def test_failed_event_waits_longer_each_time(any_database: str) -> None:
    event_id = about("inv1")
    told: list[Any] = []

    def listen(event: WebhookEvent, error: Exception, **more: Any) -> None:
        told.append((event.pk, event.attempts, error))

    webhook_failed.connect(listen, sender=WebhookEvent)
    waits = []
    problem = ValueError("no")
    try:
        for _ in range(12):
            taken = attempts.take(event_id)
            attempts.fail(taken, problem, "because")
            stored = WebhookEvent.objects.get()
            assert stored.next_attempt_at is not None
            wait = stored.next_attempt_at - database_now(any_database)
            waits.append(round(wait.total_seconds()))
    finally:
        webhook_failed.disconnect(listen, sender=WebhookEvent)

    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert (stored.state, stored.error) == (State.FAILED, "because")
    assert told == [(event_id, n, problem) for n in range(1, 13)]
    assert due() == []
    pass_time(seconds=3601)
    assert due() == [event_id]


def test_failed_event_can_be_asked_for_at_once(any_database: str) -> None:
    event_id = about("inv1")
    taken = attempts.take(event_id)
    attempts.fail(taken, ValueError(), "because")
    assert due() == []

    attempts.retry_now([event_id])

    assert due() == [event_id]


def test_recover_wakes_what_no_message_reached(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = catch_messages(monkeypatch)
    ids = [about(f"inv{number}") for number in range(3)]
    tasks.recover()
    assert sent == []
    pass_time(seconds=inbox.MESSAGE_SECONDS + 1)

    tasks.recover()

    assert sent == [("process_webhook_event", (pk,)) for pk in ids]


@pytest.mark.parametrize("count", [1, 50])
def test_retry_of_failed_events_loads_no_body_that_decides_nothing(
    any_database: str, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    ids = [about("inv1") for _ in range(count)]
    filler = "x" * 200_000
    body = json.dumps({"id": "e", "type": "invoice.edited", "filler": filler})
    WebhookEvent.objects.update(state=State.FAILED, attempts=3, body=body)
    settings_without_key = {"API_KEY": ""}  # so the retry fails, too
    with (
        override_settings(DJANGO_ORB=settings_without_key),
        CaptureQueriesContext(connections[any_database]) as statements,
    ):
        monkeypatch.delenv("ORB_API_KEY", raising=False)
        processing.process_event(ids[0])

    assert set(WebhookEvent.objects.values_list("attempts", flat=True)) == {4}
    column = connections[any_database].ops.quote_name("body")
    reads = [query["sql"] for query in statements if column in query["sql"]]
    # What a single event shows may be all that is needed.
    assert len(reads) == (1 if count == 1 else 0)
