from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.db import connections
from django.db.models import QuerySet

from django_orb import services
from django_orb.exceptions import OrbExportError, OrbInputError
from django_orb.exports import formats, reading, writing
from django_orb.models import (
    Invoice,
    InvoiceCreditNote,
    InvoiceFailureReason,
    InvoiceLineItem,
    InvoiceLineTax,
)
from django_orb.services import CsvStyle, export_rows
from tests.factories import make_invoice, make_invoices

HERE = __name__


def read(data: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    text = data.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def exported(rows: QuerySet[Any, Any], **options: Any) -> list[dict[str, str]]:
    stream = io.BytesIO()
    count = export_rows(rows, output=stream, **options)
    found = read(stream.getvalue())
    assert len(found) == count
    return found


def workbook(rows: QuerySet[Any, Any], **options: Any) -> list[tuple[Any, ...]]:
    stream = io.BytesIO()
    export_rows(rows, output=stream, file_format="xlsx", **options)
    sheet = openpyxl.load_workbook(stream).active
    assert sheet is not None
    return list(sheet.iter_rows())


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "INVOICES_AT_ONCE",
        "INVOICES_WITH_LINES_AT_ONCE",
        "LINES_AT_ONCE",
        "MAX_KEPT_NAMES",
    ):
        monkeypatch.setattr(reading, name, 3)


def labels(customers: Any) -> dict[str, str]:
    return {one.external_customer_id: f"Name of {one[0]}" for one in customers}


def test_every_invoice_and_line_is_exported_once(
    any_database: str, orb: Any, small_pages: None, settings: Any
) -> None:
    services.sync_invoices(mode="full")
    make_invoices(8)  # of one date, which is more than a page
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "CUSTOMER_LABELS": f"{HERE}.labels"}

    invoices = exported(Invoice.objects.all())
    lines = exported(Invoice.objects.all(), lines=True)
    same = exported(InvoiceLineItem.objects.all())
    some = exported(Invoice.objects.filter(status="paid"), lines=True)

    expected = Invoice.objects.net_of_credit_notes().order_by("-invoice_date", "-id")
    assert [row["Invoice ID"] for row in invoices] == [one.pk for one in expected]
    for row, one in zip(invoices, expected, strict=True):
        assert Decimal(row["Total"]) == one.total
        assert Decimal(row["Amount due"]) == one.amount_due
        assert Decimal(row["Tax amount"]) == one.tax
        assert Decimal(row["Net of credit notes"]) == one.net_total  # type: ignore[attr-defined]
        assert row["Invoice status"] == one.status
        assert row["Invoice date"] == f"{one.invoice_date:%Y-%m-%d}"
        assert row["Paid at (UTC)"] == (
            f"{one.paid_at:%Y-%m-%d %H:%M:%S}" if one.paid_at else ""
        )
        has_name = bool(one.external_customer_id)
        assert row["Customer name"] == (
            f"Name of {one.customer_id}" if has_name else ""
        )
    wanted = [line for one in expected for line in one.line_items.order_by("position")]
    assert [
        (row["Invoice ID"], row["Line item name"], Decimal(row["Tax amount"]))
        for row in lines
    ] == [(line.invoice_id, line.name, line.tax) for line in wanted]
    key = "Invoice ID", "Line item name", "Net invoice line item amount"
    assert sorted([row[k] for k in key] for row in same) == sorted(
        [row[k] for k in key] for row in lines
    )
    assert some == [row for row in lines if row["Invoice status"] == "paid"]


