"""What those who close the books look at, in a real Chromium."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from django_orb import services
from django_orb.models import Invoice, InvoiceCreditNote
from django_orb.reports import as_of, month_of

from .browsing import MARKS, Drive, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_orb.testing import OrbSandbox

pytestmark = MARKS


def test_receivables_lead_to_the_invoices_behind_them_and_to_a_file(
    orb: OrbSandbox, drive: Drive, tmp_path: Path
) -> None:
    services.sync_invoices(mode="full")
    past = Invoice.objects.filter(status="paid").order_by("-paid_at")[5]
    assert past.paid_at
    day = past.paid_at.date().replace(day=1)
    path = tmp_path / "made.csv"

    def steps(page: Page) -> None:
        page.goto("/admin/")
        page.click("#content >> text=Receivables")
        page.wait_for_selector("text=Owed now, by age")
        photograph(page, "receivables")
        page.fill("#id_day", day.isoformat())
        page.click("text=Show")
        page.wait_for_selector("text=By customer, in")
        photograph(page, "receivables-past")
        with page.expect_download() as download:
            page.click("input[name=customers]")
        download.value.save_as(path)
        page.click(".orb-ageing >> nth=1 >> td a >> nth=0")
        page.wait_for_selector("text=Invoices that were owed on")
        photograph(page, "receivables-invoices")
        page.click("text=All customers")
        page.wait_for_selector("text=By customer, in")
        page.goto("/admin/django_orb/receivables/?day=2999-01-01")
        page.wait_for_selector("text=has not come yet")
        photograph(page, "receivables-refused")
        page.set_extra_http_headers({"Accept-Language": "de"})
        page.goto(f"/admin/django_orb/receivables/?day={day}")
        page.wait_for_selector("text=Nach Kunde, in")
        photograph(page, "german-receivables")
        page.click(".orb-ageing >> nth=1 >> td a >> nth=0")
        page.wait_for_selector("text=offene Rechnungen")
        photograph(page, "german-receivables-invoices")

    drive(steps)

    rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    assert {
        one.currency: one.all.total for one in services.receivables(as_of(day).day)
    } == {
        currency: sum(
            Decimal(row["Owed"]) for row in rows if row["Invoice currency"] == currency
        )
        for currency in {row["Invoice currency"] for row in rows}
    }


def test_a_month_is_closed_on_one_page(
    orb: OrbSandbox, drive: Drive, tmp_path: Path
) -> None:
    services.sync_invoices(mode="full")
    month = month_of()
    of_month = Invoice.objects.filter(month.dates("invoice_date"))
    paid = of_month.filter(status="paid")[0]
    note = {"id": "n", "credit_note_number": "CN-90001", "memo": None, "total": "12.00"}
    note |= {"reason": "Order change", "type": "refund", "voided_at": None}
    orb.update_invoice(paid.pk, credit_notes=[note])
    made = orb.add_invoice(days_ago=(as_of().day - month.last).days + 3)
    orb.attempt_payment(made["id"], succeeds=False)
    orb.add_invoice(status="draft", days_ago=(as_of().day - month.last).days + 3)
    services.sync_invoices(mode="full")
    InvoiceCreditNote.objects.filter(invoice=paid).update(dated_at=month.begin)
    path = tmp_path / "made.csv"

    def steps(page: Page) -> None:
        page.goto("/admin/")
        page.click("#content >> text=Month end")
        page.wait_for_selector("text=Changed afterwards")
        page.wait_for_selector("text=CN-90001")
        photograph(page, "month-end")
        with page.expect_download() as download:
            page.click("input[type=submit][value=Export]")
        download.value.save_as(path)
        page.click("text=The month before")
        page.wait_for_selector("text=Changed afterwards")
        page.goto("/admin/django_orb/monthend/?month=2999-01")
        page.wait_for_selector("text=has not begun yet")
        photograph(page, "month-end-refused")
        page.set_extra_http_headers({"Accept-Language": "de"})
        page.goto("/admin/django_orb/monthend/")
        page.wait_for_selector("text=Monatsabschluss")
        photograph(page, "german-month-end")

    drive(steps)

    rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    assert {"Invoiced", "Draft", "Failure", "Credit note"} <= {
        row["Kind"] for row in rows
    }
