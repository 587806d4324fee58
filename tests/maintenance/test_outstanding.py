"""What is outstanding: one part, or one row, that fails does not hold up the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError

from django_orb import maintenance, operations, tasks
from django_orb.db import primary
from django_orb.db.clock import database_now
from django_orb.models import InvoiceOperation, WebhookEvent
from django_orb.operations.ledger import Request
from django_orb.testing import OrbSandbox
from tests import crash_points


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