@pytest.mark.django_db
def test_amounts_are_exact_and_texts_run_no_formula() -> None:
    names = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=1", 'x";=1', "Müller\n; Söhne"]
    for number, name in enumerate(names):
        make_invoice(id=f"i{number}", memo=name)
    Invoice.objects.filter(pk="i0").update(
        total=Decimal("-12345678901234567.000000000000000001")
    )

    rows = exported(Invoice.objects.order_by("id"), columns=["invoice_id", "memo"])
    assert {row["Invoice ID"]: row["Memo"] for row in rows} == {
        f"i{number}": name if number > 5 else f"'{name}"
        for number, name in enumerate(names)
    }
    stream = io.BytesIO()
    style = CsvStyle(delimiter=";", decimal_comma=True, bom=True)
    export_rows(
        Invoice.objects.filter(pk="i1"),
        output=stream,
        columns=["total", "memo"],
        style=style,
    )
    total = Invoice.objects.get(pk="i1").total
    german = f"{total:.2f}".replace(".", ",")
    assert stream.getvalue() == f"\ufeffTotal;Memo\r\n{german};'+1\r\n".encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("0", "0.00"),
        ("1E+3", "1000.00"),
        ("1E-18", "0.000000000000000001"),
        ("-0.50", "-0.50"),
        ("12345678901234567890.125", "12345678901234567890.125"),
    ],
)
def test_an_amount_has_all_its_digits(value: str, written: str) -> None:
    assert formats.exact(Decimal(value), 2) == written


@pytest.mark.django_db
def test_what_is_not_known_stays_empty_and_voided_credit_notes_do_not_count() -> None:
    invoice = make_invoice(id="one")
    invoice.credit_notes.all().delete()
    notes = [("a", "10.00", None), ("b", "5.00", datetime.now(timezone.utc))]
    for place, (orb_id, total, voided_at) in enumerate(notes):
        InvoiceCreditNote.objects.create(
            invoice=invoice,
            orb_id=orb_id,
            position=place,
            total=Decimal(total),
            voided_at=voided_at,
        )
    columns = ["tax", "total", "credited", "net_total"]

    (row,) = exported(Invoice.objects.all(), columns=columns)
    assert row["Credit notes"] == "10.00"
    assert Decimal(row["Net of credit notes"]) == invoice.total - 10

    InvoiceCreditNote.objects.filter(orb_id="a").update(total=None)
    line = invoice.line_items.all()[0]
    InvoiceLineTax.objects.create(line_item=line, position=90, amount=None)
    (row,) = exported(Invoice.objects.all(), columns=columns)
    assert (row["Credit notes"], row["Net of credit notes"]) == ("", "")
    assert Decimal(row["Tax amount"]) == invoice.tax

    InvoiceLineTax.objects.filter(position=90).update(rounded_fields=["amount"])
    (row,) = exported(Invoice.objects.all(), columns=columns)
    assert row["Tax amount"] == ""


@pytest.mark.django_db
def test_why_invoices_fail_is_a_column_of_both() -> None:
    failed_at = datetime(2026, 3, 1, tzinfo=timezone.utc)
    invoice = make_invoice(id="failing", payment_failed_at="2026-03-01T00:00:00+00:00")
    make_invoice(id="well")
    reasons = [
        ("accounting_sync", "netsuite", "", None),
        ("payment", "", "=Card declined", None),
        ("sync", "", "over", failed_at),
    ]
    for kind, connection_type, reason, over_until in reasons:
        InvoiceFailureReason.objects.create(
            invoice=invoice,
            kind=kind,
            connection_type=connection_type,
            reason=reason,
            failed_at=failed_at,
            over_until=over_until,
        )
    why = "accounting_sync netsuite; payment: =Card declined"
    columns = ["invoice_id", "failure_reasons"]

    for lines in (False, True):
        rows = exported(Invoice.objects.all(), columns=columns, lines=lines)
        assert {row["Invoice ID"]: row["Why it fails"] for row in rows} == {
            "failing": why,
            "well": "",
        }


