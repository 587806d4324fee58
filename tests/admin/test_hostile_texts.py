"""Whatever is in a text of Orb's, of a customer's or of an error, stays a text."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import pytest
from django.contrib.admin import site
from django.core.cache import cache
from django.template import Context, Template
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

from .pages import choose

LONG = "w" * 10_000
EVIL = [
    pytest.param("<script>alert(1)</script>", id="script"),
    pytest.param('"><img src=x onerror=alert(1)>', id="attribute"),
    pytest.param("\u202ergb fo lla\u2066 مبلغ", id="right-to-left"),
    pytest.param("{{ settings.SECRET_KEY }}{% now 'Y' %}%(name)s%s", id="template"),
    pytest.param(LONG, id="long"),
]
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
NOW = datetime.now(timezone.utc)


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
        "payment_failed_at": NOW.isoformat(),
        "credit_notes": [
            {"credit_note_number": text, "reason": text, "memo": text, "total": "1.00"}
        ],
    }
    return make_invoice(**payload)


@pytest.fixture(params=EVIL)
def text(request: pytest.FixtureRequest, db: Any) -> str:
    """It is everywhere."""
    text: str = request.param
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
            created_at=NOW,
        )
    Invoice.objects.filter(pk="void").update(missing_since=NOW)
    run = SyncRun.objects.create(
        kind="full", state="failed", error=text, started_at=NOW, finished_at=NOW
    )
    SyncWindow.objects.create(run=run, position=0, kind="list", error=text)
    InvoiceFailure.objects.create(
        invoice_id="odd", reason=text, payload_text=text, failed_at=NOW
    )
    WebhookEvent.objects.create(
        id="whk",
        type=text[:200],
        state="failed",
        body=text,
        error=text,
        received_at=NOW,
    )
    return text


def pages(client: Client) -> dict[str, str]:
    """Every list, every row's page, and each invoice's confirmations."""
    found = {"index": "/admin/", "app": "/admin/django_orb/"}
    for model in (m for m in site._registry if m._meta.app_label == "django_orb"):
        name = f"admin:django_orb_{model._meta.model_name}"
        found[f"{name} list"] = reverse(f"{name}_changelist")
        if model._meta.model_name != "overview":
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


def assert_harmless(text: str, name: str, page: str) -> None:
    if "<" in text:
        assert text not in page, name
        assert "alert(1)>" not in page.replace("alert(1)&gt;", ""), name
    links = re.findall(r'(?:href|src|action)="([^"]*)"', page)
    assert not any(link.lower().startswith(("javascript", "data")) for link in links)
    assert "django-orb-tests" not in page, name  # the secret key
    if name.endswith("list") or name in ("index", "app"):
        longest = max(re.findall(r">(w+)", page), key=len, default="")
        assert len(longest) <= 60, name


def test_no_page_of_the_admin_is_led_astray(text: str, finance: Client) -> None:
    shown = pages(finance)

    for name, page in shown.items():
        assert_harmless(text, name, page)
    for action in ("void_selected", "issue_selected", "mark_selected_paid"):
        response = finance.post(
            reverse("admin:django_orb_invoice_changelist"),
            choose(action, "draft", "issued", "paid", "void"),
            follow=True,
        )
        assert_harmless(text, action, response.content.decode())


def test_nor_is_what_customers_see(text: str) -> None:
    for invoice in Invoice.objects.filter(status__in=["issued", "paid"])[:1]:
        source = "{% load orb %}{% orb_invoices customer_id=id %}"
        page = Template(source).render(Context({"id": invoice.customer_id}))
        assert_harmless(text, "customer's list", page)
