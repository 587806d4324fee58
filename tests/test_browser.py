"""The admin in a real Chromium; what it looks like is kept in `.screenshots/`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from django.contrib.auth import get_user_model
from django.db import connections

from django_orb import services, tasks
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceOperation,
    SyncRun,
    WebhookEvent,
)

from . import databases
from .factories import operate

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

    ColorScheme = Literal["dark", "light"]

    from django_orb.testing import OrbSandbox

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("orb", [{"invoices": 240, "seed": 4}], indirect=True),
]

SCREENSHOTS = Path(
    os.environ.get("DJANGO_ORB_SCREENSHOTS")
    or Path(__file__).parent.parent / ".screenshots"
)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 400, "height": 800}
# The admin's links would change their colour slowly.
WITHOUT_FADING = """
    document.addEventListener("DOMContentLoaded", () => {
        const style = document.createElement("style");
        style.textContent = "* { transition: none !important }";
        document.head.append(style);
    })
"""
STEP_MILLISECONDS = 40_000
TEST_SECONDS = 360

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

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
# The admin's own search field has a picture for a label, and only colour tells the
# links of Django 5.2's breadcrumbs from their text.
OURS = {
    "include": [["body"]],
    "exclude": [["#searchbar"], ["div.breadcrumbs"], ["#toolbar .quiet"]],
}

# What makes a page wider than the screen; [] if nothing does.
TOO_WIDE = """
    width => document.documentElement.scrollWidth <= width ? [] :
        [...document.querySelectorAll("body *")]
            .filter(one => one.getBoundingClientRect().right > width + 1)
            .map(one => one.outerHTML.slice(0, 200))
"""

Steps = Callable[["Page"], None]
Drive = Callable[[Steps], None]


@pytest.fixture
def drive(live_server: Any) -> Iterator[Drive]:
    """
    Return a function that runs steps with a page of a logged-in browser.

    They run in a thread of their own: Playwright keeps an event loop in its
    thread, in which Django would refuse to use the database.
    """
    user = get_user_model().objects.create_superuser("finance", password="finance")
    user.first_name, user.last_name = "Ada", "Lovelace"
    user.save()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def run(steps: Steps) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=databases.chromium(), args=ARGUMENTS
            )
            page = browser.new_page(viewport=WIDE, base_url=live_server.url)
            page.set_default_timeout(STEP_MILLISECONDS)
            page.add_init_script(WITHOUT_FADING)
            page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda line: (
                    problems.append(line.text) if line.type == "error" else None
                ),
            )
            log_in(page)
            steps(page)
            browser.close()
            assert problems == []

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda steps: pool.submit(run, steps).result(timeout=TEST_SECONDS)


def log_in(page: Page) -> None:
    page.goto("/admin/login/?next=/admin/django_orb/invoice/")
    page.fill("#id_username", "finance")
    page.fill("#id_password", "finance")
    page.click("input[type=submit]")
    page.wait_for_selector("#changelist")


def photograph(page: Page, name: str) -> None:
    """
    Keep the whole page, in light and dark theme and as wide as a telephone.

    In each of them it must be accessible, and no wider than the screen.
    """
    looks: list[tuple[str, ColorScheme, ViewportSize]] = [
        ("", "light", WIDE),
        ("-dark", "dark", WIDE),
        ("-narrow", "light", NARROW),
    ]
    for ending, scheme, size in looks:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        steadily(page, partial(_look, page, name + ending, scheme, size["width"]))
    page.set_viewport_size(WIDE)


def _look(page: Page, name: str, scheme: str, width: int) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    assert barriers(page, CONTRAST if scheme == "dark" else RULES) == [], name
    assert page.evaluate(TOO_WIDE, width) == [], name


def steadily(page: Page, call: Callable[[], None]) -> None:
    """Again, when the page loaded itself anew meanwhile: one with progress does."""
    from playwright.sync_api import Error

    for _ in range(4):
        try:
            return call()
        except Error:
            page.wait_for_load_state()
    return call()


def barriers(page: Page, rules: dict[str, Any]) -> list[str]:
    """What keeps somebody from using our part of the page, by axe-core's rules."""
    from axe_playwright_python.sync_playwright import Axe

    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    violations = page.evaluate(
        "([ours, rules]) => axe.run(ours, rules).then(found => found.violations)",
        [OURS, {"resultTypes": ["violations"], **rules}],
    )
    return [
        f"{violation['id']}: {node['html'][:300]}"
        for violation in violations
        for node in violation["nodes"]
    ]


