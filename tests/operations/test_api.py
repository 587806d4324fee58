from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_orb import mirror, services
from django_orb.db import primary
from django_orb.exceptions import (
    OrbInputError,
    OrbReadOnlyError,
    OrbRefusedError,
    OrbResponseError,
    OrbTransactionError,
)
from django_orb.models import Invoice, InvoiceLineItem, InvoiceOperation
from django_orb.operations.arguments import UNCHANGED

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

DAY = date(2026, 1, 31)
LINE: dict[str, Any] = {
    "name": "Support",
    "quantity": 1,
    "amount": "12.00",
    "start_date": DAY,
    "end_date": DAY,
}
Do = Callable[..., Any]

# For what is tried with everything that can be done.
on_postgresql = pytest.mark.django_db(databases=["postgresql"], transaction=True)

# What may be done to an invoice, by the status that it takes.
OPERATIONS: dict[str, tuple[str, Do]] = {
    "create_invoice_line_item": (
        "draft",
        lambda invoice, **asker: services.create_invoice_line_item(
            invoice, **LINE, **asker
        ),
    ),
    "delete_invoice_line_item": (
        "draft",
        lambda invoice, **asker: services.delete_invoice_line_item(
            invoice, "nope", **asker
        ),
    ),
    "issue_invoice": ("draft", services.issue_invoice),
    "mark_invoice_paid": (
        "issued",
        lambda invoice, **asker: services.mark_invoice_paid(
            invoice, payment_received_date=DAY, **asker
        ),
    ),
    "pay_invoice": ("issued", services.pay_invoice),
    "regenerate_invoice_pdf": ("issued", services.regenerate_invoice_pdf),
    "update_invoice": (
        "issued",
        lambda invoice, **asker: services.update_invoice(
            invoice, metadata={"note": "a"}, **asker
        ),
    ),
    "void_invoice": ("issued", services.void_invoice),
}


@pytest.fixture(autouse=True)
def _no_waiting(waits: list[float]) -> None:
    """No test here is about how long is waited."""


def add(orb: OrbSandbox, status: str) -> str:
    return str(orb.add_invoice(status=status, days_ago=1, metadata={})["id"])


