"""Why Orb failed at an invoice: told by events, and by nothing else."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_orb import mirror, services
from django_orb.client import RawInvoice
from django_orb.db import primary
from django_orb.db.clock import Interval, database_now
from django_orb.models import Invoice, InvoiceFailureReason, WebhookEvent
from django_orb.testing import OrbSandbox
from django_orb.webhooks import processing
from django_orb.webhooks.failure_reasons import keep_reasons
from tests import payloads
from tests.deliveries import event_of, now

from .test_inbox import store

INVOICE = payloads.load("invoice_issued")
ISSUED_AT = now().replace(microsecond=0) - timedelta(days=20)


def at(day: float) -> str:
    return (ISSUED_AT + timedelta(days=day)).isoformat()


def told(
    name: str, day: float, invoice: Any = None, **properties: Any
) -> dict[str, Any]:
    shown = invoice or {**INVOICE, "payment_failed_at": at(day)}
    sent: dict[str, Any] = event_of(
        shown, f"invoice.{name}", created_at=at(day), properties=properties
    )
    return sent


def receive(*events: Any) -> None:
    for one in events:
        processing.process_event(store(one))


def mirror_now(**changes: Any) -> None:
    """As if Orb had just been asked."""
    moment = database_now(primary.alias())
    invoice_id = INVOICE["id"]
    seen = mirror.Observation(
        invoice_id,
        {**INVOICE, **changes},
        Interval(moment, moment),
        mirror.versions([invoice_id]).get(invoice_id),
    )
    result = mirror.write([seen])
    assert not result.failed
    assert not result.doubtful


def current() -> dict[str, str]:
    reasons = InvoiceFailureReason.objects.current()
    return {row.kind: str(row) for row in reasons}


CARD = "Your card was declined."


def test_reason_is_kept_until_the_invoice_no_longer_fails(any_database: str) -> None:
    mirror_now(payment_failed_at=at(1))
    receive(told("payment_failed", 1, failure_reason=CARD))
    assert current() == {"payment": CARD}
    assert str(Invoice.objects.get().failure_reasons.current().get()) == CARD

    mirror_now(status="paid", payment_failed_at=at(1))
    assert current() == {}
    # The payment is taken back, and Orb still shows when it last failed.
    mirror_now(payment_failed_at=at(1), memo="undone")
    assert current() == {}
    # As if that event had been deleted, and were sent again.
    WebhookEvent.objects.all().delete()
    again = Invoice.objects.get().payload
    receive(told("payment_failed", 1, again, reason=CARD))
    assert current() == {}

    mirror_now(payment_failed_at=at(5))
    assert current() == {}
    receive(told("payment_failed", 5, failure_reason="No funds."))
    assert current() == {"payment": "No funds."}


def test_failure_that_is_over_before_its_event_comes_stays_over(
    any_database: str,
) -> None:
    for status in ("issued", "paid", "issued"):
        mirror_now(status=status, payment_failed_at=at(1), memo=status)
    receive(told("payment_failed", 1, failure_reason=CARD))

    assert current() == {}


def test_later_failure_hides_the_reason_of_an_earlier_one(any_database: str) -> None:
    mirror_now(payment_failed_at=at(9))
    shown = Invoice.objects.get().payload
    receive(told("payment_failed", 5, shown, reason=CARD))

    assert current() == {}


STORY = [
    ("accounting_sync_failed", 1, "The customer is unknown."),
    ("accounting_sync_succeeded", 2, None),
    ("accounting_sync_failed", 3, "The account is locked."),
    ("payment_failed", 4, CARD),
]


def test_order_of_the_events_does_not_matter(any_database: str) -> None:
    """They come in every order, and each comes again at the end."""
    mirror_now(payment_failed_at=at(4))
    shown = {**INVOICE, "payment_failed_at": at(4)}
    events = [
        told(name, day, shown, connection_type="quickbooks", failure_reason=reason)
        for name, day, reason in STORY
    ]
    rows = set()
    for order in itertools.permutations(events):
        WebhookEvent.objects.all().delete()
        InvoiceFailureReason.objects.all().delete()
        receive(*order)
        assert current() == {
            "accounting_sync": "The account is locked.",
            "payment": CARD,
        }
        WebhookEvent.objects.all().delete()
        receive(*order)
        columns = ("kind", "connection_type", "reason", "failed_at", "over_until")
        rows.add(frozenset(InvoiceFailureReason.objects.values_list(*columns)))
    assert len(rows) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_success_in_the_same_second_counts_as_the_later(
    any_database: str, order: int
) -> None:
    mirror_now()
    events = [
        told("accounting_sync_failed", 1, INVOICE, failure_reason="x"),
        told("accounting_sync_succeeded", 1, INVOICE),
    ]
    receive(*events[::order])

    assert current() == {}


def test_each_accounting_system_fails_for_itself(any_database: str) -> None:
    mirror_now()
    for name, day, system in (
        ("accounting_sync_failed", 1, "quickbooks"),
        ("accounting_sync_failed", 1, "netsuite"),
        ("accounting_sync_succeeded", 2, "netsuite"),
    ):
        properties = {"connection_type": system, "failure_reason": f"of {system}"}
        receive(told(name, day, INVOICE, **properties))

    assert current() == {"accounting_sync": "of quickbooks"}
    # What the invoice's status is does not matter to the books.
    mirror_now(status="void")
    assert current() == {"accounting_sync": "of quickbooks"}


def test_events_that_wait_together_are_all_read(
    any_database: str, orb: OrbSandbox
) -> None:
    """A reduced event has the reason as well, and the invoice is not mirrored yet."""
    invoice_id = orb.invoice_ids("issued")[0]
    orb.attempt_payment(invoice_id, succeeds=False)
    orb.fail_sync(invoice_id)
    orb.sync_accounting(invoice_id, succeeds=False)
    events = orb.webhook_events()
    ids = [store({**event, "payload_style": "standard"}) for event in reversed(events)]
    processing.process_event(ids[0])

    assert orb.request_counts() == {"fetch_invoice": 1}
    assert Invoice.objects.get().pk == invoice_id
    assert set(current()) == {"payment", "sync", "accounting_sync"}
    assert current()["payment"].startswith("stripe pi_")
    assert current()["sync"] == "netsuite"


def test_feed_tells_what_was_not_delivered(any_database: str, orb: OrbSandbox) -> None:
    services.sync_invoices(mode="full")
    draft = orb.invoice_ids("draft")[0]
    orb.fail_issue(draft, reason="No tax address.")
    services.sync_invoices()

    assert current() == {"issue": "No tax address."}
    orb.issue(draft)
    services.sync_invoices()
    assert current() == {}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"reason": "as for issuing"}, "as for issuing"),
        ({"failure_reason": {"code": 7}}, '{"code":7}'),
        ({"failure_reason": "a\0b\ud800"}, "a?b?"),
        ({"failure_reason": None}, "Payment failed"),
        ({}, "Payment failed"),
    ],
)
def test_whatever_the_reason_is_it_can_be_kept(
    any_database: str, given: Any, kept: str
) -> None:
    mirror_now(payment_failed_at=at(1))
    receive(told("payment_failed", 1, **given))

    assert current() == {"payment": kept}


def test_time_that_cannot_be_gives_no_order(any_database: str) -> None:
    mirror_now(payment_failed_at=at(1))
    undated = {**told("payment_failed", 1, failure_reason="?"), "created_at": "soon"}
    ahead = now() + timedelta(days=900)
    early = {
        **told("payment_failed", 1, failure_reason=CARD),
        "created_at": ahead.isoformat(),
    }
    # Neither shows the invoice at a time that counts, so it is asked for.
    for one in (undated, early):
        del one["invoice"]["line_items"]
    row = store(undated), store(early)
    events = list(WebhookEvent.objects.filter(pk__in=row))
    keep_reasons(events, skew=processing.SKEW)

    assert current() == {"payment": CARD}
    kept = InvoiceFailureReason.objects.get().failed_at
    assert isinstance(kept, datetime)
    assert kept < now() + timedelta(minutes=6)


def test_statement_is_spent_only_on_invoices_that_stop_failing(
    any_database: str,
) -> None:
    def count(**changes: Any) -> int:
        moment = database_now(primary.alias())
        texts = [RawInvoice.of({**INVOICE, **changes})]
        seen = mirror.read_page(texts, Interval(moment, moment))
        with CaptureQueriesContext(connections[any_database]) as captured:
            mirror.write(seen)
        table = InvoiceFailureReason._meta.db_table
        return sum(table in query["sql"] for query in captured.captured_queries)

    assert count() == 0
    assert count(status="paid") == 0
    assert count(payment_failed_at=at(1)) == 0
    assert count(payment_failed_at=at(1), memo="other") == 0
    assert count(payment_failed_at=at(1), status="paid") == 2


def test_reasons_are_annotated_for_exports(any_database: str) -> None:
    mirror_now(payment_failed_at=at(1))
    receive(told("payment_failed", 1, failure_reason=CARD))

    row: Any = Invoice.objects.with_failure_reasons().get()
    assert row.payment_failure_reason == CARD
    assert row.accounting_sync_failure_reason is None
    mirror_now(status="paid", payment_failed_at=at(1))
    row = Invoice.objects.with_failure_reasons().get()
    assert row.payment_failure_reason is None
