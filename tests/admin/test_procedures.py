"""What can be done from the admin besides voiding and charging."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services, tasks
from django_orb.models import Invoice, InvoiceOperation
from tests.factories import make_invoice

from .conftest import EVERYTHING
from .pages import LIST, OPERATIONS, choose, fields_of, page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db
LogIn = Callable[..., Client]

PAYMENT = {
    "payment_received_date": "2026-01-31",
    "external_id": "wire 7",
    "notes": "by phone",
}
# Page, action, status before, what is filled in, what is said, status then.
ACTS = [
    ("issue", "issue_selected", "draft", {}, "Issued in Orb.", "issued"),
    (
        "mark-paid",
        "mark_selected_paid",
        "issued",
        PAYMENT,
        "Marked as paid in Orb.",
        "paid",
    ),
    ("pay", "pay_selected", "issued", {}, "Paid: Orb has collected it.", "paid"),
    (
        "regenerate-pdf",
        "regenerate_selected_pdfs",
        "issued",
        {},
        "Orb is regenerating the PDF.",
        "issued",
    ),
    ("void", "void_selected", "issued", {}, "Voided in Orb.", "void"),
]
by_act = pytest.mark.parametrize(
    ("view", "action", "status", "filled", "words", "then"),
    ACTS,
    ids=[act[0] for act in ACTS],
)


def mirrored(orb: OrbSandbox, status: str) -> Invoice:
    made = orb.add_invoice(status=status, days_ago=1, metadata={"po": "1", "by": "Ada"})
    return services.fetch_invoice(made["id"])


def history_of(invoice_id: str) -> list[str]:
    entries = LogEntry.objects.filter(object_id=invoice_id)
    return [entry.get_change_message() for entry in entries]


@by_act
def test_an_act_is_confirmed_done_and_told(
    orb: OrbSandbox,
    finance: Client,
    view: str,
    action: str,
    status: str,
    filled: dict[str, str],
    words: str,
    then: str,
) -> None:
    invoice = mirrored(orb, status)
    url = page_of(invoice.pk, view)
    assert url in finance.get(page_of(invoice.pk)).content.decode()

    confirmation = finance.get(url)
    assert not InvoiceOperation.objects.exists()
    fields = {**fields_of(confirmation), **filled}
    (first,) = told(finance.post(url, fields))
    again = told(finance.post(url, fields))[-1]

    assert first == again
    assert first.startswith("success: ")
    assert first.endswith(words)
    invoice.refresh_from_db()
    assert invoice.status == orb.invoice(invoice.pk)["status"] == then
    operation = InvoiceOperation.objects.get()
    assert (operation.actor_username, operation.origin) == ("finance", "admin")
    assert history_of(invoice.pk) == [words]
    assert "finance" in finance.get(page_of(invoice.pk)).content.decode()


@by_act
def test_many_are_queued_and_their_progress_is_shown(
    orb: OrbSandbox,
    finance: Client,
    sent: list[Any],
    view: str,
    action: str,
    status: str,
    filled: dict[str, str],
    words: str,
    then: str,
) -> None:
    invoices = [mirrored(orb, status) for _ in range(6)]
    ids = [invoice.pk for invoice in invoices]

    confirmation = finance.post(LIST, choose(action, *ids))
    assert "queued and processed in the background" in confirmation.content.decode()
    fields = {**fields_of(confirmation), **filled}
    response = finance.post(LIST, fields)
    finance.post(LIST, fields)  # a double click

    page = response.headers["Location"]
    assert page.startswith(f"{OPERATIONS}batch/")
    assert {*sent} == {("send_operations", ())}
    assert InvoiceOperation.objects.count() == 6
    text = finance.get(page).content.decode()
    assert "0 of 6 ended" in text
    assert 'http-equiv="refresh"' in text
    assert [orb.invoice(one)["status"] for one in ids] == [status] * 6
    assert len(history_of(ids[0])) == 1

    for _ in range(3):  # a turn ends after a while, on a slow machine before the last
        tasks.send_operations()

    text = finance.get(page).content.decode()
    assert "6 of 6 ended" in text
    assert 'http-equiv="refresh"' not in text
    assert {orb.invoice(one)["status"] for one in ids} == {then}
    assert {*Invoice.objects.values_list("status", flat=True)} == {then}
    assert {one.actor_username for one in InvoiceOperation.objects.all()} == {"finance"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("atomic_requests")
def test_everything_works_under_atomic_requests(
    orb: OrbSandbox, log_in: LogIn, sent: list[Any]
) -> None:
    client = log_in(*EVERYTHING)
    for view, _, status, filled, words, _ in ACTS:
        url = page_of(mirrored(orb, status).pk, view)
        (message,) = told(client.post(url, {**fields_of(client.get(url)), **filled}))
        assert words in message
    draft = mirrored(orb, "draft")
    url = page_of(draft.pk, "edit")
    form = {**fields_of(client.get(url)), "metadata": "a = b", "post": "yes"}
    assert "Edited in Orb" in told(client.post(url, form))[-1]
    url = f"{page_of(draft.pk, 'delete-line')}?line={draft.line_items.get().orb_id}"
    deletion = told(client.post(url, fields_of(client.get(url))))
    assert "Deleted" in deletion[-1]

    assert queue_six(orb, client).startswith(f"{OPERATIONS}batch/")
    lost = InvoiceOperation.objects.filter(kind="void_invoice", state="pending")[0]
    InvoiceOperation.objects.filter(pk=lost.pk).update(state="needs_attention")
    url = f"{OPERATIONS}{lost.pk}/resolve/"
    assert "was not done" in told(client.post(url, {"decision": "not_done"}))[-1]


def queue_six(orb: OrbSandbox, client: Client) -> str:
    ids = [mirrored(orb, "issued").pk for _ in range(6)]
    confirmation = client.post(LIST, choose("void_selected", *ids))
    response = client.post(LIST, fields_of(confirmation))
    return str(response.headers["Location"])


def test_the_history_is_in_english_whoever_asked(
    orb: OrbSandbox, finance: Client, sent: list[Any]
) -> None:
    finance.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    issued, draft = mirrored(orb, "issued"), mirrored(orb, "draft")
    url = page_of(issued.pk, "void")
    done = told(finance.post(url, fields_of(finance.get(url))))[-1]
    url = page_of(draft.pk, "edit")
    form = {**fields_of(finance.get(url)), "metadata": "a = b", "post": "yes"}
    done += told(finance.post(url, form))[-1]
    url = f"{page_of(draft.pk, 'delete-line')}?line={draft.line_items.get().orb_id}"
    done += told(finance.post(url, fields_of(finance.get(url))))[-1]
    refused = mirrored(orb, "issued")
    url = page_of(refused.pk, "void")
    confirmation = fields_of(finance.get(url))
    orb.void(refused.pk)
    done += told(finance.post(url, confirmation))[-1]
    queue_six(orb, finance)

    for german in ("storniert", "bearbeitet", "gelöscht", "Orb hat abgelehnt"):
        assert german in done
    assert set(LogEntry.objects.values_list("change_message", flat=True)) == {
        "Voided in Orb.",
        "Edited in Orb: metadata (a, po, by).",
        "Deleted “Consulting” in Orb.",
        f"Asked Orb to void it. Orb refused: Invoice {refused.pk} is void; it must be "
        "issued to be voided. In Orb its status is now “Void”.",
        "Asked Orb to void it. It is queued with others.",
    }
    # Django's page of the history shows what is ours in the reader's language.
    assert "In Orb storniert." in finance.get(page_of(issued.pk, "history")).text


def test_a_queue_can_be_stopped(
    orb: OrbSandbox, finance: Client, sent: list[Any]
) -> None:
    page = queue_six(orb, finance)
    assert "Stop the 6 that are waiting" in finance.get(page).content.decode()

    assert finance.get(f"{page}stop/").status_code == 405
    messages = told(finance.post(f"{page}stop/", headers={"Accept-Language": "de"}))
    tasks.send_operations()

    assert "6 wurden angehalten" in messages[-1]
    assert "void_invoice" not in orb.request_counts()
    assert "6 cancelled" in finance.get(page).content.decode()
    entries = LogEntry.objects.filter(content_type__model="invoiceoperation")
    assert [one.change_message for one in entries] == 6 * [
        "Stopped before it was sent."
    ]
    # In English, whoever stopped it.
    details = set(InvoiceOperation.objects.values_list("detail", flat=True))
    assert details == {"finance stopped it before it was sent."}


def test_a_queue_that_was_stopped_is_not_called_queued_if_it_is_confirmed_again(
    orb: OrbSandbox, finance: Client, sent: list[Any]
) -> None:
    ids = [mirrored(orb, "issued").pk for _ in range(6)]
    fields = fields_of(finance.post(LIST, choose("void_selected", *ids)))
    page = finance.post(LIST, fields).headers["Location"]
    finance.post(f"{page}stop/")
    sent.clear()

    message = told(finance.post(LIST, fields))[-1]

    assert sent == []
    assert message == (
        "warning: Nothing was queued: this was confirmed before, and has finished."
    )


def test_a_queue_confirmed_again_with_another_payment_date_is_told(
    orb: OrbSandbox, finance: Client, sent: list[Any]
) -> None:
    ids = [mirrored(orb, "issued").pk for _ in range(6)]
    confirmation = finance.post(LIST, choose("mark_selected_paid", *ids))
    fields = {**fields_of(confirmation), **PAYMENT}
    finance.post(LIST, fields)

    other = {**fields, "payment_received_date": "2026-02-01"}
    message = told(finance.post(LIST, other))[-1]

    assert message.startswith("error: This form was sent before, with other values")
    days = {one.body["payment_received_date"] for one in InvoiceOperation.objects.all()}
    assert days == {"2026-01-31"}


def test_a_queue_waits_for_the_broker(
    orb: OrbSandbox, finance: Client, no_broker: None
) -> None:
    ids = [mirrored(orb, "issued").pk for _ in range(6)]
    confirmation = finance.post(LIST, choose("void_selected", *ids))

    (message,) = told(finance.post(LIST, fields_of(confirmation)))

    assert message.startswith("warning: 6 invoices are queued")
    assert "broker cannot be reached" in message


def test_whoever_may_not_see_operations_stays_on_the_list(
    orb: OrbSandbox, log_in: LogIn, sent: list[Any]
) -> None:
    assert queue_six(orb, log_in("view_invoice", "void_invoice")) == LIST


def test_nothing_is_queued_where_nothing_may_be_written(
    orb: OrbSandbox, finance: Client, settings: Any
) -> None:
    ids = [mirrored(orb, "issued").pk for _ in range(6)]
    fields = fields_of(finance.post(LIST, choose("void_selected", *ids)))
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    (message,) = told(finance.post(LIST, fields))

    assert "only reads from Orb" in message
    assert not InvoiceOperation.objects.exists()
    assert not LogEntry.objects.exists()


def test_an_unknown_batch_is_not_found(finance: Client) -> None:
    assert finance.get(f"{OPERATIONS}batch/unknown/").status_code == 404


def test_the_second_person_is_told_of_the_first(
    orb: OrbSandbox, finance: Client, log_in: LogIn
) -> None:
    invoice = mirrored(orb, "draft")
    url = page_of(invoice.pk, "edit")
    other = log_in(*EVERYTHING, name="other")
    filled = {"metadata": "po = 2\nby = Ada"}
    mine = {**fields_of(finance.get(url)), **filled, "post": "yes"}
    theirs = {**fields_of(other.get(url)), **filled, "post": "yes"}
    told(other.post(url, theirs))

    response = finance.post(url, mine)

    text = response.content.decode()
    assert "It was edited in the meantime" in text
    assert "other edited its metadata (po)" in text
    assert InvoiceOperation.objects.count() == 1
    told(finance.post(url, {**fields_of(response), **filled, "post": "yes"}))
    assert InvoiceOperation.objects.count() == 2


def test_what_somebody_else_did_meanwhile_is_told(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    url = page_of(invoice.pk, "void")
    fields = fields_of(finance.get(url))
    orb.void(invoice.pk)

    (message,) = told(finance.post(url, fields))

    assert "Orb refused" in message
    assert message.endswith("In Orb its status is now “Void”.")


def test_a_payment_that_fails_is_told(orb: OrbSandbox, finance: Client) -> None:
    invoice = mirrored(orb, "issued")
    url = page_of(invoice.pk, "pay")
    orb.lag_reads(10)  # Orb goes on showing the invoice as not paid

    (message,) = told(finance.post(url, fields_of(finance.get(url))))

    assert message.startswith("warning: ")
    assert "is not paid yet" in message


def test_a_payment_without_a_day_is_asked_again(finance: Client) -> None:
    invoice = make_invoice()
    url = page_of(invoice.pk, "mark-paid")
    fields = {**fields_of(finance.get(url)), "payment_received_date": "soon"}

    text = finance.post(url, fields).content.decode()

    assert "Enter a valid date" in text
    assert "Nothing was sent" in text


@pytest.mark.parametrize(
    ("view", "sample", "words"),
    [
        ("issue", "issued", "only drafts can be issued"),
        ("mark-paid", "draft", "only issued and synced"),
        ("pay", "paid", "only issued invoices can be collected"),
        ("regenerate-pdf", "draft", "drafts have no PDF"),
    ],
)
def test_what_cannot_be_done_is_not_offered(
    finance: Client, view: str, sample: str, words: str
) -> None:
    invoice = make_invoice(sample)

    assert page_of(invoice.pk, view) not in finance.get(page_of(invoice.pk)).text
    (message,) = told(finance.get(page_of(invoice.pk, view)))

    assert words in message


def test_a_draft_that_issues_itself_is_left_to_orb(finance: Client) -> None:
    invoice = make_invoice("draft", will_auto_issue=True)

    (message,) = told(finance.get(page_of(invoice.pk, "issue")))

    assert "Orb issues it automatically" in message


# Editing


def test_metadata_of_an_issued_invoice_can_be_edited(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "issued")
    url = page_of(invoice.pk, "edit")

    preview = finance.post(
        url, {**fields_of(finance.get(url)), "metadata": "po = 2\nby = Ada"}
    )
    (message,) = told(finance.post(url, {**fields_of(preview), "post": "yes"}))

    assert "Edited in Orb: metadata (po)." in message
    assert orb.invoice(invoice.pk)["metadata"] == {"po": "2", "by": "Ada"}


def test_an_edit_changes_only_what_was_changed(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = mirrored(orb, "draft")
    url = page_of(invoice.pk, "edit")
    form = finance.get(url)
    assert "po = 1" in form.text
    filled = {"metadata": "po = 2\nnew = x = y", "net_terms": "10"}

    preview = finance.post(url, {**fields_of(form), **filled})
    assert "removed" in preview.text
    assert not InvoiceOperation.objects.exists()
    orb.update_invoice(invoice.pk, metadata={"po": "1", "by": "Ada", "else": "stays"})
    (message,) = told(finance.post(url, {**fields_of(preview), "post": "yes"}))

    assert "Edited in Orb: metadata (po, new, by), net terms." in message
    metadata = orb.invoice(invoice.pk)["metadata"]
    assert metadata == {"po": "2", "new": "x = y", "else": "stays"}
    assert InvoiceOperation.objects.get().body == {
        "metadata": {"po": "2", "new": "x = y", "by": None},
        "net_terms": 10,
    }
    assert history_of(invoice.pk)


@pytest.mark.parametrize(
    ("filled", "words"),
    [
        ({"metadata": "po = 1"}, "nothing to change"),
        ({"metadata": "nonsense"}, "is not of the form key = value"),
        ({"metadata": "a = 1\na = 2"}, "is given twice"),
        ({"metadata": "= 1"}, "is not of the form"),
        ({"metadata": "po = 1", "net_terms": "-1"}, "greater than or equal to 0"),
        (
            {"metadata": "po = 1", "net_terms": "1", "due_date": "2026-01-01"},
            "Give net terms or a due date",
        ),
    ],
)
def test_an_edit_that_cannot_be_is_asked_again(
    finance: Client, filled: dict[str, str], words: str
) -> None:
    invoice = make_invoice("draft", metadata={"po": "1"})
    url = page_of(invoice.pk, "edit")

    response = finance.post(url, {**fields_of(finance.get(url)), **filled})

    assert words in response.text.replace("&#x27;", "'")
    assert "Nothing was sent" in response.text


def test_terms_are_offered_for_drafts_only(finance: Client) -> None:
    assert "net_terms" not in finance.get(page_of(make_invoice().pk, "edit")).text


def test_metadata_that_fits_no_line_is_left_alone(finance: Client) -> None:
    metadata = {"a=b": "1", "two": "lines\nhere", "plain": "1"}
    invoice = make_invoice("draft", metadata=metadata)
    url = page_of(invoice.pk, "edit")

    response = finance.post(
        url, {**fields_of(finance.get(url)), "metadata": "plain = 2"}
    )

    assert "Yes, change it" in response.text
    assert "lines" not in response.text.partition("<tbody>")[2]


# Deleting a line


def test_a_line_is_deleted_from_its_draft(orb: OrbSandbox, finance: Client) -> None:
    invoice = mirrored(orb, "draft")
    line = invoice.line_items.get()
    url = f"{page_of(invoice.pk, 'delete-line')}?line={line.orb_id}"
    assert url in finance.get(page_of(invoice.pk)).text

    fields = fields_of(finance.get(url))
    (first,) = told(finance.post(url, fields))
    again = told(finance.post(url, fields))[-1]

    assert first.endswith(f"Deleted “{line.name}” in Orb.")
    assert "Deleted the line in Orb." in again
    assert orb.invoice(invoice.pk)["line_items"] == []
    assert not invoice.line_items.exists()
    assert InvoiceOperation.objects.count() == 1
    assert history_of(invoice.pk) == [f"Deleted “{line.name}” in Orb."]
    assert f"finance deleted “{line.name}”" in finance.get(page_of(invoice.pk)).text


@pytest.mark.parametrize(
    ("sample", "line", "words"),
    [
        ("draft", "nope", "no longer has this line"),
        ("draft", "", "no longer has this line"),
        ("issued", "nope", "can be deleted from drafts only"),
    ],
)
def test_a_line_that_cannot_be_deleted_is_told(
    finance: Client, sample: str, line: str, words: str
) -> None:
    invoice = make_invoice(sample)

    (message,) = told(finance.get(f"{page_of(invoice.pk, 'delete-line')}?line={line}"))

    assert words in message


def test_a_line_of_the_subscription_stays(orb: OrbSandbox, finance: Client) -> None:
    draft = next(
        one for one in orb.invoice_ids("draft") if orb.invoice(one)["subscription"]
    )
    invoice = services.fetch_invoice(draft)
    line = invoice.line_items.first()
    assert line

    url = f"{page_of(draft, 'delete-line')}?line={line.orb_id}"
    (message,) = told(finance.get(url))

    assert "keeps this line" in message
    assert url not in finance.get(page_of(draft)).text