def test_line_is_deleted_and_the_mirror_shows_it(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    line = services.create_invoice_line_item(draft, **LINE)
    assert line.pk

    invoice = services.delete_invoice_line_item(draft, line)

    assert line.orb_id not in {one["id"] for one in orb.invoice(draft)["line_items"]}
    assert not invoice.line_items.filter(orb_id=line.orb_id).exists()
    assert invoice.total == services.fetch_invoice(draft).total
    kinds = InvoiceOperation.objects.order_by("pk").values_list("kind", flat=True)
    assert [*kinds] == ["create_invoice_line_item", "delete_invoice_line_item"]


def test_line_that_is_gone_already_counts_as_deleted(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")

    services.delete_invoice_line_item(draft, "gone", idempotency_key="a")
    services.delete_invoice_line_item(draft, "gone", idempotency_key="a")

    operation = InvoiceOperation.objects.get()
    assert (operation.state, operation.attempts) == ("succeeded", 1)
    assert operation.detail == "The line was already gone."


def test_line_of_a_subscription_stays(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = next(
        one for one in orb.invoice_ids("draft") if orb.invoice(one)["subscription"]
    )
    line = orb.invoice(draft)["line_items"][0]["id"]

    with pytest.raises(OrbRefusedError, match="one-off"):
        services.delete_invoice_line_item(draft, line)

    assert InvoiceOperation.objects.get().state == "refused"


def test_draft_is_issued(any_committed_database: str, orb: OrbSandbox) -> None:
    draft = add(orb, "draft")

    invoice = services.issue_invoice(draft)

    assert invoice.status == orb.invoice(draft)["status"] == "issued"
    assert InvoiceOperation.objects.get().mirrored_at


def test_invoice_is_marked_as_paid(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    issued = add(orb, "issued")

    invoice = services.mark_invoice_paid(
        issued, payment_received_date=DAY, external_id=" wire 7 ", notes=""
    )

    assert invoice.status == orb.invoice(issued)["status"] == "paid"
    body = InvoiceOperation.objects.get().body
    assert body == {"payment_received_date": "2026-01-31", "external_id": "wire 7"}


def test_invoice_is_collected(any_committed_database: str, orb: OrbSandbox) -> None:
    issued = add(orb, "issued")

    invoice = services.pay_invoice(issued)

    assert invoice.status == "paid"
    assert len(invoice.payload["payment_attempts"]) == 1


def test_pdf_is_made_anew(any_committed_database: str, orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    before = services.fetch_invoice(issued).payload["invoice_pdf"]

    invoice = services.regenerate_invoice_pdf(issued)

    assert before != orb.invoice(issued)["invoice_pdf"]
    assert invoice.payload["invoice_pdf"] == orb.invoice(issued)["invoice_pdf"]
    assert InvoiceOperation.objects.get().state == "succeeded"


def test_metadata_is_merged(any_committed_database: str, orb: OrbSandbox) -> None:
    paid = add(orb, "paid")
    services.update_invoice(paid, metadata={"a": "1", "b": "2"})

    invoice = services.update_invoice(paid, metadata={"b": None, "c": "3"})

    assert invoice.payload["metadata"] == {"a": "1", "c": "3"}
    first = InvoiceOperation.objects.earliest("pk")
    assert first.before == {"metadata": {}}
    assert services.update_invoice(paid, metadata=None).payload["metadata"] == {}


def test_terms_of_a_draft_are_edited(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    invoice_date = services.fetch_invoice(draft).invoice_date

    services.update_invoice(draft, net_terms=10)

    issued = services.issue_invoice(draft)
    assert issued.due_date
    assert (issued.due_date - invoice_date).days >= 9
    with pytest.raises(OrbRefusedError, match="draft"):
        services.update_invoice(draft, due_date=DAY)


def test_a_later_edit_hides_an_earlier_one(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    issued = add(orb, "issued")

    services.update_invoice(issued, metadata={"a": "1"})
    invoice = services.update_invoice(issued, metadata={"a": "2"})

    assert invoice.payload["metadata"] == {"a": "2"}


def test_refusal_brings_the_mirror_up_to_date(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice = services.fetch_invoice(add(orb, "issued"))
    orb.void(invoice.pk)

    with pytest.raises(OrbRefusedError):
        services.void_invoice(invoice)

    invoice.refresh_from_db()
    assert invoice.status == "void"


@on_postgresql
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_deed_is_recorded_once_with_who_asked(
    orb: OrbSandbox, django_user_model: Any, name: str
) -> None:
    status, do = OPERATIONS[name]
    invoice_id = add(orb, status)
    ada = django_user_model.objects.create_user("ada")
    asker = {"idempotency_key": "form", "actor": ada, "origin": "admin"}

    first = do(invoice_id, **asker)
    second = do(invoice_id, **asker)

    operation = InvoiceOperation.objects.get()
    assert (operation.kind, operation.state) == (name, "succeeded")
    assert (operation.find_actor(), operation.origin) == (ada, "admin")
    assert operation.mirrored_at
    assert first == second
    assert orb.request_counts()[name] == 1
    assert Invoice.objects.get().payload == orb.invoice(invoice_id)


@on_postgresql
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"regenerate_invoice_pdf"}))
def test_read_that_lags_behind_a_deed_is_not_believed(
    orb: OrbSandbox, name: str
) -> None:
    status, do = OPERATIONS[name]
    invoice_id = add(orb, status)
    before = services.fetch_invoice(invoice_id).payload
    orb.lag_reads(2)

    do(invoice_id)
    clock, moment = primary.clock(), time.monotonic() + 30
    late = mirror.read_page([before], clock.interval(moment, moment))
    mirror.write(late)

    assert Invoice.objects.get().payload == orb.invoice(invoice_id)


@on_postgresql
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_deed_is_refused_in_words(
    orb: OrbSandbox, settings: Any, name: str
) -> None:
    status, do = OPERATIONS[name]
    invoice_id = add(orb, status)
    orb.clear_requests()
    with (
        pytest.raises(OrbTransactionError, match="Call it after the block"),
        transaction.atomic(using="postgresql"),
    ):
        do(invoice_id)
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    with pytest.raises(OrbReadOnlyError, match="only reads from Orb"):
        do(invoice_id)

    assert not orb.requests
    assert not InvoiceOperation.objects.exists()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("odd", "words"), [(" ", "empty"), ("..", "not an id in Orb")])
def test_every_deed_needs_an_invoice(
    any_database: str, name: str, odd: str, words: str
) -> None:
    with pytest.raises(OrbInputError, match=words) as caught:
        OPERATIONS[name][1](odd)

    assert caught.value.field == "invoice"
    assert not InvoiceOperation.objects.exists()


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({}, None, "nothing to change"),
        ({"metadata": {}}, None, "nothing to change"),
        ({"metadata": {"a": 1}}, "metadata", "give a text"),
        ({"metadata": {"": "a"}}, "metadata", "key"),
        ({"metadata": "a"}, "metadata", "must map texts"),
        ({"net_terms": -1}, "net_terms", "whole number"),
        ({"net_terms": True}, "net_terms", "whole number"),
        ({"net_terms": 1.5}, "net_terms", "whole number"),
        ({"due_date": "2026-01-01"}, "due_date", "a date"),
        ({"net_terms": 3, "due_date": DAY}, "due_date", "follows from"),
    ],
)
def test_edits_that_cannot_be_right_are_refused_before(
    any_database: str, change: dict[str, Any], field: str | None, words: str
) -> None:
    with pytest.raises(OrbInputError, match=words) as caught:
        services.update_invoice("inv", **change)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("terms", "sent"),
    [
        ({"net_terms": 30}, {"net_terms": 30}),
        ({"net_terms": None}, {"net_terms": None}),
        ({"due_date": DAY}, {"due_date": DAY.isoformat()}),
    ],
)
def test_metadata_without_a_key_do_not_hinder_an_edit_of_terms(
    any_committed_database: str,
    orb: OrbSandbox,
    terms: dict[str, Any],
    sent: dict[str, Any],
) -> None:
    """They change nothing, so they are not sent, and prove nothing of the rest."""
    invoice_id = add(orb, "draft")

    services.update_invoice(invoice_id, metadata={}, **terms)

    operation = InvoiceOperation.objects.get()
    assert (operation.state, operation.body) == ("succeeded", sent)
    assert orb.request_counts()["update_invoice"] == 1


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: services.delete_invoice_line_item("inv", ""), "line_item"),
        (lambda: services.delete_invoice_line_item("inv", ".."), "line_item"),
        (
            lambda: services.mark_invoice_paid("inv", payment_received_date="now"),  # type: ignore[arg-type]
            "payment_received_date",
        ),
        (
            lambda: services.mark_invoice_paid(
                "inv",
                payment_received_date=DAY,
                notes=7,  # type: ignore[arg-type]
            ),
            "notes",
        ),
        (
            lambda: services.pay_invoice("inv", shared_payment_token_id=""),
            "shared_payment_token_id",
        ),
    ],
    ids=["line", "no id", "date", "notes", "token"],
)
def test_arguments_that_cannot_be_right_are_refused_before(
    any_database: str, call: Do, field: str
) -> None:
    with pytest.raises(OrbInputError) as caught:
        call()

    assert caught.value.field == field


def test_unchanged_is_not_sent(any_committed_database: str, orb: OrbSandbox) -> None:
    draft = add(orb, "draft")

    services.update_invoice(draft, metadata=UNCHANGED, due_date=None)

    assert InvoiceOperation.objects.get().body == {"due_date": None}


def test_line_of_the_mirror_is_as_good_as_its_id(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = services.fetch_invoice(add(orb, "draft"))
    line = InvoiceLineItem.objects.get()

    services.delete_invoice_line_item(draft, line)

    assert orb.invoice(draft.pk)["line_items"] == []


def test_invoice_that_is_not_mirrored_yet_may_not_be_returned(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    orb.lag_reads(1000)

    with pytest.raises(OrbResponseError, match="It is done"):
        services.void_invoice(orb.invoice_ids("issued")[0])

    assert InvoiceOperation.objects.get().state == "succeeded"
    with pytest.raises(OrbResponseError, match="does not show yet"):
        services.fetch_invoice(InvoiceOperation.objects.get().invoice_id)
