"""Rows for tests, made the way the mirror makes them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from django_orb import mirror
from django_orb.db.clock import Interval
from django_orb.models import Invoice, InvoiceOperation
from django_orb.models.operations import describe_actor

from . import payloads


def store(payload: dict[str, Any]) -> Invoice:
    """Mirror one payload, as if Orb had just shown it."""
    (invoice,) = store_page([payload])
    return invoice


def store_page(page: list[dict[str, Any]]) -> list[Invoice]:
    now = datetime.now(timezone.utc)
    result = mirror.write(mirror.read_page(page, Interval(now, now)))
    assert not result.failed, result.failed
    found = Invoice.objects.in_bulk([payload["id"] for payload in page])
    return [found[payload["id"]] for payload in page]


def make_invoice(sample: str = "issued", **changes: Any) -> Invoice:
    """Store a sample payload, "draft", "issued", "paid" or "void", with changes."""
    return store({**payloads.load(f"invoice_{sample}"), **changes})


def make_invoices(count: int, sample: str = "issued", **changes: Any) -> list[Invoice]:
    payload = payloads.load(f"invoice_{sample}")
    return store_page(
        [
            {
                **payload,
                "id": f"{sample}{number:05}",
                "invoice_number": f"TEST-{number:05}",
                **changes,
            }
            for number in range(count)
        ]
    )


def operate(invoice: Invoice, *, actor: Any = None, **values: Any) -> InvoiceOperation:
    """Record that somebody asked for something, by default a line, with success."""
    defaults = {
        "kind": InvoiceOperation.Kind.CREATE_LINE_ITEM,
        "state": InvoiceOperation.State.SUCCEEDED,
        "invoice_id": invoice.pk,
        "body": {"name": "Support", "amount": "12.00"},
        "idempotency_key": f"key-{InvoiceOperation.objects.count()}",
        "created_at": datetime.now(timezone.utc),
    }
    columns = {**defaults, **describe_actor(actor), **values}
    return InvoiceOperation.objects.create(**columns)


def make_overdue(days: int, **changes: Any) -> Invoice:
    due = datetime.now(timezone.utc) - timedelta(days=days, hours=1)
    return make_invoice(
        **{"due_date": due.isoformat(), "amount_due": "10.00"} | changes
    )


def make_staff(*permissions: str, name: str = "staff") -> Any:
    """A member of staff with permissions of this app, by codename."""
    user = get_user_model().objects.create_user(name, password=name, is_staff=True)
    found = Permission.objects.filter(
        content_type__app_label="django_orb", codename__in=permissions
    )
    assert len(found) == len(permissions)
    user.user_permissions.set(found)
    return user
