from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery.app.task import Task
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services
from django_orb.models import Invoice, SyncRun
from django_orb.publishing import deadline
from tests import times
from tests.factories import make_invoices

from .pages import LIST, choose, fields_of, page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db


def test_one_invoice_is_read_anew_at_once(orb: OrbSandbox, finance: Client) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    orb.mark_paid(invoice.pk)

    response = finance.post(page_of(invoice.pk, "fetch"))

    assert response.headers["Location"] == page_of(invoice.pk)
    assert "Fetched again from Orb." in told(response)[0]
    invoice.refresh_from_db()
    assert invoice.status == "paid"
    assert LogEntry.objects.get().get_change_message() == "Fetched again from Orb."


def test_a_handful_is_read_at_once(orb: OrbSandbox, finance: Client) -> None:
    ids = orb.invoice_ids("paid")[:5]
    for invoice_id in ids:
        services.fetch_invoice(invoice_id)

    messages = told(finance.post(LIST, choose("fetch_from_orb", *ids)))

    assert len(messages) == 5
    assert not SyncRun.objects.exists()


def test_more_become_a_run_that_shows_its_progress(finance: Client) -> None:
    ids = [invoice.pk for invoice in make_invoices(6)]

    (message,) = told(finance.post(LIST, choose("fetch_from_orb", *ids)))

    run = SyncRun.objects.get()
    assert message.startswith("success: Fetching 6 invoices again from Orb.")
    assert f"/admin/django_orb/syncrun/{run.pk}/change/" in message
    window = run.windows.get()
    assert sorted(window.invoice_ids) == ids
    assert window.lease


@pytest.mark.usefixtures("no_broker")
def test_without_a_broker_the_run_is_recorded_and_waits(finance: Client) -> None:
    ids = [invoice.pk for invoice in make_invoices(6)]

    (message,) = told(finance.post(LIST, choose("fetch_from_orb", *ids)))

    assert message.startswith("warning: ")
    assert "broker cannot be reached: the run is recorded" in message
    assert SyncRun.objects.get().is_active


def test_too_many_are_refused(finance: Client) -> None:
    first, *_ = make_invoices(1001)
    chosen = choose("fetch_from_orb", first.pk, select_across="1")

    (message,) = told(finance.post(LIST, chosen))

    assert "Choose at most 1000 invoices" in message
    assert not SyncRun.objects.exists()


def test_an_invoice_that_orb_does_not_know_is_told(
    orb: OrbSandbox, finance: Client
) -> None:
    services.fetch_invoice(orb.invoice_ids("paid")[0])
    invoice = services.fetch_invoice(orb.invoice_ids("draft")[0])
    orb.delete_draft(invoice.pk)

    (message,) = told(finance.post(page_of(invoice.pk, "fetch")))

    assert message.startswith("error: ")
    assert "Orb does not know this invoice." in message
    assert not LogEntry.objects.exists()


def test_an_answer_that_cannot_be_stored_is_told(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    orb.update_invoice(invoice.pk, total="plenty")

    (message,) = told(finance.post(page_of(invoice.pk, "fetch")))

    assert "kept under failures" in message
    assert "total is" in message


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "did not accept the API key"),
        (403, "error"),
        (429, "too many requests"),
        (500, "an error of its own"),
        (503, "an error of its own"),
    ],
)
def test_orbs_troubles_are_told(
    orb: OrbSandbox, finance: Client, status: int, words: str
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    orb.fail_next(20, status=status)

    (message,) = told(finance.post(page_of(invoice.pk, "fetch")))

    assert message.startswith("error: ")
    assert words in message


def test_no_connection_is_told_once(finance: Client) -> None:
    ids = [invoice.pk for invoice in make_invoices(3)]

    messages = told(finance.post(LIST, choose("fetch_from_orb", *ids)))

    assert "could not be reached" in messages[0]
    assert all("Not tried" in message for message in messages[1:])


def test_sync_now_starts_a_run(finance: Client) -> None:
    response = finance.post(f"{LIST}sync/")

    (message,) = told(response)
    run = SyncRun.objects.get()
    assert run.kind == "incremental"
    assert message.startswith("success: Bringing the mirror up to date")
    assert f"/admin/django_orb/syncrun/{run.pk}/change/" in message
    assert response.headers["Location"] == LIST


def test_who_may_not_see_runs_gets_no_link_to_them(log_in: Any) -> None:
    client = log_in("view_invoice", "sync_invoice")

    (message,) = told(client.post(f"{LIST}sync/"))

    assert message == "success: Bringing the mirror up to date with Orb."
    assert "syncrun" not in client.get(LIST).content.decode()


def test_sync_now_joins_the_run_at_work(finance: Client) -> None:
    finance.post(f"{LIST}sync/")
    finance.post(f"{LIST}sync/")

    assert SyncRun.objects.count() == 1


@pytest.mark.usefixtures("no_broker")
def test_sync_now_without_a_broker_says_so(finance: Client) -> None:
    (message,) = told(finance.post(f"{LIST}sync/"))

    assert "broker cannot be reached" in message
    assert SyncRun.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["sync now", "fetch many", "void many"])
def test_a_broker_that_does_not_answer_is_not_waited_for(
    finance: Client, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    given_up = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> None:
        given_up.wait(timeout=20)

    monkeypatch.setattr(Task, "apply_async", hang)
    # The second is over at once.
    times.hurry(monkeypatch, deadline)
    ids = [invoice.pk for invoice in make_invoices(6)]

    if way == "sync now":
        response = finance.post(f"{LIST}sync/")
    elif way == "fetch many":
        response = finance.post(LIST, choose("fetch_from_orb", *ids))
    else:
        confirmation = finance.post(LIST, choose("void_selected", *ids))
        response = finance.post(LIST, fields_of(confirmation))
    given_up.set()

    (message,) = told(response)
    assert message.startswith("warning: ")
    assert "broker cannot be reached" in message


def test_sync_now_with_wrong_settings_says_so(finance: Client, settings: Any) -> None:
    settings.DJANGO_ORB = {"API_KYE": "x"}

    (message,) = told(finance.post(f"{LIST}sync/"))

    assert "not set up" in message
    assert not SyncRun.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("atomic_requests")
def test_sync_now_commits_before_it_publishes(
    log_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = log_in("view_invoice", "sync_invoice")
    seen: list[bool] = []

    def look(*args: Any, **kwargs: Any) -> None:
        """In another thread, with another connection: what is committed."""
        seen.append(SyncRun.objects.exists())

    monkeypatch.setattr(Task, "apply_async", look)

    client.post(f"{LIST}sync/")

    assert seen
    assert all(seen)
    assert not Invoice.objects.exists()
