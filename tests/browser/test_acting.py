"""What is done to invoices, in a real Chromium."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from django_orb import services
from django_orb.models import Invoice, InvoiceOperation

from .browsing import MARKS, Drive, choose, page_of, photograph, richest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_orb.testing import OrbSandbox

pytestmark = MARKS

BALANCE = {
    "id": "balance00001",
    "action": "applied_to_invoice",
    "type": "decrement",
    "amount": "25.00",
    "starting_balance": "25.00",
    "ending_balance": "0.00",
    "created_at": "2026-01-01T00:00:00+00:00",
    "description": None,
    "invoice": None,
    "credit_note": None,
}


def test_an_invoice_is_voided_from_its_page(orb: OrbSandbox, drive: Drive) -> None:
    invoice_id = richest(orb, "issued")
    orb.update_invoice(invoice_id, customer_balance_transactions=[BALANCE])
    services.sync_invoices(mode="full")

    def steps(page: Page) -> None:
        page.goto(page_of(invoice_id))
        page.click("text=Void invoice")
        page.wait_for_selector("text=goes back to the customer")
        photograph(page, "void-confirmation")
        page.click("text=Yes, void this invoice")
        page.wait_for_selector("text=Voided in Orb")
        photograph(page, "void-result")

    drive(steps)
    assert orb.invoice(invoice_id)["status"] == "void"
    assert Invoice.objects.get(pk=invoice_id).status == "void"
    assert InvoiceOperation.objects.get().actor_username == "finance"


def test_several_invoices_are_voided_from_the_list(
    orb: OrbSandbox, drive: Drive
) -> None:
    services.sync_invoices(mode="full")
    issued = orb.invoice_ids("issued")[:3]

    def steps(page: Page) -> None:
        choose(page, "invoice", "void_selected", issued)
        page.wait_for_selector("text=This cannot be undone")
        photograph(page, "void-several-confirmation")
        page.click("text=/Yes, void \\d invoices/")
        page.wait_for_selector("text=Voided in Orb")
        photograph(page, "void-several-result")

    drive(steps)
    assert {orb.invoice(one)["status"] for one in issued} == {"void"}


def test_everything_is_done_to_several_from_the_list(
    orb: OrbSandbox, drive: Drive, settings: Any
) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    drafts = [orb.add_invoice(status="draft", days_ago=0)["id"] for _ in range(2)]
    wired, collected = (
        [orb.add_invoice(days_ago=0)["id"] for _ in range(2)] for _ in range(2)
    )
    services.sync_invoices(mode="full")

    def steps(page: Page) -> None:
        choose(page, "invoice", "add_line_item", drafts)
        page.fill("#id_name", "Price rise")
        page.fill("#id_amount", "12.50")
        pick_a_day(page, 0, "Yesterday")
        photograph(page, "line-item-of-several-form")
        page.click("text=Preview")
        photograph(page, "line-item-of-several-confirmation")
        page.click("text=Yes, add it to 2 drafts")
        page.wait_for_selector("text=Added “Price rise”")
        photograph(page, "line-item-of-several-result")
        choose(page, "invoice", "issue_selected", drafts)
        page.click("text=Yes, issue 2 invoices")
        page.wait_for_selector("text=Issued in Orb.")
        choose(page, "invoice", "mark_selected_paid", wired)
        photograph(page, "mark-several-paid-confirmation")
        page.click("text=Yes, mark 2 invoices as paid")
        page.wait_for_selector("text=Marked as paid in Orb.")
        choose(page, "invoice", "pay_selected", collected)
        page.click("text=Yes, charge for 2 invoices now")
        page.wait_for_selector("text=Paid: Orb has collected it.")
        choose(page, "invoice", "regenerate_selected_pdfs", collected)
        page.click("text=Yes, regenerate 2 PDFs")
        page.wait_for_selector("text=Orb is regenerating the PDF.")
        choose(page, "invoice", "fetch_from_orb", collected)
        page.wait_for_selector("text=Fetched again from Orb.")

    drive(steps)
    statuses = [orb.invoice(one)["status"] for one in (*drafts, *wired, *collected)]
    assert statuses == ["issued"] * 2 + ["paid"] * 4
    added = [orb.invoice(one)["line_items"][-1] for one in drafts]
    assert [line["amount"] for line in added] == ["12.50"] * 2


def pick_a_day(page: Page, place: int, name: str) -> None:
    """By the date picker of the form's first, second or later date."""
    page.click(f"#calendarlink{place}")
    page.click(f"#calendarbox{place} .calendar-shortcuts a:text-is('{name}')")


