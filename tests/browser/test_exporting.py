"""What is listed, added up and taken along as a file, in a real Chromium."""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import openpyxl

from django_orb import services
from django_orb.models import Invoice

from .browsing import MARKS, Drive, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_orb.testing import OrbSandbox

pytestmark = MARKS


def test_what_is_filtered_is_added_up_and_exported(
    orb: OrbSandbox, drive: Drive, tmp_path: Path
) -> None:
    services.sync_invoices(mode="full")
    paid = {
        one.pk: one.total
        for one in Invoice.objects.filter(status="paid", currency="USD")
    }
    made = {"csv": tmp_path / "made.csv", "xlsx": tmp_path / "made.xlsx"}

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoice/?status__exact=paid&currency=USD")
        photograph(page, "list-with-sums")
        page.click("text=Export…")
        page.wait_for_selector("text=Currency")
        photograph(page, "export")
        for file_format, path in made.items():
            page.select_option("#id_file_format", file_format)
            with page.expect_download() as download:
                page.click("input[type=submit][value=Export]")
            download.value.save_as(path)
        page.click("text=Their line items")
        page.wait_for_selector("text=Line item name")
        photograph(page, "export-lines")
        page.goto("/admin/django_orb/invoicelineitem/?price_type=fixed_price")
        page.click("text=Export…")
        page.wait_for_selector("text=Fixed fee")
        for one in page.query_selector_all("input[name=columns]"):
            one.uncheck()
        page.click("input[type=submit][value=Export]")
        page.wait_for_selector("text=No file was made.")
        photograph(page, "export-refused")
        page.set_extra_http_headers({"Accept-Language": "de"})
        page.goto("/admin/django_orb/invoice/?overdue=yes")
        photograph(page, "german-list-with-sums")
        page.click("text=Exportieren …")
        page.wait_for_selector("text=Rechnungen exportieren")
        photograph(page, "german-export")

    drive(steps)

    rows = list(csv.DictReader(made["csv"].read_text("utf-8-sig").splitlines()))
    assert {row["Invoice ID"]: row["Total"] for row in rows} == {
        pk: f"{total:.2f}" for pk, total in paid.items()
    }
    with closing(openpyxl.load_workbook(made["xlsx"], read_only=True)) as workbook:
        assert workbook.active is not None
        assert len(list(workbook.active.iter_rows(min_row=2))) == len(paid) > 0
