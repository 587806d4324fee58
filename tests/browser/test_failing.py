"""Why an invoice fails, and why something was done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_orb import services

from .browsing import MARKS, Drive, page_of, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_orb.testing import OrbSandbox

pytestmark = MARKS

REASON = "The customer “Kestrel & Sons” does not exist in QuickBooks. " * 4


def test_reasons_and_notes_are_shown(
    orb: OrbSandbox, drive: Drive, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "NOTES_REQUIRED": True}
    services.sync_invoices(mode="full")
    invoice_id = orb.invoice_ids("issued")[0]
    orb.attempt_payment(invoice_id, succeeds=False)
    orb.sync_accounting(invoice_id, succeeds=False, failure_reason=REASON)
    draft = orb.invoice_ids("draft")[0]
    orb.fail_issue(draft, reason="The tax address is missing.")
    services.sync_invoices()

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/overview/")
        for details in page.query_selector_all(".orb-concern summary"):
            details.click()
        page.wait_for_selector("text=The tax address is missing.")
        photograph(page, "failing-overview")
        page.click("text=Accounting sync failed")
        page.wait_for_selector("text=1 invoice")
        page.goto(page_of(invoice_id))
        page.wait_for_selector("text=does not exist in QuickBooks")
        photograph(page, "failing-invoice")
        page.click("text=Void invoice")
        assert page.get_attribute("#id_note", "required") is not None
        page.fill("#id_note", "Billed twice.\nSee ticket 7.")
        photograph(page, "note-void")
        page.click("text=Yes, void this invoice")
        page.wait_for_selector("text=Voided in Orb")
        page.wait_for_selector("text=See ticket 7.")
        photograph(page, "note-history")
        page.set_extra_http_headers({"Accept-Language": "de"})
        page.goto("/admin/django_orb/overview/")
        photograph(page, "failing-overview-de")
        page.goto(page_of(draft))
        page.wait_for_selector("text=Ausstellen fehlgeschlagen")
        photograph(page, "failing-invoice-de")
        page.click("text=Position hinzufügen")
        page.wait_for_selector("text=Interne Notiz")
        photograph(page, "note-line-de")

    drive(steps)
