from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client

from django_orb import services
from django_orb.models import Invoice, InvoiceOperation
from tests.factories import make_invoice, make_invoices, make_staff

from .conftest import EVERYTHING
from .pages import LIST, choose, confirm_void, fields_of, page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db
LogIn = Callable[..., Client]


def mirrored(orb: OrbSandbox, status: str) -> Invoice:
    return services.fetch_invoice(orb.invoice_ids(status)[0])


def history_of(invoice_id: str) -> list[str]:
    entries = LogEntry.objects.filter(object_id=invoice_id)
    return [entry.get_change_message() for entry in entries]


def test_the_confirmation_says_what_will_happen(finance: Client) -> None:
    balance = {
        "id": "b",
        "action": "applied_to_invoice",
        "type": "decrement",
        "amount": "50.00",
    }
    invoice = make_invoice(customer_balance_transactions=[balance])

    response = finance.get(page_of(invoice.pk, "void"))

    text = response.content.decode()
    assert "This cannot be undone" in text
    assert "goes back to the customer" in text
    assert "50.00 USD" in text
    assert "credit block" in text
    assert not InvoiceOperation.objects.exists()


def test_the_confirmation_names_what_is_skipped_and_why(finance: Client) -> None:
    issued = make_invoice(id="issued1")
    for sample in ("draft", "paid", "void"):
        make_invoice(sample, id=sample, invoice_number=f"NO-{sample}")
    make_invoice(id="synced", status="synced")
    make_invoice(id="strange", status="disputed")
    make_invoice(id="gone")
    Invoice.objects.filter(pk="gone").update(missing_since=issued.mirrored_at)

    ids = list(Invoice.objects.values_list("pk", flat=True))
    response = finance.post(LIST, choose("void_selected", *ids))

    text = response.content.decode()
    for reason in (
        "It is a draft",
        "It is paid",
        "It is already void",
        "handed over to another system",
        "Its status is “disputed”",
        "Orb no longer knows it",
    ):
        assert reason in text, reason
    assert "Yes, void this invoice" in text


def test_voiding_from_the_invoices_page(orb: OrbSandbox, finance: Client) -> None:
    invoice = mirrored(orb, "issued")

    response = confirm_void(finance, invoice.pk)

    assert response.headers["Location"] == page_of(invoice.pk)
    (message,) = told(response)
    assert message.startswith("success: ")
    assert message.endswith(f">{invoice}</a>: Voided in Orb.")
    assert orb.invoice(invoice.pk)["status"] == "void"
    invoice.refresh_from_db()
    assert invoice.status == "void"
    operation = InvoiceOperation.objects.get()
    assert (operation.actor_username, operation.origin) == ("finance", "admin")
    assert history_of(invoice.pk) == ["Voided in Orb."]


def test_voiding_several_from_the_list(orb: OrbSandbox, finance: Client) -> None:
    ids = orb.invoice_ids("issued")[:2] + orb.invoice_ids("paid")[:1]
    for invoice_id in ids:
        services.fetch_invoice(invoice_id)

    confirmation = finance.post(
        f"{LIST}?status__exact=issued", choose("void_selected", *ids)
    )
    assert orb.invoice(ids[0])["status"] == "issued"
    confirmation = finance.post(LIST, choose("void_selected", *ids))
    response = finance.post(LIST, fields_of(confirmation))

    messages = told(response)
    assert [message.split(":")[0] for message in messages] == [
        "success",
        "success",
        "warning",
    ]
    assert "Skipped. It is paid" in messages[2]
    assert [orb.invoice(one)["status"] for one in ids] == ["void", "void", "paid"]
    assert LogEntry.objects.count() == 2


