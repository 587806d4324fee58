"""Tests of a project's billing, without an account at Orb, a network or a broker."""

from __future__ import annotations

from decimal import Decimal

import pytest

from django_orb import services
from django_orb.exceptions import OrbRefusedError
from django_orb.models import Invoice
from django_orb.testing import InvoiceFactory, OrbSandbox, OrbWebhook
from example.billing import charge_setup_fee, customers_to_remind
from example.models import Access

pytestmark = pytest.mark.django_db


def test_late_customers_are_reminded(orb_invoice_factory: InvoiceFactory) -> None:
    orb_invoice_factory(external_customer_id="crm-1", days_ago=60)
    orb_invoice_factory(external_customer_id="crm-2", days_ago=60, status="paid")
    orb_invoice_factory(external_customer_id="crm-3", days_ago=1)

    assert customers_to_remind() == ["crm-1"]


def test_a_paid_invoice_gives_access(
    orb_sandbox: OrbSandbox, orb_webhook: OrbWebhook
) -> None:
    invoice = orb_sandbox.add_invoice(external_customer_id="crm-17")
    orb_webhook.deliver()
    assert not Access.objects.exists()

    orb_sandbox.mark_paid(invoice["id"])  # what happens at Orb
    orb_webhook.deliver()  # and what Orb tells of it

    assert Access.objects.get().external_customer_id == "crm-17"


def test_setup_is_charged_once(
    orb_sandbox: OrbSandbox, orb_invoice_factory: InvoiceFactory
) -> None:
    draft = orb_invoice_factory(status="draft", amount="80.00")

    charge_setup_fee(draft)
    charge_setup_fee(draft)

    assert orb_sandbox.invoice(draft.pk)["total"] == "330.00"  # at Orb
    draft.refresh_from_db()
    assert draft.total == Decimal("330.00")  # and here


def test_a_paid_invoice_is_not_voided(
    orb_sandbox: OrbSandbox, orb_invoice_factory: InvoiceFactory
) -> None:
    paid = orb_invoice_factory(status="paid")

    with pytest.raises(OrbRefusedError):
        services.void_invoice(paid)


@pytest.mark.orb_sandbox(invoices=250)
def test_a_sync_survives_a_bad_day_at_orb(orb_sandbox: OrbSandbox) -> None:
    orb_sandbox.fail_next(status=502, html=True)
    orb_sandbox.cut_next(when="during", skip=1)

    services.sync_invoices(mode="full")

    assert Invoice.objects.count() == 250
