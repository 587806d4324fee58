"""One row of everything, and every page that shows it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from django.contrib.admin import site
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)
from tests import payloads
from tests.factories import make_invoice, operate

TEXTS = {
    "invoice_number",
    "memo",
    "name",
    "reason",
    "description",
    "line1",
    "line2",
    "city",
    "state",
    "postal_code",
    "country",
    "value",
    "external_customer_id",
    "payment_provider",
    "payment_provider_id",
    "credit_note_number",
    "tax_rate_description",
    "hosted_invoice_url",
    "invoice_pdf",
    "receipt_pdf",
    "grouping",
    "invoice_source",
}


def spoil(value: Any, text: str, key: str = "") -> Any:
    """The same payload with this text wherever a person may have written one."""
    if isinstance(value, dict):
        return {k: spoil(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [spoil(one, text, key) for one in value]
    return text if key in TEXTS else value


def spoiled(sample: str, text: str) -> Invoice:
    payload = spoil(payloads.load(f"invoice_{sample}"), text)
    payload |= {
        "id": sample,
        "invoice_source": text[:60],
        "metadata": {text[:200]: text},
        "billing_address": dict.fromkeys(("line1", "city", "country"), text),
        "customer_tax_id": {"type": "eu_vat", "value": text, "country": text},
        "payment_failed_at": datetime.now(timezone.utc).isoformat(),
        "credit_notes": [
            {"credit_note_number": text, "reason": text, "memo": text, "total": "1.00"}
        ],
    }
    return make_invoice(**payload)


def make_one_of_everything(text: str) -> None:
    """Invoices of four statuses and what belongs to them; `text` is everywhere."""
    now = datetime.now(timezone.utc)
    cache.clear()
    for sample in ("draft", "issued", "paid", "void"):
        invoice = spoiled(sample, text)
        operate(
            invoice,
            state="needs_attention",
            detail=text,
            body={"name": text, "amount": "1.00"},
        )
        InvoiceChange.objects.create(
            invoice=invoice,
            kind="updated",
            status="issued",
            changed_fields=[text],
            created_at=now,
        )
    Invoice.objects.filter(pk="void").update(missing_since=now)
    run = SyncRun.objects.create(
        kind="full", state="failed", error=text, started_at=now, finished_at=now
    )
    operate(
        Invoice(),
        kind="create_invoice",
        state="needs_attention",
        detail=text,
        body={"external_customer_id": text},
    )
    SyncWindow.objects.create(run=run, position=0, kind="list", error=text)
    InvoiceFailure.objects.create(
        invoice_id="odd", reason=text, payload_text=text, failed_at=now
    )
    WebhookEvent.objects.create(
        id="whk",
        type=text[:200],
        state="failed",
        body=text,
        error=text,
        received_at=now,
    )


#: Pages in the place of lists.
WITHOUT_ROWS = ("overview", "status", "receivables", "monthend")


def pages(client: Client) -> dict[str, str]:
    """Every list, every row's page, and each invoice's confirmations."""
    found = {
        "index": "/admin/",
        "app": "/admin/django_orb/",
        "new invoice": reverse("admin:django_orb_invoice_create"),
    }
    for model in (m for m in site._registry if m._meta.app_label == "django_orb"):
        name = f"admin:django_orb_{model._meta.model_name}"
        kind = "page" if model._meta.model_name == "status" else "list"
        found[f"{name} {kind}"] = reverse(f"{name}_changelist")
        if model._meta.model_name not in WITHOUT_ROWS:
            for row in model._default_manager.all():
                found[f"{name} {row.pk}"] = reverse(f"{name}_change", args=[row.pk])
    for invoice in Invoice.objects.all():
        for view in ("void", "issue", "mark_paid", "pay", "regenerate_pdf", "edit"):
            url = reverse(f"admin:django_orb_invoice_{view}", args=[invoice.pk])
            found[f"{view} {invoice.pk}"] = url
        url = reverse("admin:django_orb_invoice_line_item", args=[invoice.pk])
        found[f"line {invoice.pk}"] = url
    return {
        name: client.get(url, follow=True).content.decode()
        for name, url in found.items()
    }