@pytest.mark.django_db
def test_days_and_times_are_those_of_the_reports(settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Europe/Berlin"}
    make_invoice("paid", invoice_date="2026-01-31T23:00:00+00:00")
    Invoice.objects.update(paid_at=datetime(2026, 7, 1, 22, 30, tzinfo=timezone.utc))
    columns = ["invoice_date", "paid_at"]

    (row,) = exported(Invoice.objects.all(), columns=columns)
    assert row == {
        "Invoice date": "2026-02-01",
        "Paid at (Europe/Berlin)": "2026-07-02 00:30:00",
    }
    _, cells = workbook(Invoice.objects.all(), columns=columns)
    assert [cell.value for cell in cells] == [
        datetime(2026, 2, 1),  # noqa: DTZ001
        datetime(2026, 7, 2, 0, 30),  # noqa: DTZ001
    ]
    assert all(cell.is_date for cell in cells)


@pytest.mark.django_db
def test_a_workbook_has_numbers_and_texts_and_never_a_formula() -> None:
    make_invoice(memo="=1+1", invoice_date="0001-01-01T00:00:00+00:00")
    Invoice.objects.update(total=Decimal("-1234.5"), external_customer_id="w" * 40_000)

    head, cells = workbook(Invoice.objects.all())

    row = dict(zip([cell.value for cell in head], cells, strict=True))
    assert (row["Memo"].value, row["Memo"].data_type) == ("=1+1", "s")
    assert (row["Total"].value, row["Total"].data_type) == (-1234.5, "n")
    assert row["Total"].number_format.startswith("#,##0.00")
    assert row["Invoice date"].value == "0001-01-01 00:00:00"
    assert len(row["External customer ID"].value) == formats.MAX_XLSX_TEXT
    assert row["External customer ID"].value.endswith("…")
    assert row["Due date"].is_date


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("memo", "written"),
    [
        ("😀" * 20_000, f"{'😀' * 16_383}…"),
        (f"w{'😀' * 20_000}", f"w{'😀' * 16_382}…"),  # half a character is cut off
        (f"w{'😀' * 16_383}", f"w{'😀' * 16_383}"),
    ],
    ids=["even", "odd", "fits"],
)
def test_a_cell_counts_characters_as_excel_does(memo: str, written: str) -> None:
    """One outside Unicode's first plane counts twice."""
    make_invoice(memo=memo)

    _, (cell,) = workbook(Invoice.objects.all(), columns=["memo"])

    assert cell.value == written
    assert len(written.encode("utf-16-le")) // 2 <= formats.MAX_XLSX_TEXT