def test_a_line_item_is_added_to_a_draft(orb: OrbSandbox, drive: Drive) -> None:
    services.sync_invoices(mode="full")
    invoice_id = richest(orb, "draft")
    before = len(orb.invoice(invoice_id)["line_items"])

    def steps(page: Page) -> None:
        page.goto(page_of(invoice_id))
        page.click("text=Add line item")
        page.wait_for_selector("#id_name")
        photograph(page, "line-item-form")
        page.fill("#id_name", "Extra support, agreed on the phone")
        page.fill("#id_amount", "twelve")
        page.click("text=Preview")
        page.wait_for_selector("text=“twelve” is not a number")
        photograph(page, "line-item-error")
        page.fill("#id_amount", "1250.00")
        page.click("text=Preview")
        page.wait_for_selector("text=Total then")
        photograph(page, "line-item-confirmation")
        page.click("text=Yes, add this line")
        page.wait_for_selector("text=Added “Extra support")
        photograph(page, "line-item-result")

    drive(steps)
    assert len(orb.invoice(invoice_id)["line_items"]) == before + 1
    stored = Invoice.objects.get(pk=invoice_id)
    assert stored.line_items.filter(name__startswith="Extra support").count() == 1


def test_a_draft_is_edited_and_issued_and_paid(orb: OrbSandbox, drive: Drive) -> None:
    metadata = {"po_number": "PO-20504", "cost_center": "R&D"}
    made = orb.add_invoice(status="draft", days_ago=1, metadata=metadata)
    invoice_id = made["id"]
    services.fetch_invoice(invoice_id)
    services.create_invoice_line_item(
        invoice_id,
        name="Agreed by mistake",
        quantity=1,
        amount="80.00",
        start_date=date(2026, 1, 1),
        end_date=date(2026, 1, 31),
    )

    def steps(page: Page) -> None:
        page.goto(page_of(invoice_id))
        photograph(page, "draft-buttons")
        page.click("text=Delete Agreed by mistake")
        page.wait_for_selector("text=is deleted from the draft")
        photograph(page, "line-deletion")
        page.click("text=Yes, delete this line")
        page.wait_for_selector("text=Deleted “Agreed by mistake” in Orb")
        page.click("a:text-is('Edit')")
        page.wait_for_selector("#id_metadata")
        photograph(page, "edit-form")
        page.fill("#id_metadata", "po_number = PO-20505\nnonsense")
        page.click("text=Preview the changes")
        page.wait_for_selector("text=is not of the form")
        photograph(page, "edit-error")
        page.fill("#id_metadata", "po_number = PO-20505")
        page.fill("#id_net_terms", "14")
        page.click("text=Preview the changes")
        page.wait_for_selector("text=This is what changes in Orb")
        photograph(page, "edit-confirmation")
        page.click("text=Yes, change it")
        page.wait_for_selector("text=Edited in Orb")
        page.click("a:text-is('Issue')")
        page.wait_for_selector("text=cannot become a draft again")
        photograph(page, "issue-confirmation")
        page.click("text=Yes, issue this invoice")
        page.wait_for_selector("text=Issued in Orb")
        photograph(page, "issued-buttons")
        page.click("a:text-is('Collect payment')")
        page.wait_for_selector("text=default payment method")
        photograph(page, "pay-confirmation")
        page.click("text=No, take me back")
        page.click("a:text-is('Regenerate PDF')")
        page.wait_for_selector("text=nothing is sent to the customer")
        photograph(page, "pdf-confirmation")
        page.click("text=Yes, regenerate the PDF")
        page.wait_for_selector("text=Orb is regenerating the PDF")
        page.click("a:text-is('Mark as paid')")
        page.wait_for_selector("#id_payment_received_date")
        page.fill("#id_external_id", "Wire 2026-017")
        photograph(page, "mark-paid-confirmation")
        page.click("text=Yes, mark as paid")
        page.wait_for_selector("text=Marked as paid in Orb")
        photograph(page, "paid-result")

    drive(steps)
    invoice = orb.invoice(invoice_id)
    assert (invoice["status"], invoice["metadata"]) == (
        "paid",
        {"po_number": "PO-20505"},
    )
    assert Invoice.objects.get(pk=invoice_id).status == "paid"


