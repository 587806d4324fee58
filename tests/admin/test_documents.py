"""The links to an invoice's page at Orb and to its PDF."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from django_orb import services
from django_orb.models import Invoice
from django_orb.testing import OrbSandbox

from .pages import page_of, told

HOSTED = "https://invoices.orb.test/i?token=1"
PDF = "https://assets.orb.test/i.pdf?token=1"


@pytest.fixture
def invoice(orb: OrbSandbox, db: Any) -> Invoice:
    made = orb.add_invoice(hosted_invoice_url=HOSTED, invoice_pdf=PDF)
    services.fetch_invoice(made["id"])
    orb.clear_requests()
    return Invoice.objects.get(pk=made["id"])


def age(invoice: Invoice, days: int) -> None:
    when = invoice.mirrored_at - timedelta(days=days)
    Invoice.objects.filter(pk=invoice.pk).update(mirrored_at=when)


def opened(client: Client, invoice: Invoice, document: str) -> Any:
    return client.get(page_of(invoice.pk, document))


@pytest.mark.parametrize(("document", "link"), [("portal", HOSTED), ("pdf", PDF)])
def test_a_young_link_is_opened_as_it_is_stored(
    orb: OrbSandbox, invoice: Invoice, finance: Client, document: str, link: str
) -> None:
    page = finance.get(page_of(invoice.pk)).content.decode()
    response = opened(finance, invoice, document)

    assert page_of(invoice.pk, document) in page
    assert (response.status_code, response["Location"]) == (302, link)
    assert orb.request_counts() == {}


def test_an_old_link_is_asked_for_anew(
    orb: OrbSandbox, invoice: Invoice, finance: Client
) -> None:
    age(invoice, 31)
    orb.update_invoice(invoice.pk, hosted_invoice_url=f"{HOSTED}2")

    response = opened(finance, invoice, "portal")

    assert response["Location"] == f"{HOSTED}2"
    assert orb.request_counts()["fetch_invoice"] == 1


def test_what_is_seen_on_the_way_is_mirrored(
    orb: OrbSandbox, invoice: Invoice, finance: Client
) -> None:
    age(invoice, 31)
    orb.mark_paid(invoice.pk)

    opened(finance, invoice, "portal")

    invoice.refresh_from_db()
    assert invoice.status == "paid"


def test_an_invoice_that_orb_no_longer_knows_has_its_old_links(
    orb: OrbSandbox, invoice: Invoice, finance: Client
) -> None:
    age(invoice, 31)
    orb.delete_invoice(invoice.pk)

    response = opened(finance, invoice, "portal")

    assert response["Location"] == HOSTED
    assert "Orb does not know this invoice" in told(response)[0]


def test_where_orb_does_not_answer_the_old_link_is_tried_and_that_is_said(
    orb: OrbSandbox, invoice: Invoice, finance: Client
) -> None:
    age(invoice, 31)
    orb.fail_next(9, status=401)

    response = opened(finance, invoice, "portal")

    assert response["Location"] == HOSTED
    assert [one.partition(":")[0] for one in told(response)] == ["warning"]


@pytest.mark.parametrize("link", [None, "javascript:alert(1)", "file:///etc/passwd"])
def test_what_is_no_page_is_not_opened(
    orb: OrbSandbox, invoice: Invoice, finance: Client, link: str | None
) -> None:
    age(invoice, 31)
    orb.update_invoice(invoice.pk, invoice_pdf=link)

    response = opened(finance, invoice, "pdf")

    assert response["Location"] == page_of(invoice.pk)
    assert "Orb does not offer this page for this invoice." in told(response)[0]


def test_whoever_may_look_may_open(invoice: Invoice, log_in: Any) -> None:
    assert opened(log_in("view_invoice"), invoice, "portal").status_code == 302
    other = log_in("view_syncrun", name="other")
    assert opened(other, invoice, "portal").status_code == 403
