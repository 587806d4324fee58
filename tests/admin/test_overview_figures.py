from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from django_orb.admin import overview_figures
from django_orb.reports import Amount
from tests.factories import make_invoice

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")


def test_months_are_those_of_the_zone():
    bounds = overview_figures.months(
        datetime(2026, 2, 28, 23, 30, tzinfo=timezone.utc), BERLIN
    )

    assert len(bounds) == 13
    assert bounds[0] == datetime(2025, 4, 1, tzinfo=BERLIN)
    assert bounds[-2:] == [
        datetime(2026, 3, 1, tzinfo=BERLIN),
        datetime(2026, 4, 1, tzinfo=BERLIN),
    ]


def test_days_to_payment_are_averages_by_month_and_currency(any_database):
    def paid(pk: str, issued: str, on: str, **changes: object) -> None:
        make_invoice("paid", id=pk, issued_at=issued, paid_at=on, **changes)

    paid("ten", "2026-10-01T00:00:00Z", "2026-10-11T00:00:00Z", amount_due="1.00")
    paid("thirty", "2026-09-11T00:00:00Z", "2026-10-11T00:00:00Z", amount_due="9.00")
    # The first of November in Berlin.
    paid("late", "2026-10-30T23:00:00Z", "2026-10-31T23:00:00Z", amount_due="5.00")
    paid("free", "2026-10-01T00:00:00Z", "2026-10-31T00:00:00Z", amount_due="0")
    paid("yen", "2026-10-01T00:00:00Z", "2026-10-04T00:00:00Z", currency="JPY")
    paid("early", "2026-10-01T00:00:00Z", "2026-09-04T00:00:00Z", currency="EUR")
    make_invoice("void", id="void")
    bounds = overview_figures.months(NOW, BERLIN)

    found = overview_figures.days_to_payment(bounds)

    assert found["USD"][-3:] == [None, Decimal(20), Decimal(1)]
    assert found["JPY"][-2:] == [Decimal(3), None]
    assert found["EUR"][-3] == 0


def test_turnover_is_by_the_zones_months_and_never_across_currencies(any_database):
    midnight_in_berlin = "2026-09-30T22:00:00+00:00"  # the first of October there
    make_invoice(id="october", invoice_date=midnight_in_berlin, total="10.00")
    make_invoice(id="september", invoice_date="2026-09-30T21:59:00+00:00", total="1.00")
    make_invoice("draft", id="draft", invoice_date=midnight_in_berlin)
    make_invoice("void", id="void", invoice_date=midnight_in_berlin)
    make_invoice(id="old", invoice_date="2025-11-30T00:00:00+00:00")
    make_invoice(id="next", invoice_date="2026-12-01T00:00:00+00:00")
    make_invoice(
        "paid",
        id="paid",
        invoice_date="2026-09-15T00:00:00+00:00",
        paid_at="2026-10-31T23:30:00+00:00",
        total="100.00",
        amount_due="80.00",
        currency="EUR",
    )

    dollars, euros = overview_figures.turnover(overview_figures.months(NOW, BERLIN))

    assert (dollars.currency, euros.currency) == ("USD", "EUR")
    assert dollars.invoiced[-3:] == [
        Amount(1, Decimal(1)),
        Amount(1, Decimal(10)),
        Amount(),
    ]
    assert sum(one.count for one in dollars.invoiced) == 2
    assert dollars.paid == [Amount()] * 12
    assert euros.invoiced[-3] == Amount(1, Decimal(100))
    assert euros.paid[-3:] == [Amount(), Amount(), Amount(1, Decimal(80))]


@pytest.mark.django_db
def test_without_invoices_nothing_was_invoiced():
    assert overview_figures.turnover(overview_figures.months(NOW, BERLIN)) == []
