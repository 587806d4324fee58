"""What was owed, added up."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from django_orb.exceptions import OrbInputError
from django_orb.models import Invoice
from django_orb.parsing import exact_sum
from django_orb.reports import AGES, Amount, as_of, read_receivables
from django_orb.reports.receivables import (
    customers_owing,
    read_by_customer,
    read_customers,
)
from tests.factories import make_invoice

NOW = as_of(now=datetime(2026, 11, 25, 12, tzinfo=timezone.utc))


def owe(name: str, days_late: float | None, amount: str, **changes: str) -> None:
    due = (
        None
        if days_late is None
        else (NOW.moment - timedelta(days=days_late)).isoformat()
    )
    make_invoice(id=name, due_date=due, amount_due=amount, **changes)


def test_units_that_differ_only_in_case_accents_or_spaces_are_not_added_up(
    any_database: str,
) -> None:
    units = ["Credits", "Crédits", "credits", "credits "]
    for number, unit in enumerate(units, 1):
        owe(f"of {number}", 45, str(number), currency=unit)
    invoices = Invoice.objects.all()

    owed = {one.currency: one.all.total for one in read_receivables(invoices, NOW)}
    totals = {
        one["currency"]: one["amount_due"] for one in invoices.totals_by_currency()
    }

    assert owed == totals == dict(zip(units, map(Decimal, range(1, 5)), strict=True))
    assert [*Invoice.objects.filter(currency="credits")] == [
        Invoice.objects.get(pk="of 3")
    ]


def test_receivables_are_those_that_are_open_by_age_and_currency(any_database):
    owe("future", -10, "1.00")
    owe("today", 0.5, "2.00")
    owe("30", 30.9, "4.00")
    owe("31", 31, "8.00")
    owe("61", 61, "16.00")
    owe("91", 91, "32.00")
    owe("undated", None, "64.00")
    owe("yen", 45, "900", currency="JPY")
    owe("nothing", 45, "0.00")
    make_invoice("paid", id="paid", amount_due="7.00")
    make_invoice("void", id="void")
    owe("missing", 45, "128.00")
    Invoice.objects.filter(pk="missing").update(missing_since=NOW.moment)

    dollars, yen = read_receivables(Invoice.objects.all(), NOW)

    assert (dollars.currency, yen.currency) == ("USD", "JPY")
    assert dict(zip((age.name for age in AGES), dollars.by_age, strict=True)) == {
        "not_due": Amount(2, Decimal(3)),
        "30": Amount(1, Decimal(4)),
        "60": Amount(1, Decimal(8)),
        "90": Amount(1, Decimal(16)),
        "older": Amount(1, Decimal(32)),
        "undated": Amount(1, Decimal(64)),
    }
    assert dollars.all == Amount(7, Decimal(127))
    assert yen.by_age[2] == Amount(1, Decimal(900))


def test_sum_of_all_ages_has_all_their_digits(any_database):
    owe("one", 10, "99999999999.000000000000000001")
    owe("two", 40, "99999999999.000000000000000001")

    (dollars,) = read_receivables(Invoice.objects.all(), NOW)

    assert dollars.all.total == exact_sum(one.total for one in dollars.by_age)
    if any_database != "default":  # SQLite keeps 15 digits
        assert dollars.all.total == Decimal("199999999998.000000000000000002")


@pytest.mark.django_db
def test_without_invoices_nothing_is_owed():
    assert read_receivables(Invoice.objects.all(), NOW) == []


def of_customer(name: str, customer: str, days_late: float, amount: str, **more: str):
    owe(name, days_late, amount, **more)
    Invoice.objects.filter(pk=name).update(
        customer_id=customer, external_customer_id=f"crm-{customer}"
    )


def test_customers_are_listed_by_what_they_owe_in_a_currency(any_database):
    of_customer("a1", "a", 10, "5.00")
    of_customer("a2", "a", 100, "6.00")
    of_customer("b1", "b", 10, "12.00")
    of_customer("b2", "b", 10, "900", currency="JPY")
    of_customer("c1", "c", 10, "0.50")
    invoices = Invoice.objects.all()

    rows = customers_owing(invoices, NOW, "USD")
    assert [(row["customer_id"], row["sum"]) for row in rows] == [
        ("b", 12),
        ("a", 11),
        ("c", Decimal("0.5")),
    ]

    first, second = read_customers(invoices, NOW, "USD", rows[:2])
    assert first.customer == ("b", "crm-b")
    assert first.all == Amount(1, Decimal(12))
    assert dict(zip((age.name for age in AGES), second.by_age, strict=True)) == {
        "not_due": Amount(),
        "30": Amount(1, Decimal(5)),
        "60": Amount(),
        "90": Amount(),
        "older": Amount(1, Decimal(6)),
        "undated": Amount(),
    }

    every = [
        (one.currency, one.customer and one.customer.customer_id, one.all.total)
        for one in read_by_customer(invoices, NOW)
    ]
    assert every == [
        ("JPY", "b", 900),
        ("USD", "a", 11),
        ("USD", "b", 12),
        ("USD", "c", Decimal("0.5")),
    ]


@pytest.mark.parametrize(
    "day",
    ["soon", "2026-02-30", "2026-13-01", "20260101", "2026-1-1", 2026, NOW.moment],
)
def test_what_is_not_a_day_is_refused(day):
    with pytest.raises(
        OrbInputError, match=r"is not a day such as 2026-01-31\.$"
    ) as err:
        as_of(day)
    assert err.value.field == "day"


def test_a_day_that_has_not_come_is_refused():
    now = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)

    with pytest.raises(OrbInputError, match="2026-11-26 has not come yet"):
        as_of("2026-11-26", now=now)


def test_a_day_may_be_given_in_several_ways(settings):
    now = datetime(2026, 11, 25, 23, 30, tzinfo=timezone.utc)
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": "Europe/Berlin"}

    assert as_of(now=now).day == as_of("", now=now).day == date(2026, 11, 26)
    assert as_of("2026-11-26", now=now).is_now
    past = as_of(date(2026, 11, 25), now=now)
    assert past == as_of(" 2026-11-25 ", now=now)
    assert not past.is_now
    assert past.moment == datetime(2026, 11, 25, 22, 59, 59, 999999, timezone.utc)


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", date.min])
def test_a_day_before_orb_is_refused(day):
    with pytest.raises(OrbInputError, match=r"is too long ago: choose a day since"):
        as_of(day)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_first_day_has_a_report(any_database, settings, zone):
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": zone}

    assert read_receivables(Invoice.objects.all(), as_of("2000-01-01")) == []
