"""An invoice has one day, and is in one month, wherever people look."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.test import Client

from django_orb import services
from django_orb.models import Invoice, InvoiceLineItem
from django_orb.reports import month_of, read_totals
from tests.exports.test_exports import read
from tests.factories import make_invoice

from .pages import LIST, page_of
from .test_customer_page import address
from .test_exporting import INVOICE_FORM, content
from .test_receivables import text_of

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db

# The zone, the first moment of its October 2026, and the first one after it.
ZONES = [
    ("UTC", "2026-10-01T00:00:00", "2026-11-01T00:00:00"),
    ("Europe/Berlin", "2026-09-30T22:00:00", "2026-10-31T23:00:00"),
    ("America/St_Johns", "2026-10-01T02:30:00", "2026-11-01T02:30:00"),
]
IN_ZONES = pytest.mark.parametrize(("zone", "first", "after"), ZONES)


def make(
    name: str, moment: str, total: str, status: str = "issued", **more: Any
) -> None:
    make_invoice(
        "draft" if status == "draft" else "issued",
        id=name,
        status=status,
        currency="USD",
        invoice_date=f"{moment}+00:00",
        due_date=f"{moment}+00:00",
        total=total,
        amount_due=total,
        customer={"id": "cusAcme", "external_customer_id": None},
        **more,
    )


def second_before(moment: str) -> str:
    """The last second of the day before, at whatever hour midnight is."""
    hour, minute, _ = moment[11:].split(":")
    if (hour, minute) == ("00", "00"):
        day = {"2026-10-01": "2026-09-30", "2026-11-01": "2026-10-31"}[moment[:10]]
        return f"{day}T23:59:59"
    minutes = int(hour) * 60 + int(minute) - 1
    return f"{moment[:10]}T{minutes // 60:02}:{minutes % 60:02}:59"


@IN_ZONES
def test_a_month_has_the_same_invoices_everywhere(
    finance: Client, settings: Any, tmp_path: Path, zone: str, first: str, after: str
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": zone}
    make("before", second_before(first), "1.00")
    make("first", first, "20.00")
    make("last", second_before(after), "300.00")
    make("after", after, "4000.00")
    october = {"first", "last"}

    page = finance.get(LIST, {"dated": "2026-10"})
    assert {one.pk for one in page.context["cl"].result_list} == october
    [sums] = page.context["cl"].sums
    assert (sums.count, sums.total) == ("2", "320.00 USD")

    exported = finance.post(f"{LIST}export/?dated=2026-10", INVOICE_FORM)
    assert {row["Invoice ID"] for row in read(content(exported))} == october
    path = tmp_path / "october.csv"
    days = ["--since", "2026-10-01", "--until", "2026-10-31"]
    call_command("orb_export_invoices", *days, "--output", str(path))
    assert {row["Invoice ID"] for row in read(path.read_bytes())} == october

    [totals] = read_totals(Invoice.objects.all(), month_of("2026-10"))
    assert (totals.invoiced.count, totals.invoiced.total) == (2, Decimal(320))
    # What is below a month, and above it.
    for dated, found in {
        "2026-09": {"before"},
        "2026-10-01": {"first"},
        "2026-10-31": {"last"},
        "2026-11-01": {"after"},
        "2026": {"before", "after", *october},
    }.items():
        listed = finance.get(LIST, {"dated": dated}).context["cl"].result_list
        assert {one.pk for one in listed} == found


@IN_ZONES
def test_an_invoice_has_the_same_day_everywhere(
    finance: Client, settings: Any, tmp_path: Path, zone: str, first: str, after: str
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": zone}
    make("one", first, "20.00", issued_at=f"{first}+00:00")
    make("two", first, "20.00", status="draft")

    named = f"Days are in the time zone {zone}."
    row = unescape(finance.get(LIST).content.decode())
    shown = re.findall(
        r'class="field-(dated|due)[^"]*"><span title="[^"]*">([^<]+)<', row
    )
    assert set(shown) == {("dated", "1 Oct 2026"), ("due", "1 Oct 2026")}
    assert named in row

    page = text_of(finance.get(page_of("one")))
    assert (
        f"Dates in the time zone {zone} Invoice date 1 Oct 2026 Due 1 Oct 2026" in page
    )
    assert "Issued 1 Oct 2026" in page
    assert "30 Sep 2026" not in page

    customer = text_of(finance.get(address()))
    assert named in customer
    assert customer.count("1 Oct 2026 1 Oct 2026") == 2
    InvoiceLineItem.objects.filter(invoice="one").update(start_date=f"{first}+00:00")
    lines = finance.get("/admin/django_orb/invoicelineitem/").text
    assert "1 Oct 2026" in lines
    assert named in lines
    owed = finance.get("/admin/django_orb/receivables/", {"show": "invoices"})
    assert "1 Oct 2026 1 Oct 2026" in text_of(owed)
    assert named in text_of(owed)
    month = text_of(finance.get("/admin/django_orb/monthend/", {"month": "2026-10"}))
    assert "1 Oct 2026" in month
    assert "30 Sep 2026" not in month
    assert f"Months and days are in the time zone {zone}." in month
    period = {"since": "2026-10-01", "until": "2026-10-31"}
    statement = text_of(finance.get(address(view="_statement"), period))
    assert "dated 1 Oct 2026, due 1 Oct 2026" in statement
    assert f"Days are in the time zone {zone};" in statement

    path = tmp_path / "all.csv"
    columns = ["--columns", "invoice_id,invoice_date,due_date"]
    call_command("orb_export_invoices", *columns, "--output", str(path))
    [days] = {tuple(row.values())[1:] for row in read(path.read_bytes())}
    assert days == ("2026-10-01", "2026-10-01")


def test_upcoming_invoices_name_the_zone_of_their_days(
    orb: OrbSandbox, finance: Client, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Asia/Tokyo"}
    current = {*orb.subscription_ids(with_upcoming=True)}
    payloads = [orb.invoice(pk) for pk in orb.invoice_ids("issued")]
    pk, customer = next(
        (one["id"], one["customer"]["id"])
        for one in payloads
        if one["subscription"] and one["subscription"]["id"] in current
    )
    services.fetch_invoice(pk)

    for page in (page_of(pk, "upcoming"), address(customer, "_upcoming")):
        assert "Days are in the time zone Asia/Tokyo." in finance.get(page).text
