"""What is outstanding: one part, or one row, that fails does not hold up the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.db.models import Model

from django_orb import maintenance, mirror, operations, services, tasks
from django_orb.db import primary
from django_orb.db.clock import database_now
from django_orb.exceptions import OrbSyncFailedError
from django_orb.models import (
    CustomerErasure,
    InvoiceChange,
    InvoiceOperation,
    InvoiceRecheck,
    LastOccurrence,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)
from django_orb.operations.ledger import Request
from django_orb.sync import runs, windows
from django_orb.testing import OrbSandbox
from tests import celery_app, crash_points
from tests.deliveries import event_of
from tests.webhooks.test_inbox import store


@contextmanager
def table_away(table: str) -> Iterator[None]:
    """As in a database in which a migration of a new release is still to run."""
    with primary.connection().schema_editor() as editor:
        editor.alter_db_table(WebhookEvent, table, f"{table}_away")
    try:
        yield
    finally:
        with primary.connection().schema_editor() as editor:
            editor.alter_db_table(WebhookEvent, f"{table}_away", table)


def queue_void(orb: OrbSandbox) -> str:
    invoice_id = str(orb.add_invoice(status="issued")["id"])
    operations.queue([Request("void_invoice", invoice_id)], batch="a")
    return invoice_id


def test_operations_are_sent_even_if_events_cannot_be_read(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = queue_void(orb)

    with table_away(WebhookEvent._meta.db_table), pytest.raises(DatabaseError):
        tasks.recover()

    assert orb.invoice(invoice_id)["status"] == "void"


def test_operation_of_another_release_says_so_and_holds_up_no_other(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = str(orb.add_invoice(status="draft")["id"])
    body = {"a_key_of_another_release": 1}
    odd_request = Request("create_invoice_line_item", draft, body)
    operations.queue([odd_request], batch="a")
    invoice_id = queue_void(orb)

    maintenance.finish_operations()
    maintenance.finish_operations()

    assert orb.invoice(invoice_id)["status"] == "void"
    odd = InvoiceOperation.objects.get(invoice_id=draft)
    assert odd.state == InvoiceOperation.State.PENDING
    assert "could not be resumed" in odd.detail


def test_time_limit_in_the_middle_of_an_operation_ends_the_task(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not taken for trouble with this one operation."""
    invoice_id = queue_void(orb)
    with monkeypatch.context() as patch:
        crash_points.dies_at_request(patch, "/void", SoftTimeLimitExceeded)
        with pytest.raises(SoftTimeLimitExceeded):
            tasks.recover()
    assert InvoiceOperation.objects.get().detail == ""
    InvoiceOperation.objects.update(lease_expires_at=None)

    tasks.recover()

    assert orb.invoice(invoice_id)["status"] == "void"