def page_of(invoice_id: str) -> str:
    return f"/admin/django_orb/invoice/{invoice_id}/change/"


def richest(orb: OrbSandbox, status: str) -> str:
    """Return the invoice of a status that has most to show."""

    def wealth(invoice_id: str) -> int:
        invoice = orb.invoice(invoice_id)
        lines = invoice["line_items"]
        return (
            5 * sum(bool(line["sub_line_items"]) for line in lines)
            + 3 * sum(bool(line["adjustments"]) for line in lines)
            + 2 * bool(invoice["customer_balance_transactions"])
            + len(lines)
        )

    return max(orb.invoice_ids(status), key=wealth)


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
        page.click("text=Payment failed")
        page.wait_for_selector(f"text={failed['invoice_number']}")

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


def test_events_changes_failures_and_runs_can_be_read_and_tried_again(
    orb: OrbSandbox, drive: Drive, settings: Any
) -> None:
    settings.CELERY_TASK_ALWAYS_EAGER = True
    services.sync_invoices(mode="full")
    changed = orb.invoice_ids("issued")[0]
    orb.mark_paid(changed)
    now = datetime.now(timezone.utc)
    WebhookEvent.objects.create(
        id="whk1",
        type="invoice.issued",
        state="failed",
        invoice_id=changed,
        received_at=now,
        body='{"id": "whk1", "type": "invoice.issued"}',
        error="Traceback (most recent call last):\nOrbTimeoutError: no answer",
        attempts=3,
    )
    InvoiceFailure.objects.create(
        invoice_id=orb.invoice_ids("paid")[-1],
        reason="total is no number.",
        payload_text='{"total": "a lot"}',
        failed_at=now,
    )
    SyncRun.objects.create(
        kind="full", state="running", active_kind="full", started_at=now
    )

    def steps(page: Page) -> None:
        page.goto(page_of(changed))
        page.click("text=Refresh from Orb")
        page.wait_for_selector("text=Read anew from Orb.")
        photograph(page, "invoice-refreshed")
        for model in ("invoicechange", "webhookevent", "invoicefailure"):
            page.goto(f"/admin/django_orb/{model}/")
            photograph(page, f"{model}s")
            page.click("#result_list tbody th a")
            page.wait_for_selector(f"#{model}_form")
            photograph(page, model)
        run_action(page, "webhookevent", "process_again")
        page.wait_for_selector("text=1 event is processed again.")
        run_action(page, "invoicefailure", "try_again")
        page.wait_for_selector("text=Reading 1 invoice anew from Orb.")
        page.goto("/admin/django_orb/syncrun/?state__exact=running&kind__exact=full")
        page.click("#result_list tbody th a")
        page.click("text=Cancel this run")
        page.wait_for_selector("text=1 run was cancelled.")
        photograph(page, "run-cancelled")
        page.goto("/admin/django_orb/invoice/")
        page.click("text=Sync now")
        page.wait_for_selector("text=Bringing the mirror up to date with Orb.")

    drive(steps)


def run_action(page: Page, model: str, action: str) -> None:
    page.goto(f"/admin/django_orb/{model}/")
    page.check("#action-toggle")
    page.select_option("select[name=action]", action)
    page.click("button[name=index]")


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
    assert str(InvoiceOperation.objects.get().actor) == "finance"


def test_several_invoices_are_voided_from_the_list(
    orb: OrbSandbox, drive: Drive
) -> None:
    services.sync_invoices(mode="full")
    issued = orb.invoice_ids("issued")[:3]

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoice/?status__exact=issued")
        for invoice_id in issued:
            page.check(f"input[name=_selected_action][value='{invoice_id}']")
        page.select_option("select[name=action]", "void_selected")
        page.click("button[name=index]")
        page.wait_for_selector("text=This cannot be undone")
        photograph(page, "void-several-confirmation")
        page.click("text=/Yes, void \\d invoices/")
        page.wait_for_selector("text=Voided in Orb")
        photograph(page, "void-several-result")

    drive(steps)
    assert {orb.invoice(one)["status"] for one in issued} == {"void"}


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
        page.click("text=Look at the result")
        page.wait_for_selector("text=“twelve” is not a number")
        photograph(page, "line-item-error")
        page.fill("#id_amount", "1250.00")
        page.click("text=Look at the result")
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
        page.click("text=Look at the changes")
        page.wait_for_selector("text=is not of the form")
        photograph(page, "edit-error")
        page.fill("#id_metadata", "po_number = PO-20505")
        page.fill("#id_net_terms", "14")
        page.click("text=Look at the changes")
        page.wait_for_selector("text=This is what changes in Orb")
        photograph(page, "edit-confirmation")
        page.click("text=Yes, change it")
        page.wait_for_selector("text=Edited in Orb")
        page.click("a:text-is('Issue')")
        page.wait_for_selector("text=no way back to a draft")
        photograph(page, "issue-confirmation")
        page.click("text=Yes, issue this invoice")
        page.wait_for_selector("text=Issued in Orb")
        photograph(page, "issued-buttons")
        page.click("a:text-is('Collect payment')")
        page.wait_for_selector("text=default payment method")
        photograph(page, "pay-confirmation")
        page.click("text=No, take me back")
        page.click("a:text-is('New PDF')")
        page.wait_for_selector("text=nothing is sent to the customer")
        photograph(page, "pdf-confirmation")
        page.click("text=Yes, make a new PDF")
        page.wait_for_selector("text=Orb makes the PDF anew")
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


