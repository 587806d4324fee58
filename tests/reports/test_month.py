"""A month that is being closed."""

from __future__ import annotations

import io
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_orb import services
from django_orb.exceptions import OrbExportError, OrbInputError
from django_orb.models import Invoice, InvoiceChange, InvoiceCreditNote
from django_orb.reports import (
    CHANGES,
    CREDIT_NOTES,
    DRAFTS,
    FAILURES,
    Amount,
    Credited,
    Item,
    items_of,
    month_of,
    read_totals,
    rows_of,
)
from tests.exports.test_exports import read
from tests.factories import make_invoice, make_staff, operate

from .pasts import changed_meanwhile

NOW = datetime(2026, 11, 5, 12, tzinfo=timezone.utc)
OCTOBER = "2026-10"


def moment(day: str) -> str:
    return f"{day}T12:00:00+00:00"


def make(
    name: str, status: str = "issued", day: str = "2026-10-10", **more: Any
) -> Any:
    sample = "draft" if status == "draft" else "issued"
    dates = {} if status == "draft" else {"issued_at": moment(day)}
    return make_invoice(
        sample,
        id=name,
        status=status,
        **{
            "invoice_date": moment(day),
            **dates,
            "total": "100.00",
            "amount_due": "100.00",
            **more,
        },
    )


def items(kind: str, **asked: Any) -> list[Item]:
    month = month_of(OCTOBER, now=NOW, **asked)
    return items_of(kind, list(rows_of(kind, Invoice.objects.all(), month)))


def ids(kind: str, **asked: Any) -> list[str]:
    return [item.invoice.pk for item in items(kind, **asked)]


def test_the_sums_are_of_the_month_by_currency(any_database: str) -> None:
    make("open")
    make("synced", "synced", "2026-10-31")
    make("yen", currency="JPY", total="900", amount_due="900")
    make("paid", "paid", paid_at=moment("2026-11-02"), amount_due="80.00")
    make("void", "void", voided_at=moment("2026-10-20"))
    make("draft", "draft")
    make("before", "paid", "2026-09-30", paid_at=moment("2026-10-01"))
    make("after", day="2026-11-01")
    make("gone")
    Invoice.objects.filter(pk="gone").update(missing_since=NOW)
    for name, dated_at in [("open", moment("2026-10-12")), ("paid", None)]:
        make_invoice_note(name, "7.00", dated_at)
    make_invoice_note("synced", "9.00", moment("2026-10-12"), voided_at=NOW)

    dollars, yen = read_totals(Invoice.objects.all(), month_of(OCTOBER, now=NOW))

    assert dollars.invoiced == Amount(3, Decimal(300))
    assert dollars.credited == Credited(1, Decimal(7))
    assert dollars.undated == Credited(1, Decimal(7))
    assert dollars.paid == Amount(1, Decimal(100))
    # What was still open at the end of October, what is gone since too.
    assert dollars.outstanding == Amount(3, Decimal(280))
    assert (yen.currency, yen.invoiced) == ("JPY", Amount(1, Decimal(900)))


def test_credit_notes_of_void_invoices_take_nothing_away(any_database: str) -> None:
    make("open")
    make("void", "void", voided_at=moment("2026-10-20"))
    make_invoice_note("void", "7.00", moment("2026-10-12"))

    (dollars,) = read_totals(Invoice.objects.all(), month_of(OCTOBER, now=NOW))

    assert dollars.credited == Credited()
    assert ids(CREDIT_NOTES) == []


def test_sum_of_credit_notes_is_not_known_if_one_cannot_be_read(
    any_database: str,
) -> None:
    for name, total, day in [
        ("a", "30.00", moment("2026-10-12")),
        ("b", None, moment("2026-10-12")),
        ("c", None, None),
    ]:
        make(name)
        make_invoice_note(name, total, day)

    (dollars,) = read_totals(Invoice.objects.all(), month_of(OCTOBER, now=NOW))

    assert dollars.credited == Credited(2, None)
    assert dollars.undated == Credited(1, None)


