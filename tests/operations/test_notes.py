"""Why something was done: a note that stays with the operation."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from django.test import Client

from django_orb import services
from django_orb.exceptions import OrbInputError
from django_orb.models import InvoiceOperation
from django_orb.testing import OrbSandbox
from tests.admin.pages import fields_of, page_of, told
from tests.factories import make_staff

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def finance(orb: OrbSandbox) -> Client:
    services.sync_invoices(mode="full")
    client = Client()
    names = "view_invoice void_invoice update_invoice mark_paid_invoice"
    lines = "create_invoicelineitem delete_invoicelineitem view_invoiceoperation"
    client.force_login(make_staff(*names.split(), *lines.split(), name="ada"))
    return client


def require_notes(settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "NOTES_REQUIRED": True}


def notes() -> list[str]:
    return list(InvoiceOperation.objects.order_by("pk").values_list("note", flat=True))


def test_note_stays_with_the_operation_and_does_not_reach_orb(orb: OrbSandbox) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    services.void_invoice(invoice_id, note="  Billed twice.\r\nSee ticket 7. ")

    assert notes() == ["Billed twice.\nSee ticket 7."]
    assert InvoiceOperation.objects.get().body == {}


def test_key_with_another_note_is_the_same_operation(orb: OrbSandbox) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    for note in ("first", "second", None):
        services.void_invoice(invoice_id, note=note, idempotency_key="k")

    assert notes() == ["first"]
    assert orb.request_counts()["void_invoice"] == 1


@pytest.mark.parametrize("note", ["x" * 1001, "a\0b", "a\tb", "a\x1bb", "\ud800", 7])
def test_note_that_cannot_be_kept_is_refused_in_words(
    orb: OrbSandbox, note: Any
) -> None:
    with pytest.raises(OrbInputError, match=r"note") as caught:
        services.void_invoice(orb.invoice_ids("issued")[0], note=note)

    assert caught.value.field == "note"
    assert notes() == []
    assert not orb.request_counts()["void_invoice"]


def test_longest_note_of_any_characters_is_kept(orb: OrbSandbox) -> None:
    longest = "\N{GRINNING FACE}" * 1000
    services.void_invoice(orb.invoice_ids("issued")[0], note=longest)

    assert notes() == [longest]


def test_required_note_is_demanded_of_what_changes_money(
    orb: OrbSandbox, settings: Any
) -> None:
    require_notes(settings)
    draft, issued = orb.invoice_ids("draft")[0], orb.invoice_ids("issued")[0]
    day = date(2026, 1, 31)
    line: dict[str, Any] = {
        "name": "x",
        "quantity": 1,
        "amount": "1",
        "start_date": day,
    }
    calls: list[Any] = [
        lambda: services.void_invoice(issued, note=" "),
        lambda: services.mark_invoice_paid(issued, payment_received_date=day),
        lambda: services.update_invoice(issued, metadata={"a": "b"}),
        lambda: services.create_invoice_line_item(draft, **line, end_date=day),
        lambda: services.delete_invoice_line_item(draft, "x"),
    ]
    for call in calls:
        with pytest.raises(OrbInputError, match="Say in a note why") as caught:
            call()
        assert caught.value.field == "note"
    assert notes() == []

    services.regenerate_invoice_pdf(issued)
    services.void_invoice(issued, note="Billed twice.")
    assert notes() == ["", "Billed twice."]


def confirm(client: Client, invoice_id: str, view: str, **more: Any) -> Any:
    url = page_of(invoice_id, view)
    return client.post(url, {**fields_of(client.get(url)), **more})


def test_admin_asks_for_a_note_and_shows_it(
    finance: Client, orb: OrbSandbox, settings: Any
) -> None:
    require_notes(settings)
    issued = orb.invoice_ids("issued")[0]
    refused = confirm(finance, issued, "void", post="yes")
    assert "errornote" in refused.content.decode()
    assert notes() == []

    confirm(finance, issued, "void", post="yes", note="Billed <twice>.")

    assert notes() == ["Billed <twice>."]
    assert "Billed &lt;twice&gt;." in finance.get(page_of(issued)).content.decode()
    pk = InvoiceOperation.objects.get().pk
    page = finance.get(f"/admin/django_orb/invoiceoperation/{pk}/change/")
    assert "Billed &lt;twice&gt;." in page.content.decode()


def test_each_form_of_the_admin_carries_its_note(
    finance: Client, orb: OrbSandbox
) -> None:
    draft, issued = orb.invoice_ids("draft")[0], orb.invoice_ids("issued")[0]
    given = {"name": "Setup", "quantity": "1", "amount": "5", "note": "Forgotten."}
    given |= {"start_date": "2026-01-31", "end_date": "2026-01-31"}
    preview = confirm(finance, draft, "line-item", preview="yes", **given)
    assert "Forgotten." in preview.content.decode()
    url = page_of(draft, "line-item")
    finance.post(url, {**fields_of(preview), "post": "yes"})
    line = orb.invoice(draft)["line_items"][-1]
    url = f"{page_of(draft, 'delete-line')}?line={line['id']}"
    shown = fields_of(finance.get(url))
    deleted = finance.post(url, {**shown, "post": "yes", "note": "A mistake."})
    assert told(deleted)[0].startswith("success")
    paid_on = {"payment_received_date": "2026-01-31"}
    confirm(finance, issued, "mark-paid", post="yes", note="By bank.", **paid_on)
    metadata = {"metadata": "po = 7", "note": "Asked for by mail."}
    preview = confirm(finance, draft, "edit", preview="yes", **metadata)
    finance.post(page_of(draft, "edit"), {**fields_of(preview), "post": "yes"})

    assert notes() == ["Forgotten.", "A mistake.", "By bank.", "Asked for by mail."]
    paid = InvoiceOperation.objects.get(kind="mark_invoice_paid")
    assert "note" not in paid.body