@pytest.mark.django_db
def test_a_workbook_refuses_more_than_a_zip_file_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library would fail only at the end, with an error of its own."""
    make_invoices(3)
    path = tmp_path / "made.xlsx"
    for limit, is_refused in ((100_000, False), (1000, True)):
        monkeypatch.setattr(formats, "MAX_XLSX_BYTES", limit)
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1.05 * limit)
        refuses = (
            pytest.raises(OrbExportError, match="2 GB") if is_refused else nullcontext()
        )
        with refuses:
            export_rows(Invoice.objects.all(), output=path, file_format="xlsx")
        assert os.listdir(tmp_path) == ["made.xlsx"]


@pytest.mark.django_db
def test_a_workbook_refuses_more_rows_than_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_invoices(3)
    lines = InvoiceLineItem.objects.count()
    for module in (writing, formats):
        monkeypatch.setattr(module, "MAX_XLSX_ROWS", 3)
    path = tmp_path / "made.xlsx"

    assert export_rows(Invoice.objects.all(), output=path, file_format="xlsx") == 3
    before = path.read_bytes()
    assert lines > 3
    for options in ({"lines": True}, {}):
        if not options:
            make_invoice(id="one more")
        with pytest.raises(OrbExportError, match="1,048,575"):
            export_rows(
                Invoice.objects.all(),
                output=path,
                file_format="xlsx",
                **options,  # type: ignore[arg-type]
            )
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["made.xlsx"]


@pytest.mark.django_db
def test_without_the_extra_a_sentence_says_what_to_install(
    without_xlsxwriter: None,
) -> None:
    make_invoice()

    with pytest.raises(OrbExportError, match=r'pip install "django-orb\[xlsx\]"'):
        workbook(Invoice.objects.all())


def fails_at_second(customers: Any) -> dict[str, str]:
    if any(one.customer_id == "last" for one in customers):
        raise ValueError("no names today")
    return {}


@pytest.mark.django_db
@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
def test_what_breaks_in_the_middle_leaves_the_older_file_alone(
    file_format: Any, tmp_path: Path, small_pages: None, settings: Any
) -> None:
    make_invoices(7)
    Invoice.objects.filter(pk="issued00000").update(customer_id="last")
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CUSTOMER_LABELS": f"{HERE}.fails_at_second",
    }
    path = tmp_path / "month.csv"
    path.write_text("the month before")
    link = tmp_path / "link.csv"
    link.symlink_to(path)

    with pytest.raises(OrbExportError, match=r"names of customers.*no names today"):
        export_rows(Invoice.objects.all(), output=path, file_format=file_format)
    assert path.read_text() == "the month before"
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "month.csv"]

    Invoice.objects.filter(customer_id="last").delete()
    export_rows(Invoice.objects.all(), output=link, file_format=file_format)
    assert link.is_symlink()
    assert path.read_bytes() != b"the month before"
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "month.csv"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name",
    [f"{'发' * 80}.csv", f"{'é' * 125}.csv", f"{'w' * 251}.csv", "caf\udce9.csv"],
    ids=["three bytes", "two bytes", "one byte", "not in Unicode"],
)
def test_a_file_may_have_any_name_that_the_system_takes(
    tmp_path: Path, name: str
) -> None:
    make_invoice()

    assert export_rows(Invoice.objects.all(), output=tmp_path / name) == 1

    assert os.listdir(tmp_path) == [name]


@pytest.mark.django_db
def test_a_file_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(OrbExportError, match="Nothing matches"):
        export_rows(Invoice.objects.all(), output=tmp_path / "made.csv")
    make_invoice()
    for path in (tmp_path, tmp_path / "no folder" / "made.csv"):
        with pytest.raises(OrbExportError, match="cannot be written"):
            export_rows(Invoice.objects.all(), output=path)
    with open("/dev/full", "wb", buffering=0) as full:
        with pytest.raises(OrbExportError, match="No space left"):
            export_rows(Invoice.objects.all(), output=full)
        assert not full.closed
    assert os.listdir(tmp_path) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"columns": ["total", "plan"]}, "columns"),
        ({"columns": []}, "columns"),
        ({"columns": ["total", "total"]}, "columns"),
        ({"file_format": "ods"}, "file_format"),
        ({"rows": Invoice.objects.all()[:3]}, "rows"),
        ({"rows": InvoiceCreditNote.objects.all()}, "rows"),
    ],
)
def test_an_argument_that_cannot_be_right(wrong: dict[str, Any], field: str) -> None:
    rows = wrong.pop("rows", Invoice.objects.all())
    stream = io.BytesIO()
    with pytest.raises(OrbInputError) as caught:
        export_rows(rows, output=stream, **wrong)
    assert caught.value.field == field
    assert stream.getvalue() == b""


@pytest.mark.parametrize("wrong", [{"delimiter": "|"}, {"decimal_comma": True}])
def test_a_style_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    with pytest.raises(OrbInputError):
        CsvStyle(**wrong)


ALIAS: list[str] = []


def change_meanwhile(customers: Any) -> dict[str, str]:
    """What another process does between two pages."""

    def change() -> None:
        Invoice.objects.update(total=1)
        connections[ALIAS[0]].close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change).result()
    return {}


@pytest.fixture
def alias(any_committed_database: str) -> Iterator[str]:
    ALIAS.append(any_committed_database)
    yield any_committed_database
    ALIAS.clear()


def test_all_rows_are_of_one_instant(
    alias: str, small_pages: None, settings: Any
) -> None:
    if connections[alias].vendor == "sqlite":
        pytest.skip("It would keep others from writing until the end.")
    make_invoices(7)
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CUSTOMER_LABELS": f"{HERE}.change_meanwhile",
    }
    total = f"{Invoice.objects.all()[0].total:.2f}"

    rows = exported(Invoice.objects.all())

    assert {row["Total"] for row in rows} == {total}
    assert {one.total for one in Invoice.objects.all()} == {Decimal(1)}
    with connections[alias].cursor() as cursor:
        # What comes later is as isolated as before.
        cursor.execute(
            "SHOW TRANSACTION ISOLATION LEVEL"
            if connections[alias].vendor == "postgresql"
            else "SELECT @@tx_isolation"
        )
        assert cursor.fetchone()[0].lower().replace("-", " ") == "read committed"
