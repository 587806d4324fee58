from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.core.management import CommandError, call_command

from django_orb.models import Invoice
from tests.factories import make_invoice

from .test_exports import read


def export(*options: str) -> str:
    out = io.StringIO()
    call_command("orb_export_invoices", *options, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_options_choose_what_is_exported_and_how(tmp_path: Path, settings: Any) -> None:
    for number, (status, currency, day) in enumerate(
        [
            ("paid", "USD", "2026-01-31T23:59:59"),
            ("paid", "USD", "2026-02-01T00:00:00"),
            ("paid", "EUR", "2026-02-28T23:59:59"),
            ("void", "EUR", "2026-02-15T00:00:00"),
            ("draft", "EUR", "2026-03-01T00:00:00"),
        ]
    ):
        make_invoice(
            status if status != "paid" else "issued",
            id=f"i{number}",
            status=status,
            currency=currency,
            invoice_date=f"{day}+00:00",
        )
    path = tmp_path / "made.csv"

    def ids(*options: str) -> list[str]:
        export(*options, "--output", str(path), "--columns", "invoice_id")
        return [row["Invoice ID"] for row in read(path.read_bytes())]

    assert ids() == ["i4", "i2", "i3", "i1", "i0"]
    assert ids("--since", "2026-02-01") == ["i4", "i2", "i3", "i1"]
    assert ids("--since", "2026-02-01", "--until", "2026-02-28") == ["i2", "i3", "i1"]
    assert ids("--until", "2026-01-31") == ["i0"]
    assert ids("--status", "void", "--status", "draft") == ["i4", "i3"]
    assert ids("--currency", "EUR", "--status", "paid") == ["i2"]

    # Midnight of that day in Tokyo is before all days that Python knows.
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Asia/Tokyo"}
    assert ids("--since", "0001-01-01", "--until", "9999-12-31") == ids()

    said = export("--output", str(path), "--bom", "--delimiter", ";", "--decimal-comma")
    assert said == f"Wrote 5 invoices to {path}.\n"
    assert path.read_bytes().startswith("\ufeffInvoice ID;".encode())
    assert "," in read(path.read_bytes(), ";")[0]["Total"]

    export("--output", str(path), "--columns", "total, invoice_id ,currency")
    assert list(read(path.read_bytes())[0]) == [
        "Total",
        "Invoice ID",
        "Invoice currency",
    ]

    book = tmp_path / "made.xlsx"
    said = export("--lines", "--output", str(book))
    sheet = openpyxl.load_workbook(book).active
    assert sheet is not None
    assert sheet.title == "Line items"
    assert said == f"Wrote {sheet.max_row - 1} line items to {book}.\n"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--since", "2026-02-30"], "is not a date such as 2026-01-31"),
        (["--since", "soon"], "is not a date such as 2026-01-31"),
        (["--since", "20260131"], "is not a date such as 2026-01-31"),
        (["--until", "2026-1-31"], "is not a date such as 2026-01-31"),
        (
            ["--since", "2026-02-02", "--until", "2026-02-01"],
            "--since is after --until",
        ),
        (["--currency", "XYZ"], "Nothing matches"),
        (
            ["--columns", "plan"],
            "The column 'plan' does not exist. Choose from: invoice_id, ",
        ),
        (["--decimal-comma"], "A decimal comma needs a semicolon"),
        (["--output", "/nowhere/made.csv"], "The file cannot be written."),
        (["--status", "owed"], "invalid choice"),
    ],
)
def test_what_cannot_be_right_is_a_sentence(
    options: list[str], words: str, tmp_path: Path
) -> None:
    make_invoice()
    if "--output" not in options:
        options = [*options, "--output", str(tmp_path / "made.csv")]
    with pytest.raises(CommandError) as caught:
        export(*options)
    assert words in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_without_a_file_it_goes_to_standard_output(
    any_committed_database: str, process_environment: Callable[[], dict[str, str]]
) -> None:
    command = [sys.executable, "-m", "django", "orb_export_invoices"]

    def run(*options: str) -> Any:
        return subprocess.run(
            [*command, *options], capture_output=True, env=process_environment()
        )

    failed = run("--currency", "USD")
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert b"Nothing matches" in failed.stderr

    make_invoice(memo="Grüße\nan alle")
    done = run("--columns", "invoice_id,memo")
    assert done.returncode == 0, done.stderr
    assert read(done.stdout) == [
        {"Invoice ID": Invoice.objects.get().pk, "Memo": "Grüße\nan alle"}
    ]


PRINTING = ["orb_export_invoices", "orb_export_month", "orb_export_receivables"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="There is no /dev/full.")
@pytest.mark.parametrize("name", [*PRINTING, "orb_status"])
def test_a_standard_output_that_takes_nothing_is_no_traceback(
    any_committed_database: str,
    process_environment: Callable[[], dict[str, str]],
    tmp_path: Path,
    name: str,
) -> None:
    make_invoice()
    environment = process_environment()
    command = f"{sys.executable} -m django {name}"

    def run(shell: str, **more: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", shell], stderr=subprocess.PIPE, env={**environment, **more}
        )
        said = done.stderr.decode()
        assert "Traceback" not in said
        assert "Exception ignored" not in said
        return done.returncode, said

    # The reader is gone before the command prints anything.
    status, said = run(f"{command} | true; exit ${{PIPESTATUS[0]}}")
    assert (status, said) == (141, "")
    status, said = run(f"{command} > /dev/full")
    assert status == 1
    assert "Standard output cannot be written: [Errno 28]" in said
    status, said = run(f"{command} >&-")
    if name in PRINTING:
        assert status == 1
        assert "Standard output is closed: name a file with --output." in said


def test_without_room_for_a_temporary_file_it_says_so(
    db: None, settings: Any, tmp_path: Path
) -> None:
    make_invoice()
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "gone"

    with pytest.raises(CommandError, match="No temporary file can be made"):
        export()
