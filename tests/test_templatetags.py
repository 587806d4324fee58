from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.template import Context, Template

from django_orb.models import Invoice

from .factories import make_invoice, make_invoices, make_overdue

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_of_customers")]

ACME = 'external_customer_id="acme-001"'


def show(arguments: str = ACME, **context: Any) -> str:
    source = f"{{% load orb %}}{{% orb_invoices {arguments} %}}"
    return Template(source).render(Context(context))


def test_a_customer_sees_what_there_is_to_pay_newest_first():
    make_invoice(
        "paid", id="old", invoice_number="A-1", invoice_date="2026-01-31T23:00:00Z"
    )
    make_overdue(
        3, id="late", invoice_number="A-2", invoice_date="2026-03-01T00:00:00Z"
    )
    make_invoice(id="open", invoice_number="A-3", due_date=None, total="1234.5")

    text = show()

    assert "Your invoices" in text
    assert text.index("A-3") < text.index("A-2") < text.index("A-1")
    assert "1,234.50 USD" in text
    for words in ("Paid", "Overdue", "Open"):
        assert words in text
    assert text.count("10.00 USD") == 1


def test_drafts_voids_missing_and_others_invoices_are_left_out():
    make_invoice("draft", id="draft", invoice_number="DRAFT-1")
    make_invoice("void", id="void", invoice_number="VOID-1")
    make_invoice(id="gone", invoice_number="GONE-1")
    Invoice.objects.filter(pk="gone").update(missing_since=datetime.now(timezone.utc))
    make_invoice(
        id="other",
        invoice_number="OTHER-1",
        customer={"id": "cus", "external_customer_id": "other"},
    )

    text = show()

    assert "-1" not in text.replace("acme-001", "")
    assert "There are no invoices yet." in text


@pytest.mark.parametrize(
    "arguments", ['external_customer_id=""', 'customer_id=""', "customer_id=unknown"]
)
def test_an_empty_id_is_nobodys_invoices(arguments: str):
    make_invoice(customer={"id": "cus", "external_customer_id": None})

    assert "There are no invoices yet." in show(arguments, unknown="")


def test_without_an_id_it_is_an_error():
    with pytest.raises(TypeError, match="either customer_id or external_customer_id"):
        show("")


def test_days_are_those_of_the_reports_zone(settings: Any):
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Europe/Berlin"}
    make_invoice(invoice_date="2026-09-30T22:00:00+00:00", due_date=None)

    assert "Oct. 1, 2026" in show()


def test_links_lead_to_the_hosts_own_view():
    make_invoice(id="a/b")

    assert '<a href="/mine/a%2Fb/">' in show(f'{ACME} opens="mine"').replace(
        "/a/b/", "/a%2Fb/"
    )
    assert "<a" not in show()


def test_it_costs_one_query_and_says_when_there_are_more(
    django_assert_num_queries: Any,
):
    make_invoices(5)

    with django_assert_num_queries(1) as captured:
        text = show(f"{ACME} limit=4")

    assert "payload" not in captured.captured_queries[0]["sql"]
    assert text.count("<tr>") == 1 + 4
    assert "Older invoices are not shown here." in text
    assert "Older invoices" not in show(f"{ACME} limit=5")


def test_texts_of_others_stay_texts():
    make_invoice(invoice_number="<script>alert(1)</script>\u202e" + "x" * 10_000)

    text = show()

    assert "<script>" not in text
    assert "<bdi>&lt;script&gt;" in text
    assert "x" * 100 not in text


def test_links_are_fresh_for_a_month():
    invoice = make_invoice()
    assert invoice.has_fresh_links

    invoice.mirrored_at -= timedelta(days=31)

    assert not invoice.has_fresh_links
