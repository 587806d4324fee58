"""What was written to Orb comes into the mirror, or is given up in the end."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.db.models import F

from django_orb import mirror, services, tasks
from django_orb.db import Interval, primary
from django_orb.db.clock import database_now
from django_orb.exceptions import OrbConnectionError
from django_orb.mirror import Observation
from django_orb.models import (
    Invoice,
    InvoiceObservation,
    InvoiceOperation,
    InvoiceRecheck,
)
from django_orb.operations.confirmation import LOOK_AFTER_SECONDS
from tests import crash_points, databases

from .test_api import add, on_postgresql
from .test_recovery import impatient

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

__all__ = ["impatient"]


def end(*, minutes_ago: float) -> None:
    """Let what was done have been done so long ago."""
    ago = database_now(databases.current_alias) - timedelta(minutes=minutes_ago)
    InvoiceOperation.objects.update(finished_at=ago)


@on_postgresql
def test_what_is_undone_in_orb_is_mirrored_so_and_given_up(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    services.update_invoice(issued, metadata={"note": "ours"})
    InvoiceOperation.objects.update(mirrored_at=None)
    orb.update_invoice(issued, metadata={"note": "somebody else's"})

    end(minutes_ago=2)
    tasks.recover()
    metadata = Invoice.objects.get().payload["metadata"]
    assert metadata == {"note": "somebody else's"}

    end(minutes_ago=7 * 60)
    orb.clear_requests()
    tasks.recover()
    assert "fetch_invoice" not in orb.request_counts()


@on_postgresql
def test_edit_is_waited_for_although_an_earlier_one_was_seen(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    services.update_invoice(issued, metadata={"note": "first"})
    orb.lag_reads(len(LOOK_AFTER_SECONDS))

    services.update_invoice(issued, metadata={"note": "second"})

    seen = InvoiceOperation.objects.order_by("pk").values_list("mirrored_at", flat=True)
    assert [moment is not None for moment in seen] == [True, False]
    end(minutes_ago=2)
    tasks.recover()
    assert Invoice.objects.get().payload["metadata"] == {"note": "second"}
    assert all(seen.all())


def doubt_the_next_answer(
    patch: pytest.MonkeyPatch, orb: OrbSandbox, invoice_id: str
) -> None:
    """While it is on its way a webhook comes; after that Orb is away."""
    fetches = itertools.count()

    def act(request: requests.PreparedRequest) -> None:
        if request.method != "GET":
            return
        if next(fetches):
            raise requests.ConnectionError
        now = primary.now()
        told = {**orb.invoice(invoice_id), "memo": "as the event tells"}
        came = Interval(now - timedelta(minutes=5), now)
        mirror.write([Observation(invoice_id, told, came)])

    crash_points.before_requests(patch, act)


def let_it_be_seen_long_ago() -> None:
    long_ago = database_now(databases.current_alias) - timedelta(minutes=10)
    InvoiceObservation.objects.update(started_at=long_ago, ended_at=long_ago)


def test_void_is_done_although_what_was_read_back_is_in_doubt(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice_id = add(orb, "issued")
    services.fetch_invoice(invoice_id)
    let_it_be_seen_long_ago()
    with monkeypatch.context() as patch:
        doubt_the_next_answer(patch, orb, invoice_id)
        services.void_invoice(invoice_id)

    assert InvoiceOperation.objects.get().state == "succeeded"
    assert InvoiceRecheck.objects.get().pk == invoice_id
    tasks.recover()
    assert Invoice.objects.get().payload == orb.invoice(invoice_id)


@pytest.mark.parametrize("call", ["fetch", "list", "links"])
def test_doubt_that_cannot_be_decided_is_decided_later(
    any_committed_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    invoice = services.fetch_invoice(add(orb, "issued"))
    let_it_be_seen_long_ago()
    Invoice.objects.update(mirrored_at=invoice.mirrored_at - timedelta(days=99))
    invoice.refresh_from_db()
    calls = {
        "fetch": lambda: services.fetch_invoice(invoice.pk),
        "list": lambda: list(services.list_invoices(customer_id=invoice.customer_id)),
        "links": lambda: services.current_links(invoice),
    }
    with monkeypatch.context() as patch:
        doubt_the_next_answer(patch, orb, invoice.pk)
        with pytest.raises(OrbConnectionError):
            calls[call]()

    assert InvoiceRecheck.objects.get().pk == invoice.pk
    tasks.recover()
    stored = Invoice.objects.get(pk=invoice.pk)
    assert stored.payload == orb.invoice(invoice.pk)
    assert not InvoiceRecheck.objects.exists()


def unmirrored(orb: OrbSandbox, count: int) -> list[str]:
    """Invoices that were edited a while ago, and whose editors died before they looked."""
    ids = [add(orb, "issued") for _ in range(count)]
    for invoice_id in ids:
        services.update_invoice(invoice_id, metadata={"note": "ours"})
    end(minutes_ago=2)
    InvoiceOperation.objects.update(mirrored_at=None)
    orb.clear_requests()
    return ids


@on_postgresql
def test_nothing_more_is_asked_for_while_orb_is_away(orb: OrbSandbox) -> None:
    unmirrored(orb, 3)
    orb.fail_next(1, status=503)

    tasks.recover()
    assert orb.request_counts() == {"fetch_invoice": 1}
    assert InvoiceOperation.objects.filter(mirrored_at=None).count() == 3

    # The one at which Orb failed waits, and the others do not wait for it.
    tasks.recover()
    assert InvoiceOperation.objects.filter(mirrored_at=None).count() == 1
    InvoiceOperation.objects.update(look_after=None)
    tasks.recover()
    assert not InvoiceOperation.objects.filter(mirrored_at=None).exists()


@on_postgresql
def test_read_back_that_kills_its_worker_is_left_for_longer_and_longer(
    orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And holds up neither the others nor what comes after them."""
    bad, good = unmirrored(orb, 2)
    mirror.fetch_later([good])
    minutes, deaths = 0, 0
    with monkeypatch.context() as patch:
        crash_points.dies_at_request(patch, f"/invoices/{bad}")
        while minutes < 7 * 60:
            try:
                tasks.recover()
            except KeyboardInterrupt:
                deaths += 1
            step = timedelta(minutes=5)
            minutes += 5
            for name in ("finished_at", "look_after"):
                earlier = F(name) - step
                InvoiceOperation.objects.update(**{name: earlier})

    assert 1 < deaths < 10
    assert InvoiceOperation.objects.get(invoice_id=good).mirrored_at
    assert not InvoiceRecheck.objects.exists()


@on_postgresql
def test_each_is_read_back_by_one_worker(orb: OrbSandbox) -> None:
    """Another one begins while the first one waits for Orb."""
    unmirrored(orb, 2)
    workers: list[None] = []

    def begin_another(request: Any) -> None:
        if not workers:
            workers.append(None)
            tasks.recover()

    with pytest.MonkeyPatch.context() as patch:
        crash_points.before_requests(patch, begin_another)
        tasks.recover()

    assert orb.request_counts() == {"fetch_invoice": 2}
    assert not InvoiceOperation.objects.filter(mirrored_at=None).exists()
