"""Operations as a file: who, when, what, why, and what came of it."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timezone
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services
from django_orb.exceptions import OrbExportError, OrbInputError
from django_orb.exports.operations import AT_ONCE
from django_orb.models import Invoice, InvoiceOperation
from tests.factories import make_invoice, make_staff, operate

EXPORT = "/admin/django_orb/invoiceoperation/export/"
ASKED = datetime(2026, 3, 1, 22, 30, tzinfo=timezone.utc)


def rows(**arguments: Any) -> list[dict[str, str]]:
    output = io.BytesIO()
    every = InvoiceOperation.objects.all()
    count = services.export_operations(every, output=output, **arguments)
    found = list(csv.DictReader(io.StringIO(output.getvalue().decode())))
    assert len(found) == count
    return found


def voided(**values: Any) -> InvoiceOperation:
    invoice = make_invoice(id="inv1", invoice_number="ACME-1")
    return operate(
        invoice,
        actor=make_staff(name="ada"),
        **{
            "state": "succeeded",
            "note": "Agreed on the phone,\n“as usual”",
            "created_at": ASKED,
            **values,
        },
    )


def test_a_row_says_who_when_what_why_and_what_came_of_it(
    any_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Europe/Berlin"}
    operation = voided(body={"amount": "12.50"}, detail="Orb said so.")

    (row,) = rows()

    assert row["Operation ID"] == str(operation.pk)
    assert row["Asked at (Europe/Berlin)"] == "2026-03-01 23:30:00"
    assert (row["Kind"], row["Outcome"]) == ("create_invoice_line_item", "succeeded")
    assert (row["Invoice ID"], row["Invoice number"]) == ("inv1", "ACME-1")
    assert (row["Asked by"], row["Username"]) == ("ada", "ada")
    assert row["Note"] == "Agreed on the phone,\n“as usual”"
    assert row["Detail"] == "Orb said so."
    assert row["Sent to Orb"] == '{"amount": "12.50"}'


def test_a_note_that_is_a_formula_is_defused(db: Any) -> None:
    voided(note="=HYPERLINK(1)")

    assert rows()[0]["Note"] == "'=HYPERLINK(1)"


def test_columns_are_chosen_and_pages_follow_each_other(db: Any) -> None:
    first = voided()
    copies = []
    for number in range(AT_ONCE + 1):
        first.pk, first.idempotency_key = None, f"key{number}"
        values = {f.attname: getattr(first, f.attname) for f in first._meta.fields}
        copies.append(InvoiceOperation(**values))
    InvoiceOperation.objects.bulk_create(copies)

    found = rows(columns=["operation_id", "attempts"])

    assert list(found[0]) == ["Operation ID", "Attempts"]
    ids = [int(row["Operation ID"]) for row in found]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == AT_ONCE + 2


def test_what_cannot_be_exported_says_so(db: Any) -> None:
    output = io.BytesIO()
    with pytest.raises(OrbExportError, match="nothing to export"):
        rows()
    voided()
    with pytest.raises(OrbInputError, match="'nonsense' does not exist"):
        rows(columns=["nonsense"])
    invoices: Any = Invoice.objects.all()
    with pytest.raises(OrbInputError, match="Give a query of operations"):
        services.export_operations(invoices, output=output)
    with pytest.raises(OrbInputError, match="not sliced"):
        services.export_operations(InvoiceOperation.objects.all()[:1], output=output)
    assert output.getvalue() == b""


def test_the_list_exports_what_is_filtered_and_that_is_logged(db: Any) -> None:
    voided()
    operate(make_invoice(id="other"), state="refused", note="Not this one")
    user = make_staff("view_invoiceoperation", "export_invoice", name="auditor")
    client = Client()
    client.force_login(user)
    url = f"{EXPORT}?state__exact=succeeded"

    shown = client.get(url).content.decode()
    answer: Any = client.post(
        url, {"file_format": "csv", "columns": ["asked_by", "note", "outcome"]}
    )

    assert "Export operations" in shown
    text = b"".join(answer.streaming_content).decode()
    assert text.splitlines()[0] == "Asked by,Note,Outcome"
    assert "Agreed on the phone" in text
    assert "Not this one" not in text
    assert "operations-" in answer["Content-Disposition"]
    assert LogEntry.objects.get().change_message == (
        "Exported 1 operations as CSV; filter: state__exact=succeeded"
    )


def test_only_those_who_may_export_do(db: Any) -> None:
    voided()
    for name, permissions in {
        "viewer": ["view_invoiceoperation"],
        "exporter": ["export_invoice", "view_invoice"],
    }.items():
        client = Client()
        client.force_login(make_staff(*permissions, name=name))
        assert client.get(EXPORT).status_code == 403
        assert client.post(EXPORT, {"file_format": "csv"}).status_code == 403
