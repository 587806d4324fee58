from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from celery import Celery
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_orb import mirror, views
from django_orb.db.clock import Interval, database_now
from django_orb.models import Invoice, WebhookEvent
from django_orb.publishing import deadline
from django_orb.webhooks.payload import OrbEvent
from tests import celery_app, crash_points

from . import deliveries, payloads
from .brokers import catch_messages
from .deliveries import as_bytes, deliver, event, event_of, headers, post
from .workers import wait_for

INVOICE = payloads.load("invoice_issued")


def test_event_is_stored_and_its_processing_asked_for(
    any_committed_database: str, sent: list[Any], atomic_requests: None
) -> None:
    payload = event()

    response = deliver(payload)

    assert (response.status_code, response.content) == (200, b"")
    stored = WebhookEvent.objects.get()
    assert (stored.pk, stored.type) == (payload["id"], payload["type"])
    assert stored.state == WebhookEvent.State.RECEIVED
    assert stored.invoice_id == payload["invoice"]["id"]
    assert stored.body.encode() == as_bytes(payload)
    assert sent == [("process_webhook_event", (payload["id"],))]


def test_one_insert_and_a_look_at_one_row_are_all(
    any_committed_database: str, sent: list[Any], atomic_requests: None
) -> None:
    deliver(event())  # the clock is measured once a minute

    with CaptureQueriesContext(connections[any_committed_database]) as captured:
        deliver(event())

    insert, look = captured.captured_queries
    assert "INSERT" in insert["sql"]
    assert "SELECT token" in look["sql"]


def test_event_that_comes_again_is_stored_once(
    any_committed_database: str, sent: list[Any]
) -> None:
    payload = event()
    first = as_bytes(payload)

    assert post(first).status_code == 200
    assert post(as_bytes({**payload, "type": "other"})).status_code == 200

    assert WebhookEvent.objects.get().body.encode() == first


def test_many_at_once_store_one(any_committed_database: str, sent: list[Any]) -> None:
    body = as_bytes(event())
    codes: list[int] = []

    def deliver_it() -> None:
        try:
            codes.append(post(body).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=deliver_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert codes == [200] * 8
    assert WebhookEvent.objects.count() == 1


def test_event_survives_what_comes_after_it_in_the_request(
    any_committed_database: str, atomic_requests: None, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}

    def is_processing(sql: str, params: Any) -> bool:
        return sql.startswith("UPDATE") and "orb_webhookevent" in sql

    client = Client(raise_request_exception=False)
    with crash_points.dying_at_statement(
        any_committed_database, is_processing, RuntimeError
    ):
        assert deliver(event(), client).status_code == 500

    assert WebhookEvent.objects.count() == 1


REFUSED: list[tuple[bytes, dict[str, str]]] = [
    (b"{}", {}),
    (b"{}", headers(b"{ }")),
    (b"", headers(b"")),
    (b"[]", headers(b"[]")),
    (b"\xff", headers(b"\xff")),
    (as_bytes(event()), headers(b"{}")),
    (as_bytes(event()), headers(as_bytes(event()), secret="other")),
    (as_bytes({"type": "no id"}), headers(as_bytes({"type": "no id"}))),
]


@pytest.mark.parametrize(("body", "given_headers"), REFUSED)
def test_what_is_not_orbs_is_refused_and_not_stored(
    any_database: str, sent: list[Any], body: bytes, given_headers: dict[str, str]
) -> None:
    response = post(body, given_headers)

    assert (response.status_code, response.content) == (400, b"")
    assert not WebhookEvent.objects.exists()
    assert sent == []


def test_without_a_secret_nothing_is_taken(
    any_database: str, sent: list[Any], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_SECRETS": []}

    assert deliver(event()).status_code == 400

    assert not WebhookEvent.objects.exists()
    assert "WEBHOOK_SECRETS" in caplog.text


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_other_methods_are_refused(any_database: str, method: str) -> None:
    response = getattr(Client(), method)(reverse("django_orb:webhook"))

    assert response.status_code == 405
    assert response["Allow"] == "POST"


def test_neither_a_login_nor_a_token_is_needed(
    any_database: str, sent: list[Any], settings: Any
) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]

    assert deliver(event(), Client(enforce_csrf_checks=True)).status_code == 200


def test_large_body_is_taken_and_a_larger_one_is_not(
    any_database: str, sent: list[Any]
) -> None:
    """Django's own limit is 2.5 MB."""
    payload = event(padding="x" * 3_000_000)
    assert deliver(payload).status_code == 200
    assert len(WebhookEvent.objects.get().body) > 3_000_000

    larger = event(padding="x" * views.MAX_BODY_BYTES)
    assert deliver(larger).status_code == 413
    assert WebhookEvent.objects.count() == 1


# The broker


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Connections are accepted there, and nothing is ever answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@contextmanager
def current(app: Celery) -> Iterator[None]:
    """Make this the Celery app of the project."""
    try:
        app.set_current()
        app.set_default()
        app.finalize()
        yield
    finally:
        celery_app.app.set_current()
        celery_app.app.set_default()


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
@pytest.mark.parametrize("answers", [True, False])
def test_broker_that_is_away_or_silent_costs_about_a_second(
    any_committed_database: str, silent_port: int, scheme: str, answers: bool
) -> None:
    port = silent_port if answers else 9  # where nobody listens
    url = f"{scheme}://127.0.0.1:{port}//"
    with current(Celery("elsewhere", broker=url)):
        started = time.monotonic()
        codes = [deliver(event()).status_code for _ in range(20)]
        took = time.monotonic() - started

    assert codes == [200] * 20
    assert took < 2  # all of them: after the first nobody asks for a while
    assert WebhookEvent.objects.count() == 20


def test_broker_that_is_back_is_asked_again() -> None:
    hangs = threading.Event()
    ours = deadline.Broker()
    try:
        assert ours.ask(lambda: True)
        assert not ours.ask(hangs.wait)
        assert not ours.ask(lambda: True)
        ours._paused_until = 0.0
        assert ours.ask(lambda: True)
    finally:
        hangs.set()


def test_silent_broker_holds_a_limited_number_of_threads() -> None:
    hangs = threading.Event()
    ours = deadline.Broker(max_threads=2, patience_seconds=0.01, pause_seconds=0.0)
    asking: list[threading.Thread] = []

    def hang() -> bool:
        asking.append(threading.current_thread())
        return hangs.wait()

    try:
        for _ in range(5):
            assert not ours.ask(hang)
        assert wait_for(lambda: len(asking) == 2, seconds=10)
        assert all(thread.is_alive() for thread in asking)
    finally:
        hangs.set()


# Without workers


def test_event_may_be_processed_in_its_request(
    any_database: str, sent: list[Any], settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}
    moment = database_now(any_database) - timedelta(hours=1)
    seen = mirror.read_page([{**INVOICE, "memo": "old"}], Interval(moment, moment))
    mirror.write(seen)

    assert deliver(event_of(INVOICE)).status_code == 200

    assert WebhookEvent.objects.get().state == WebhookEvent.State.PROCESSED
    assert Invoice.objects.get().payload == INVOICE
    assert sent == []


def test_failure_in_the_request_is_kept_and_not_shown(
    any_database: str, sent: list[Any], settings: Any
) -> None:
    """Nobody listens where these tests have their Orb."""
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}

    assert deliver(event_of("inv1", "invoice.cost_data_exported")).status_code == 200

    stored = WebhookEvent.objects.get()
    assert stored.state == WebhookEvent.State.FAILED
    assert "OrbConnectionError" in stored.error


