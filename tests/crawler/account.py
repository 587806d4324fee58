"""A mirror with one of everything that the admin can show, and who looks at it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse
from example.management.commands.demo import create_accounts
from example.models import Access, Account

from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceOperation,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)
from django_orb.services import sync_invoices
from django_orb.testing import OrbSandbox
from tests.admin.everything import make_one_of_everything
from tests.factories import operate

INVOICES = 25
HOSTILE = "R&D <b>Ü</b> \N{HEBREW LETTER ALEF} 100%"
# By kind of staff; None is somebody who may do everything.
STAFF: dict[str, list[str] | None] = {
    "superuser": None,
    "viewer": ["view_"],
    "voider": ["view_invoice", "void_invoice"],
    "stranger": [],
}


def fill(orb: OrbSandbox) -> None:
    sync_invoices(mode="full")
    create_accounts(orb)
    Access.objects.create(external_customer_id="crm-with-access")
    make_one_of_everything(HOSTILE)
    _make_operations()
    _make_runs()
    _make_events()
    _make_changes()


BODIES = {
    "create_invoice_line_item": {
        "name": "Support",
        "amount": "12.00",
        "quantity": 1,
        "start_date": "2026-01-01",
        "end_date": "2026-01-31",
    },
    "delete_invoice_line_item": {"line_item_id": "line"},
    "mark_invoice_paid": {"payment_received_date": "2026-01-01"},
    "update_invoice": {"metadata": {"key": "value"}},
}


def _make_operations() -> None:
    now = datetime.now(timezone.utc)
    invoices = list(Invoice.objects.order_by("pk"))
    states = list(InvoiceOperation.State)
    for number, kind in enumerate(InvoiceOperation.Kind):
        for state in states[number % 2 :: 2]:
            invoice = invoices[number % len(invoices)]
            is_over = state != InvoiceOperation.State.PENDING
            operate(
                invoice,
                kind=kind,
                state=state,
                body=BODIES.get(kind, {}),
                created_at=now - timedelta(hours=number),
                finished_at=now if is_over else None,
                batch="" if number % 2 else "batch-of-the-crawler",
                detail="" if number % 3 else "The invoice is already void.",
                before={"metadata": {"key": "before"}} if number % 2 else {},
                result={"id": invoice.pk} if number % 3 else {},
            )


def _make_runs() -> None:
    now = datetime.now(timezone.utc)
    for number, kind in enumerate(SyncRun.Kind):
        for state in SyncRun.State:
            is_running = state == SyncRun.State.RUNNING
            run = SyncRun.objects.create(
                kind=kind,
                state=state,
                # What is at work would be joined, and everything waits for it.
                active_kind=f"{kind[:5]}-shown" if is_running else None,
                started_at=now - timedelta(days=number, minutes=5),
                finished_at=None if is_running else now - timedelta(days=number),
                error="" if number % 2 else "Orb did not answer.",
                created=number * 1234,
                failed=number,
            )
            window_state = list(SyncWindow.State)[number]
            SyncWindow.objects.create(
                run=run,
                position=0,
                kind=list(SyncWindow.Kind)[number],
                # One that waits would be taken up by a worker.
                state=window_state if not is_running else SyncWindow.State.DONE,
                invoice_date_gte=now - timedelta(days=90) if number % 2 else None,
                heartbeat_at=now,
            )


def _make_events() -> None:
    now = datetime.now(timezone.utc)
    for number, state in enumerate(WebhookEvent.State):
        WebhookEvent.objects.create(
            id=f"event-{number}",
            type="invoice.issued" if number % 2 else "subscription.created",
            state=state,
            source=list(WebhookEvent.Source)[number % 2],
            invoice_id="issued" if number % 2 else "",
            body='{"id": "event", "type": "invoice.issued"}' if number else "not JSON",
            created_at=now if number % 2 else None,
            received_at=now,
            next_attempt_at=now + timedelta(hours=1),
            error="Traceback" if state == WebhookEvent.State.FAILED else "",
        )


def _make_changes() -> None:
    now = datetime.now(timezone.utc)
    invoice = Invoice.objects.get(pk="issued")
    for number, origin in enumerate(InvoiceChange.Origin):
        InvoiceChange.objects.create(
            invoice=invoice,
            kind=list(InvoiceChange.Kind)[number % 2],
            previous_status="draft",
            status="issued",
            changed_fields=["status", "missing_since"],
            origin=origin,
            origin_id=str(number),
            created_at=now,
            announced_at=None if number % 2 else now,
            failed_at=now if number % 2 else None,
            error="ValueError: no" if number % 2 else "",
        )


def make_staff() -> dict[str, Any]:
    users: Any = get_user_model()._default_manager
    made = {}
    for name, prefixes in STAFF.items():
        if prefixes is None:
            made[name] = users.create_superuser(name, f"{name}@example.org", "secret")
            continue
        user = users.create_user(name, f"{name}@example.org", "secret", is_staff=True)
        ours = Permission.objects.filter(content_type__app_label="django_orb")
        user.user_permissions.set(
            one
            for one in ours
            if any(one.codename.startswith(prefix) for prefix in prefixes)
        )
        made[name] = user
    return made


def starts() -> list[str]:
    """The pages that nothing leads to, and a row of every kind."""
    # First: it is gone once a form has asked for it to be tried again.
    found = [reverse("admin:django_orb_invoicefailure_change", args=["odd"])]
    found += [reverse("admin:index"), "/", "/my/invoices/?account=nobody"]
    for status in [*Invoice.Status, "unheard-of"]:
        # A draft that Orb does not issue by itself has one button more.
        of_status = sorted(
            Invoice.objects.filter(status=status).order_by("-pk"),
            key=lambda one: bool(one.payload["will_auto_issue"]),
        )
        for invoice in of_status[:1]:
            found.append(reverse("admin:django_orb_invoice_change", args=[invoice.pk]))
    owing = Invoice.objects.open().values_list("external_customer_id", flat=True)
    for account in Account.objects.filter(external_customer_id__in=owing)[:1]:
        query = urlencode({"account": account.external_customer_id})
        found.append(f"{reverse('my-invoices')}?{query}")
    for model in (InvoiceOperation, SyncRun, WebhookEvent, InvoiceChange):
        name = f"admin:django_orb_{model._meta.model_name}_change"
        field = "origin" if model is InvoiceChange else "state"
        rows = {getattr(row, field): row.pk for row in model._default_manager.all()}
        found += [reverse(name, args=[pk]) for pk in rows.values()]
    batches = {one.batch for one in InvoiceOperation.objects.exclude(batch="")}
    found += [
        reverse("admin:django_orb_invoiceoperation_batch", args=[batch])
        for batch in batches
    ]
    return found
