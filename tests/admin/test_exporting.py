"""Exporting what a list shows."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.contrib.admin.models import LogEntry
from django.test import AsyncClient, Client

from django_orb.models import Invoice, InvoiceLineItem
from tests.exports.test_exports import read
from tests.factories import make_invoice, make_invoices, make_staff

from .pages import LIST

pytestmark = pytest.mark.django_db
LogIn = Callable[..., Client]
LINES = "/admin/django_orb/invoicelineitem/"
INVOICE_FORM = {"file_format": "csv", "columns": ["invoice_id", "total"]}
LINE_FORM = {"file_format": "csv", "columns": ["invoice_id", "amount"]}


def content(response: Any) -> bytes:
    assert response.status_code == 200
    whole = b"".join(response.streaming_content)
    assert response["Content-Length"] == str(len(whole))
    return whole


def test_all_that_is_filtered_is_exported_and_recorded(
    finance: Client, atomic_requests: None
) -> None:
    make_invoices(60, currency="USD")  # more than a page
    make_invoices(3, "paid", currency="USD")
    make_invoice("draft", id="other", currency="JPY", invoice_number="OTHER-1")
    url = f"{LIST}export/"

    page = finance.get(url, {"status__exact": "issued", "currency": "USD", "p": "2"})
    text = page.content.decode()
    for words in ("60 invoices", "Issued", "USD"):
        assert words in text
    response = finance.post(
        f"{url}?status__exact=issued&currency=USD&p=2&o=1", INVOICE_FORM
    )
    rows = read(content(response))
    assert {row["Invoice ID"] for row in rows} == {f"issued{n:05}" for n in range(60)}
    assert 'attachment; filename="invoices-20' in response["Content-Disposition"]
    assert response["Content-Type"] == "text/csv; charset=utf-8"

    found = read(content(finance.post(f"{url}?q=other", INVOICE_FORM)))
    assert [row["Invoice ID"] for row in found] == ["other"]

    entries = LogEntry.objects.order_by("id")
    assert [entry.get_change_message() for entry in entries] == [
        "Exported 60 invoices as CSV; filter: currency=USD, status__exact=issued",
        "Exported 1 invoices as CSV; filter: q=other",
    ]
    assert {entry.user.get_username() for entry in entries} == {"finance"}
    assert "Export" in finance.get("/admin/").content.decode()


def test_line_items_of_what_is_filtered_and_by_themselves(finance: Client) -> None:
    make_invoice(id="one")
    make_invoice("paid", id="two")
    InvoiceLineItem.objects.filter(invoice="two").update(item_id="special")

    url = f"{LIST}export-lines/?status__exact=paid"
    of_invoice = read(content(finance.post(url, LINE_FORM)))
    by_item = read(content(finance.post(f"{LINES}export/?q=special", LINE_FORM)))

    assert {row["Invoice ID"] for row in of_invoice} == {"two"}
    assert len(of_invoice) == InvoiceLineItem.objects.filter(invoice="two").count()
    assert sorted(map(str, by_item)) == sorted(map(str, of_invoice))
    assert "The line items of" in finance.get(url).content.decode()
    logged = set(LogEntry.objects.values_list("change_message", flat=True))
    assert f"Exported {len(by_item)} line items as CSV; filter: q=special" in logged


def test_a_workbook_and_a_german_csv(finance: Client) -> None:
    invoice = make_invoice(id="one", currency="EUR")
    url = f"{LIST}export/"

    made = content(finance.post(url, {**INVOICE_FORM, "file_format": "xlsx"}))
    sheet = openpyxl.load_workbook(io.BytesIO(made)).active
    assert sheet is not None
    assert [cell.value for cell in sheet[2]] == ["one", float(invoice.total)]

    german = finance.get(url, headers={"accept-language": "de"}).content.decode()
    assert '<option value="csv_semicolon" selected>' in german
    form = {**INVOICE_FORM, "file_format": "csv_semicolon", "bom": "on"}
    made = content(finance.post(url, form, headers={"accept-language": "de"}))
    total = f"{invoice.total:.2f}".replace(".", ",")
    assert made == f"\ufeffInvoice ID;Total\r\none;{total}\r\n".encode()


def test_permissions(log_in: LogIn) -> None:
    make_invoice()
    viewer = log_in("view_invoice", "view_invoicelineitem", name="viewer")
    exporter = log_in("view_invoice", "export_invoice", name="exporter")
    blind = log_in("export_invoice", name="blind")
    pages = [f"{LIST}export/", f"{LIST}export-lines/", f"{LINES}export/"]

    def answers(client: Client) -> list[int]:
        found: list[int] = []
        for page in pages:
            sent = client.post(page, INVOICE_FORM)
            if sent.streaming:
                content(sent)
            found += [client.get(page).status_code, sent.status_code]
        return found

    assert answers(viewer) == [403] * 6
    assert answers(exporter) == [200, 200] + [403] * 4
    assert answers(blind) == [403] * 6
    assert "Export…" in exporter.get(LIST).content.decode()
    assert "Their line items" not in exporter.get(pages[0]).content.decode()
    assert "Export…" not in viewer.get(LIST).content.decode()
    assert "Export…" not in viewer.get(LINES).content.decode()
    assert LogEntry.objects.count() == 1
    exporter.logout()
    assert exporter.post(pages[0], INVOICE_FORM).status_code == 302


def labels_fail(customers: Any) -> Any:
    raise ValueError("no names today")


@pytest.mark.parametrize(
    ("query", "form", "words"),
    [
        ("?q=nothing-that-is-there", {}, "Nothing matches"),
        ("", {"columns": []}, "Choose at least one column."),
        ("", {"columns": ["total", "plan"]}, "plan is not one of the available"),
        ("", {"file_format": "ods"}, "ods is not one of the available"),
        ("", {"file_format": "xlsx"}, "pip install &quot;django-orb[xlsx]&quot;"),
        ("", {"columns": ["customer_name"]}, "no names today"),
    ],
)
def test_no_file_but_a_sentence(
    finance: Client,
    query: str,
    form: dict[str, Any],
    words: str,
    settings: Any,
    without_xlsxwriter: None,
) -> None:
    make_invoice()
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CUSTOMER_LABELS": f"{__name__}.labels_fail",
    }

    response = finance.post(f"{LIST}export/{query}", {**INVOICE_FORM, **form})

    assert response.status_code == 200
    text = response.content.decode()
    assert "No file was made." in text
    assert words in text
    assert not LogEntry.objects.exists()


def test_a_full_disk_is_said(finance: Client, settings: Any, tmp_path: Path) -> None:
    make_invoice()
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path / "no folder")

    response = finance.post(
        f"{LIST}export/", INVOICE_FORM, headers={"accept-language": "de"}
    )

    assert "Die Datei kann nicht geschrieben werden." in response.content.decode()


def test_a_filter_that_fails_does_not_export_everything(finance: Client) -> None:
    make_invoice()
    for query in ("total__gt=abc", "nonsense=1"):
        response = finance.post(f"{LIST}export/?{query}", INVOICE_FORM)
        assert response.status_code == 302
        assert response["Location"] == f"{LIST}?e=1"


def test_nothing_is_left_behind(finance: Client, settings: Any, tmp_path: Path) -> None:
    make_invoice()
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    for file_format in ("csv", "xlsx"):
        form = {**INVOICE_FORM, "file_format": file_format}
        content(finance.post(f"{LIST}export/", form))
    finance.post(f"{LIST}export/?q=zzz", form)

    assert os.listdir(tmp_path) == []


@pytest.mark.django_db(transaction=True)
def test_asgi_sends_the_file_in_parts(settings: Any) -> None:
    make_invoices(30)
    Invoice.objects.update(memo="w" * 2000)
    user = make_staff("view_invoice", "export_invoice")
    form = {"file_format": "csv", "columns": ["invoice_id", "memo"]}

    async def download() -> list[bytes]:
        client = AsyncClient()
        await client.aforce_login(user)
        response: Any = await client.post(f"{LIST}export/", form)
        parts = [part async for part in response]
        assert response["Content-Length"] == str(sum(map(len, parts)))
        return parts

    parts = asyncio.run(download())

    assert len(parts) > 5
    assert len(read(b"".join(parts))) == 30
