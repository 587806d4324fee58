from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb.db import primary
from django_orb.db.clock import database_now
from django_orb.models import InvoiceChange, WebhookEvent
from django_orb.webhooks import attempts, inbox
from django_orb.webhooks.payload import parse_event
from tests.deliveries import as_bytes, event, event_of
from tests.factories import make_invoice

from .pages import choose, page_of, told

pytestmark = pytest.mark.django_db

LIST = "/admin/django_orb/webhookevent/"


def store(payload: Any, error: str = "") -> WebhookEvent:
    body = as_bytes(payload)
    inbox.store(parse_event(body), body.decode())
    if error:
        taken = attempts.take(payload["id"])
        attempts.fail(taken, ValueError(error), f"Traceback\nValueError: {error}\n")
    return WebhookEvent.objects.get(pk=payload["id"])


def test_list_shows_what_came_and_why_it_failed(
    finance: Client, django_assert_max_num_queries: Any
) -> None:
    failed = store(event_of("inv1", "invoice.cost_data_exported"), error="<no> Orb")
    for _ in range(5):
        store(event("customer.created"))

    with django_assert_max_num_queries(8):
        content = finance.get(LIST).content.decode()

    assert failed.type in content
    assert "ValueError: &lt;no&gt; Orb" in content
    assert "/admin/django_orb/invoice/inv1/change/" in content


def test_page_shows_what_was_sent_with_its_own_digits(finance: Client) -> None:
    stored = store({**event("customer.created"), "amount": "1.50"}, error="<b>")
    WebhookEvent.objects.update(body='{"id": "x", "n": 1.50, "h": "<script>"}')

    content = finance.get(f"{LIST}{stored.pk}/change/").content.decode()

    assert "1.50" in content
    assert "&lt;script&gt;" in content
    assert "ValueError: &lt;b&gt;" in content


@pytest.mark.parametrize("term", ["id", "invoice_id"])
def test_events_are_found_by_id(finance: Client, term: str) -> None:
    stored = store(event_of("inv1", "invoice.cost_data_exported"))
    store(event_of("inv2", "invoice.edited"))

    response = finance.get(LIST, {"q": getattr(stored, "pk" if term == "id" else term)})

    assert list(response.context["cl"].queryset) == [stored]


def test_failed_events_are_processed_again_at_once(
    finance: Client, sent: list[Any]
) -> None:
    failed = store(event_of("inv1", "invoice.edited"), error="no")
    waiting = store(event_of("inv2", "invoice.edited"))

    response = finance.post(
        LIST, choose("process_again", failed.pk, waiting.pk), follow=True
    )

    assert "1 event is processed again." in response.content.decode()
    assert sent == [("process_webhook_event", (failed.pk,))]
    failed.refresh_from_db()
    assert failed.next_attempt_at is not None
    assert failed.next_attempt_at <= primary.now()
    assert LogEntry.objects.get().object_id == failed.pk


def test_nothing_failed_is_said(finance: Client, sent: list[Any]) -> None:
    waiting = store(event_of("inv2", "invoice.edited"))

    response = finance.post(LIST, choose("process_again", waiting.pk), follow=True)

    assert "None of them failed." in response.content.decode()
    assert sent == []


def test_who_may_only_look_cannot_retry(
    log_in: Callable[..., Client], sent: list[Any]
) -> None:
    failed = store(event_of("inv1", "invoice.edited"), error="no")
    client = log_in("view_webhookevent")

    assert "process_again" not in client.get(LIST).content.decode()
    client.post(LIST, choose("process_again", failed.pk))

    assert sent == []
    assert not LogEntry.objects.exists()
    assert log_in(name="stranger").get(LIST).status_code == 403


def test_invoice_shows_how_it_changed(finance: Client) -> None:
    invoice = make_invoice()
    make_invoice(status="paid", memo="<b>Thanks</b>")
    make_invoice(status="paid", memo="Bye")

    content = finance.get(page_of(invoice.pk)).content.decode()

    assert "First seen: Issued" in content
    assert "Issued → Paid" in content
    assert "memo · Fetch" in content


def test_changes_have_a_list_and_a_page(finance: Client) -> None:
    invoice = make_invoice()
    make_invoice(status="unheard_of", memo="New")
    url = "/admin/django_orb/invoicechange/"

    response = finance.get(url, {"q": invoice.pk})
    newest = response.context["cl"].queryset[0]

    assert "Issued → unheard_of" in response.content.decode()
    page = finance.get(f"{url}{newest.pk}/change/").content.decode()
    assert "Issued → unheard_of" in page


def test_change_that_could_not_be_told_is_told_again_when_asked_for(
    finance: Client, log_in: Any, sent: list[Any]
) -> None:
    invoice = make_invoice()
    failed = InvoiceChange.objects.create(
        invoice=invoice,
        kind="updated",
        status="paid",
        created_at=database_now("default"),
        attempts=12,
        failed_at=database_now("default"),
        error="Traceback: MemoryError",
    )
    url = "/admin/django_orb/invoicechange/"
    chosen = choose("tell_again", str(failed.pk))
    assert "MemoryError" in finance.get(f"{url}{failed.pk}/change/").content.decode()

    log_in("view_invoicechange", name="reader").post(url, chosen)
    failed.refresh_from_db()
    assert failed.failed_at is not None

    assert told(finance.post(url, chosen)) == ["success: 1 change is announced again."]
    asked = InvoiceChange.objects.get(pk=failed.pk)
    assert (asked.failed_at, asked.attempts) == (None, 0)
    assert "None of them failed." in told(finance.post(url, chosen))[-1]
