"""Backups that are restored, and rows that were pruned: nothing happens twice."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from django_orb import operations, services, tasks
from django_orb.db.clock import database_now
from django_orb.exceptions import OrbOutcomeUnknownError
from django_orb.models import InvoiceOperation
from django_orb.operations import ledger
from django_orb.operations.arguments import line_item_body
from django_orb.operations.ledger import Request
from tests import databases, times

from .test_api import LINE, add, on_postgresql
from .test_recovery import age, do_in_vain, impatient, the_operation

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

__all__ = ["impatient"]


def queue_line(draft: str) -> None:
    request = Request(
        "create_invoice_line_item",
        draft,
        line_item_body(**LINE, item_id=None),
        idempotency_key="key",
    )
    operations.queue([request], batch="batch")


def restore_backup(days: float = 3) -> None:
    """Put the row back as it was recorded, days ago, and let Orb forget its key."""
    past = database_now(databases.current_alias) - timedelta(days=days)
    InvoiceOperation.objects.update(
        state="pending",
        created_at=past,
        first_sent_at=None,
        lease_expires_at=None,
        finished_at=None,
        result={},
    )


def lines_of(orb: OrbSandbox, invoice_id: str) -> int:
    lines = orb.invoice(invoice_id)["line_items"]
    return sum(line["name"] == LINE["name"] for line in lines)


def test_line_in_a_restored_backup_is_looked_at_and_not_sent(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    queue_line(draft)
    tasks.recover()
    restore_backup()
    orb.clear_requests()

    tasks.recover()

    assert "create_invoice_line_item" not in orb.request_counts()
    assert the_operation().state == "succeeded"
    assert lines_of(orb, draft) == 1


def test_what_a_restored_backup_does_not_tell_a_person_is_asked(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    queue_line(draft)
    restore_backup()

    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "backup" in the_operation().detail
    assert lines_of(orb, draft) == 0


def test_row_that_was_restored_late_is_not_sent_for_two_more_days(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    queue_line(draft)
    restore_backup(days=46 / 24)
    orb.cut_next(1, when="after", route="create_invoice_line_item")
    tasks.recover()
    now = database_now(any_committed_database)
    InvoiceOperation.objects.update(
        created_at=now - timedelta(hours=76),
        first_sent_at=now - timedelta(hours=30),
        lease_expires_at=now - timedelta(hours=1),
    )
    orb.clear_requests()

    tasks.recover()

    assert "create_invoice_line_item" not in orb.request_counts()


@on_postgresql
def test_what_was_sent_in_the_future_is_not_sent_again(orb: OrbSandbox) -> None:
    """The clock was set back: how long Orb has known its key cannot be told."""
    draft = add(orb, "draft")
    do_in_vain(orb, "create_invoice_line_item", draft, "after")
    age(hours=-3)
    now = database_now("postgresql")
    InvoiceOperation.objects.update(lease_expires_at=now - timedelta(hours=1))
    orb.clear_requests()

    tasks.recover()

    assert "create_invoice_line_item" not in orb.request_counts()
    assert the_operation().state == "succeeded"


def test_what_may_have_been_sent_is_not_called_cancelled(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    queue_line(add(orb, "draft"))
    restore_backup()

    count = operations.cancel("batch", detail="No")

    assert (count, the_operation().state) == (0, "pending")


def test_service_sends_nothing_for_the_key_of_a_restored_row(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    times.hurry(monkeypatch, ledger)
    draft = add(orb, "draft")
    queue_line(draft)
    restore_backup()

    with pytest.raises(OrbOutcomeUnknownError):
        services.create_invoice_line_item(draft, **LINE, idempotency_key="key")

    assert lines_of(orb, draft) == 0


@on_postgresql
@pytest.mark.parametrize("status", [401, 403, 413])
def test_door_that_is_shut_to_a_restored_row_does_not_tell_that_it_never_happened(
    orb: OrbSandbox, status: int
) -> None:
    draft = add(orb, "draft")
    queue_line(draft)
    tasks.recover()
    restore_backup(days=0.5)
    orb.fail_next(1, status=status, route="create_invoice_line_item")

    tasks.recover()
    assert the_operation().state == "pending"

    age(hours=1)
    tasks.recover()
    assert the_operation().state == "succeeded"
    assert lines_of(orb, draft) == 1


@on_postgresql
@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_is_queued_and_was_not_done_is_refused_at_once(
    orb: OrbSandbox, status: int
) -> None:
    queue_line(add(orb, "draft"))
    orb.fail_next(1, status=status, route="create_invoice_line_item")

    tasks.recover()

    assert the_operation().state == "refused"


@on_postgresql
def test_edit_in_a_restored_backup_does_not_undo_somebody_elses(
    orb: OrbSandbox,
) -> None:
    issued = add(orb, "issued")
    services.update_invoice(issued, metadata={"note": "ours"})
    restore_backup(days=0.5)
    orb.update_invoice(issued, metadata={"note": "somebody else's"})

    tasks.recover()

    assert orb.invoice(issued)["metadata"] == {"note": "somebody else's"}
    assert the_operation().state == "needs_attention"
    assert "edit again" in the_operation().detail


@on_postgresql
def test_deletion_in_a_restored_backup_is_not_refused_for_a_draft_issued_since(
    orb: OrbSandbox,
) -> None:
    draft = add(orb, "draft")
    services.delete_invoice_line_item(draft, orb.invoice(draft)["line_items"][0]["id"])
    orb.issue(draft)
    restore_backup(days=0.5)

    tasks.recover()

    assert the_operation().state == "succeeded"


@on_postgresql
def test_line_of_an_operation_that_was_pruned_is_not_taken_for_it(
    orb: OrbSandbox,
) -> None:
    draft = add(orb, "draft")
    services.create_invoice_line_item(draft, **LINE)
    InvoiceOperation.objects.all().delete()
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    age(hours=48)

    tasks.recover()

    assert the_operation().state == "needs_attention"
