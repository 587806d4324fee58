"""Runs that are cancelled, and invoices that are read once more."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services
from django_orb.models import Invoice, InvoiceFailure, SyncRun
from django_orb.sync import runs
from django_orb.testing import OrbSandbox

from .pages import choose, told

RUNS = "/admin/django_orb/syncrun/"
FAILURES = "/admin/django_orb/invoicefailure/"


@pytest.fixture
def run(db: Any) -> SyncRun:
    return runs.start_run("full")


def test_a_run_is_cancelled_from_its_page(run: SyncRun, finance: Client) -> None:
    page = f"{RUNS}{run.pk}/change/"
    assert "Cancel this run" in finance.get(page).content.decode()

    response = finance.post(f"{RUNS}{run.pk}/cancel/")

    assert told(response) == ["success: 1 run was cancelled."]
    assert response["Location"] == page
    run.refresh_from_db()
    assert run.state == SyncRun.State.CANCELLED
    assert "Cancel this run" not in finance.get(page).content.decode()
    assert LogEntry.objects.get().get_change_message() == "Cancelled."


def test_runs_are_cancelled_from_their_list(run: SyncRun, finance: Client) -> None:
    response = finance.post(RUNS, choose("cancel_selected", str(run.pk)))
    again = finance.post(RUNS, choose("cancel_selected", str(run.pk)))

    assert told(response) == ["success: 1 run was cancelled."]
    assert told(again)[-1] == "warning: None of them is running."


def test_what_was_cancelled_is_done_by_the_next_run(
    orb: OrbSandbox, run: SyncRun, finance: Client
) -> None:
    finance.post(f"{RUNS}{run.pk}/cancel/")

    services.sync_invoices(mode="full")

    assert Invoice.objects.count() == len(orb.invoice_ids())


@pytest.mark.parametrize("permissions", [["view_syncrun"], ["sync_invoice"]])
def test_who_may_not_cannot_cancel(
    run: SyncRun, log_in: Any, permissions: list[str]
) -> None:
    client = log_in(*permissions)

    forged = client.post(f"{RUNS}{run.pk}/cancel/")
    client.post(RUNS, choose("cancel_selected", str(run.pk)))

    assert forged.status_code == 403
    run.refresh_from_db()
    assert run.is_active


def test_a_look_cancels_nothing(run: SyncRun, finance: Client) -> None:
    assert finance.get(f"{RUNS}{run.pk}/cancel/").status_code == 405
    assert finance.post(f"{RUNS}999999/cancel/").status_code == 404
    run.refresh_from_db()
    assert run.is_active


def fail(invoice_id: str) -> InvoiceFailure:
    return InvoiceFailure.objects.create(
        invoice_id=invoice_id, reason="No total.", failed_at=datetime.now(timezone.utc)
    )


def test_a_failure_is_read_anew(db: Any, finance: Client) -> None:
    fail("one")
    fail("(no id, item 3 of a page)")

    chosen = choose("try_again", "one", "(no id, item 3 of a page)")
    response = finance.post(FAILURES, chosen)

    (message,) = told(response)
    assert "Fetching 1 invoice again from Orb." in message
    run = SyncRun.objects.get()
    assert run.windows.get(kind="fetch").invoice_ids == ["one"]
    assert run.windows.count() == 1
    assert LogEntry.objects.count() == 1


def test_a_failure_without_id_waits_for_the_next_sync(db: Any, finance: Client) -> None:
    fail("(no id, item 3 of a page)")

    response = finance.post(FAILURES, choose("try_again", "(no id, item 3 of a page)"))

    assert "the next sync reads them again" in told(response)[0]
    assert not SyncRun.objects.exists()


def test_who_may_only_look_cannot_try_again(db: Any, log_in: Any) -> None:
    fail("one")
    client = log_in("view_invoicefailure")

    client.post(FAILURES, choose("try_again", "one"))

    assert not SyncRun.objects.exists()
    assert "try_again" not in client.get(FAILURES).content.decode()
