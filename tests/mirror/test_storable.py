"""Values that can be written and not read back fail alone, wherever they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import responses
from django.db import transaction

from django_orb import exact_json, mirror, services
from django_orb.client import OrbClient
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import primary
from django_orb.exceptions import (
    OrbConnectionError,
    OrbError,
    OrbInputError,
    OrbPayloadError,
    OrbResponseError,
)
from django_orb.mirror import change_log, read_upcoming
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceOperation,
    LastOccurrence,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)
from django_orb.operations.arguments import line_item_body, update_body
from django_orb.operations.sending import finish, leave_pending
from django_orb.signals import invoice_created
from django_orb.status import occurrences
from django_orb.sync import runs, windows
from django_orb.sync.steps import Step
from django_orb.testing import OrbSandbox
from django_orb.webhooks import inbox, processing
from django_orb.webhooks.payload import parse_event
from tests import crash_points, payloads
from tests.deliveries import event_of
from tests.put_back import put_back

from .test_writing import at, make, see

#: As JSON, in the place of some value of an invoice.
UNSTORABLE = {
    "an integer of 5,000 digits": "9" * 5000,
    "an integer of 700 digits": "-" + "9" * 700,
    "an exponent of twenty digits": "1e" + "9" * 20,
    "a negative exponent of twenty digits": "1e-" + "9" * 20,
    "an exponent that PostgreSQL writes out": "1E+5000",
    "a fraction that PostgreSQL writes out": "1e-5000",
    "a fraction of 5,000 digits": "0." + "1" * 5000,
    "a NUL": '"a\\u0000b"',
    "a NUL in a key": '{"a\\u0000b": 1}',
    "half of a surrogate pair": '"\\ud800"',
    "a depth of 40": "[" * 40 + "]" * 40,
    "a depth of 300": "[" * 300 + "]" * 300,
    "a depth of 300 objects": '{"a":' * 300 + "1" + "}" * 300,
}
NOT_JSON = {
    "not a number": "NaN",
    "an infinity": "-Infinity",
    "a depth of 100,000": "[" * 100_000 + "]" * 100_000,
}
STORABLE = {
    "an integer of 600 digits": "9" * 600,
    "an exponent": "1E+600",
    "a small number": "-1.5e-300",
    "a depth of 20": "[" * 20 + "]" * 20,
    "brackets in a text": '"' + "[{" * 300 + '"',
    "what looks like a number in a text": '"' + "9" * 5000 + ' 1e99999"',
    "an emoji": '"\\ud83d\\ude00"',
}


def raw(text: str, invoice_id: str = "bad") -> RawInvoice:
    whole = exact_json.dumps(make(invoice_id, invented="HERE"))
    return RawInvoice(whole.replace('"HERE"', text).encode(), id=invoice_id)


def with_it(text: str, invoice_id: str = "bad") -> Any:
    """The same as a value, as answers to single fetches are."""
    return exact_json.loads(raw(text, invoice_id).data)


def assert_readable() -> None:
    """By lists, one by one, and with whatever the admin reads."""
    assert [one.payload["id"] for one in Invoice.objects.order_by("pk")]
    for invoice in Invoice.objects.all():
        assert Invoice.objects.get(pk=invoice.pk).payload
    assert list(InvoiceFailure.objects.all())
    assert list(InvoiceLineItem.objects.select_related("invoice"))


@pytest.mark.parametrize("name", UNSTORABLE | NOT_JSON)
def test_invoice_of_a_page_fails_alone(any_database: str, name: str) -> None:
    text = (UNSTORABLE | NOT_JSON)[name]
    good = RawInvoice.of(make("good"))
    see(RawInvoice.of(make("bad", memo="before")), at(0, 1))

    page = mirror.read_page([good, raw(text)], at(2, 3))
    result = mirror.write(page)

    assert (result.created, list(result.failed)) == (["good"], ["bad"])
    assert Invoice.objects.get(pk="bad").memo == "before"
    assert_readable()


@pytest.mark.parametrize("name", UNSTORABLE)
def test_invoice_of_a_single_answer_fails(any_database: str, name: str) -> None:
    see(make("good"), at(0, 1))

    assert see(with_it(UNSTORABLE[name]), at(2, 3)).failed

    assert_readable()


@pytest.mark.parametrize("name", STORABLE)
def test_what_every_database_gives_back_is_stored(any_database: str, name: str) -> None:
    text = STORABLE[name]

    assert see(raw(text, "text"), at(0, 1)).created == ["text"]
    assert see(with_it(text, "value"), at(0, 1)).created == ["value"]

    expected = with_it(text)["invented"]
    for invoice in Invoice.objects.all():
        assert invoice.payload["invented"] == expected


@pytest.mark.parametrize("field", ["id", "total"])
@pytest.mark.parametrize("name", UNSTORABLE | NOT_JSON)
def test_what_is_mapped_to_columns_fails_alone_too(
    any_database: str, name: str, field: str
) -> None:
    text = (UNSTORABLE | NOT_JSON)[name]
    whole = exact_json.dumps({**make("bad"), field: "HERE"})
    data = whole.replace('"HERE"', text).encode()
    page = [RawInvoice.of(make("good")), RawInvoice(data, id=None)]
    if name in NOT_JSON:
        page[1] = RawInvoice(data, id="bad")

    result = mirror.write(mirror.read_page(page, at(2, 3)))

    assert result.created == ["good"]
    assert len(result.failed) == 1
    assert_readable()


def test_id_that_no_database_holds_is_recorded_without_it(any_database: str) -> None:
    for number, odd in enumerate(("a\0b", "\ud800", "x" * 200)):
        assert see(make(odd), at(number)).failed

    assert InvoiceFailure.objects.get().pk.startswith(mirror.NO_ID)
    with pytest.raises(OrbInputError):
        services.fetch_invoice("a\0b")


# Elsewhere


@pytest.mark.parametrize("name", UNSTORABLE)
def test_webhook_is_kept_and_its_invoice_asked_for(
    any_database: str, orb: OrbSandbox, name: str
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    shown = {**orb.invoice(invoice_id), "invented": "HERE"}
    body = json.dumps(event_of(shown)).replace('"HERE"', UNSTORABLE[name])

    inbox.store(parse_event(body.encode()), body)
    event = WebhookEvent.objects.get()
    processing.process_event(event.pk)

    event.refresh_from_db()
    assert event.state == WebhookEvent.State.PROCESSED
    assert Invoice.objects.get().payload == orb.invoice(invoice_id)
    assert not InvoiceFailure.objects.exists()


@pytest.mark.parametrize("name", UNSTORABLE)
def test_answer_to_an_operation_is_recorded(any_database: str, name: str) -> None:
    operation = InvoiceOperation.objects.create(
        kind="void_invoice",
        invoice_id="inv1",
        idempotency_key="key",
        created_at=primary.now(),
    )
    answer = {**with_it(UNSTORABLE[name], "inv1"), "status": "void"}

    finish(operation, "succeeded", "", result=answer)

    stored = InvoiceOperation.objects.get()
    assert stored.state == "succeeded"
    assert (stored.result["id"], stored.result["status"]) == ("inv1", "void")
    assert stored.result["total"] == answer["total"]


@pytest.mark.parametrize("name", UNSTORABLE)
def test_what_is_asked_of_orb_can_be_recorded(name: str) -> None:
    value = exact_json.loads(UNSTORABLE[name])
    line: dict[str, Any] = {
        "name": "Support",
        "item_id": None,
        "quantity": 1,
        "amount": "12.00",
        "start_date": at(0).started_at.date(),
        "end_date": at(0).started_at.date(),
    }
    for field in ("quantity", "amount", "name"):
        if isinstance(value, str if field == "name" else (int, Decimal)):
            with pytest.raises(OrbInputError):
                line_item_body(**{**line, field: value})
    if isinstance(value, str):
        with pytest.raises(OrbInputError):
            update_body(metadata={"a": value}, net_terms=None, due_date=None)


@pytest.mark.parametrize("field", ["total", "line_items", "customer", "target_date"])
@pytest.mark.parametrize("name", UNSTORABLE)
def test_upcoming_invoice_is_read_or_refused_in_words(name: str, field: str) -> None:
    upcoming = {**payloads.load("upcoming"), field: "HERE"}
    text = exact_json.dumps(upcoming).replace('"HERE"', UNSTORABLE[name])

    with suppress(OrbPayloadError):
        read_upcoming(exact_json.loads(text))


def test_what_orb_says_of_an_error_can_be_recorded(
    any_database: str, orb: OrbSandbox
) -> None:
    with responses.RequestsMock(passthru_prefixes=()) as mocked:
        mocked.get(
            f"{orb.base_url}/invoices/inv1",
            body=b'{"status": 400, "title": "No", "detail": "a\\u0000b \\ud800"}',
            status=400,
        )
        with pytest.raises(OrbError) as caught:
            services.fetch_invoice("inv1")

    with transaction.atomic(using=any_database):
        InvoiceFailure.objects.create(
            invoice_id="inv1", reason=str(caught.value), failed_at=at(0).started_at
        )


# Errors, which may quote anything

ODD = "It was a\0b \ud83d."
STORED = "It was a?b ?."


def error_of_turn(connect: windows.Connect) -> str:
    """Return what the row of a window has after a turn that began like this."""
    run = runs.start_run(SyncRun.Kind.FULL.value)
    window = run.windows.filter(state=SyncWindow.State.PENDING)[0]
    lease = windows.lease_window(window)
    assert lease
    runs.turn(window.pk, lease, connect=connect, seconds=0)
    window.refresh_from_db()
    return str(window.error)


def of_event(monkeypatch: pytest.MonkeyPatch) -> str:
    def fail(request: Any) -> None:
        raise RuntimeError(ODD)

    crash_points.before_requests(monkeypatch, fail)
    body = exact_json.dumps(event_of("inv1", "invoice.cost_data_exported"))
    inbox.store(parse_event(body.encode()), body)
    processing.process_event(WebhookEvent.objects.get().pk)
    stored = WebhookEvent.objects.get()
    assert (stored.state, stored.lease) == ("failed", "")
    return stored.error


def of_change(monkeypatch: pytest.MonkeyPatch) -> str:
    def receive(**arguments: Any) -> None:
        raise MemoryError(ODD)  # which is no fault of the receiver

    see(make("inv1"), at(0))
    InvoiceChange.objects.update(announced_at=None)
    invoice_created.connect(receive, sender=Invoice)
    try:
        change_log.announce()
    finally:
        invoice_created.disconnect(receive, sender=Invoice)
    return InvoiceChange.objects.get().error


def of_task(monkeypatch: pytest.MonkeyPatch) -> str:
    with suppress(RuntimeError), occurrences.noted(occurrences.RECOVER):
        raise RuntimeError(ODD)
    return LastOccurrence.objects.get().detail


def of_refusal(monkeypatch: pytest.MonkeyPatch) -> str:
    occurrences._noted_at.clear()
    occurrences.note_refusal(ODD, is_signed=True)
    return LastOccurrence.objects.get().detail


def of_operation(monkeypatch: pytest.MonkeyPatch) -> str:
    now = primary.now()
    operation = InvoiceOperation.objects.create(
        kind="void_invoice", invoice_id="inv1", idempotency_key="a", created_at=now
    )
    leave_pending(operation, ODD)
    return InvoiceOperation.objects.get().detail


def of_run(monkeypatch: pytest.MonkeyPatch) -> str:
    run = runs.start_run("full")
    run.windows.update(state="done", lease="")

    def fail(sql: str, params: Any) -> None:
        if "orb_syncabsence" in sql:
            raise RuntimeError(ODD)

    with crash_points.before_statements(primary.alias(), fail):
        runs.advance(run)
    run.refresh_from_db()
    assert run.state == "failed"
    return run.error


@pytest.mark.parametrize(
    "of", [of_event, of_change, of_task, of_refusal, of_operation, of_run]
)
def test_what_went_wrong_is_recorded_whatever_it_quotes(
    any_database: str, monkeypatch: pytest.MonkeyPatch, of: Callable[..., str]
) -> None:
    assert STORED in of(monkeypatch)


@pytest.mark.parametrize(
    "error", [RuntimeError, OrbResponseError, OrbInputError, OrbConnectionError]
)
def test_why_a_step_failed_is_recorded_whatever_it_quotes(
    any_database: str, error: type[Exception]
) -> None:
    def connect() -> Any:
        raise error(ODD)

    assert STORED in error_of_turn(connect)


def test_what_a_step_passed_by_is_recorded_whatever_it_quotes(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step([], changes={"error": ODD})
    put_back(monkeypatch, windows, "next_step", lambda *_: step)

    assert error_of_turn(OrbClient.from_settings) == STORED