# Whatever comes

TEXT = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=140) | JSON,
        "type": st.sampled_from(["invoice.issued", "credit_note.issued", "x"]) | JSON,
        "created_at": TEXT | JSON,
        "invoice": JSON | st.fixed_dictionaries({"id": st.text() | JSON}),
    }
)
BODIES = st.binary(max_size=200) | (JSON | NEARLY).map(as_bytes)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["X-Orb-Signature", "x-orb-signature", "X-Orb-Timestamp", "Content-Length"]
    ),
    TEXT | st.sampled_from(["v1=", "2024-03-27T15:42:29.551", "-1", "9" * 5000]),
)


Test = TypeVar("Test", bound=Callable[..., None])


def _quietly(examples: int) -> Callable[[Test], Test]:
    decorate: Callable[[Test], Test] = hypothesis_settings(
        max_examples=examples, database=None, suppress_health_check=list(HealthCheck)
    )
    return decorate


def _try(body: bytes, given_headers: dict[str, str], is_signed: bool) -> None:
    before = WebhookEvent.objects.count()
    good = headers(body) if is_signed else {}

    response = post(body, {**good, **given_headers})

    assert response.status_code in (200, 400)
    stored = WebhookEvent.objects.count() - before
    assert stored <= (response.status_code == 200)
    if not (is_signed and good.items() <= {**good, **given_headers}.items()):
        assert stored == 0


@_quietly(60)
@given(body=BODIES, given_headers=HEADERS, is_signed=st.booleans())
def test_nothing_ends_in_an_error_and_nothing_unsigned_is_stored(
    any_database: str, body: bytes, given_headers: dict[str, str], is_signed: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        catch_messages(patch)
        _try(body, given_headers, is_signed)


@pytest.mark.long
@_quietly(5000)
@given(body=BODIES, given_headers=HEADERS, is_signed=st.booleans())
def test_nothing_ends_in_an_error_for_long(
    any_database: str, body: bytes, given_headers: dict[str, str], is_signed: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        catch_messages(patch)
        _try(body, given_headers, is_signed)


def test_every_field_of_an_event_fits_where_it_is_stored(any_database: str) -> None:
    from django_orb.webhooks import inbox

    longest = OrbEvent("i" * 128, "t" * 255, deliveries.now(), "n" * 128)
    inbox.store(longest, "{}")

    stored = WebhookEvent.objects.get()
    assert (stored.pk, stored.type) == (longest.id, longest.type)
    assert stored.invoice_id == longest.invoice_id
