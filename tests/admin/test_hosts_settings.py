"""The admin in projects that write numbers and dates otherwise than these tests do."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.test import override_settings
from django.utils import translation

from django_orb import formatting
from django_orb.admin.actions.forms import LineItemForm
from django_orb.exceptions import OrbInputError
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations.arguments import exact_number
from tests import payloads
from tests.admin.everything import make_one_of_everything
from tests.admin.pages import LIST, fields_of, page_of
from tests.factories import make_invoice, make_invoices, operate

pytestmark = pytest.mark.django_db


def test_every_row_has_a_history(admin_client, admin_user):
    make_one_of_everything("text")
    invoice = Invoice.objects.get(pk="draft")
    model = ContentType.objects.get_for_model(Invoice)
    LogEntry.objects.create(
        user=admin_user,
        content_type=model,
        object_id=invoice.pk,
        action_flag=CHANGE,
        change_message="Voided in Orb.",
    )
    for name in ("invoiceoperation", "syncrun", "webhookevent", "invoicefailure"):
        url = f"/admin/django_orb/{name}/"
        pk = re.findall(rf'href="{url}([^/"]+)/change/', admin_client.get(url).text)[0]
        assert admin_client.get(f"{url}{pk}/history/").status_code == 200, name

    page = admin_client.get(page_of("draft", "history"))

    assert page.status_code == 200
    assert "Voided in Orb." in page.text


@pytest.mark.parametrize(
    "query", ["?p=999999", "?p=x", "?o=99.x.-7", "?all=", "?e=1", "?q=%00", "?_popup=1"]
)
def test_rubbish_in_the_address_is_not_an_error(admin_client, query):
    make_one_of_everything("text")
    for name in ("invoice", "invoicelineitem", "invoiceoperation", "syncrun"):
        response = admin_client.get(f"/admin/django_orb/{name}/{query}", follow=True)
        assert response.status_code == 200, (name, query)


@override_settings(USE_THOUSAND_SEPARATOR=True)
def test_a_form_tells_of_others_when_operations_are_past_999(log_in):
    invoice = make_invoice("draft")
    operate(invoice, id=2000)
    client = log_in("view_invoice", "create_invoicelineitem")
    url = page_of(invoice.pk, "line-item")

    fields = fields_of(client.get(url))

    assert fields["newest_operation"] == ["2000"]
    operate(invoice, id=2001, body={"name": "Theirs", "amount": "7.00"})
    filled_in = {
        **fields,
        "name": "Mine",
        "quantity": "1",
        "amount": "5",
        "start_date": "2026-01-01",
        "end_date": "2026-01-31",
        "post": "yes",
    }
    answer = client.post(url, filled_in)
    assert "A line item was added in the meantime." in answer.text
    assert InvoiceOperation.objects.count() == 2


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "10.50", "10.50"),
        ("en", "1,234.5", "1234.5"),
        ("en", "-1,234,567", "-1234567"),
        ("en", ".5", "0.5"),
        ("en", "10,50", None),
        ("en", "1,2,3", None),
        ("en", "12,34.5", None),
        ("en", "1.2.3", None),
        ("en", "1e3", None),
        ("en", "1e2000000000", None),
        ("en", "9" * 5000, None),
        ("en", "1.", None),
        ("en", "-", None),
        ("de", "10,50", "10.50"),
        ("de", "1.234,5", "1234.5"),
        ("de", "10.50", None),
        ("de", "1.5", None),
        ("fr", "1 234,5", "1234.5"),
        ("fr", "1\N{NARROW NO-BREAK SPACE}234,5", "1234.5"),
        ("fr", "1 2", None),
    ],
)
def test_a_typed_number_is_read_strictly(settings, grouped, language, text, expected):
    settings.USE_THOUSAND_SEPARATOR = grouped
    with translation.override(language):
        field = LineItemForm(
            {
                "name": "Support",
                "quantity": "1",
                "amount": text,
                "start_date": "2026-01-01",
                "end_date": "2026-01-31",
            }
        )
        assert field.is_valid() == (expected is not None), field.errors
        if expected is None:
            assert list(field.errors) == ["amount"]
        else:
            assert Decimal(field.body["amount"]) == Decimal(expected)


@pytest.mark.parametrize("value", ["1e2000000000", "1e-2000000000", "9" * 200, 10**21])
def test_the_service_refuses_numbers_that_no_column_holds(value):
    with pytest.raises(OrbInputError):
        exact_number(value, "amount")


def test_a_tax_without_an_amount_is_nothing():
    payload: Any = payloads.load("invoice_issued")
    payload["line_items"][0]["tax_amounts"] = [
        {"amount": None},
        {},
        None,
        {"amount": "0"},
        {"amount": "2.50"},
    ]
    payload["line_items"][0] |= {"adjustments": None, "sub_line_items": "none"}
    invoice = make_invoice(**payload)

    line = invoice.line_items.order_by("position")[0]

    assert line.tax == Decimal("2.50")
    assert (line.adjustments, line.sub_line_items) == ([], [])


@pytest.mark.parametrize("amount", ["a lot", True, [], "1e999999999", "NaN"])
def test_a_tax_that_is_not_a_number_leaves_no_sum(amount):
    payload: Any = payloads.load("invoice_issued")
    payload["line_items"][0]["tax_amounts"].append({"amount": amount})
    invoice = make_invoice(**payload)

    first, second = invoice.line_items.order_by("position")

    assert (first.tax, second.tax) == (None, Decimal("5.50"))
    assert invoice.tax is None


def test_taxes_of_many_digits_are_added_exactly():
    payload: Any = payloads.load("invoice_issued")
    large, small = "1" + "0" * 30, "0." + "0" * 30 + "1"
    payload["line_items"][0]["tax_amounts"] = [{"amount": large}, {"amount": small}]
    payload["line_items"][1]["tax_amounts"] = []

    invoice = make_invoice(**payload)

    assert str(invoice.tax) == large + small[1:]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_the_ends_of_the_calendar_have_pages(admin_client, settings, zone, moment):
    settings.TIME_ZONE = zone
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": zone}
    names = ("invoice_date", "due_date", "created_at", "issued_at", "paid_at")
    invoice = make_invoice("paid", **dict.fromkeys(names, moment))
    Invoice.objects.filter(pk=invoice.pk).update(missing_since=moment)

    for url in (
        LIST,
        f"{LIST}?dated={moment[:4]}",
        f"{LIST}?dated={moment[:7]}",
        f"{LIST}?dated={moment[:10]}",
        page_of(invoice.pk),
        "/admin/django_orb/overview/",
        "/admin/django_orb/invoicelineitem/",
    ):
        assert admin_client.get(url).status_code == 200, url
    edge = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    assert formatting.in_zone(edge.astimezone(timezone.utc)).tzinfo is not None


def test_numbers_for_machines_are_not_written_for_people(admin_client, settings):
    settings.USE_THOUSAND_SEPARATOR = True
    make_invoices(3)
    for name in (LIST, "/admin/django_orb/overview/"):
        text = admin_client.get(name).text
        assert not re.findall(r'(?:value|max|x|y|width|height)="\d+,\d{3}', text)
