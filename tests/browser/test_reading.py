"""What is only looked at, in a real Chromium."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from django_orb import services
from django_orb.models import Invoice

from .browsing import MARKS, SCREENSHOTS, Drive, page_of, photograph, richest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_orb.testing import OrbSandbox

pytestmark = MARKS


def test_the_list_and_the_pages_can_be_read(orb: OrbSandbox, drive: Drive) -> None:
    services.sync_invoices(mode="full")
    statuses = ("draft", "issued", "paid", "void")
    shown = {status: richest(orb, status) for status in statuses}

    def steps(page: Page) -> None:
        photograph(page, "list")
        page.goto("/admin/django_orb/invoice/?overdue=yes")
        photograph(page, "list-overdue")
        for status, invoice_id in shown.items():
            page.goto(page_of(invoice_id))
            for details in page.query_selector_all("details.orb-details")[:3]:
                details.evaluate("element => { element.open = true }")
            photograph(page, f"invoice-{status}")
        page.goto(page_of(shown["draft"]))
        page.click("text=Upcoming invoice")
        page.wait_for_selector("text=Not final")
        photograph(page, "upcoming")
        page.goto("/admin/django_orb/syncrun/")
        photograph(page, "runs")
        page.click("#result_list tbody th a")
        page.wait_for_selector("#syncrun_form")
        photograph(page, "run")
        page.goto("/admin/django_orb/invoicelineitem/")
        photograph(page, "line-items")

    drive(steps)


def test_the_overview_can_be_read(orb: OrbSandbox, drive: Drive) -> None:
    customers = [orb.add_customer(f"crm-{n}")["id"] for n in range(3)]
    for place, days in enumerate((5, 20, 45, 75, 100, 130, 200)):
        orb.add_invoice(
            customer_id=customers[place % 3],
            amount=f"{1000 * (place + 1)}.00",
            days_ago=days,
        )
    failed = orb.add_invoice(customer_id=customers[0], amount="640.00", days_ago=40)
    orb.attempt_payment(failed["id"], succeeds=False)
    services.sync_invoices(mode="full")

    def steps(page: Page) -> None:
        page.goto("/admin/")
        page.click("#content >> text=Overview")
        page.wait_for_selector("text=Receivables by age")
        photograph(page, "overview")
        page.click("nav.orb-choice a >> nth=0")
        page.wait_for_selector("text=Largest debtors")
        photograph(page, "overview-other-currency")
        page.click("text=Payment failed")
        page.wait_for_selector(f"text={failed['invoice_number']}")
        page.goto("/admin/django_orb/status/")
        page.click("text=Ask Orb now")
        page.wait_for_selector("text=accepts the key")
        photograph(page, "status")

    drive(steps)


def test_a_customers_pages_can_be_read(orb: OrbSandbox, drive: Drive) -> None:
    customer = orb.add_customer("crm-7", name="Müller & Söhne")
    of_it: dict[str, Any] = {"customer_id": customer["id"]}
    for place, days in enumerate((5, 20, 45, 75, 200)):
        orb.add_invoice(amount=f"{1000 * (place + 1)}.00", days_ago=days, **of_it)
    orb.add_invoice(status="paid", amount="1240.00", days_ago=60, **of_it)
    orb.add_invoice(status="void", amount="80.00", days_ago=30, **of_it)
    orb.add_invoice(status="draft", amount="310.00", **of_it)
    failed = orb.add_invoice(amount="640.00", days_ago=40, **of_it)
    orb.attempt_payment(failed["id"], succeeds=False)
    note = {
        "id": "note",
        "credit_note_number": "CN-00017",
        "type": "adjustment",
        "total": "40.00",
        "reason": "order_change",
        "memo": "Agreed with the customer",
        "voided_at": None,
    }
    orb.update_invoice(failed["id"], credit_notes=[note], amount_due="600.00")
    subscribed = orb.subscription_ids(with_upcoming=True)[0]
    services.sync_invoices(mode="full")
    subscriber = (
        Invoice.objects.filter(subscription_id=subscribed)
        .values_list("customer_id", flat=True)
        .first()
    )

    since = (datetime.now(timezone.utc) - timedelta(days=100)).date().isoformat()

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoice/?q=crm-7")
        page.click("#result_list .field-customer a >> nth=0")
        page.wait_for_selector("text=Open by age")
        photograph(page, "customer")
        page.click("text=Statement")
        page.fill("#id_since", since)
        page.click("text=Show")
        page.wait_for_selector("text=Closing balance")
        photograph(page, "statement")
        page.emulate_media(media="print", color_scheme="dark")
        assert not page.is_visible("#id_since")
        assert not page.is_visible("#header")
        assert page.is_visible("text=Opening balance")
        page.screenshot(path=SCREENSHOTS / "statement-print.png", full_page=True)
        page.emulate_media(media="screen", color_scheme="light")
        page.go_back()
        page.go_back()
        page.click("text=Portal link")
        page.select_option("#id_minutes", "180")
        photograph(page, "customer-portal-form")
        page.click("text=Make the link")
        page.wait_for_selector("text=Whoever has this link")
        link = page.input_value("#portal-link")
        assert link.startswith("https://portal.withorb.com/")
        photograph(page, "customer-portal")
        page.goto(f"/admin/django_orb/invoice/customer/{subscriber}/")
        page.click("text=Upcoming invoices")
        page.wait_for_selector("text=Not final")
        page.click("text=Lines so far")
        photograph(page, "customer-upcoming")
        page.set_extra_http_headers({"Accept-Language": "de"})
        page.goto(f"/admin/django_orb/invoice/customer/{customer['id']}/")
        photograph(page, "german-customer")
        page.goto(f"/admin/django_orb/invoice/customer/{customer['id']}/portal/")
        photograph(page, "german-customer-portal")
        page.goto(f"/admin/django_orb/invoice/customer/{customer['id']}/statement/")
        photograph(page, "german-statement")
        page.goto(f"/admin/django_orb/invoice/customer/{customer['id']}/erase/")
        photograph(page, "german-customer-erase")
        page.set_extra_http_headers({"Accept-Language": "en"})
        page.goto(f"/admin/django_orb/invoice/customer/{customer['id']}/")
        page.click("text=Erase personal data")
        photograph(page, "customer-erase")
        page.click("input[type=submit].deletelink")
        page.wait_for_selector("text=was erased on")
        photograph(page, "customer-erased")

    drive(steps)


def test_long_and_foreign_texts_leave_the_pages_in_shape(
    orb: OrbSandbox, drive: Drive
) -> None:
    foreign = "\u202e\u0641\u0627\u062a\u0648\u0631\u0629 17 " + "w" * 10_000
    made = orb.add_invoice(
        external_customer_id="crm-long",
        name=foreign,
        days_ago=60,
        invoice_number=foreign,
        memo=foreign,
        metadata={"po": foreign},
    )
    orb.attempt_payment(made["id"], succeeds=False)
    services.sync_invoices(mode="full")

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoice/?overdue=yes")
        photograph(page, "foreign-list")
        page.goto(page_of(made["id"]))
        photograph(page, "foreign-invoice")
        page.click("text=Void invoice")
        page.wait_for_selector("text=This cannot be undone")
        photograph(page, "foreign-void")
        page.goto("/admin/django_orb/overview/")
        photograph(page, "foreign-overview")

    drive(steps)


def test_the_admin_speaks_german(orb: OrbSandbox, drive: Drive) -> None:
    shown = {status: richest(orb, status) for status in ("draft", "issued")}
    failed = orb.add_invoice(amount="640.00", days_ago=40)
    orb.attempt_payment(failed["id"], succeeds=False)
    services.sync_invoices(mode="full")

    def steps(page: Page) -> None:
        page.set_extra_http_headers({"Accept-Language": "de"})
        page.goto("/admin/django_orb/invoice/?overdue=yes")
        page.wait_for_selector("text=Zuletzt mit Orb abgeglichen")
        photograph(page, "german-list")
        page.goto("/admin/django_orb/overview/")
        photograph(page, "german-overview")
        page.goto("/admin/django_orb/status/")
        photograph(page, "german-status")
        page.goto(page_of(shown["issued"]))
        photograph(page, "german-invoice")
        page.click("text=Rechnung stornieren")
        page.wait_for_selector("text=Das kann nicht rückgängig gemacht werden")
        photograph(page, "german-void")
        page.click("text=Ja, diese Rechnung stornieren")
        page.wait_for_selector("text=In Orb storniert.")
        page.goto(page_of(shown["draft"]))
        page.click("text=Position hinzufügen")
        page.fill("#id_name", "Beratung")
        page.fill("#id_amount", "1250,50")
        photograph(page, "german-line-item")
        page.click("text=Vorschau")
        page.wait_for_selector("text=1.250,50")
        photograph(page, "german-line-item-confirmation")
        page.click("text=Ja, diese Position hinzufügen")
        page.wait_for_selector("text=„Beratung“ 1.250,50")

    drive(steps)
    assert orb.invoice(shown["issued"])["status"] == "void"
    assert orb.invoice(shown["draft"])["line_items"][-1]["amount"] == "1250.50"


@pytest.mark.urls("tests.urls_of_customers")
def test_a_customer_sees_and_opens_invoices(orb: OrbSandbox, drive: Drive) -> None:
    for name in ("acme", "other"):
        orb.add_customer(name, name=name)
    mine = orb.add_invoice(external_customer_id="acme", amount="80.00", days_ago=45)
    orb.add_invoice(external_customer_id="acme", amount="1290.00", days_ago=3)
    orb.add_invoice(external_customer_id="acme", status="paid", days_ago=90)
    others = orb.add_invoice(external_customer_id="other", amount="99.00")
    services.sync_invoices(mode="full")
    opened: list[str] = []

    def answer(route: Any) -> None:
        opened.append(route.request.url)
        route.fulfill(body="Pay here", content_type="text/plain")

    def steps(page: Page) -> None:
        page.goto("/billing/acme/")
        page.wait_for_selector(f"text={mine['invoice_number']}")
        assert others["invoice_number"] not in page.content()
        photograph(page, "customers-invoices")
        page.goto("/billing/nobody/")
        page.wait_for_selector("text=There are no invoices yet.")
        photograph(page, "customers-no-invoices")
        page.route(mine["hosted_invoice_url"], answer)
        page.goto("/billing/acme/")
        page.click(f"a:has-text('{mine['invoice_number']}')")
        page.wait_for_selector("text=Pay here")

    drive(steps)
    assert opened == [mine["hosted_invoice_url"]]