def test_many_are_queued_watched_and_stopped(orb: OrbSandbox, drive: Drive) -> None:
    issued = [orb.add_invoice(days_ago=1)["id"] for _ in range(8)]
    services.sync_invoices(mode="full")
    orb.mark_paid(issued[0])  # after which Orb refuses to void it

    def work() -> None:
        """As a Celery worker would, which finds Orb busy after a while."""
        orb.fail_next(3, status=429, skip=4, route="void_invoice")
        tasks.send_operations()
        connections.close_all()

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoice/?status__exact=issued")
        for invoice_id in issued:
            page.check(f"input[name=_selected_action][value='{invoice_id}']")
        page.select_option("select[name=action]", "void_selected")
        page.click("button[name=index]")
        page.wait_for_selector("text=queued and done in the background")
        photograph(page, "void-many-confirmation")
        page.click("text=Yes, void 8 invoices")
        page.wait_for_selector("text=0 of 8 ended")
        photograph(page, "batch-begun")
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(work).result()
        page.wait_for_selector("text=4 of 8 ended")  # by itself
        photograph(page, "batch-under-way")
        page.click("text=Stop the 3 that wait")
        page.wait_for_selector("text=3 were stopped before they were sent")
        photograph(page, "batch-stopped")
        page.click("td a:has-text('Refused')")
        page.wait_for_selector("text=Idempotency key")
        photograph(page, "operation-refused")

    drive(steps)
    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert sorted(states) == sorted(
        ["succeeded"] * 3 + ["refused", "pending"] + ["cancelled"] * 3
    )


def test_an_operation_that_needs_a_person_is_settled(
    orb: OrbSandbox, drive: Drive
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    operation = operate(
        invoice,
        kind="void_invoice",
        state="needs_attention",
        body={},
        detail="No answer for two days, and the invoice does not show it. Look in Orb "
        "whether it happened.",
        finished_at=invoice.mirrored_at,
    )

    def steps(page: Page) -> None:
        page.goto("/admin/django_orb/invoiceoperation/")
        photograph(page, "operations")
        page.goto(f"/admin/django_orb/invoiceoperation/{operation.pk}/change/")
        photograph(page, "operation-needs-a-person")
        page.click("button:text-is('Look again in Orb')")
        page.wait_for_selector("text=Looked in Orb")
        photograph(page, "operation-looked-again")
        page.click("button:text-is('It was not done')")
        page.wait_for_selector("text=it was not done")
        photograph(page, "operation-settled")

    drive(steps)
    operation.refresh_from_db()
    assert operation.state == "refused"


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
        page.wait_for_selector("text=In Orb its status is “Paid” by now.")
        photograph(page, "void-refused")
        page.goto(page_of(draft))
        page.click("text=Add line item")
        page.fill("#id_name", "Extra support")
        page.fill("#id_amount", "12.00")
        page.click("text=Look at the result")
        page.click("text=Yes, add this line")
        page.wait_for_selector("text=In Orb its status is “Issued” by now.")
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
        page.click("text=Ergebnis ansehen")
        page.wait_for_selector("text=1.250,50")
        photograph(page, "german-line-item-confirmation")
        page.click("text=Ja, diese Position hinzufügen")
        page.wait_for_selector("text=„Beratung“ 1.250,50")

    drive(steps)
    assert orb.invoice(shown["issued"])["status"] == "void"
    assert orb.invoice(shown["draft"])["line_items"][-1]["amount"] == "1250.50"
