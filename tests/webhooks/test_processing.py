from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections
from django.db.models.signals import ModelSignal
from django.dispatch import Signal

from django_orb import mirror, services
from django_orb.db import primary
from django_orb.db.clock import Interval, database_now
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceObservation,
    WebhookEvent,
)
from django_orb.signals import webhook_failed, webhook_received
from django_orb.testing import OrbSandbox
from django_orb.testing.sandbox.app import OrbApp
from django_orb.webhooks import attempts, processing
from tests import databases, payloads, times
from tests.deliveries import SECRET, event, event_of, now
from tests.sync.test_runs import assert_mirrors

from .test_inbox import store

State = WebhookEvent.State
INVOICE = payloads.load("invoice_issued")
PAID = {**INVOICE, "status": "paid"}
ELAPSED = "invoice.invoice_date_elapsed"


def process(payload: Any) -> WebhookEvent:
    event_id = store(payload)
    processing.process_event(event_id)
    return WebhookEvent.objects.get(pk=event_id)


def mirror_earlier(payload: Any, **ago: float) -> None:
    """As if Orb had shown it so long ago."""
    moment = database_now(primary.alias()) - timedelta(**ago)
    mirror.write(mirror.read_page([payload], Interval(moment, moment)))


@contextmanager
def listening(signal: Signal | ModelSignal, sender: Any, listen: Any) -> Iterator[None]:
    signal.connect(listen, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(listen, sender=sender)


@pytest.mark.parametrize("kind", ["invoice.issued", "invoice.manually_marked_as_paid"])
def test_whole_invoice_is_mirrored_without_asking_orb(
    any_database: str, kind: str
) -> None:
    mirror_earlier(INVOICE, minutes=6)

    done = process(event_of(PAID, kind))

    assert (done.state, done.error) == (State.PROCESSED, "")
    invoice = Invoice.objects.get()
    assert invoice.payload == PAID
    assert invoice.last_seen_at == done.received_at  # and nothing is known of later
    change = InvoiceChange.objects.get(kind="updated")
    assert (change.origin, change.origin_id) == ("webhook", done.pk)
    assert (change.previous_status, change.status) == ("issued", "paid")


def test_new_invoice_of_a_known_customer_is_mirrored_too(any_database: str) -> None:
    mirror_earlier({**INVOICE, "id": "another of the customer"}, minutes=30)

    assert process(event_of(INVOICE)).state == State.PROCESSED

    assert Invoice.objects.get(pk=INVOICE["id"]).payload == INVOICE


def test_event_that_is_older_than_what_is_mirrored_changes_nothing(
    any_database: str,
) -> None:
    """It is not even asked for: nobody listens where these tests have their Orb."""
    late = event_of(INVOICE, created_at=(now() - timedelta(hours=1)).isoformat())
    event_id = store(late)
    mirror_earlier(PAID, minutes=-1)

    processing.process_event(event_id)

    assert WebhookEvent.objects.get().state == State.PROCESSED
    assert Invoice.objects.get().status == "paid"


def test_event_that_may_be_older_or_newer_is_settled_by_one_fetch(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    before = orb.invoice(invoice_id)
    orb.mark_paid(invoice_id)
    services.fetch_invoice(invoice_id)
    orb.clear_requests()

    assert process(event_of(before)).state == State.PROCESSED

    assert Invoice.objects.get(pk=invoice_id).status == "paid"
    assert orb.request_counts() == {"fetch_invoice": 1}


def test_event_from_a_clock_far_ahead_is_not_newer_than_what_is_mirrored(
    any_database: str, orb: OrbSandbox
) -> None:
    """It was received before it claims to have been made."""
    invoice_id = orb.invoice_ids("issued")[0]
    before = orb.invoice(invoice_id)
    orb.mark_paid(invoice_id)
    ahead = (now() + timedelta(days=1)).isoformat()
    event_id = store(event_of(before, created_at=ahead))
    services.fetch_invoice(invoice_id)

    processing.process_event(event_id)

    assert WebhookEvent.objects.get().state == State.PROCESSED
    assert Invoice.objects.get().status == "paid"


def test_invoice_that_was_seen_between_two_events_is_fetched(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    shown = orb.invoice(invoice_id)
    first = store(event_of(shown, ELAPSED))
    WebhookEvent.objects.update(received_at=now() - timedelta(minutes=1))
    services.fetch_invoice(invoice_id)
    orb.mark_paid(invoice_id)
    store(event_of(shown, ELAPSED))

    processing.process_event(first)

    assert {one.state for one in WebhookEvent.objects.all()} == {State.PROCESSED}
    assert Invoice.objects.get().status == "paid"


REDUCED: dict[str, Callable[[Any], Any]] = {
    "some fields": lambda one: event_of({"id": one["id"], "status": "x"}, ELAPSED),
    "an id": lambda one: event_of(one["id"], "invoice.cost_data_exported"),
    "standard style": lambda one: event_of(one, payload_style="standard"),
    "a summary": lambda one: event_of(one, "invoice.issued_summary"),
    "no lines": lambda one: event_of(
        {k: v for k, v in one.items() if k not in ("line_items", "subtotal")}
    ),
    "no time": lambda one: event_of(one, created_at=None),
    "an unknown type": lambda one: event_of(one, "invoice.of_tomorrow"),
    "a credit note": lambda one: event(
        "credit_note.issued", credit_note={"invoice_id": one["id"]}
    ),
    "a change of the balance": lambda one: event(
        "customer.balance_transaction_created",
        properties={"balance_transaction": {"invoice": {"id": one["id"]}}},
    ),
}


@pytest.mark.parametrize("what", REDUCED)
def test_what_shows_less_than_an_invoice_is_fetched(
    any_database: str, orb: OrbSandbox, what: str
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    shown = {**orb.invoice(invoice_id), "total": "0.00"}
    services.fetch_invoice(invoice_id)
    orb.mark_paid(invoice_id)
    orb.clear_requests()

    assert process(REDUCED[what](shown)).state == State.PROCESSED

    assert Invoice.objects.get().payload == orb.invoice(invoice_id)
    assert orb.request_counts() == {"fetch_invoice": 1}


def test_several_events_of_an_invoice_cost_one_fetch(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    ids = [store(event_of(orb.invoice(invoice_id))) for _ in range(3)]
    orb.mark_paid(invoice_id)
    ids += [store(event_of(invoice_id, "invoice.cost_data_exported"))]
    random.shuffle(ids)

    for event_id in ids:
        processing.process_event(event_id)

    assert orb.request_counts()["fetch_invoice"] == 1
    assert Invoice.objects.get().status == "paid"
    assert set(WebhookEvent.objects.values_list("state", "attempts")) == {
        (State.PROCESSED, 1)
    }


def test_of_two_states_that_come_together_the_later_one_stays(
    any_database: str, orb: OrbSandbox
) -> None:
    """They came in the wrong order, and happened within a second."""
    invoice_id = orb.invoice_ids("issued")[0]
    before = orb.invoice(invoice_id)
    orb.mark_paid(invoice_id)
    store(event_of(orb.invoice(invoice_id)))
    last = store(event_of(before))

    processing.process_event(last)

    assert Invoice.objects.get().status == "paid"


def test_what_was_fetched_since_it_came_is_not_fetched_again(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    event_id = store(event_of(invoice_id, "invoice.cost_data_exported"))
    WebhookEvent.objects.update(
        received_at=database_now(any_database) - timedelta(seconds=1)
    )
    services.fetch_invoice(invoice_id)
    orb.clear_requests()

    processing.process_event(event_id)

    assert WebhookEvent.objects.get().state == State.PROCESSED
    assert not orb.request_counts()


def test_what_was_being_fetched_when_it_came_is_fetched_again(
    any_database: str, orb: OrbSandbox
) -> None:
    """The answer may show the invoice as it was before."""
    invoice_id = orb.invoice_ids("issued")[0]
    services.fetch_invoice(invoice_id)
    orb.mark_paid(invoice_id)
    event_id = store(event_of(invoice_id, "invoice.cost_data_exported"))
    received_at = WebhookEvent.objects.get().received_at
    InvoiceObservation.objects.update(ended_at=received_at + timedelta(seconds=1))

    processing.process_event(event_id)

    assert Invoice.objects.get().status == "paid"


@pytest.mark.parametrize(
    "payload",
    [
        event("resource_event.test", invoice=None),
        event("customer.created"),
        event("subscription.started", invoice=INVOICE),
        event("unheard_of"),
        event_of(None),
    ],
)
def test_what_is_about_no_invoice_is_ignored(any_database: str, payload: Any) -> None:
    done = process({**payload, "id": "whk1"})

    assert (done.state, done.attempts) == (State.IGNORED, 1)
    assert not Invoice.objects.exists()


def test_invoice_that_orb_does_not_know_is_marked(
    any_database: str, orb: OrbSandbox
) -> None:
    services.fetch_invoice(orb.invoice_ids("issued")[0])
    invoice_id = orb.invoice_ids("draft")[0]
    mirror_earlier(orb.invoice(invoice_id), minutes=30)
    orb.delete_draft(invoice_id)

    assert process(event_of(invoice_id, "invoice.edited")).state == State.PROCESSED

    assert Invoice.objects.get(pk=invoice_id).missing_since is not None
    assert InvoiceChange.objects.get(kind="updated").changed_fields == ["missing_since"]


def test_invoice_that_neither_we_nor_orb_know_is_no_trouble(
    any_database: str, orb: OrbSandbox
) -> None:
    assert process(event_of("nobodys", "invoice.edited")).state == State.PROCESSED

    assert not Invoice.objects.exists()


def test_failure_is_written_down_and_success_wipes_it(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    orb.fail_next(1, status=503)

    failed = process(event_of(invoice_id, "invoice.edited"))

    assert (failed.state, failed.attempts) == (State.FAILED, 1)
    assert "OrbServerError" in failed.error
    assert "Traceback" in failed.error
    assert orb.api_key not in failed.error

    processing.process_event(failed.pk)

    failed.refresh_from_db()
    assert (failed.state, failed.attempts, failed.error) == (State.PROCESSED, 2, "")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("advice", "seconds"), [("40", 40), ("3600", 60), ("1", 10)])
def test_event_waits_at_least_as_long_as_orb_asked_for_up_to_a_minute(
    any_database: str, orb: OrbSandbox, status: int, advice: str, seconds: int
) -> None:
    orb.fail_next(1, status=status, headers={"Retry-After": advice})

    failed = process(event_of(orb.invoice_ids()[0], "invoice.edited"))

    assert failed.next_attempt_at is not None
    wait = failed.next_attempt_at - database_now(any_database)
    assert seconds - 8 < wait.total_seconds() < seconds + 1


def test_rate_limit_holds_every_worker_back(any_database: str, orb: OrbSandbox) -> None:
    orb.fail_next(1, status=429, headers={"Retry-After": "30"})

    process(event_of(orb.invoice_ids()[0], "invoice.edited"))

    from django_orb.models import RequestBudget

    wait = RequestBudget.objects.get(pk="reads").next_at - database_now(any_database)
    assert wait > timedelta(seconds=25)


def test_invoice_that_cannot_be_stored_fails_its_event(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    orb.update_invoice(invoice_id, total="a lot")

    failed = process(event_of(orb.invoice(invoice_id)))

    assert failed.state == State.FAILED
    assert "a lot" in failed.error
    assert InvoiceFailure.objects.get().pk == invoice_id


def test_nul_character_fails_its_event_alone(
    any_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    orb.update_invoice(invoice_id, memo="a\0b")

    failed = process(event_of(orb.invoice(invoice_id)))

    assert failed.state == State.FAILED


# Exactly once


def test_event_is_told_of_once_whatever_it_is_about(
    any_database: str, orb: OrbSandbox
) -> None:
    told: list[tuple[str, str]] = []

    def listen(event: WebhookEvent, **more: Any) -> None:
        told.append((event.type, event.state))

    with listening(webhook_received, WebhookEvent, listen):
        for payload in (event_of(INVOICE), event("customer.created")):
            done = process(payload)
            processing.process_event(done.pk)

    assert told == [("invoice.issued", "processed"), ("customer.created", "ignored")]


def test_many_deliveries_at_once_are_one_processing(
    any_committed_database: str,
) -> None:
    told: list[str] = []
    body = event_of(PAID)
    mirror_earlier(INVOICE, minutes=30)
    together = threading.Barrier(8)

    def listen(event: WebhookEvent, **more: Any) -> None:
        told.append(event.pk)

    def deliver() -> None:
        try:
            together.wait(10)
            process(body)
        finally:
            connections.close_all()

    with listening(webhook_received, WebhookEvent, listen):
        threads = [threading.Thread(target=deliver) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        processing.process_event(body["id"])

    assert told == [body["id"]]
    assert InvoiceChange.objects.filter(kind="updated").count() == 1


def test_what_waits_is_taken_up(any_database: str) -> None:
    mirror_earlier(INVOICE, minutes=30)
    event_id = store(event_of(INVOICE))
    attempts.take(event_id)  # by a worker that died
    long_ago = database_now(any_database) - timedelta(hours=1)
    WebhookEvent.objects.update(lease_expires_at=long_ago, next_attempt_at=long_ago)

    processing.process_due()

    assert WebhookEvent.objects.get().state == State.PROCESSED


@pytest.mark.parametrize("style", ["expanded", "standard", "id", "old"])
def test_what_the_sandbox_delivers_keeps_the_mirror_right(
    any_committed_database: str,
    orb: OrbSandbox,
    settings: Any,
    live_server: Any,
    style: str,
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}
    services.sync_invoices(mode="full")
    orb.webhooks.deliver_to(
        f"{live_server.url}/orb/webhook/",
        secret=SECRET,
        duplicates=0.5,
        shuffle_seconds=0.2,
        payload_style=style,
    )

    for invoice_id in orb.invoice_ids("issued")[:3]:
        orb.void(invoice_id)
    orb.mark_paid(orb.invoice_ids("issued")[0])

    assert orb.webhooks.wait(30)
    processing.process_due()
    assert_mirrors(orb)
    assert set(WebhookEvent.objects.values_list("state", flat=True)) == {"processed"}


# Receivers that cannot be called now


def locked(*times: bool) -> tuple[list[str], Any]:
    """A receiver that writes, and meets a lock so many times; and the states it saw."""
    waiting, seen = list(times), []

    def listen(event: WebhookEvent, **more: Any) -> None:
        seen.append(event.state)
        users = get_user_model().objects.using(databases.current_alias)
        users.create(username=f"{event.pk}")
        if waiting and waiting.pop():
            raise OperationalError("database is locked")

    return seen, listen


def test_event_whose_receiver_meets_a_lock_is_told_at_once(
    any_committed_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times.rule(monkeypatch, sleep=lambda seconds: None)
    seen, listen = locked(True, True)

    with listening(webhook_received, WebhookEvent, listen):
        done = process(event("customer.created"))

    assert (done.state, done.lease, done.attempts) == (State.IGNORED, "", 1)
    assert seen == [State.IGNORED] * 3
    assert get_user_model().objects.count() == 1


@pytest.mark.parametrize("kind", ["customer.created", "invoice.issued"])
def test_event_whose_receiver_cannot_be_called_is_tried_again_soon(
    any_committed_database: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    times.rule(monkeypatch, sleep=lambda seconds: None)
    mirror_earlier(INVOICE, minutes=30)
    _, listen = locked(*[True] * 10)
    payload = event_of(PAID) if kind == "invoice.issued" else event(kind)

    with listening(webhook_received, WebhookEvent, listen):
        waiting = process(payload)
        assert (waiting.state, waiting.lease) == (State.FAILED, "")
        assert "database is locked" in waiting.error
        assert waiting.next_attempt_at is not None
        wait = waiting.next_attempt_at - database_now(any_committed_database)
        assert wait < timedelta(seconds=attempts.FIRST_WAIT_SECONDS + 1)
        assert get_user_model().objects.count() == 0

        processing.process_event(waiting.pk)

    done = WebhookEvent.objects.get()
    assert done.state in (State.PROCESSED, State.IGNORED)
    assert (done.lease, done.attempts, done.error) == ("", 2, "")
    assert get_user_model().objects.count() == 1


def test_connection_that_a_receiver_loses_leaves_its_event_to_be_tried_again(
    any_committed_database: str,
) -> None:
    lost = [True]

    def listen(event: WebhookEvent, **more: Any) -> None:
        if lost and lost.pop():
            connections[any_committed_database].close()

    with listening(webhook_received, WebhookEvent, listen):
        waiting = process(event("customer.created"))
        assert (waiting.state, waiting.lease) == (State.FAILED, "")
        processing.process_event(waiting.pk)

    assert WebhookEvent.objects.get().state == State.IGNORED


def test_connection_that_is_cut_while_orb_answers_leaves_the_event_to_be_tried_again(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any_committed_database == "default":
        pytest.skip("SQLite has no connection that could be cut")
    invoice_id = orb.invoice_ids("issued")[0]
    services.fetch_invoice(invoice_id)  # the key is known
    which, end = {
        "postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
        "mariadb": ("connection_id()", "KILL %s"),
    }[any_committed_database]
    with connections[any_committed_database].cursor() as cursor:
        cursor.execute(f"SELECT {which}")
        ours = [cursor.fetchone()]
    run = OrbApp._run

    def cut(*args: Any) -> Any:
        if ours:  # in a thread, which has a connection of its own
            with connections[any_committed_database].cursor() as cursor:
                cursor.execute(end, ours.pop())
            connections[any_committed_database].close()
        return run(*args)

    monkeypatch.setattr(OrbApp, "_run", cut)

    waiting = process(event(ELAPSED, invoice={"id": invoice_id}))

    assert (waiting.state, waiting.lease) == (State.FAILED, "")
    processing.process_event(waiting.pk)
    assert WebhookEvent.objects.get().state == State.PROCESSED


@pytest.mark.parametrize("signal", [webhook_received, webhook_failed])
def test_soft_time_limit_in_a_receiver_ends_the_task_and_the_lease(
    any_committed_database: str, orb: OrbSandbox, signal: Signal
) -> None:
    orb.fail_next(2, status=503)

    def run_out(**more: Any) -> None:
        raise SoftTimeLimitExceeded

    is_fetched = signal is webhook_failed
    payload = event_of("inv1", "invoice.edited") if is_fetched else event("x.created")
    with listening(signal, WebhookEvent, run_out), pytest.raises(SoftTimeLimitExceeded):
        process(payload)

    left = WebhookEvent.objects.get()
    assert (left.state, left.lease, left.attempts) == (State.FAILED, "", 1)
