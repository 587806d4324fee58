from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services
from django_orb.models import Invoice, InvoiceOperation
from tests.factories import make_invoice, make_invoices, make_staff

from .conftest import EVERYTHING
from .pages import LIST, choose, fields_of, page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db

LINE = {
    "name": "Support",
    "item_id": "",
    "quantity": "1.5",
    "amount": "1200.00",
    "start_date": "2026-01-01",
    "end_date": "2026-01-31",
}
LogIn = Callable[..., Client]


@pytest.fixture
def draft(orb: OrbSandbox) -> Invoice:
    return services.fetch_invoice(orb.invoice_ids("draft")[0])


def preview(client: Client, invoice: Invoice, **changes: str) -> Any:
    """Fill in the form on the invoice's page; the answer to it."""
    url = page_of(invoice.pk, "line-item")
    return client.post(url, {**fields_of(client.get(url)), **LINE, **changes})


def confirm(client: Client, invoice: Invoice, confirmation: Any) -> Any:
    """Send the confirmation as its button does."""
    url = page_of(invoice.pk, "line-item")
    return client.post(url, {**fields_of(confirmation), "post": "yes"})


def test_a_line_item_is_previewed_then_added(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)

    text = confirmation.content.decode()
    assert "Support" in text
    assert "1,200.00 USD" in text or f"1,200.00 {draft.currency}" in text
    assert "1 Jan 2026 to 31 Jan 2026" in text
    assert not InvoiceOperation.objects.exists()

    response = confirm(finance, draft, confirmation)

    (message,) = told(response)
    assert message.startswith("success: ")
    assert f"Added “Support” 1,200.00 {draft.currency} in Orb." in message
    line = Invoice.objects.get(pk=draft.pk).line_items.get(name="Support")
    assert (line.amount, line.quantity) == (Decimal("1200.00"), Decimal("1.5"))
    operation = InvoiceOperation.objects.get()
    assert operation.body["start_date"] == "2026-01-01"
    assert (operation.actor_username, operation.origin) == ("finance", "admin")
    assert (
        LogEntry.objects.get(object_id=draft.pk)
        .get_change_message()
        .startswith("Added “Support”")
    )


def test_the_total_is_shown_before_and_after(finance: Client) -> None:
    invoice = make_invoice("draft", total="100.10", currency="EUR")

    text = preview(finance, invoice, amount="-0.05").content.decode()

    for piece in ("100.10 EUR", "-0.05 EUR", "100.05 EUR"):
        assert piece in text, piece


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": ""}, "name", "Give the line a name, or an item."),
        ({"name": "   "}, "name", "Give the line a name, or an item."),
        ({"amount": "twelve"}, "amount", "is not a number; write it as in 1234.50"),
        ({"amount": "NaN"}, "amount", "is not a number; write it as in 1234.50"),
        ({"amount": ""}, "amount", "This field is required."),
        ({"quantity": "1,5"}, "quantity", "“1,5” is not a number"),
        ({"quantity": ""}, "quantity", "This field is required."),
        ({"start_date": "soon"}, "start_date", "Enter a valid date."),
        ({"end_date": ""}, "end_date", "This field is required."),
        ({"end_date": "2025-12-31"}, "end_date", "The end is before the start."),
    ],
)
def test_a_mistake_is_told_at_its_field_and_nothing_is_sent(
    finance: Client, changes: dict[str, str], field: str, words: str
) -> None:
    invoice = make_invoice("draft")

    response = preview(finance, invoice, **changes)

    form = response.context["form"]
    assert words in str(form.errors[field])
    assert "Nothing was sent" in response.content.decode()
    assert not InvoiceOperation.objects.exists()


def test_a_forged_confirmation_with_a_mistake_is_the_form_again(
    finance: Client,
) -> None:
    invoice = make_invoice("draft")

    response = preview(finance, invoice, amount="x", post="yes")

    assert "amount" in response.context["form"].errors