def test_a_form_sent_twice_voids_once_and_says_the_same(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    url = f"{LIST}?status__exact=issued"
    fields = fields_of(finance.post(url, choose("void_selected", invoice.pk)))

    first = told(finance.post(url, fields))
    second = told(finance.post(url, fields))

    assert first[0] == second[-1]
    assert orb.request_counts()["void_invoice"] == 1
    assert InvoiceOperation.objects.count() == 1
    assert history_of(invoice.pk) == ["Voided in Orb."]


@pytest.mark.django_db(transaction=True)
def test_a_double_click_voids_once(orb: OrbSandbox) -> None:
    user = make_staff(*EVERYTHING)
    invoice = mirrored(orb, "issued")
    first = Client()
    first.force_login(user)
    url = page_of(invoice.pk, "void")
    fields = fields_of(first.get(url))
    results: list[Any] = []

    def click() -> None:
        try:
            client = Client()
            client.cookies = first.cookies
            results.append(told(client.post(url, fields))[-1])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(results) == 2
    assert all("Voided in Orb." in result for result in results)
    assert orb.request_counts()["void_invoice"] == 1
    assert InvoiceOperation.objects.count() == 1


def test_two_forms_are_two_intentions(orb: OrbSandbox, finance: Client) -> None:
    invoice = mirrored(orb, "issued")
    url = page_of(invoice.pk, "void")
    forms = [fields_of(finance.get(url)) for _ in range(2)]
    told(finance.post(url, forms[0]))

    assert "is already void" in told(finance.post(url, forms[1]))[-1]
    assert InvoiceOperation.objects.count() == 1


def add(orb: OrbSandbox, status: str) -> str:
    made = orb.add_invoice(status=status, days_ago=1)
    return str(services.fetch_invoice(str(made["id"])).pk)


@pytest.mark.parametrize("count", [1, 6])
def test_confirmation_of_other_invoices_is_shown_again(
    orb: OrbSandbox, finance: Client, count: int
) -> None:
    ids = [add(orb, "issued") for _ in range(count + 1)]
    fields = fields_of(finance.post(LIST, choose("void_selected", *ids[:count])))

    for others in filter(None, (ids[1:], ids, ids[1:count])):
        response = finance.post(LIST, {**fields, "_selected_action": others})
        assert "not the invoices or values that were confirmed" in response.text

    assert not InvoiceOperation.objects.exists()


def test_confirmation_does_not_reach_what_it_had_skipped(
    orb: OrbSandbox, finance: Client
) -> None:
    issued, draft = add(orb, "issued"), add(orb, "draft")
    fields = fields_of(finance.post(LIST, choose("void_selected", issued, draft)))
    orb.issue(draft)
    services.fetch_invoice(draft)

    response = finance.post(LIST, fields)

    assert response.status_code == 200
    assert not InvoiceOperation.objects.exists()


def test_a_form_of_somebody_else_is_shown_again(
    orb: OrbSandbox, finance: Client, log_in: LogIn
) -> None:
    first, second = (
        services.fetch_invoice(one) for one in orb.invoice_ids("issued")[:2]
    )
    fields = fields_of(finance.get(page_of(first.pk, "void")))
    told(finance.post(page_of(first.pk, "void"), fields))
    other = log_in(*EVERYTHING, name="other")

    response = other.post(page_of(second.pk, "void"), fields)

    assert "This cannot be undone" in response.text
    assert InvoiceOperation.objects.count() == 1


@pytest.mark.parametrize("token", ["", "short", "x" * 65, "<script>alert(1)</script>"])
def test_without_our_token_it_is_only_asked_for(
    orb: OrbSandbox, finance: Client, token: str
) -> None:
    invoice = make_invoice()

    response = finance.post(
        page_of(invoice.pk, "void"), {"post": "yes", "token": token}
    )

    assert "This cannot be undone" in response.content.decode()
    assert orb.requests == []
    assert not InvoiceOperation.objects.exists()


def test_orbs_refusal_is_told_in_its_words(orb: OrbSandbox, finance: Client) -> None:
    invoice = mirrored(orb, "issued")
    orb.mark_paid(invoice.pk)

    (message,) = told(confirm_void(finance, invoice.pk))

    assert message.startswith("error: ")
    assert "Orb refused:" in message
    assert InvoiceOperation.objects.get().detail in message
    assert history_of(invoice.pk)[0].startswith("Asked Orb to void it. Orb refused")


def test_no_answer_is_recorded_and_not_to_be_repeated(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    orb.cut_next(10, when="after", route="void_invoice")

    (message,) = told(confirm_void(finance, invoice.pk))

    operation = InvoiceOperation.objects.get()
    assert message.startswith("warning: ")
    assert f"recorded as operation {operation.pk}" in message
    assert "do not repeat it" in message
    assert operation.state == "pending"
    assert "did not confirm yet" in history_of(invoice.pk)[0]
    assert "Pending" in finance.get(page_of(invoice.pk, "void")).content.decode()


def test_the_rest_is_not_tried_when_orb_does_not_answer(
    orb: OrbSandbox, finance: Client
) -> None:
    ids = orb.invoice_ids("issued")[:3]
    for invoice_id in ids:
        services.fetch_invoice(invoice_id)
    orb.cut_next(20, when="before", route="void_invoice")
    confirmation = finance.post(LIST, choose("void_selected", *ids))

    messages = told(finance.post(LIST, fields_of(confirmation)))

    assert len(messages) == len(ids) > 1
    assert "do not repeat it" in messages[0]
    assert all("Not tried" in message for message in messages[1:])
    assert InvoiceOperation.objects.count() == 1


def test_orb_out_of_reach_is_told_and_nothing_was_sent(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    orb.stop()

    (message,) = told(confirm_void(finance, invoice.pk))

    # Either the connection fails before anything is recorded, or after.
    is_recorded = InvoiceOperation.objects.exists()
    words = "do not repeat it" if is_recorded else "Nothing was sent."
    assert words in message


def test_read_only_is_said_before_and_after(
    orb: OrbSandbox, finance: Client, settings: Any
) -> None:
    invoice = mirrored(orb, "issued")
    url = page_of(invoice.pk, "void")
    fields = fields_of(finance.get(url))
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    confirmation = finance.get(url).content.decode()
    (message,) = told(finance.post(url, fields))

    assert "only reads from Orb" in confirmation
    assert "Yes, void" not in confirmation
    assert "only reads from Orb" in message
    assert orb.invoice(invoice.pk)["status"] == "issued"
    assert not LogEntry.objects.exists()


def test_a_missing_key_is_told(finance: Client, settings: Any) -> None:
    invoice = make_invoice()
    fields = fields_of(finance.get(page_of(invoice.pk, "void")))
    settings.DJANGO_ORB = {"API_KEY": ""}

    (message,) = told(finance.post(page_of(invoice.pk, "void"), fields))

    assert "not set up" in message
    assert "API_KEY" in message


def test_wrong_settings_are_told(finance: Client, settings: Any) -> None:
    invoice = make_invoice()
    settings.DJANGO_ORB = {"API_KYE": "x"}

    text = finance.get(page_of(invoice.pk, "void")).content.decode()

    assert "Did you mean API_KEY?" in text
    assert "Yes, void" not in text


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("atomic_requests")
def test_voiding_works_under_atomic_requests(orb: OrbSandbox) -> None:
    user = make_staff(*EVERYTHING)
    client = Client()
    client.force_login(user)
    one, two = (services.fetch_invoice(one) for one in orb.invoice_ids("issued")[:2])

    (message,) = told(confirm_void(client, one.pk))
    assert "Voided in Orb" in message
    confirmation = client.post(LIST, choose("void_selected", two.pk))
    (message,) = told(client.post(LIST, fields_of(confirmation)))
    assert "Voided in Orb" in message


def test_voiding_works_on_every_database(
    any_committed_database: str, atomic_requests: None, orb: OrbSandbox
) -> None:
    client = Client()
    client.force_login(make_staff(*EVERYTHING))
    invoice = mirrored(orb, "issued")

    (message,) = told(confirm_void(client, invoice.pk))

    assert "Voided in Orb" in message
    assert "voided it" in client.get(page_of(invoice.pk)).content.decode()
    assert history_of(invoice.pk) == ["Voided in Orb."]


def test_too_many_at_once_are_refused(finance: Client) -> None:
    make_invoices(501)
    chosen = choose("void_selected", "issued00000", select_across="1")

    (message,) = told(finance.post(LIST, chosen))

    assert "at most 500 invoices" in message


def test_nothing_to_void_asks_for_no_confirmation(finance: Client) -> None:
    invoice = make_invoice("draft")

    (message,) = told(finance.post(LIST, choose("void_selected", invoice.pk)))

    assert "Skipped. It is a draft" in message


def test_a_void_that_cannot_be_read_back_counts_as_done(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    orb.cut_next(99, route="fetch_invoice")

    (message,) = told(confirm_void(finance, invoice.pk))

    assert message.startswith("success: ")
    assert "Voided in Orb. The result could not be fetched yet" in message
    assert history_of(invoice.pk) == ["Voided in Orb."]


def test_a_void_that_orb_does_not_show_yet_says_so(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    orb.lag_reads(10)

    (message,) = told(confirm_void(finance, invoice.pk))

    assert message.startswith("success: ")
    assert "Voided in Orb. The result could not be fetched yet" in message
