"""Operations that need a person, and what a person does about them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services
from django_orb.models import InvoiceOperation
from tests.factories import make_invoice, operate

from .pages import OPERATIONS, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db


def page_of(operation: InvoiceOperation, view: str = "change") -> str:
    return f"{OPERATIONS}{operation.pk}/{view}/"


@pytest.fixture
def lost(orb: OrbSandbox) -> InvoiceOperation:
    """A void of which nobody knows whether it happened."""
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    return operate(
        invoice,
        kind="void_invoice",
        state="needs_attention",
        body={},
        finished_at=datetime.now(timezone.utc) - timedelta(hours=1),
    )


def test_one_that_needs_a_person_says_so(
    finance: Client, lost: InvoiceOperation
) -> None:
    text = finance.get(page_of(lost)).text

    assert "It is not known whether it happened" in text
    assert "It was not done" in text
    lost.state = InvoiceOperation.State.SUCCEEDED
    lost.save()
    text = finance.get(page_of(lost)).text
    assert "It is not known" not in text
    assert "It was not done" not in text


@pytest.mark.parametrize(
    ("decision", "state", "words"),
    [("done", "succeeded", "was done"), ("not_done", "refused", "was not done")],
)
def test_a_person_ends_it(
    finance: Client, lost: InvoiceOperation, decision: str, state: str, words: str
) -> None:
    first = told(finance.post(page_of(lost, "resolve"), {"decision": decision}))[-1]
    again = told(finance.post(page_of(lost, "resolve"), {"decision": "done"}))[-1]

    lost.refresh_from_db()
    assert lost.state == state
    assert lost.detail == f"finance checked in Orb: it {words}."
    assert first == f"success: {lost.detail}"
    assert "no longer needs attention" in again
    (entry,) = LogEntry.objects.all()
    assert entry.get_change_message() == lost.detail


def test_what_is_recorded_is_in_english_and_read_in_any_language(
    finance: Client, lost: InvoiceOperation
) -> None:
    german = {"Accept-Language": "de"}

    response = finance.post(
        page_of(lost, "resolve"), {"decision": "done"}, headers=german
    )

    in_german = "finance hat in Orb nachgesehen: Es ist geschehen."
    assert told(response)[-1] == f"success: {in_german}"
    lost.refresh_from_db()
    assert lost.detail == "finance checked in Orb: it was done."
    assert LogEntry.objects.get().change_message == lost.detail
    for view in ("change", "history"):
        assert in_german in finance.get(page_of(lost, view), headers=german).text
        assert lost.detail in finance.get(page_of(lost, view)).text


def test_looking_again_is_recorded_in_english(
    orb: OrbSandbox, finance: Client, lost: InvoiceOperation
) -> None:
    orb.void(lost.invoice_id)

    finance.post(
        page_of(lost, "resolve"),
        {"decision": "look"},
        headers={"Accept-Language": "de"},
    )

    lost.refresh_from_db()
    text = LogEntry.objects.get().change_message
    assert text == f"Checked in Orb. {lost.detail}"


def test_looking_again_finds_it(
    orb: OrbSandbox, finance: Client, lost: InvoiceOperation
) -> None:
    orb.void(lost.invoice_id)
    orb.clear_requests()

    message = told(finance.post(page_of(lost, "resolve"), {"decision": "look"}))[-1]

    assert message.startswith("success: Checked in Orb.")
    lost.refresh_from_db()
    assert lost.state == "succeeded"
    assert "void_invoice" not in orb.request_counts()


def test_looking_again_finds_that_it_never_happened(
    orb: OrbSandbox, finance: Client, lost: InvoiceOperation
) -> None:
    message = told(finance.post(page_of(lost, "resolve"), {"decision": "look"}))[-1]

    assert message == "warning: Checked in Orb. Orb shows that it did not happen."
    lost.refresh_from_db()
    assert lost.state == "refused"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "mark_invoice_paid"},  # which may have been undone since
        {"lease_expires_at": datetime.now(timezone.utc) + timedelta(hours=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_looking_again_leaves_open_what_orb_does_not_tell(
    orb: OrbSandbox, finance: Client, lost: InvoiceOperation, change: dict[str, object]
) -> None:
    InvoiceOperation.objects.update(**change)

    message = told(finance.post(page_of(lost, "resolve"), {"decision": "look"}))[-1]

    assert message.startswith("warning: Checked in Orb.")
    lost.refresh_from_db()
    assert lost.state == "needs_attention"


def test_looking_again_without_a_key_is_told(
    finance: Client, lost: InvoiceOperation, settings: object
) -> None:
    settings.DJANGO_ORB = {"API_KEY": ""}  # type: ignore[attr-defined]

    message = told(finance.post(page_of(lost, "resolve"), {"decision": "look"}))[-1]

    assert message.startswith("error: The connection to Orb is not set up")
    lost.refresh_from_db()
    assert lost.state == "needs_attention"


def test_nothing_else_settles_it(finance: Client, lost: InvoiceOperation) -> None:
    assert finance.get(page_of(lost, "resolve")).status_code == 405
    finance.post(page_of(lost, "resolve"), {"decision": "whatever"})
    assert finance.post(f"{OPERATIONS}4711/resolve/").status_code == 404

    lost.refresh_from_db()
    assert lost.state == "needs_attention"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "issue_invoice"}, "issued it"),
        ({"kind": "issue_invoice", "state": "refused"}, "asked to issue it"),
        (
            {"kind": "update_invoice", "body": {"metadata": None, "net_terms": 1}},
            "edited its metadata, net terms",
        ),
        ({"kind": "update_invoice", "body": {}}, "edited its details"),
        (
            {
                "kind": "delete_invoice_line_item",
                "before": {"name": "Support", "amount": "12.00"},
            },
            "deleted “Support” 12.00",
        ),
        (
            {"kind": "delete_invoice_line_item", "body": {"line_item_id": "li1"}},
            "deleted “item li1”",
        ),
    ],
)
def test_operations_are_told_in_words(
    finance: Client, values: dict[str, object], words: str
) -> None:
    operation = operate(make_invoice(), **values)

    assert f"A program {words}" in finance.get(page_of(operation)).text


def test_queued_ones_lead_to_their_batch(finance: Client) -> None:
    operation = operate(make_invoice(), batch="batch")

    text = finance.get(page_of(operation)).text

    assert f"{OPERATIONS}batch/batch/" in text
    assert "1 of 1 ended" in finance.get(f"{OPERATIONS}batch/batch/").text
