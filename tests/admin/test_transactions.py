"""Under ATOMIC_REQUESTS too, nothing is asked of Orb or the broker in a transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from django.db import connection
from django.test import Client

from django_orb import services
from django_orb.models import Invoice, InvoiceFailure, SyncRun
from django_orb.sync import runs
from django_orb.testing import OrbSandbox

from .pages import LIST, choose, page_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("atomic_requests"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request to Orb and each message: whether it left in a transaction."""
    seen: list[bool] = []
    send, start = requests.Session.send, threading.Thread.start

    def watch(session: requests.Session, *args: Any, **kwargs: Any) -> Any:
        seen.append(connection.in_atomic_block)
        return send(session, *args, **kwargs)

    def ask(thread: threading.Thread) -> None:
        seen.append(connection.in_atomic_block)
        start(thread)

    monkeypatch.setattr(requests.Session, "send", watch)
    # A message is sent by a thread of its own, and its request waits for it.
    monkeypatch.setattr(threading.Thread, "start", ask)
    return seen


@pytest.fixture
def invoice(orb: OrbSandbox) -> Invoice:
    """One whose links are old, of a subscription that goes on."""
    drafts = (orb.invoice(pk) for pk in orb.invoice_ids("draft"))
    draft = next(one for one in drafts if one["subscription"])
    fetched = services.fetch_invoice(draft["id"])
    old = fetched.mirrored_at - timedelta(days=31)
    Invoice.objects.filter(pk=fetched.pk).update(mirrored_at=old)
    return fetched


def open_page(view: str) -> Callable[[Client, Invoice], Any]:
    return lambda client, invoice: client.get(page_of(invoice.pk, view))


def try_again(client: Client, invoice: Invoice) -> Any:
    InvoiceFailure.objects.create(
        invoice_id="odd", reason="No total.", failed_at=datetime.now(timezone.utc)
    )
    return client.post("/admin/django_orb/invoicefailure/", choose("try_again", "odd"))


ASKING = {
    "portal": open_page("portal"),
    "pdf": open_page("pdf"),
    "upcoming": open_page("upcoming"),
    "fetch": lambda client, invoice: client.post(page_of(invoice.pk, "fetch")),
    "sync now": lambda client, invoice: client.post(f"{LIST}sync/"),
    "a failure is read anew": try_again,
}


@pytest.mark.parametrize("way", ASKING)
def test_nothing_leaves_within_a_transaction(
    finance: Client, invoice: Invoice, asked: list[bool], way: str
) -> None:
    response = ASKING[way](finance, invoice)

    assert response.status_code in (200, 302)
    assert asked
    assert not any(asked)


def test_a_cancelled_run_is_told_of_once_that_is_committed(finance: Client) -> None:
    run = runs.start_run("full")
    told: list[bool] = []

    def listen(**_: Any) -> None:
        told.append(connection.in_atomic_block)

    from django_orb.signals import sync_finished

    sync_finished.connect(listen)
    try:
        finance.post(
            "/admin/django_orb/syncrun/", choose("cancel_selected", str(run.pk))
        )
    finally:
        sync_finished.disconnect(listen)

    assert told == [False]
    assert SyncRun.objects.get().state == SyncRun.State.CANCELLED