def test_kind_of_a_newer_release_is_left_to_that_release(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """However old it is: only that release knows what an invoice shows of it."""
    draft = str(orb.add_invoice(status="draft")["id"])
    operations.queue([Request("a_kind_to_come", draft)], batch="a")
    InvoiceOperation.objects.update(
        created_at=database_now(primary.alias()) - timedelta(days=9),
        lease_expires_at=None,
    )

    maintenance.finish_operations()

    kept = InvoiceOperation.objects.get()
    assert (kept.state, kept.attempts) == (InvoiceOperation.State.PENDING, 0)


# Everything that may be outstanding, by every way in which it is done


def leave_everything(orb: OrbSandbox) -> None:
    """Leave one piece of each kind of work behind, as workers that died would."""
    ids = orb.invoice_ids("issued")
    services.sync_invoices(mode="full")
    long_ago = database_now(primary.alias()) - timedelta(minutes=10)

    orb.mark_paid(ids[0])
    store(event_of(ids[0], "invoice.cost_data_exported"))
    WebhookEvent.objects.update(next_attempt_at=long_ago)
    runs.start_run(SyncRun.Kind.ONE, invoice_ids=[ids[1]])
    operations.queue([Request("void_invoice", ids[2])], batch="a")
    services.void_invoice(ids[3])
    InvoiceChange.objects.update(announced_at=None)
    done = InvoiceOperation.objects.filter(invoice_id=ids[3])
    done.update(mirrored_at=None, finished_at=long_ago)
    mirror.fetch_later([ids[4]])
    services.erase_customer(str(orb.invoice(ids[5])["customer"]["id"]), seconds=-1)
    assert outstanding() == EVERYTHING


def outstanding() -> set[str]:
    """Return the names of the pieces that are not done yet."""
    sent = InvoiceOperation.objects.exclude(state=InvoiceOperation.State.PENDING)
    pieces = {
        "event": WebhookEvent.objects.exclude(state=WebhookEvent.State.PROCESSED),
        "change": InvoiceChange.objects.filter(announced_at=None),
        "run": SyncRun.objects.filter(state=SyncRun.State.RUNNING, kind="one"),
        "queued": InvoiceOperation.objects.filter(state=InvoiceOperation.State.PENDING),
        "unconfirmed": sent.filter(mirrored_at=None),
        "recheck": InvoiceRecheck.objects.all(),
        "erasure": CustomerErasure.objects.exclude(stage=""),
    }
    return {name for name, rows in pieces.items() if rows.exists()}


EVERYTHING = {
    *("event", "change", "run", "queued", "unconfirmed", "recheck", "erasure")
}


def call_cron() -> None:
    with pytest.raises(CommandError, match="did not finish"):
        call_command("orb_sync_invoices", "--in-process", stdout=StringIO())


def call_cron_beside_another() -> None:
    """Call it while another process still works on a run of the same kind."""
    run = runs.start_run(SyncRun.Kind.INCREMENTAL)
    for window in runs.due_windows(run=run):
        windows.lease_window(window)
    with pytest.raises(CommandError, match="has been running since"):
        call_command("orb_sync_invoices", "--in-process", stdout=StringIO())


def call_service() -> None:
    with pytest.raises(OrbSyncFailedError):
        services.sync_invoices()


def recover() -> None:
    with celery_runs_at_once():
        tasks.recover()


def run_task() -> None:
    with celery_runs_at_once():
        call_command("orb_run_task", "recover")


@contextmanager
def celery_runs_at_once() -> Iterator[None]:
    celery_app.app.conf.update(task_always_eager=True)
    try:
        yield
    finally:
        celery_app.app.conf.update(task_always_eager=False)


WAYS = [call_cron, call_cron_beside_another, call_service, recover, run_task]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_does_everything_even_if_the_list_cannot_be_read(
    any_committed_database: str, orb: OrbSandbox, way: Callable[[], None]
) -> None:
    leave_everything(orb)
    orb.fail_next(1000, status=403, route="list_invoices")

    way()

    assert outstanding() == set()


@pytest.mark.parametrize(
    ("model", "needing"), [(WebhookEvent, {"event", "erasure"}), (SyncRun, {"run"})]
)
@pytest.mark.parametrize("way", [maintenance.do_outstanding, recover])
def test_a_piece_that_fails_holds_up_no_other(
    any_committed_database: str,
    orb: OrbSandbox,
    way: Callable[[], None],
    model: type[Model],
    needing: set[str],
) -> None:
    leave_everything(orb)

    with table_away(model._meta.db_table), pytest.raises(DatabaseError):
        way()

    assert outstanding() == needing


def test_what_is_noted_of_a_sync_that_fails_says_nothing_of_the_rest(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    orb.fail_next(1000, status=403, route="list_invoices")

    call_cron()

    noted = dict(LastOccurrence.objects.values_list("pk", "detail"))
    assert "OrbSyncFailedError" in noted["sync_invoices incremental"]
    assert noted["recover"] == ""


def test_sync_says_its_own_error_even_if_the_rest_fails_too(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    leave_everything(orb)
    orb.fail_next(1000, status=403, route="list_invoices")

    with table_away(CustomerErasure._meta.db_table):
        call_cron()


def test_run_that_another_process_works_on_is_left_to_it(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = runs.start_run(SyncRun.Kind.ONE, invoice_ids=orb.invoice_ids()[:1])
    for window in runs.due_windows(run=run):
        windows.lease_window(window)

    services.sync_invoices()

    run.refresh_from_db()
    assert run.is_active


def test_run_waits_if_orb_fails_and_is_resumed_by_the_next_call(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = runs.start_run(SyncRun.Kind.ONE, invoice_ids=orb.invoice_ids()[:1])
    orb.fail_next(route="fetch_invoice")
    maintenance.do_outstanding()
    run.refresh_from_db()
    assert run.is_active
    SyncWindow.objects.update(not_before=None)

    maintenance.do_outstanding()

    run.refresh_from_db()
    assert run.state == SyncRun.State.SUCCEEDED
