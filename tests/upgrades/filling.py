"""
Fill a database as a release leaves it: finished, waiting and interrupted work.

Runs in a process of its own with a project's settings; see `freezing`.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import django
from django.core.management import call_command


def main() -> None:
    django.setup()
    from django_orb import maintenance, models, services
    from django_orb.sync import runs
    from tests import host_drive
    from tests.factories import operate

    from .freezing import dump

    call_command("migrate", verbosity=0)
    host_drive.sync()
    host_drive.receive_webhook()
    draft = models.Invoice.objects.filter(status="draft").order_by("pk")[0]
    services.create_invoice_line_item(
        draft,
        name="Onboarding",
        quantity=1,
        amount="250.00",
        start_date=draft.invoice_date.date(),
        end_date=draft.invoice_date.date(),
    )
    call_command("orb_sync_invoices", in_process=True)  # it reads the list of events
    first, second = models.Invoice.objects.filter(status="issued").order_by("pk")[:2]
    services.void_invoice(first)
    # One that was sent, and whose sender died before the answer came.
    sent_at = first.mirrored_at - timedelta(minutes=30)
    operate(
        second,
        kind=models.InvoiceOperation.Kind.VOID,
        state=models.InvoiceOperation.State.PENDING,
        body={},
        created_at=sent_at,
        first_sent_at=sent_at,
        lease_expires_at=sent_at + timedelta(minutes=5),
        attempts=1,
    )
    paid = models.Invoice.objects.filter(status="paid").order_by("pk")[0]
    maintenance.erase_customer(paid.customer_id)
    models.InvoiceFailure.objects.create(
        invoice_id=draft.pk,
        reason="Its total is not a number.",
        failed_at=first.mirrored_at,
    )
    models.InvoiceFailureReason.objects.create(
        invoice=second,
        kind=models.InvoiceFailureReason.Kind.SYNC,
        provider="NetSuite 17",
        failed_at=sent_at,
    )
    models.OverdueThreshold.objects.create(days=1, since=sent_at)
    models.OverdueNotice.objects.create(invoice=second, days=1)
    models.InvoiceRecheck.objects.create(invoice_id=draft.pk, due_at=sent_at)
    host_drive.receive_webhook(event_id="event2", processes=False)
    run = runs.start_run(models.SyncRun.Kind.FULL)
    models.SyncAbsence.objects.create(
        run=run, invoice_id=second.pk, started_at=sent_at, ended_at=sent_at
    )
    Path("rows.json").write_text(json.dumps(dump()))
    print("It all works.")


if __name__ == "__main__":
    main()