def make_invoice_note(name: str, total: str | None, dated_at: Any, **more: Any) -> None:
    InvoiceCreditNote.objects.create(
        invoice_id=name,
        orb_id=f"note of {name}",
        credit_note_number=f"CN-{name}",
        position=0,
        type="refund",
        total=total,
        dated_at=dated_at,
        **more,
    )


def test_a_month_begins_and_ends_in_the_zone_of_reports(
    any_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Europe/Berlin"}
    make("october", "draft", invoice_date="2026-09-30T22:00:00+00:00")
    make("november", "draft", invoice_date="2026-10-31T23:00:00+00:00")

    assert ids(DRAFTS) == ["october"]


def test_drafts_and_failures_of_the_month_are_listed(any_database: str) -> None:
    make("draft", "draft")
    make("failed draft", "draft", issue_failed_at=moment("2026-10-11"))
    make("failed", payment_failed_at=moment("2026-10-20"))
    make("collected", "paid", payment_failed_at=moment("2026-10-20"))
    make("other month", day="2026-11-01", payment_failed_at=moment("2026-11-02"))

    assert set(ids(DRAFTS)) == {"draft", "failed draft"}
    assert set(ids(FAILURES)) == {"failed draft", "failed"}
    (failed,) = (one for one in items(FAILURES) if one.invoice.pk == "failed")
    assert failed.moment == datetime(2026, 10, 20, 12, tzinfo=timezone.utc)
    assert failed.fields == ("payment",)


def test_what_changed_after_a_day_is_told_with_who_did_it(any_database: str) -> None:
    invoice = make("late")
    user = make_staff(name="ada")
    user.first_name, user.last_name = "Ada", "Lovelace"
    asked = operate(invoice, actor=user)
    make("other month", day="2026-09-30")
    InvoiceChange.objects.all().delete()

    def change(name: str, day: str, **more: Any) -> None:
        values = {"kind": "updated", "previous_status": "issued", "status": "issued"}
        InvoiceChange.objects.create(
            invoice_id=name, created_at=moment(day), **{**values, **more}
        )

    change("late", "2026-10-31", changed_fields=["memo"], origin="sync")
    change("late", "2026-11-01", changed_fields=["memo"], origin="webhook")
    change(
        "late",
        "2026-11-02",
        status="void",
        changed_fields=["status", "voided_at"],
        origin="operation",
        origin_id=str(asked.pk),
    )
    change("late", "2026-11-03", kind="overdue", origin="sync")
    change("other month", "2026-11-01", origin="sync")

    edited, voided = items(CHANGES)

    assert (voided.before, voided.after) == ("issued", "void")
    assert voided.fields == ("voided_at",)
    assert voided.who == "Ada Lovelace"
    assert (edited.fields, edited.who) == (("memo",), "webhook")
    assert len(items(CHANGES, closed_on="2026-10-30")) == 3
    assert len(items(CHANGES, closed_on=date(2026, 11, 1))) == 1


def test_an_invoice_that_came_late_is_a_change(any_database: str) -> None:
    make("backdated")

    (change,) = items(CHANGES)

    assert (change.before, change.after) == ("", "issued")


def test_credit_notes_dated_in_the_month_are_listed(any_database: str) -> None:
    make("new", day="2026-08-01")
    make("old")
    make("elsewhere", day="2026-08-01")
    make_invoice_note("new", "7.00", moment("2026-10-31"), voided_at=NOW)
    make_invoice_note("old", "8.00", None)
    make_invoice_note("elsewhere", "9.00", None)

    found = {item.invoice.pk: item for item in items(CREDIT_NOTES)}

    assert set(found) == {"new", "old"}
    assert (found["new"].note, found["new"].is_void) == ("CN-new", True)
    assert found["old"].moment is None


@pytest.mark.parametrize(
    ("month", "closed_on", "message"),
    [
        ("soon", None, "'soon' is not a month such as 2026-01."),
        ("2026-13", None, "'2026-13' is not a month such as 2026-01."),
        ("0000-01", None, "'0000-01' is not a month such as 2026-01."),
        ("2026-12", None, "2026-12 has not begun yet."),
        ("9999-12", None, "9999-12 has not begun yet."),
        ("1999-12", None, "1999-12 is too long ago: choose a month since 2000."),
        (
            OCTOBER,
            "2026-09-30",
            "2026-09-30 is not a day from 2026-10-01 to 2026-11-05.",
        ),
        (
            OCTOBER,
            "2026-11-06",
            "2026-11-06 is not a day from 2026-10-01 to 2026-11-05.",
        ),
        (OCTOBER, "x", "'x' is not a day such as 2026-01-31."),
    ],
)
def test_what_is_no_month_is_refused(month: str, closed_on: Any, message: str) -> None:
    with pytest.raises(OrbInputError) as err:
        month_of(month, closed_on=closed_on, now=NOW)

    assert str(err.value) == message


def test_the_last_month_is_the_usual_one() -> None:
    assert month_of(now=NOW).name == month_of("", closed_on="", now=NOW).name == OCTOBER
    this = month_of("2026-11", now=NOW)
    assert this.at.is_now
    assert this.closed_on == date(2026, 11, 5)
    assert not month_of(OCTOBER, now=NOW).at.is_now
    january = datetime(2026, 1, 31, tzinfo=timezone.utc)
    assert month_of(now=january).name == "2025-12"
    assert month_of("2025-12", now=january).last == date(2025, 12, 31)


def exported(**options: Any) -> list[dict[str, str]]:
    stream = io.BytesIO()
    count = services.export_month(OCTOBER, output=stream, **options)
    rows = read(stream.getvalue())
    assert len(rows) == count
    return rows


def make_some() -> None:
    make("open", customer={"id": "alpha", "external_customer_id": "crm-alpha"})
    make("draft", "draft")
    make("failed", payment_failed_at=moment("2026-10-20"))
    make_invoice_note("open", "7.00", moment("2026-10-12"), voided_at=NOW)


def test_the_file_has_the_sums_and_everything_to_look_at(any_database: str) -> None:
    make_some()

    rows = exported()

    assert [(row["Kind"], row["Amount"], row["Count"]) for row in rows[:4]] == [
        ("Invoiced", "200.00", "2"),
        ("Credited", "0.00", "0"),
        ("Paid", "0.00", "0"),
        ("Outstanding", "200.00", "2"),
    ]
    found = [(row["Kind"], row["Invoice ID"]) for row in rows[4:]]
    assert found == [
        ("Draft", "draft"),
        ("Failure", "failed"),
        ("Change", "open"),
        ("Change", "draft"),
        ("Change", "failed"),
        ("Credit note", "open"),
    ]
    assert rows[-1]["Note"] == "CN-open (voided)"
    assert rows[6]["To"] == "issued"
    assert rows[6]["External customer ID"] == "crm-alpha"


@pytest.mark.django_db
def test_the_services_and_the_command_agree(tmp_path: Path) -> None:
    make_some()
    path = tmp_path / "made.csv"
    out = io.StringIO()

    call_command(
        "orb_export_month", "--month", OCTOBER, "--output", str(path), stdout=out
    )

    assert out.getvalue() == f"Wrote 10 rows to {path}.\n"
    assert read(path.read_bytes()) == exported()
    (totals,) = services.month_totals(OCTOBER)
    assert totals.invoiced == Amount(2, Decimal(200))


@pytest.mark.django_db
def test_a_month_of_nothing_and_no_month_are_no_file(tmp_path: Path) -> None:
    to_path = ("--output", str(tmp_path / "made.csv"))

    with pytest.raises(OrbExportError, match="Nothing matches"):
        exported()
    with pytest.raises(CommandError, match="'soon' is not a month such as 2026-01"):
        call_command("orb_export_month", "--month", "soon", *to_path)

    assert list(tmp_path.iterdir()) == []


def test_the_sums_are_of_one_instant(any_committed_database: str) -> None:
    make("a")
    paid_at = moment("2026-10-20")

    with changed_meanwhile(any_committed_database, status="paid", paid_at=paid_at):
        (dollars,) = read_totals(Invoice.objects.all(), month_of(OCTOBER, now=NOW))

    assert (dollars.invoiced.count, dollars.paid.count) == (1, 0)
    assert dollars.outstanding.count == 1
