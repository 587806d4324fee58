"""What keeps the mirror and its operations right, in a real Chromium."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.db import connections

from django_orb import services, tasks
from django_orb.models import InvoiceFailure, InvoiceOperation, SyncRun, WebhookEvent
from tests.factories import operate

from .browsing import MARKS, Drive, choose, page_of, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_orb.testing import OrbSandbox

pytestmark = MARKS


def test_events_changes_failures_and_runs_can_be_read_and_tried_again(
    orb: OrbSandbox, drive: Drive, settings: Any
) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    services.sync_invoices(mode="full")
    changed = orb.invoice_ids("issued")[0]
    orb.mark_paid(changed)
    now = datetime.now(timezone.utc)
    WebhookEvent.objects.create(
        id="whk1",
        type="invoice.issued",
        state="failed",
        invoice_id=changed,
        received_at=now,
        body='{"id": "whk1", "type": "invoice.issued"}',
        error="Traceback (most recent call last):\nOrbTimeoutError: no answer",
        attempts=3,
    )
    failure = InvoiceFailure.objects.create(
        invoice_id=orb.invoice_ids("paid")[-1],
        reason="total is no number.",
        payload_text='{"total": "a lot"}',
        failed_at=now,
    )
    for kind in ("full", "incremental"):
        SyncRun.objects.create(
            kind=kind, state="running", active_kind=kind, started_at=now
        )
    quick = SyncRun.objects.get(active_kind="incremental")

    def steps(page: Page) -> None:
        page.goto(page_of(changed))
        page.click("text=Fetch again from Orb")
        page.wait_for_selector("text=Fetched again from Orb.")
        photograph(page, "invoice-refreshed")
        for model in ("invoicechange", "webhookevent", "invoicefailure"):
            page.goto(f"/admin/django_orb/{model}/")
            photograph(page, f"{model}s")
            page.click("#result_list tbody th a")
            page.wait_for_selector(f"#{model}_form")
            photograph(page, model)
        choose(page, "webhookevent", "process_again", ["whk1"])
        page.wait_for_selector("text=1 event is processed again.")
        choose(page, "invoicefailure", "try_again", [failure.pk])
        page.wait_for_selector("text=Fetching 1 invoice again from Orb.")
        page.goto("/admin/django_orb/syncrun/?state__exact=running&kind__exact=full")
        page.click("#result_list tbody th a")
        page.click("text=Cancel this run")
        page.wait_for_selector("text=1 run was cancelled.")
        choose(page, "syncrun", "cancel_selected", [quick.pk])
        page.wait_for_selector("text=1 run was cancelled.")
        photograph(page, "run-cancelled")
        page.goto("/admin/django_orb/invoice/")
        page.click("text=Sync now")
        page.wait_for_selector("text=Bringing the mirror up to date with Orb.")

    drive(steps)


def test_many_are_queued_watched_and_stopped(orb: OrbSandbox, drive: Drive) -> None:
    issued = [orb.add_invoice(days_ago=1)["id"] for _ in range(8)]
    services.sync_invoices(mode="full")
    orb.mark_paid(issued[0])  # after which Orb refuses to void it

    def work() -> None:
        """As a Celery worker would, which finds Orb busy after a while."""
        orb.fail_next(3, status=429, skip=4, route="void_invoice")
        tasks.send_operations()
        connections.close_all()

    def steps(page: Page) -> None:
        choose(page, "invoice", "void_selected", issued)
        page.wait_for_selector("text=queued and processed in the background")
        photograph(page, "void-many-confirmation")
        page.click("text=Yes, void 8 invoices")
        page.wait_for_selector("text=0 of 8 ended")
        photograph(page, "batch-begun")
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(work).result()
        page.wait_for_selector("text=4 of 8 ended")  # by itself
        photograph(page, "batch-under-way")
        page.click("text=Stop the 4 that are waiting")
        page.wait_for_selector("text=4 were stopped before they were sent")
        photograph(page, "batch-stopped")
        page.click("td a:has-text('Refused')")
        page.wait_for_selector("text=Idempotency key")
        photograph(page, "operation-refused")

    drive(steps)
    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert sorted(states) == sorted(
        # Also the one that Orb was too busy for: it did nothing of it.
        ["succeeded"] * 3 + ["refused"] + ["cancelled"] * 4
    )


def test_an_operation_that_needs_a_person_is_settled(
    orb: OrbSandbox, drive: Drive
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    operation = operate(
        invoice,
        # What Orb does not show of a payment may have been undone there since.
        kind="mark_invoice_paid",
        state="needs_attention",
        body={"payment_received_date": "2026-01-31"},
        detail="No answer for two days, and the invoice does not show it. Check in Orb "
        "whether it happened.",
        finished_at=invoice.mirrored_at,
    )

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoiceoperation/")
        photograph(page, "operations")
        page.goto(f"/admin/django_orb/invoiceoperation/{operation.pk}/change/")
        photograph(page, "operation-needs-a-person")
        page.click("button:text-is('Check again in Orb')")
        page.wait_for_selector("text=Checked in Orb")
        photograph(page, "operation-looked-again")
        page.click("button:text-is('It was not done')")
        page.wait_for_selector("text=it was not done")
        photograph(page, "operation-settled")

    drive(steps)
    operation.refresh_from_db()
    assert operation.state == "refused"
