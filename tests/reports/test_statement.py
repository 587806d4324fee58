"""A customer's account over a period."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from django_orb import services
from django_orb.exceptions import OrbInputError
from django_orb.models import Invoice, InvoiceCreditNote
from django_orb.reports import Account, read_statement
from django_orb.reports.statement import MOST, OTHER
from tests.factories import make_invoice

from .pasts import Past, changed_meanwhile

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


def told(since: str, until: str, **which: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Each account as rows of kind, day, amount and balance, the first the opening."""
    invoices = Invoice.objects.filter(**which)
    accounts = read_statement(invoices, since, until, now=NOW).accounts
    for one in accounts:
        last = one.entries[-1].balance if one.entries else one.opening
        assert last == one.closing
    return {
        one.currency: [
            ("opening", one.opening),
            *(
                (
                    entry.kind,
                    entry.moment and entry.moment.day,
                    entry.amount,
                    entry.balance,
                )
                for entry in one.entries
            ),
        ]
        for one in accounts
    }


def when(day: int, month: int = 3) -> str:
    return f"2026-{month:02}-{day:02}T10:00:00+00:00"


def adjust(
    invoice: Invoice, total: str, dated_at: Any, voided_at: Any = None, number: int = 0
) -> None:
    """Give the invoice a credit note; its amount due stays as it is."""
    InvoiceCreditNote.objects.create(
        invoice=invoice,
        orb_id=f"n{number}",
        position=number,
        credit_note_number=f"CN-{number}",
        type="adjustment",
        total=total,
        dated_at=dated_at,
        voided_at=voided_at,
    )


@pytest.mark.proof
@pytest.mark.parametrize("seed", [1, 2])
def test_it_leads_from_what_was_true_before_to_what_was_true_after(
    any_database: str, seed: int
) -> None:
    chance = random.Random(seed)
    past = Past(chance, first=date(2026, 10, 5))
    past.live(days=12)
    later = past.clock.now() + timedelta(days=30)
    days = sorted(past.days)

    def statement(invoices: Any, first: date, last: date) -> Account:
        """The account, after its entries were added up."""
        read = read_statement(invoices, first, last, now=later).accounts
        (account,) = read or [Account("USD", Decimal(0), [], Decimal(0))]
        running = account.opening
        for entry in account.entries:
            assert entry.kind != OTHER, entry
            running += entry.amount
            assert entry.balance == running
        assert running == account.closing
        return account

    told = 0
    for customer in ("alpha", "beta"):
        invoices = Invoice.objects.for_customer(external_customer_id=customer)
        ours = set(invoices.values_list("pk", flat=True))
        balances = [
            sum((owed for pk, owed in past.days[day].owed.items() if pk in ours), 0)
            for day in days
        ]
        # Each day by itself, and a few days together.
        spans = [(one, one) for one in range(1, len(days))]
        spans += [(1, len(days) - 1), (3, 7)]
        for first, last in spans:
            account = statement(invoices, days[first], days[last])
            assert account.opening == balances[first - 1]
            assert account.closing == balances[last]
            told += len(account.entries)
    assert told > 30


def test_an_invoice_comes_and_a_payment_takes_it_away(any_database: str) -> None:
    dates = {"issued_at": when(2), "paid_at": when(5)}
    make_invoice("paid", id="a", amount_due="70.00", **dates)

    assert told("2026-03-01", "2026-03-31") == {
        "USD": [("opening", 0), ("issued", 2, 70, 70), ("paid", 5, -70, 0)]
    }
    assert told("2026-03-03", "2026-03-31") == {
        "USD": [("opening", 70), ("paid", 5, -70, 0)]
    }
    assert told("2026-03-02", "2026-03-04") == {
        "USD": [("opening", 0), ("issued", 2, 70, 70)]
    }
    assert told("2026-03-03", "2026-03-04") == {"USD": [("opening", 70)]}
    assert told("2026-03-06", "2026-03-31") == {}


def test_a_credit_note_lowers_what_is_owed_until_it_is_voided(
    any_database: str,
) -> None:
    invoice = make_invoice(id="a", amount_due="100.00", issued_at=when(2))
    adjust(invoice, "20.00", when(4), when(9))
    adjust(invoice, "20.00", when(6), number=1)
    InvoiceCreditNote.objects.create(
        invoice=invoice,
        orb_id="refund",
        position=2,
        type="refund",
        total="5.00",
        dated_at=when(7),
    )
    # What Orb shows now has the one that counts taken off.
    Invoice.objects.update(amount_due="80.00")

    assert told("2026-03-01", "2026-03-31") == {
        "USD": [
            ("opening", 0),
            ("issued", 2, 100, 100),
            ("credited", 4, -20, 80),
            ("credited", 6, -20, 60),
            ("credit_voided", 9, 20, 80),
        ]
    }
    (account,) = read_statement(
        Invoice.objects.all(), "2026-03-05", "2026-03-31", now=NOW
    ).accounts
    assert account.opening == account.closing == 80
    assert [one.number for one in account.entries] == ["CN-1", "CN-0"]


@pytest.mark.parametrize("status", ["paid", "void"])
@pytest.mark.parametrize("dated", [5, 12])
def test_what_happens_to_a_credit_note_after_the_end_changes_nothing(
    any_database: str, status: str, dated: int
) -> None:
    """It was first seen after the end, or it is voided then; the amount is frozen."""
    ended = {"paid": "paid_at", "void": "voided_at"}[status]
    dates = {"issued_at": when(2), ended: when(10)}
    invoice = make_invoice("issued", id="a", status=status, amount_due="70.00", **dates)
    adjust(invoice, "30.00", when(dated), when(15))
    credited = min(dated, 10)
    kind = {"paid": "paid", "void": "voided"}[status]

    assert told("2026-03-01", "2026-03-31") == {
        "USD": [
            ("opening", 0),
            ("issued", 2, 100, 100),
            ("credited", credited, -30, 70),
            (kind, 10, -70, 0),
        ]
    }
    owed = 70 if dated < 7 else 100
    assert told("2026-03-08", "2026-03-09") == {"USD": [("opening", owed)]}


