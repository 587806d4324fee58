"""What was owed on a day of the past."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings

from django_orb.models import Invoice, InvoiceChange, InvoiceCreditNote
from django_orb.reports import as_of, read_receivables
from django_orb.reports.owed import owed
from tests.factories import make_invoice, store
from tests.payloads import load

from .pasts import Past

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


def owed_on(day: str, **which: Any) -> dict[str, Decimal]:
    found: Any = owed(Invoice.objects.filter(**which), as_of(day, now=NOW))
    return dict(found.values_list("pk", "owed"))


@pytest.mark.proof
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_look_back_shows_what_was_true_on_each_day(
    any_database: str, seed: int, settings: Settings
) -> None:
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "REPORT_TIME_ZONE": "America/New_York",
    }
    # The clocks go back on the first of November there.
    past = Past(random.Random(seed), first=date(2026, 10, 25))

    past.live(days=14)

    later = past.clock.now() + timedelta(days=30)
    for day, then in past.days.items():
        at = as_of(day, now=later)
        found: Any = owed(Invoice.objects.all(), at)
        assert dict(found.values_list("pk", "owed")) == then.owed, day
        assert read_receivables(Invoice.objects.all(), at) == then.figures, day
    assert sum(len(then.owed) for then in past.days.values()) > 14


def test_an_invoice_is_owed_from_its_issue_to_its_payment(any_database: str) -> None:
    make_invoice(
        "paid",
        id="paid",
        issued_at="2026-03-02T10:00:00+00:00",
        paid_at="2026-03-05T10:00:00+00:00",
        amount_due="70.00",
    )
    make_invoice(
        "void",
        id="void",
        issued_at="2026-03-02T10:00:00+00:00",
        voided_at="2026-03-04T23:59:59+00:00",
        amount_due="30.00",
    )
    make_invoice("draft", id="draft")

    assert owed_on("2026-03-01") == {}
    assert owed_on("2026-03-02") == {"paid": 70, "void": 30}
    assert owed_on("2026-03-03") == {"paid": 70, "void": 30}
    assert owed_on("2026-03-04") == {"paid": 70}
    assert owed_on("2026-03-05") == {}


def test_a_day_ends_in_the_time_zone_of_reports(
    any_database: str, settings: Settings
) -> None:
    make_invoice(
        "paid",
        issued_at="2026-03-02T10:00:00+00:00",
        paid_at="2026-03-05T23:30:00+00:00",
    )
    assert owed_on("2026-03-05") == {}

    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Europe/Berlin"}
    assert len(owed_on("2026-03-05")) == 1


def test_a_credit_note_that_came_later_is_added_back(any_database: str) -> None:
    note = {
        "id": "n1",
        "credit_note_number": "CN-1",
        "reason": "Order change",
        "total": "40.00",
        "type": "adjustment",
        "voided_at": None,
    }
    issued = {
        **load("invoice_issued"),
        "issued_at": "2026-03-02T10:00:00+00:00",
        "amount_due": "100.00",
        "credit_notes": [],
    }
    store(issued)
    refund = {**note, "id": "n2", "type": "refund"}
    store({**issued, "amount_due": "60.00", "credit_notes": [note, refund]})
    notes = InvoiceCreditNote.objects
    assert notes.filter(dated_at=None).count() == 0
    notes.update(dated_at="2026-03-04T10:00:00+00:00")

    assert list(owed_on("2026-03-03").values()) == [100]
    assert list(owed_on("2026-03-04").values()) == [60]

    notes.filter(orb_id="n1").update(voided_at="2026-03-06T10:00:00+00:00")
    Invoice.objects.update(amount_due=100)
    assert list(owed_on("2026-03-03").values()) == [100]
    assert list(owed_on("2026-03-05").values()) == [60]
    assert list(owed_on("2026-03-06").values()) == [100]

    # Without a date it counts from the issue on.
    notes.update(dated_at=None)
    assert list(owed_on("2026-03-03").values()) == [60]


def test_what_was_paid_off_by_a_credit_note_was_owed_before(any_database: str) -> None:
    issued = {
        **load("invoice_issued"),
        "issued_at": "2026-03-02T10:00:00+00:00",
        "amount_due": "0.10",
        "credit_notes": [],
    }
    store(issued)
    parts = [
        {"id": f"n{n}", "total": "0.01", "type": "adjustment", "voided_at": None}
        for n in range(10)
    ]
    store({**issued, "amount_due": "0.00", "credit_notes": parts})

    assert list(owed_on("2026-03-03").values()) == [Decimal("0.1")]
    assert owed_on("2026-11-25") == {}


def test_what_was_handed_over_is_owed_until_then(any_database: str) -> None:
    issued = {**load("invoice_issued"), "issued_at": "2026-03-02T10:00:00+00:00"}
    paid = {"status": "paid", "paid_at": "2026-04-01T10:00:00+00:00"}
    store(issued)
    store({**issued, "status": "synced"})
    InvoiceChange.objects.filter(status="synced").update(
        created_at="2026-03-10T10:00:00+00:00"
    )
    store({**issued, "status": "synced", "memo": "touched"})
    # One that the mirror has never seen issued, and never told of.
    never = {**issued, "id": "never"}
    store({**never, "status": "synced"})
    InvoiceChange.objects.filter(invoice="never").delete()

    for _ in range(2):
        assert set(owed_on("2026-03-09")) == {issued["id"]}
        assert owed_on("2026-03-10") == {}
        assert owed_on("2026-03-20") == {}
        # And the same once they are paid.
        store({**issued, **paid})
        store({**never, **paid})


def test_a_payment_that_was_undone_counts_as_never_made(any_database: str) -> None:
    issued = {**load("invoice_issued"), "issued_at": "2026-03-02T10:00:00+00:00"}
    store({**issued, "status": "paid", "paid_at": "2026-03-05T10:00:00+00:00"})
    assert owed_on("2026-03-06") == {}

    store({**issued, "paid_at": None})
    assert set(owed_on("2026-03-06")) == {issued["id"]}


def test_a_refund_is_dated_by_the_change_of_the_balance(any_database: str) -> None:
    note = {"id": "n1", "total": "5.00", "type": "refund", "voided_at": None}
    entries = [
        {
            "id": f"b{day}",
            "action": action,
            "type": "increment",
            "amount": "5.00",
            "starting_balance": "0.00",
            "ending_balance": "5.00",
            "created_at": f"2026-03-{day:02}T10:00:00+00:00",
            "credit_note": {"id": "n1"},
        }
        for day, action in [(7, "credit_note_applied"), (9, "credit_note_voided")]
    ]
    carried = {"credit_notes": [note], "customer_balance_transactions": entries}
    make_invoice("paid", id="first seen with it", **carried)
    make_invoice("paid", id="seen without it", credit_notes=[])
    make_invoice("paid", id="seen without it", **carried)
    make_invoice("paid", id="not booked", credit_notes=[note])

    dates = dict(InvoiceCreditNote.objects.values_list("invoice", "dated_at"))
    booked = datetime(2026, 3, 7, 10, tzinfo=timezone.utc)
    assert dates == {
        "first seen with it": booked,
        "seen without it": booked,
        "not booked": None,
    }


def test_the_date_of_a_credit_note_stays(any_database: str) -> None:
    note = {"id": "n1", "total": "5.00", "type": "refund", "voided_at": None}
    make_invoice("paid", id="old", credit_notes=[note])
    make_invoice("paid", id="new", credit_notes=[])
    make_invoice("paid", id="new", credit_notes=[note])
    first = dict(InvoiceCreditNote.objects.values_list("invoice", "dated_at"))
    assert first["old"] is None
    assert first["new"] is not None

    other = {**note, "id": "n2"}
    for invoice_id in ("old", "new"):
        make_invoice(
            "paid", id=invoice_id, credit_notes=[{**note, "memo": "changed"}, other]
        )

    again = InvoiceCreditNote.objects.filter(orb_id="n1")
    assert dict(again.values_list("invoice", "dated_at")) == first
    assert not InvoiceCreditNote.objects.filter(orb_id="n2", dated_at=None).exists()
