"""Receivables as a file, by the service and by the command."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_orb import services
from django_orb.exceptions import OrbExportError, OrbInputError
from tests.exports.test_exports import read
from tests.factories import make_invoice

JUNE = "2026-06-30"


def exported(*day: Any, **options: Any) -> list[dict[str, str]]:
    stream = io.BytesIO()
    count = services.export_receivables(*day, output=stream, **options)
    rows = read(stream.getvalue())
    assert len(rows) == count
    return rows


def make(name: str, customer: str, amount: str, due: str, **more: Any) -> None:
    make_invoice(
        id=name,
        customer={"id": customer, "external_customer_id": f"crm-{customer}"},
        invoice_date="2026-05-01T00:00:00+00:00",
        issued_at="2026-05-01T00:00:00+00:00",
        due_date=f"{due}T00:00:00+00:00" if due else None,
        amount_due=amount,
        **more,
    )


def make_some() -> None:
    make("a1", "alpha", "10.00", "2026-06-29")
    make("a2", "alpha", "0.123456789012", "2026-03-01")
    make("b1", "beta", "30.00", "2026-07-15", currency="EUR")
    make("b2", "beta", "40.00", "")
    paid = {"status": "paid", "paid_at": "2026-07-02T00:00:00+00:00"}
    make("c1", "gamma", "50.00", "2026-05-30", **paid)


def test_a_row_is_a_customer_with_a_currency(any_database: str) -> None:
    make_some()

    rows = exported(JUNE)

    assert list(rows[0]) == [
        "External customer ID",
        "Customer ID",
        "Invoice currency",
        "Not yet due",
        "1 to 30 days late",
        "31 to 60 days late",
        "61 to 90 days late",
        "Over 90 days late",
        "Without a due date",
        "Owed",
        "Invoices",
    ]
    assert [list(row.values())[1:] for row in rows] == [
        ["beta", "EUR", "30.00", *["0.00"] * 5, "30.00", "1"],
        [
            "alpha",
            "USD",
            "0.00",
            "10.00",
            "0.00",
            "0.00",
            "0.123456789012",
            "0.00",
            "10.123456789012",
            "2",
        ],
        ["beta", "USD", *["0.00"] * 5, "40.00", "40.00", "1"],
        ["gamma", "USD", "0.00", "0.00", "50.00", *["0.00"] * 3, "50.00", "1"],
    ]


def test_a_row_is_an_invoice_if_they_are_asked_for(any_database: str) -> None:
    make_some()

    rows = {row["Invoice ID"]: row for row in exported(JUNE, invoices=True)}

    assert {name: row["Owed"] for name, row in rows.items()} == {
        "a1": "10.00",
        "a2": "0.123456789012",
        "b1": "30.00",
        "b2": "40.00",
        "c1": "50.00",
    }
    assert rows["a1"]["Days late"] == "1"
    assert rows["b1"]["Days late"] == "0"
    assert rows["b2"]["Days late"] == ""
    assert rows["c1"]["Days late"] == "31"
    assert rows["c1"]["Age"] == "31 to 60 days late"
    assert rows["c1"]["Invoice status"] == "paid"  # by now

    def ids(**options: Any) -> set[str]:
        return {row["Invoice ID"] for row in exported(JUNE, invoices=True, **options)}

    assert ids(currency="EUR") == {"b1"}
    assert ids(customer_id="alpha") == {"a1", "a2"}
    assert ids(age="undated") == {"b2"}


@pytest.mark.django_db
def test_the_sums_of_both_files_and_of_the_services_are_equal() -> None:
    make_some()

    by_currency = {one.currency: one.all.total for one in services.receivables(JUNE)}
    assert by_currency == {"EUR": 30, "USD": Decimal("100.123456789012")}
    for rows in (exported(JUNE), exported(JUNE, invoices=True)):
        for currency, total in by_currency.items():
            of_currency = [r for r in rows if r["Invoice currency"] == currency]
            assert sum(Decimal(row["Owed"]) for row in of_currency) == total
    customers = services.receivables_by_customer(JUNE)
    assert sum(one.all.count for one in customers) == 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"day": "soon"}, "'soon' is not a day such as 2026-01-31."),
        ({"day": date.max}, "9999-12-31 has not come yet"),
        ({"age": "elderly"}, "age is one of not_due, 30, 60, 90, older, undated, not"),
        ({"file_format": "pdf"}, 'file_format is "csv" or "xlsx"'),
    ],
)
def test_what_cannot_be_right_is_refused(options: Any, message: str) -> None:
    make_some()

    with pytest.raises(OrbInputError, match=message):
        services.export_receivables(output=io.BytesIO(), **options)


@pytest.mark.django_db
def test_nothing_owed_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "made.csv"

    with pytest.raises(OrbExportError, match="Nothing matches"):
        services.export_receivables(output=path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
def test_names_that_cannot_be_read_are_no_empty_column(settings: Any) -> None:
    make_some()
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "CUSTOMER_LABELS": f"{__name__}.fail"}

    with pytest.raises(
        OrbExportError, match="The names of customers could not be read"
    ):
        exported(JUNE)


def fail(customers: Any) -> Any:
    raise RuntimeError("no names today")


def export(*options: str) -> str:
    out = io.StringIO()
    call_command("orb_export_receivables", *options, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_the_command_writes_what_the_service_does(tmp_path: Path) -> None:
    make_some()
    path = tmp_path / "made.csv"
    to_path = ("--output", str(path), "--day", JUNE)

    assert export(*to_path) == f"Wrote 4 rows of customers to {path}.\n"
    assert read(path.read_bytes()) == exported(JUNE)
    assert export(*to_path, "--invoices", "--currency", "USD") == (
        f"Wrote 4 invoices to {path}.\n"
    )
    export(*to_path, "--invoices", "--customer", "beta", "--bom", "--delimiter", ";")
    assert path.read_bytes().startswith("\ufeffInvoice ID;".encode())
    assert len(read(path.read_bytes(), ";")) == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("2026-02-30", "'2026-02-30' is not a date such as 2026-01-31."),
        ("9999-01-01", "9999-01-01 has not come yet: choose today or a day before it."),
    ],
)
def test_the_command_says_what_is_wrong_with_a_day(
    tmp_path: Path, day: str, message: str
) -> None:
    make_some()

    with pytest.raises(CommandError, match=message):
        export("--day", day, "--output", str(tmp_path / "made.csv"))

    assert list(tmp_path.iterdir()) == []
