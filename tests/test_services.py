from __future__ import annotations

import json
import time
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_orb import mirror, services
from django_orb.db import primary
from django_orb.exceptions import (
    OrbConfigurationError,
    OrbConnectionError,
    OrbInputError,
    OrbNotFoundError,
    OrbPayloadError,
    OrbReadOnlyError,
    OrbRefusedError,
    OrbResponseError,
    OrbTransactionError,
)
from django_orb.models import Invoice, InvoiceFailure, InvoiceLineItem, InvoiceOperation
from tests import times

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


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    times.rule(monkeypatch, sleep=lambda seconds: None)


def test_fetch_mirrors_and_returns_the_stored_invoice(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("void")[0]

    invoice = services.fetch_invoice(invoice_id)

    assert invoice == Invoice.objects.get()
    assert invoice.status == "void"
    assert invoice.line_items.count() == len(orb.invoice(invoice_id)["line_items"])


def test_unknown_invoice_is_not_found(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with pytest.raises(OrbNotFoundError, match="nope"):
        services.fetch_invoice("nope")

    assert not Invoice.objects.exists()


@pytest.mark.parametrize("call", ["fetch_invoice", "current_links"])
def test_a_404_is_neither_asked_about_again_nor_stored(
    any_committed_database: str, orb: OrbSandbox, call: str
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    Invoice.objects.update(mirrored_at=invoice.mirrored_at - timedelta(days=99))
    invoice.refresh_from_db()
    asked = invoice.pk if call == "fetch_invoice" else invoice
    orb.clear_requests()
    orb.fail_next(1, status=404, route="fetch_invoice")

    with pytest.raises(OrbNotFoundError):
        getattr(services, call)(asked)

    # A second answer could contradict the first, and only one of them would be stored.
    assert orb.request_counts()["fetch_invoice"] == 1
    assert Invoice.objects.get().missing_since is None
    assert getattr(services, call)(asked)


def test_invoice_that_cannot_be_stored_says_why(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids()[0]
    orb.update_invoice(invoice_id, created_at="long ago")

    with pytest.raises(OrbPayloadError, match="created_at is 'long ago'"):
        services.fetch_invoice(invoice_id)

    assert InvoiceFailure.objects.get().pk == invoice_id


@pytest.mark.parametrize("orb", [{"invoices": 250}], indirect=True)
def test_list_is_lazy_and_mirrors_each_page_first(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoices = services.list_invoices()
    assert not orb.requests

    first = next(invoices)
    assert first == Invoice.objects.get(pk=first.pk)
    assert Invoice.objects.count() == 100
    assert orb.request_counts()["list_invoices"] == 1

    assert {first.pk, *(invoice.pk for invoice in invoices)} == set(orb.invoice_ids())


@pytest.mark.parametrize("status", ["draft", "void", ["draft", "void"]])
def test_list_asks_for_what_is_filtered(
    any_committed_database: str, orb: OrbSandbox, status: Any
) -> None:
    wanted = [status] if isinstance(status, str) else status

    found = [invoice.pk for invoice in services.list_invoices(status=status)]

    assert sorted(found) == sorted(pk for one in wanted for pk in orb.invoice_ids(one))


def test_list_by_customer_and_date(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice = orb.invoice(orb.invoice_ids("paid")[0])
    moment = datetime.fromisoformat(invoice["invoice_date"])

    found = list(
        services.list_invoices(
            customer_id=invoice["customer"]["id"],
            invoice_date_gte=moment,
            invoice_date_lte=moment,
        )
    )

    assert [one.pk for one in found] == [invoice["id"]]


def test_upcoming_invoice_is_typed_and_not_stored(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    subscription_id = orb.subscription_ids(with_upcoming=True)[0]

    upcoming = services.fetch_upcoming_invoice(subscription_id)

    assert upcoming.subscription_id == subscription_id
    assert isinstance(upcoming.total, Decimal)
    assert isinstance(upcoming.target_date, datetime)
    assert upcoming.line_items
    assert sum(line.amount for line in upcoming.line_items) == pytest.approx(
        upcoming.subtotal, rel=1
    )
    assert not Invoice.objects.exists()


def test_unknown_subscription_has_no_upcoming_invoice(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with pytest.raises(OrbNotFoundError):
        services.fetch_upcoming_invoice("nope")


def test_void_is_recorded_and_mirrored(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]

    invoice = services.void_invoice(invoice_id)

    assert invoice.status == "void"
    assert invoice.voided_at is not None
    operation = InvoiceOperation.objects.get()
    assert (operation.state, operation.attempts) == ("succeeded", 1)
    assert operation.invoice_id == invoice_id
    assert orb.invoice(invoice_id)["status"] == "void"


@pytest.mark.parametrize("orb", [{"invoices": 1000}], indirect=True)
def test_balance_that_the_void_returned_is_mirrored(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = next(
        pk
        for pk in orb.invoice_ids("issued")
        if orb.invoice(pk)["customer_balance_transactions"]
    )

    invoice = services.void_invoice(invoice_id)

    balance = invoice.payload["customer_balance_transactions"]
    assert [one["action"] for one in balance][-1] == "return_from_voiding"


@pytest.mark.parametrize("status", ["draft", "paid", "void"])
def test_void_that_orb_refuses_says_so_and_changes_nothing(
    any_committed_database: str, orb: OrbSandbox, status: str
) -> None:
    invoice_id = orb.invoice_ids(status)[0]
    services.fetch_invoice(invoice_id)

    with pytest.raises(OrbRefusedError) as caught:
        services.void_invoice(invoice_id)

    assert caught.value.detail
    assert caught.value.operation.state == "refused"
    assert Invoice.objects.get().status == status


def test_void_of_an_unknown_invoice_is_refused(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with pytest.raises(OrbRefusedError, match="nope"):
        services.void_invoice("nope")


def test_line_item_is_added_once_and_mirrored(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = services.fetch_invoice(orb.invoice_ids("draft")[0])
    lines = draft.line_items.count()

    line = services.create_invoice_line_item(
        draft,
        name="Support",
        quantity=Decimal("1.50"),
        amount=Decimal("12.00"),
        start_date=DAY,
        end_date=DAY,
    )

    assert line.pk is not None
    assert line == InvoiceLineItem.objects.get(invoice=draft, orb_id=line.orb_id)
    assert (line.name, line.amount, line.quantity) == ("Support", 12, Decimal("1.5"))
    assert draft.line_items.count() == lines + 1
    operation = InvoiceOperation.objects.get()
    assert operation.body["quantity"] == Decimal("1.50")
    assert operation.line_item_id == line.orb_id


def test_line_item_may_be_negative_and_name_an_item(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = orb.invoice_ids("draft")[0]
    item_id = orb.invoice(draft)["line_items"][0]["price"]["item"]["id"]

    line = services.create_invoice_line_item(
        draft, **{**LINE, "name": None, "item_id": item_id, "amount": "-5.25"}
    )

    assert line.amount == Decimal("-5.25")
    assert line.item_id == item_id


def test_same_key_again_is_the_same_line(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = orb.invoice_ids("draft")[0]
    before = len(orb.invoice(draft)["line_items"])

    first = services.create_invoice_line_item(draft, **LINE, idempotency_key="one")
    again = services.create_invoice_line_item(draft, **LINE, idempotency_key="one")

    assert first == again
    assert len(orb.invoice(draft)["line_items"]) == before + 1
    assert orb.request_counts()["create_invoice_line_item"] == 1


def test_same_key_for_another_intention_is_refused(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = orb.invoice_ids("draft")[0]
    services.create_invoice_line_item(draft, **LINE, idempotency_key="one")

    with pytest.raises(OrbInputError, match="used before"):
        services.create_invoice_line_item(
            draft, **{**LINE, "amount": "13.00"}, idempotency_key="one"
        )


@pytest.mark.parametrize("status", ["issued", "paid"])
def test_line_item_on_anything_but_a_draft_is_refused(
    any_committed_database: str, orb: OrbSandbox, status: str
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids(status)[0])
    lines = invoice.line_items.count()

    with pytest.raises(OrbRefusedError) as caught:
        services.create_invoice_line_item(invoice, **LINE)

    assert "draft" in caught.value.detail
    assert invoice.line_items.count() == lines


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": ""}, "name", "name, or an item"),
        ({"name": "  "}, "name", "name, or an item"),
        ({"amount": "twelve"}, "amount", "not a number"),
        ({"amount": "NaN"}, "amount", "not a number"),
        ({"amount": 12.5}, "amount", "Decimal or a str"),
        ({"quantity": ""}, "quantity", "not a number"),
        ({"quantity": 1.5}, "quantity", "Decimal or a str"),
        ({"end_date": date(2026, 1, 30)}, "end_date", "before the start"),
        (
            {"start_date": datetime(2026, 1, 1, tzinfo=timezone.utc)},
            "start_date",
            "a date without a time",
        ),
        ({"end_date": "2026-01-31"}, "end_date", "a date without a time"),
    ],
)
def test_line_item_that_cannot_be_right_is_refused_before_anything_happens(
    any_database: str, orb: OrbSandbox, change: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(OrbInputError, match=words) as caught:
        services.create_invoice_line_item("inv", **{**LINE, **change})

    assert caught.value.field == field
    assert not orb.requests
    assert not InvoiceOperation.objects.exists()


def test_writes_are_refused_inside_a_transaction(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with (
        pytest.raises(OrbTransactionError),
        transaction.atomic(using=any_committed_database),
    ):
        services.void_invoice(orb.invoice_ids("issued")[0])

    assert not orb.requests
    assert not InvoiceOperation.objects.exists()


def test_read_only_refuses_every_write_in_words(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    for write in (
        lambda: services.void_invoice("inv"),
        lambda: services.create_invoice_line_item("inv", **LINE),
    ):
        with pytest.raises(OrbReadOnlyError, match="only reads from Orb"):
            write()

    assert not orb.requests
    assert not InvoiceOperation.objects.exists()


def test_read_that_lags_behind_our_void_is_not_believed(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    services.fetch_invoice(invoice_id)
    orb.lag_reads(2)

    assert services.void_invoice(invoice_id).status == "void"


@pytest.mark.parametrize("is_mirrored", [True, False])
def test_page_that_lags_behind_our_void_does_not_undo_it(
    any_committed_database: str, orb: OrbSandbox, *, is_mirrored: bool
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    if is_mirrored:
        services.fetch_invoice(invoice_id)
    before = orb.invoice(invoice_id)
    services.void_invoice(invoice_id)

    clock = primary.clock()
    for later in (0.0, 30.0):
        moment = time.monotonic() + later
        seen = mirror.read_page([before], clock.interval(moment, moment))
        assert mirror.write(seen).unchanged
        assert Invoice.objects.get(pk=invoice_id).status == "void"

    # By then Orb's answers have caught up, and it was somebody's will.
    moment = time.monotonic() + 90.0
    seen = mirror.read_page([before], clock.interval(moment, moment))
    assert mirror.write(seen).updated


def test_line_item_is_returned_even_if_orb_never_shows_it(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = services.fetch_invoice(orb.invoice_ids("draft")[0])
    orb.lag_reads(1000)

    line = services.create_invoice_line_item(draft, **LINE)

    assert not line.pk
    assert line.name == "Support"
    assert InvoiceOperation.objects.get().state == "succeeded"


def test_missing_key_says_what_to_set(
    any_database: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_ORB = {}
    monkeypatch.delenv("ORB_API_KEY", raising=False)

    with pytest.raises(OrbConfigurationError, match="API_KEY"):
        services.fetch_invoice("inv")


def test_orb_that_is_not_there_is_a_connection_error(any_database: str) -> None:
    with pytest.raises(OrbConnectionError):
        services.fetch_invoice("inv")


@pytest.mark.parametrize("invoice_id", ["", "  "])
def test_empty_id_is_refused(any_database: str, invoice_id: str) -> None:
    for call in (services.fetch_invoice, services.void_invoice):
        with pytest.raises(OrbInputError, match="empty"):
            call(invoice_id)


def test_a_portal_session_is_a_link_that_expires_and_is_not_kept(
    any_committed_database: str, orb: OrbSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    customer = orb.add_customer("crm-17")
    bodies = []

    def note(route: str, request: Any, go_on: Any) -> Any:
        bodies.append(json.loads(request.get_data()))
        return go_on()

    orb.answer_through(note)

    by_id = services.create_portal_session(customer_id=customer["id"])
    by_yours = services.create_portal_session(
        external_customer_id="crm-17", expires_in_minutes=180
    )

    assert by_id.url.startswith("https://portal.withorb.com/")
    assert by_yours.url != by_id.url
    assert by_id.expires_at is not None
    assert by_yours.expires_at is not None
    assert (by_yours.expires_at - by_id.expires_at).total_seconds() >= 7200
    assert by_id.url not in f"{by_id!r}{caplog.text}"
    assert not InvoiceOperation.objects.exists()
    assert bodies == [
        {"expires_in_minutes": 60, "invalidate_existing": False},
        {"expires_in_minutes": 180, "invalidate_existing": False},
    ]


def test_a_lost_answer_about_a_portal_session_opens_no_second_one(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    customer_id = orb.customer_ids()[0]
    orb.cut_next(when="after")

    session = services.create_portal_session(customer_id=customer_id)

    assert session.url
    first, second = (one for one in orb.requests if one.method == "POST")
    assert first.idempotency_key == second.idempotency_key
    assert first.idempotency_key


@pytest.mark.parametrize("minutes", [0, 181, 1.5, True, "60", None])
def test_a_portal_session_has_1_to_180_minutes(
    db: Any, orb: OrbSandbox, minutes: Any
) -> None:
    with pytest.raises(OrbInputError, match="1 to 180 minutes") as caught:
        services.create_portal_session(customer_id="c", expires_in_minutes=minutes)

    assert caught.value.field == "expires_in_minutes"
    assert not orb.requests


@pytest.mark.parametrize(
    "given",
    [{}, {"customer_id": "a", "external_customer_id": "b"}, {"customer_id": ""}],
)
def test_a_portal_session_is_of_one_customer(
    db: Any, orb: OrbSandbox, given: dict[str, Any]
) -> None:
    with pytest.raises(OrbInputError):
        services.create_portal_session(**given)

    assert not orb.requests


def test_a_portal_session_of_an_unknown_customer_is_not_found(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with pytest.raises(OrbNotFoundError, match="nope"):
        services.create_portal_session(customer_id="nope")


def test_a_copy_of_production_opens_no_portal_session(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    with pytest.raises(OrbReadOnlyError):
        services.create_portal_session(customer_id=orb.customer_ids()[0])

    assert not orb.requests


@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", 7])
def test_a_portal_session_without_a_link_is_an_error(
    any_committed_database: str, orb: OrbSandbox, url: Any
) -> None:

    def spoil(route: str, request: Any, go_on: Any) -> Any:
        answer = go_on()
        answer.set_data(json.dumps({**json.loads(answer.get_data()), "url": url}))
        return answer

    orb.answer_through(spoil)

    with pytest.raises(OrbResponseError, match="no link"):
        services.create_portal_session(customer_id=orb.customer_ids()[0])
