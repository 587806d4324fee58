from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.test import Client

from django_orb.models import Invoice, InvoiceFailure, InvoiceOperation, SyncRun
from tests.factories import make_invoice, make_staff, operate

from .pages import LIST, page_of

pytestmark = pytest.mark.django_db

SCRIPT = "<script>alert(1)</script>"


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def test_a_paid_invoice_shows_everything(finance: Client) -> None:
    invoice = make_invoice("paid", memo="Thank you.")

    text = text_of(finance, page_of(invoice.pk))

    for piece in (
        "Invoice QXWPLM-00042",
        "1 Harbor Way",
        "US EIN 12-3456789",
        "Platform fee",
        "42,500.5",
        "568.75 USD",
        "Customer balance applied",
        "510.25 USD",
        "Tier One",
        "Launch partner",
        "Stripe pi_3EXAMPLE",
        "PO-7731",
        "Thank you.",
        "https://assets.withorb.com/invoice/EXAMPLEACCT/EXAMPLEPDF",
        "&quot;hidden_line_item_count&quot;: 0",
        "in the time zone UTC",
        "last seen there",
    ):
        assert piece in text, piece


def test_dates_are_not_shifted_to_the_servers_zone(finance: Client) -> None:
    # The site's zone is Los Angeles, where it is still February.
    invoice = make_invoice(invoice_date="2026-03-01T00:00:00+00:00")

    assert "1 Mar 2026" in text_of(finance, page_of(invoice.pk))


def test_nobody_can_change_add_or_delete(admin_client: Client) -> None:
    invoice = make_invoice()

    assert admin_client.post(page_of(invoice.pk), {"memo": "x"}).status_code == 403
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(page_of(invoice.pk, "delete")).status_code == 403
    text = text_of(admin_client, LIST)
    assert "delete_selected" not in text
    assert 'name="_save"' not in text_of(admin_client, page_of(invoice.pk))


def test_names_and_memos_are_harmless_everywhere(admin_client: Client) -> None:
    from tests import payloads

    line = payloads.load("line_item") | {"name": SCRIPT, "grouping": SCRIPT}
    invoice = make_invoice(
        "draft",
        invoice_number=SCRIPT,
        memo=SCRIPT,
        metadata={SCRIPT: SCRIPT},
        customer={"id": "cus", "external_customer_id": SCRIPT},
        billing_address={"line1": SCRIPT},
        invoice_pdf="javascript:alert(1)",
        line_items=[line],
    )
    operate(invoice, body={"name": SCRIPT, "amount": SCRIPT}, detail=SCRIPT)
    failure = InvoiceFailure.objects.create(
        invoice_id="bad",
        reason=SCRIPT,
        payload_text=SCRIPT,
        failed_at=datetime.now(timezone.utc),
    )
    operation = InvoiceOperation.objects.get()
    for url in (
        LIST,
        page_of(invoice.pk),
        page_of(invoice.pk, "line-item"),
        "/admin/django_orb/invoicelineitem/",
        "/admin/django_orb/invoiceoperation/",
        f"/admin/django_orb/invoiceoperation/{operation.pk}/change/",
        "/admin/django_orb/invoicefailure/",
        f"/admin/django_orb/invoicefailure/{failure.pk}/change/",
    ):
        text = text_of(admin_client, url)
        assert SCRIPT not in text, url
        assert 'href="javascript' not in text, url
        assert "&lt;script&gt;" in text, url


def test_texts_of_any_length_fit(finance: Client) -> None:
    long = "Ünïcødé‮ " * 1_500
    invoice = make_invoice(
        memo=long, customer={"id": "cus", "external_customer_id": long}
    )

    assert len(text_of(finance, LIST)) < 60_000
    assert long in text_of(finance, page_of(invoice.pk))


def test_an_invoice_gone_from_orb_says_so(finance: Client) -> None:
    invoice = make_invoice()
    Invoice.objects.update(missing_since=datetime.now(timezone.utc))

    text = text_of(finance, page_of(invoice.pk))

    assert "Orb no longer knows this invoice" in text
    assert "Void invoice" not in text


def test_rounded_amounts_are_announced(finance: Client) -> None:
    invoice = make_invoice(total="1234567890.1234567890123")

    text = text_of(finance, page_of(invoice.pk))

    assert "more digits than this database" in text
    assert "1,234,567,890.1234567890123 USD" in text


def test_what_was_done_is_told_with_who_did_it(finance: Client) -> None:
    invoice = make_invoice("draft")
    ada = make_staff(name="ada")
    ada.first_name, ada.last_name = "Ada", "Lovelace"
    ada.save()
    operate(invoice, actor=ada)
    operate(invoice, origin="admin")
    operate(
        invoice,
        kind=InvoiceOperation.Kind.VOID,
        state=InvoiceOperation.State.REFUSED,
        detail="It is a draft.",
    )

    text = text_of(finance, page_of(invoice.pk))

    assert "Ada Lovelace added “Support” 12.00 USD" in text
    assert "A user added" in text
    assert "A program asked to void it" in text
    assert "It is a draft." in text


@pytest.mark.parametrize(
    ("sample", "void", "line_item"),
    [("draft", False, True), ("issued", True, False), ("paid", False, False)],
)
def test_buttons_are_those_that_make_sense(
    finance: Client, sample: str, void: bool, line_item: bool
) -> None:
    invoice = make_invoice(sample)

    text = text_of(finance, page_of(invoice.pk))

    assert ("Void invoice" in text) is void
    assert ("Add line item" in text) is line_item
    assert "Fetch again from Orb" in text


