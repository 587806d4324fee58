"""
Tasks that run in their caller: nothing waits, and nothing recurses.

That is Celery with `task_always_eager`, or a backend of Django's tasks that does so.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from celery.signals import task_postrun, task_prerun

from django_orb import operations, tasks
from django_orb.models import Invoice, InvoiceOperation, SyncRun, WebhookEvent
from django_orb.operations import recovery
from django_orb.operations.ledger import Request
from django_orb.publishing import publish
from django_orb.sync import windows
from django_orb.testing import OrbSandbox
from tests import brokers, celery_app, times
from tests.deliveries import deliver, event_of


class Depth:
    """How many tasks ran inside each other, and how many ran."""

    def __init__(self) -> None:
        self.now = self.most = self.count = 0

    def enter(self, **named: Any) -> None:
        self.now += 1
        self.count += 1
        self.most = max(self.most, self.now)

    def leave(self, **named: Any) -> None:
        self.now -= 1


@pytest.fixture(autouse=True, params=["celery", "django"])
def depth(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    orb: OrbSandbox,
) -> Iterator[Depth]:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5}
    times.hurry(monkeypatch, windows, recovery)  # each turn is one page
    depth = Depth()
    begin: Any
    end: Any
    if request.param == "celery":
        begin, end = task_prerun, task_postrun
        conf = celery_app.app.conf
        conf.update(task_always_eager=True, task_eager_propagates=True)
    else:
        brokers.use_django_tasks(settings, brokers.IMMEDIATE)
        from django.tasks import signals

        begin, end = signals.task_started, signals.task_finished
    begin.connect(depth.enter)
    end.connect(depth.leave)
    yield depth
    begin.disconnect(depth.enter)
    end.disconnect(depth.leave)
    celery_app.app.conf.update(task_always_eager=False, task_eager_propagates=False)


def test_whole_run_is_done_in_its_call_without_recursion(
    any_committed_database: str, orb: OrbSandbox, depth: Depth
) -> None:
    publish(tasks.sync_invoices, "full")

    assert SyncRun.objects.get().state == SyncRun.State.SUCCEEDED
    assert Invoice.objects.count() == 60
    assert depth.count > 12  # a turn for each page
    assert depth.most == 1


def test_run_that_orb_does_not_answer_waits_in_its_rows(
    any_committed_database: str, orb: OrbSandbox, depth: Depth
) -> None:
    orb.fail_next(count=1000, status=503)

    publish(tasks.sync_invoices, "full")

    run = SyncRun.objects.get()
    windows = run.windows.exclude(not_before=None)
    assert run.state == SyncRun.State.RUNNING
    # One request for each window, not one for each moment until Orb is back.
    assert len(orb.requests) <= run.windows.count()
    assert {window.lease_expires_at for window in windows} == {None}

    # On a busy machine the first of them might be due by now.
    windows.update(not_before=datetime.now(timezone.utc) + timedelta(minutes=1))
    orb.clear_requests()
    publish(tasks.recover)
    assert not orb.requests

    orb.clear_faults()
    windows.update(not_before=None)
    publish(tasks.recover)
    run.refresh_from_db()
    assert run.state == SyncRun.State.SUCCEEDED
    assert Invoice.objects.count() == 60


def test_webhook_whose_invoice_cannot_be_had_waits_in_its_row(
    any_committed_database: str, orb: OrbSandbox, depth: Depth
) -> None:
    orb.fail_next(count=1000, status=503)

    response = deliver(event_of(orb.invoice_ids()[0], "invoice.cost_data_exported"))

    assert response.status_code == 200
    assert WebhookEvent.objects.get().state == WebhookEvent.State.FAILED
    assert (len(orb.requests), depth.count) == (1, 1)


def test_queued_operations_are_sent_without_recursion(
    any_committed_database: str, orb: OrbSandbox, depth: Depth
) -> None:
    ids = orb.invoice_ids("issued")[:4]
    requests = [Request("void_invoice", pk, idempotency_key=f"key {pk}") for pk in ids]
    operations.queue(requests, batch="batch")

    publish(tasks.send_operations)

    states = {operation.state for operation in InvoiceOperation.objects.all()}
    assert states == {InvoiceOperation.State.SUCCEEDED}
    assert orb.request_counts()["void_invoice"] == 4
    assert depth.most == 1


def test_task_that_fails_does_not_fail_who_asked_for_it(
    any_committed_database: str, orb: OrbSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """As little as a worker's failure reaches the process that sent the message."""
    orb.fail_next(count=1000, status=503)

    assert publish(tasks.sync_invoice, orb.invoice_ids()[0])

    assert "Traceback" in caplog.text
    assert "django_orb.tasks" in caplog.text