def test_what_orb_refuses_is_told_in_words(orb: OrbSandbox, drive: Drive) -> None:
    issued = orb.add_invoice(days_ago=1)["id"]
    draft = orb.add_invoice(status="draft")["id"]
    services.sync_invoices(mode="full")
    orb.mark_paid(issued)
    orb.issue(draft)

    def steps(page: Page) -> None:
        page.goto(page_of(issued))
        page.click("text=Void invoice")
        page.click("text=Yes, void this invoice")
        page.wait_for_selector("text=In Orb its status is now “Paid”.")
        photograph(page, "void-refused")
        page.goto(page_of(draft))
        page.click("text=Add line item")
        page.fill("#id_name", "Extra support")
        page.fill("#id_amount", "12.00")
        page.click("text=Preview")
        page.click("text=Yes, add this line")
        page.wait_for_selector("text=In Orb its status is now “Issued”.")
        photograph(page, "line-item-refused")
        page.goto("/admin/django_orb/invoiceoperation/?state__exact=refused")
        photograph(page, "operations-refused")

    drive(steps)
    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert list(states) == ["refused", "refused"]
    assert len(orb.invoice(draft)["line_items"]) == 1


def test_a_copy_of_production_says_that_it_only_reads(
    orb: OrbSandbox, drive: Drive, settings: Any
) -> None:
    invoice = services.fetch_invoice(orb.add_invoice()["id"])
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    def steps(page: Page) -> None:
        page.goto(page_of(invoice.pk))
        page.click("text=Void invoice")
        page.wait_for_selector("text=This installation only reads from Orb")
        assert page.locator("text=Yes, void this invoice").count() == 0
        photograph(page, "read-only")

    drive(steps)
    assert orb.invoice(invoice.pk)["status"] == "issued"


def test_an_invoice_is_created(orb: OrbSandbox, drive: Drive) -> None:
    services.sync_invoices(mode="full")
    some = orb.invoice(richest(orb, "paid"))
    item = next(line["price"]["item"]["id"] for line in some["line_items"])

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoice/")
        page.click("text=Create invoice")
        page.wait_for_selector("#id_customer_id")
        photograph(page, "new-invoice-form")
        page.fill("#id_customer_id", some["customer"]["id"])
        page.fill("#id_currency", some["currency"])
        pick_a_day(page, 0, "Today")
        page.fill("#id_item_id", item)
        page.fill("#id_name", "Workshop on site, two days")
        page.fill("#id_quantity", "2")
        page.fill("#id_unit_amount", "1,250.00")
        page.click("text=Preview")
        page.wait_for_selector("text=Create this invoice?")
        photograph(page, "new-invoice-confirmation")
        page.click("text=Yes, create this invoice")
        page.wait_for_selector("text=Created in Orb.")
        photograph(page, "new-invoice-result")

    drive(steps)
    created = Invoice.objects.get(pk=InvoiceOperation.objects.get().invoice_id)
    assert created.payload == orb.invoice(created.pk)
    assert created.invoice_source == "one_off"