def test_a_credit_note_that_is_voided_in_time_counts_again(any_database: str) -> None:
    dates = {"issued_at": when(2), "paid_at": when(10)}
    invoice = make_invoice("paid", id="a", amount_due="100.00", **dates)
    adjust(invoice, "30.00", when(5), when(8))

    assert told("2026-03-01", "2026-03-31") == {
        "USD": [
            ("opening", 0),
            ("issued", 2, 100, 100),
            ("credited", 5, -30, 70),
            ("credit_voided", 8, 30, 100),
            ("paid", 10, -100, 0),
        ]
    }


def test_a_statement_may_begin_on_the_first_day_of_all(any_database: str) -> None:
    make_invoice(id="a", amount_due="1.00", issued_at=when(2))

    assert told("2000-01-01", "2026-03-31")["USD"][-1] == ("issued", 2, 1, 1)


def test_currencies_are_never_added_up(any_database: str) -> None:
    make_invoice(id="a", amount_due="1.00", issued_at=when(2))
    make_invoice(id="b", amount_due="700", currency="JPY", issued_at=when(3))

    assert told("2026-03-01", "2026-03-31") == {
        "JPY": [("opening", 0), ("issued", 3, 700, 700)],
        "USD": [("opening", 0), ("issued", 2, 1, 1)],
    }


def test_service_reads_the_account_of_one_customer(any_database: str) -> None:
    make_invoice(id="a", amount_due="1.00", customer={"id": "ours"}, issued_at=when(2))
    make_invoice(id="b", amount_due="700", customer={"id": "theirs"}, issued_at=when(3))

    (account,) = services.customer_statement(
        "ours", "2026-03-01", "2026-03-31"
    ).accounts

    assert account.opening == 0
    assert account.closing == 1
    assert [entry.kind for entry in account.entries] == ["issued"]


def test_what_the_dates_do_not_explain_is_an_entry_of_its_own(
    any_database: str,
) -> None:
    # A status that Orb adds is not owed, whatever it is.
    make_invoice(id="a", status="written_off", amount_due="5.00", issued_at=when(3))
    # The clock that dated its credit note is ahead.
    credited = make_invoice(id="b", amount_due="9.00", issued_at=when(1))
    adjust(credited, "2.00", NOW + timedelta(hours=1))

    assert told("2026-03-02", "2026-11-25") == {
        "USD": [
            ("opening", 11),
            ("issued", 3, 5, 16),
            ("other", None, -5, 11),
            ("other", None, -2, 9),
        ]
    }


def test_what_is_always_there_has_no_entry(any_database: str) -> None:
    make_invoice(id="a", amount_due="9.00", issued_at=None)
    make_invoice("paid", id="b", amount_due="5.00", issued_at=when(3), paid_at=None)

    assert told("2026-03-01", "2026-03-31") == {"USD": [("opening", 9)]}


def test_an_invoice_without_anything_to_pay_is_listed(any_database: str) -> None:
    make_invoice("paid", amount_due="0.00", issued_at=when(3), paid_at=when(3))

    assert told("2026-03-01", "2026-03-31") == {
        "USD": [("opening", 0), ("issued", 3, 0, 0)]
    }


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("2026-03-02", "2026-03-01", "begins on 2026-03-02, after its end"),
        ("2026-03-02", "2027-01-01", "has not come yet"),
        ("1999-01-01", "2026-01-01", "too long ago"),
        ("soon", "2026-01-01", "soon"),
        ("2026-02-30", "2026-03-01", "2026-02-30"),
    ],
)
def test_a_period_that_cannot_be_is_refused(
    db: Any, since: str, until: str, words: str
) -> None:
    with pytest.raises(OrbInputError, match=words):
        read_statement(Invoice.objects.all(), since, until, now=NOW)


def test_too_many_invoices_are_refused(db: Any) -> None:
    one = make_invoice(id="a", issued_at=when(2))
    one.payload = {}
    rows = []
    for number in range(MOST):
        one.pk = f"o{number}"
        rows.append(
            Invoice(
                **{
                    f.attname: getattr(one, f.attname)
                    for f in one._meta.concrete_fields
                }
            )
        )
    Invoice.objects.bulk_create(rows, batch_size=500)

    with pytest.raises(OrbInputError, match=r"More than 1,000 invoices"):
        told("2026-03-01", "2026-03-31")
    assert told("2026-03-03", "2026-03-31")["USD"][0][1] > 0


def test_it_takes_seven_queries(
    any_database: str, django_assert_num_queries: Any
) -> None:
    for number in range(20):
        make_invoice("paid", id=f"i{number}", issued_at=when(2), paid_at=when(5))

    with django_assert_num_queries(7, using=any_database):
        told("2026-03-01", "2026-03-31")


def test_it_sees_one_instant(any_committed_database: str) -> None:
    make_invoice(id="a", amount_due="9.00", issued_at=when(2))

    with changed_meanwhile(any_committed_database, status="paid", paid_at=when(5)):
        account = told("2026-03-01", "2026-03-31")

    assert account == {"USD": [("opening", 0), ("issued", 2, 9, 9)]}