def test_the_page_costs_the_same_for_few_lines_and_many(
    finance: Client, django_assert_max_num_queries: Any
) -> None:
    from tests import payloads

    line = payloads.load("line_item")
    text_of(finance, page_of(make_invoice("draft").pk))  # fills Django's own caches
    counts = []
    for number in (1, 40):
        lines = [{**line, "id": f"line{index}"} for index in range(number)]
        invoice = make_invoice("draft", id=f"with{number}", line_items=lines)
        with django_assert_max_num_queries(12) as captured:
            text_of(finance, page_of(invoice.pk))
        counts.append(len(captured))

    assert counts[0] == counts[1]


def test_an_unknown_invoice_is_a_message_and_no_error(finance: Client) -> None:
    assert finance.get(page_of("nope")).status_code == 302
    assert finance.get(page_of("nope", "void")).status_code == 404


def test_line_items_lead_to_their_invoice(finance: Client) -> None:
    invoice = make_invoice("paid")
    item = invoice.line_items.all()[1]

    text = text_of(finance, f"/admin/django_orb/invoicelineitem/?q={item.item_id}")

    assert "API requests" in text
    assert "Platform fee" not in text
    assert page_of(invoice.pk) in text
    assert "68.75 USD" in text
    assert (
        finance.get(f"/admin/django_orb/invoicelineitem/{item.pk}/change/").status_code
        == 200
    )


def test_operations_are_an_audit_trail(finance: Client) -> None:
    invoice = make_invoice("draft")
    operation = operate(invoice, result={"id": "line-1"}, actor=make_staff(name="eve"))
    other = operate(invoice, invoice_id="other", body={"item_id": "item-1"})
    url = "/admin/django_orb/invoiceoperation/"

    assert "eve added “Support” 12.00" in text_of(finance, url)
    found = text_of(finance, f"{url}?q={other.idempotency_key}")
    assert "item item-1" in found
    assert "Support" not in found
    page = text_of(finance, f"{url}{operation.pk}/change/")
    assert "&quot;line-1&quot;" in page
    assert operation.idempotency_key in page


def test_the_audit_trail_keeps_the_name_of_a_user_who_was_deleted(
    finance: Client,
) -> None:
    invoice = make_invoice("draft")
    ada = make_staff(name="ada")
    ada.first_name, ada.last_name = "Ada", "Lovelace"
    ada.save()
    operation = operate(invoice, actor=ada, origin="admin")
    assert operation.find_actor() == ada

    ada.delete()

    operation.refresh_from_db()
    assert operation.find_actor() is None
    url = "/admin/django_orb/invoiceoperation/"
    assert "Ada Lovelace added “Support” 12.00" in text_of(finance, url)
    page = text_of(finance, f"{url}{operation.pk}/change/")
    assert "Ada Lovelace (ada)" in page


def test_another_user_under_the_same_key_is_not_the_one_who_asked(
    finance: Client,
) -> None:
    operation = operate(make_invoice("draft"), actor=make_staff(name="ada"))
    assert operation.find_actor()

    operation.actor_username = "eve"
    assert operation.find_actor() is None
    operation.actor_id = "no-key-of-this-user-model"
    assert operation.find_actor() is None


def test_an_operation_of_a_later_release_is_shown(finance: Client) -> None:
    invoice = make_invoice("draft")
    operate(invoice, kind="freeze_invoice", state="odd", body={})

    assert "A program: freeze_invoice" in text_of(finance, page_of(invoice.pk))


def test_failures_show_the_reason_and_what_orb_sent(finance: Client) -> None:
    InvoiceFailure.objects.create(
        invoice_id="bad",
        reason="total is missing.",
        payload_text='{"id": "bad", "memo": "\\u0000"}',
        failed_at=datetime.now(timezone.utc),
    )

    assert "total is missing." in text_of(finance, "/admin/django_orb/invoicefailure/")
    page = text_of(finance, "/admin/django_orb/invoicefailure/bad/change/")
    assert "&quot;memo&quot;" in page


def test_runs_show_progress_and_reasons(finance: Client) -> None:
    now = datetime.now(timezone.utc)
    run = SyncRun.objects.create(
        kind="full", state="running", started_at=now - timedelta(minutes=5)
    )
    common = {"run": run, "kind": "list", "statuses": ["draft", "issued"]}
    run.windows.create(
        **{**common, "run": run}, position=0, state="done", created=1200, pages=12
    )
    run.windows.create(
        **{**common, "run": run},
        position=1,
        state="pending",
        invoice_date_gte=now,
        not_before=now,
        error="Orb answered 503.",
    )
    run.windows.create(
        run=run, kind="fetch", position=2, state="waiting", invoice_ids=["a", "b"]
    )

    assert "1200" in text_of(finance, "/admin/django_orb/syncrun/")
    page = text_of(finance, f"/admin/django_orb/syncrun/{run.pk}/change/")
    for piece in ("Full sync", "1,200", "Orb answered 503.", "Draft, Issued", "2 ids"):
        assert piece in page, piece


def test_a_finished_run_says_how_it_ended(finance: Client) -> None:
    now = datetime.now(timezone.utc)
    run = SyncRun.objects.create(
        kind="full",
        state="failed",
        error="A wrong key?",
        started_at=now - timedelta(seconds=3),
        finished_at=now,
        created=7,
    )

    page = text_of(finance, f"/admin/django_orb/syncrun/{run.pk}/change/")

    assert "A wrong key?" in page
    assert "3.0 seconds" in page
