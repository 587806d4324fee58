from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from django_orb import services
from django_orb.models import Invoice, InvoiceChange
from django_orb.signals import invoice_created
from django_orb.testing import InvoiceFactory, OrbSandbox

from .conftest import NOW, make_sdk
from .exact import assert_exact, assert_sums

STATUSES = ["draft", "issued", "paid", "synced", "void"]
LINES = [
    {"name": "Seats", "amount": "99.90", "quantity": 3},
    {"name": "Refund", "amount": Decimal("-10.01")},
]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.django_db
def test_invoices_of_every_status_add_up(status):
    make_invoice = InvoiceFactory()

    invoice = make_invoice(status=status, lines=LINES)

    assert invoice.status == status
    assert_sums(invoice.payload)
    assert invoice.total == Decimal("89.89")
    assert [line.name for line in invoice.line_items.all()] == ["Seats", "Refund"]


@pytest.mark.django_db
def test_they_are_dated_and_belong_to_whom_the_test_says():
    invoice = InvoiceFactory()(
        external_customer_id="crm-17", days_ago=45, memo="Hello", metadata={"po": "7"}
    )

    assert Invoice.objects.for_customer(external_customer_id="crm-17").get() == invoice
    assert invoice.days_overdue in (14, 15)  # 30 days to pay
    assert (invoice.memo, invoice.payload["metadata"]) == ("Hello", {"po": "7"})
    assert timezone.now() - invoice.invoice_date > timedelta(days=44)


@pytest.mark.django_db
def test_the_same_seed_makes_the_same_invoices():
    first, again = (InvoiceFactory(seed=3).payload() for _ in range(2))

    assert first["id"] == again["id"] != InvoiceFactory(seed=4).payload()["id"]
    assert not Invoice.objects.exists()  # payloads alone are not stored


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.django_db
def test_a_line_item_is_one_more_and_the_sums_follow(status):
    make_invoice = InvoiceFactory()
    invoice = make_invoice(status=status, amount="10.00")

    line = make_invoice.line_item(invoice, name="Support", amount="5.50", quantity=2)

    invoice.refresh_from_db()
    assert line.invoice == invoice
    assert (line.name, line.amount, line.quantity) == ("Support", Decimal("5.5"), 2)
    assert invoice.total == Decimal("15.50")
    assert_sums(invoice.payload)


@pytest.mark.django_db
def test_a_line_item_alone_is_on_a_draft():
    line = InvoiceFactory().line_item(
        amount="5.00", start_date=date(2026, 1, 1), end_date=date(2026, 1, 31)
    )

    assert line.invoice.status == "draft"
    assert line.invoice.line_items.get() == line
    assert line.start_date is not None
    assert line.start_date.date() == date(2026, 1, 1)


@pytest.mark.django_db
def test_nobody_is_told_of_what_a_factory_makes():
    told = []

    def receiver(**named):
        told.append(named)

    invoice_created.connect(receiver)
    try:
        InvoiceFactory()()
    finally:
        invoice_created.disconnect(receiver)
    assert (told, InvoiceChange.objects.count()) == ([], 0)


@pytest.mark.django_db
def test_a_sync_leaves_them_as_they_are(orb_sandbox, orb_invoice_factory):
    invoice = orb_invoice_factory(status="paid")
    mirrored_at = invoice.mirrored_at

    run = services.sync_invoices(mode="full")

    assert (run.unchanged, run.missing) == (1, 0)
    invoice.refresh_from_db()
    assert invoice.mirrored_at == mirrored_at


@pytest.mark.parametrize(
    ("facts", "error", "words"),
    [
        ({"status": "payed"}, ValueError, "'payed' is not one of"),
        ({"lines": [{"amout": "1"}]}, TypeError, r"not \['amout'\]"),
        ({"lines": [{"amount": 1.5}]}, TypeError, "amount is a float"),
        ({"amount": "ten"}, ValueError, "amount is not a number: 'ten'"),
        ({"mood": "good"}, KeyError, "an invoice has no mood"),
    ],
)
def test_what_cannot_be_made_is_said_in_words(facts, error, words):
    with pytest.raises(error, match=words):
        InvoiceFactory().payload(**facts)


@pytest.mark.django_db
def test_what_the_mirror_refuses_is_said_in_words():
    with pytest.raises(ValueError, match="The mirror cannot store the invoice"):
        InvoiceFactory()(total="a lot")


def test_a_customer_has_the_terms_and_taxes_that_the_test_says(sdk, orb):
    made = orb.add_customer(
        "crm-1",
        name="Ada & Sons",
        currency="JPY",
        time_zone="Asia/Tokyo",
        tax_percentage="10",
        net_terms=14,
    )

    assert_exact(sdk.customers.fetch(made["id"]))
    invoice = orb.add_invoice(external_customer_id="crm-1", amount="1000")
    assert_exact(sdk.invoices.fetch(invoice["id"]))
    assert_sums(invoice)
    assert (invoice["total"], invoice["currency"]) == ("1100", "JPY")
    due = datetime.fromisoformat(invoice["due_date"])
    assert due - NOW.replace(minute=0) <= timedelta(days=14, hours=1)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"currency": "XYZ"}, "has no 'XYZ', only AUD"),
        ({"time_zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ({"tax_percentage": "much"}, "tax_percentage is not a number"),
    ],
)
def test_a_customer_that_cannot_be(orb, facts, words):
    with pytest.raises(ValueError, match=words):
        orb.add_customer(**facts)


def test_nobody_is_added_twice(orb):
    orb.add_customer("crm-1")
    with pytest.raises(ValueError, match="There is a customer 'crm-1'"):
        orb.add_customer("crm-1")


def test_added_customers_are_in_a_snapshot(orb, tmp_path):
    invoice = orb.add_invoice(external_customer_id="crm-1")
    orb.save(tmp_path / "state")

    with OrbSandbox.load(tmp_path / "state") as loaded, make_sdk(loaded) as sdk:
        assert loaded.invoice(invoice["id"]) == orb.invoice(invoice["id"])
        assert (
            sdk.customers.fetch_by_external_id("crm-1").id
            == (invoice["customer"]["id"])
        )
        loaded.add_invoice(external_customer_id="crm-1")


def test_factories_need_no_werkzeug():
    code = (
        "import sys; sys.modules['werkzeug'] = None\n"
        "import django; django.setup()\n"
        "from django_orb.testing import InvoiceFactory\n"
        "print(InvoiceFactory().payload(amount='7.00')['total'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (result.stdout, result.stderr) == ("7.00\n", "")


@pytest.mark.django_db
def test_an_invoice_may_have_an_id_of_the_tests_own(orb_sandbox, orb_invoice_factory):
    invoice = orb_invoice_factory(id="inv-of-mine")

    assert invoice.pk == "inv-of-mine"
    assert services.void_invoice(invoice).status == "void"
    with pytest.raises(ValueError, match="There is an invoice 'inv-of-mine'"):
        orb_sandbox.add_invoice(id="inv-of-mine")