def test_an_item_without_a_name_is_enough(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    item_id = next(line.item_id for line in draft.line_items.all())

    (message,) = told(
        confirm(finance, draft, preview(finance, draft, name="", item_id=item_id))
    )

    assert item_id in message
    assert "success" in message


def test_changing_it_goes_back_to_the_form_as_it_was(finance: Client) -> None:
    invoice = make_invoice("draft")
    url = page_of(invoice.pk, "line-item")

    confirmation = preview(finance, invoice)
    response = finance.post(url, {**fields_of(confirmation), "edit": "yes"})

    assert response.context["form"]["name"].value() == "Support"
    assert not response.context["form"].errors
    assert not InvoiceOperation.objects.exists()


def test_several_drafts_at_once(orb: OrbSandbox, finance: Client) -> None:
    ids = orb.invoice_ids("draft")[:2]
    issued = orb.invoice_ids("issued")[0]
    for invoice_id in (*ids, issued):
        services.fetch_invoice(invoice_id)

    form = finance.post(LIST, choose("add_line_item", *ids, issued))
    assert "line items can be added to drafts only" in form.content.decode()
    confirmation = finance.post(LIST, {**fields_of(form), **LINE})
    messages = told(finance.post(LIST, {**fields_of(confirmation), "post": "yes"}))

    levels = [message.split(":")[0] for message in messages]
    assert levels == ["success", "success", "warning"]
    for invoice_id in ids:
        names = [line["name"] for line in orb.invoice(invoice_id)["line_items"]]
        assert names.count("Support") == 1


def test_drafts_in_different_currencies_are_warned_of(finance: Client) -> None:
    make_invoice("draft", id="d1", currency="USD")
    make_invoice("draft", id="d2", currency="EUR")

    form = finance.post(LIST, choose("add_line_item", "d1", "d2"))

    assert "different currencies (EUR, USD)" in form.content.decode()


def test_a_confirmation_sent_twice_adds_one_line(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)

    first = told(confirm(finance, draft, confirmation))
    second = told(confirm(finance, draft, confirmation))

    assert first[0] == second[-1]
    assert InvoiceOperation.objects.count() == 1
    assert LogEntry.objects.count() == 1
    names = [line["name"] for line in orb.invoice(draft.pk)["line_items"]]
    assert names.count("Support") == 1


def test_confirmation_of_other_values_is_shown_again(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)
    fields = {**fields_of(confirmation), "amount": "99.00", "post": "yes"}

    response = finance.post(page_of(draft.pk, "line-item"), fields)

    assert "not the invoices or values that were confirmed" in response.text
    assert not InvoiceOperation.objects.exists()
    told(confirm(finance, draft, response))
    assert InvoiceOperation.objects.get().body["amount"] == "99.00"


def test_a_form_used_again_with_other_values_adds_nothing(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)
    told(confirm(finance, draft, confirmation))
    url = page_of(draft.pk, "line-item")

    fields = {**fields_of(confirmation), "amount": "99.00", "post": "yes"}
    again = finance.post(url, fields)
    message = told(confirm(finance, draft, again))[-1]

    assert "sent before, with other values" in message
    assert InvoiceOperation.objects.count() == 1


def test_two_people_add_two_lines_and_the_second_is_told_first(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    ada = make_staff(*EVERYTHING, name="ada")
    ada.first_name, ada.last_name = "Ada", "Lovelace"
    ada.save()
    other = Client()
    other.force_login(ada)
    mine, hers = preview(finance, draft), preview(other, draft, name="Setup")
    told(confirm(other, draft, hers))

    warned = confirm(finance, draft, mine)

    text = warned.content.decode()
    assert "A line item was added in the meantime" in text
    assert f"Ada Lovelace added “Setup” 1,200.00 {draft.currency}" in text
    assert InvoiceOperation.objects.count() == 1

    told(confirm(finance, draft, warned))

    names = [line["name"] for line in orb.invoice(draft.pk)["line_items"]]
    assert (names.count("Support"), names.count("Setup")) == (1, 1)


def test_what_was_done_lately_is_shown_from_the_start(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    told(confirm(finance, draft, preview(finance, draft)))

    text = finance.get(page_of(draft.pk, "line-item")).content.decode()

    assert "Done in the last day" in text
    assert "finance added “Support”" in text


def test_a_refused_attempt_of_somebody_else_is_no_warning(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)
    InvoiceOperation.objects.create(
        kind=InvoiceOperation.Kind.CREATE_LINE_ITEM,
        state=InvoiceOperation.State.REFUSED,
        invoice_id=draft.pk,
        idempotency_key="other",
        created_at=draft.mirrored_at,
    )

    assert "Added" in told(confirm(finance, draft, confirmation))[0]


def test_an_invoice_issued_meanwhile_is_refused_in_orbs_words(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)
    orb.issue(draft.pk)

    (message,) = told(confirm(finance, draft, confirmation))

    assert message.startswith("error: ")
    assert "Orb refused:" in message


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("atomic_requests")
def test_adding_works_under_atomic_requests(orb: OrbSandbox) -> None:
    client = Client()
    client.force_login(make_staff(*EVERYTHING))
    draft = services.fetch_invoice(orb.invoice_ids("draft")[0])

    (message,) = told(confirm(client, draft, preview(client, draft)))

    assert "Added" in message


def test_a_missing_token_asks_again(finance: Client) -> None:
    invoice = make_invoice("draft")
    url = page_of(invoice.pk, "line-item")

    response = finance.post(url, {**LINE, "post": "yes"})

    assert response.status_code == 200
    assert not response.context["form"].is_bound


def test_odd_hidden_fields_do_no_harm(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    fields = {**fields_of(preview(finance, draft)), "newest_operation": "x"}

    response = finance.post(page_of(draft.pk, "line-item"), {**fields, "post": "yes"})

    assert "Added" in told(response)[0]


def test_a_line_that_orb_does_not_show_yet_says_so(
    orb: OrbSandbox, finance: Client, draft: Invoice
) -> None:
    confirmation = preview(finance, draft)
    orb.lag_reads(10)

    (message,) = told(confirm(finance, draft, confirmation))

    assert message.startswith("success: ")
    assert "could not be fetched yet" in message


def test_too_many_drafts_at_once_are_refused(finance: Client) -> None:
    make_invoices(26, "draft")
    chosen = choose("add_line_item", "draft00000", select_across="1")

    (message,) = told(finance.post(LIST, chosen))

    assert "at most 25 invoices" in message


def test_without_a_draft_there_is_no_form(finance: Client) -> None:
    invoice = make_invoice("paid")

    (message,) = told(finance.get(page_of(invoice.pk, "line-item")))

    assert "line items can be added to drafts only" in message


def test_a_line_cannot_be_added_to_what_orb_no_longer_knows(finance: Client) -> None:
    invoice = make_invoice("draft")
    Invoice.objects.update(missing_since=invoice.mirrored_at)

    (message,) = told(finance.get(page_of(invoice.pk, "line-item")))

    assert "Orb no longer knows it." in message
