from __future__ import annotations

import pytest
from django.test import Client

from django_orb.testing import InvoiceFactory
from example.models import Account

pytestmark = pytest.mark.django_db


def test_customers_see_and_open_their_own_invoices_only(
    client: Client, orb_invoice_factory: InvoiceFactory
) -> None:
    for slug in ("crm-1", "crm-2"):
        Account.objects.create(external_customer_id=slug, name=f"Customer {slug}")
    mine = orb_invoice_factory(external_customer_id="crm-1", amount="80.00")
    other = orb_invoice_factory(external_customer_id="crm-2", amount="99.00")

    page = client.get("/my/invoices/?account=crm-1").content.decode()

    assert "80.00 USD" in page
    assert "99.00 USD" not in page
    assert client.get(f"/my/invoices/{mine.pk}/")["Location"] == mine.hosted_invoice_url
    assert client.get(f"/my/invoices/{other.pk}/").status_code == 404
