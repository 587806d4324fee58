"""How late a payment is has one answer, wherever it is asked."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone

import pytest
from django.test import Client

from django_orb import services
from django_orb.db import primary
from django_orb.mirror import change_log
from django_orb.models import Invoice, OverdueThreshold, SyncRun
from django_orb.models.invoice_status import days_late, overdue_at
from django_orb.reports import AGES, as_of, read_receivables
from django_orb.reports.ages import age_of
from django_orb.signals import invoice_overdue
from django_orb.sync import overdue
from tests.admin.pages import LIST
from tests.exports.test_exports import read
from tests.factories import make_invoice

BORDERS = (0, 1, 30, 31, 60, 61, 90, 91)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def age_for(days: int) -> str:
    """The span by its title: "31 to 60 days late" has 31 and 60 whole days."""
    if days < 1:
        return "not_due"
    return "30" if days < 31 else "60" if days < 61 else "90" if days < 91 else "older"


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("more", [-SECOND, timedelta(), SECOND])
def test_all_reports_agree_around_a_border(
    any_database: str, border: int, more: timedelta
) -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
    due = now - border * DAY - more
    days = max(border - 1 if more < timedelta() else border, 0)
    make_invoice(due_date=due.isoformat(), amount_due="5.00")
    invoices = Invoice.objects.all()

    assert days_late(due, now) == days
    assert age_of(due, now).name == age_for(days)
    assert [one.name for one in AGES if invoices.filter(one.condition(now))] == [
        age_for(days)
    ]
    (ageing,) = read_receivables(invoices, as_of(now=now))
    assert [
        one.name for one, sum in zip(AGES, ageing.by_age, strict=True) if sum.count
    ] == [age_for(days)]
    assert invoices.overdue(at=now).exists() is (days > 0)
    assert [
        one for one in range(1, 100) if invoices.filter(overdue_at(now, days=one))
    ] == list(range(1, days + 1))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("minutes", [-1, 1])
def test_pages_files_and_reminders_agree_around_a_border(
    any_database: str, finance: Client, border: int, minutes: int
) -> None:
    now = primary.now()
    due = now - border * DAY - timedelta(minutes=minutes)
    days = max(border - 1 if minutes < 0 else border, 0)
    invoice = make_invoice(due_date=due.isoformat(), amount_due="5.00")
    OverdueThreshold.objects.bulk_create(
        OverdueThreshold(days=one, since=now - 300 * DAY) for one in (1, 7, 30)
    )

    assert (invoice.is_overdue, invoice.days_overdue) == (days > 0, days)
    ours = {"overdue": "yes", "age": age_for(days)}
    found = {name: finance.get(LIST, {name: ours[name]}).content for name in ours}
    assert (invoice.pk.encode() in found["overdue"]) is (days > 0)
    assert invoice.pk.encode() in found["age"]
    words = f"{days} day{'s' if days > 1 else ''} overdue"
    assert (words.encode() in found["age"]) is (days > 0)
    assert (b"overdue</span>" in found["age"]) is (days > 0)

    buffer = io.BytesIO()
    services.export_receivables(output=buffer, invoices=True)
    (row,) = read(buffer.getvalue())
    assert row["Days late"] == str(days)

    def receive(**named: object) -> None:
        reminded.append(named["days"])

    reminded: list[object] = []
    invoice_overdue.connect(receive, sender=Invoice)
    try:
        overdue.notice(
            SyncRun.objects.create(kind="full", started_at=now - timedelta(hours=1))
        )
        change_log.announce()
    finally:
        invoice_overdue.disconnect(receive, sender=Invoice)
    assert reminded == [one for one in (30, 7, 1) if one <= days][:1]


@pytest.mark.django_db
def test_a_payment_is_not_late_at_the_end_of_its_due_day() -> None:
    make_invoice(due_date="2026-10-26T00:00:00Z", issued_at="2026-10-01T00:00:00Z")
    now = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)

    def ages(day: str) -> list[str]:
        (ageing,) = read_receivables(Invoice.objects.all(), as_of(day, now=now))
        pairs = zip(AGES, ageing.by_age, strict=True)
        return [one.name for one, amount in pairs if amount.count]

    assert ages("2026-10-26") == ["not_due"]
    assert ages("2026-10-27") == ages("2026-11-24") == ["30"]
