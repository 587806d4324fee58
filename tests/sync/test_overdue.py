"""Invoices that become overdue are told of once for each threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test.utils import CaptureQueriesContext

from django_orb import services
from django_orb.db import primary
from django_orb.mirror import change_log
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceRecheck,
    OverdueNotice,
    OverdueThreshold,
    SyncRun,
    WebhookEvent,
)
from django_orb.signals import invoice_overdue
from django_orb.sync import overdue
from django_orb.testing import OrbSandbox
from tests import crash_points
from tests.factories import make_invoice

Told = list[tuple[str, int]]


@pytest.fixture
def told() -> Iterator[Told]:
    calls: Told = []

    def remind(invoice: Invoice, days: int, **more: Any) -> None:
        calls.append((invoice.pk, days))

    invoice_overdue.connect(remind, sender=Invoice)
    yield calls
    invoice_overdue.disconnect(remind, sender=Invoice)


def late(invoice_id: str, days: float, **changes: Any) -> None:
    due = primary.now() - timedelta(days=days)
    if not Invoice.objects.filter(pk=invoice_id).exists():
        make_invoice(id=invoice_id)
    Invoice.objects.filter(pk=invoice_id).update(due_date=due, **changes)


def watch(**ago: float) -> None:
    """As if the thresholds had been watched for so long."""
    since = primary.now() - timedelta(**ago)
    for days in (1, 7, 30):
        OverdueThreshold.objects.update_or_create(days=days, defaults={"since": since})


def sync(told: Told) -> Told:
    """End a run that succeeded, tell what is to be told, and return it."""
    told.clear()
    run = SyncRun.objects.create(kind="incremental", started_at=primary.now())
    overdue.notice(run)
    change_log.announce()
    return sorted(told)


def test_each_threshold_is_told_once(any_database: str, told: Told) -> None:
    watch(days=40)
    late("a", 0.9)
    assert sync(told) == []
    for days, expected in (
        (1.1, 1),
        (3, None),
        (7, 7),
        (29, None),
        (31, 30),
        (90, None),
    ):
        late("a", days)
        assert sync(told) == ([("a", expected)] if expected else [])
        assert sync(told) == []
    history = InvoiceChange.objects.filter(kind="overdue").order_by("pk")
    assert list(history.values_list("days_overdue", flat=True)) == [1, 7, 30]
    assert all(change.announced_at for change in history)


def test_old_debts_are_not_told_on_the_first_day(any_database: str, told: Told) -> None:
    for number, days in enumerate((2, 10, 100)):
        late(f"old{number}", days)
    assert sync(told) == []  # and is watched from now on
    assert sync(told) == []

    watch(hours=6)
    late("old0", 6.9)
    assert sync(told) == []
    late("old0", 7.1)
    assert sync(told) == [("old0", 7)]


def test_number_that_is_new_in_the_setting_is_watched_from_then_on(
    any_database: str, told: Told, settings: Any
) -> None:
    watch(days=40)
    late("a", 15)
    late("b", 13.9)
    assert sync(told) == [("a", 7), ("b", 7)]
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "OVERDUE_DAYS": [14, 7, 30]}
    assert sync(told) == []
    late("b", 14.01)
    OverdueThreshold.objects.filter(days=14).update(
        since=primary.now() - timedelta(hours=1)
    )
    assert sync(told) == [("b", 14)]
    assert set(OverdueThreshold.objects.values_list("days", flat=True)) == {7, 14, 30}


def test_after_a_time_without_syncs_only_the_highest_is_told(
    any_database: str, told: Told
) -> None:
    watch(days=60)
    late("a", 12)
    late("b", 45)

    assert sync(told) == [("a", 7), ("b", 30)]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "paid"},
        {"status": "void"},
        {"amount_due": 0},
        {"missing_since": datetime(2026, 1, 1, tzinfo=timezone.utc)},
        {"due_date": datetime(2100, 1, 1, tzinfo=timezone.utc)},
    ],
)
def test_what_is_settled_before_it_is_told_is_not(
    any_database: str, told: Told, change: dict[str, Any]
) -> None:
    watch(days=40)
    late("a", 2)
    with pytest.MonkeyPatch.context() as patch:
        # The worker dies after the commit.
        crash_points.dies_after_commit(patch)
        overdue.notice(SyncRun.objects.create(kind="full", started_at=primary.now()))
    Invoice.objects.update(**change)
    change_log.announce()
    assert told == []
    assert not InvoiceChange.objects.filter(announced_at=None).exists()

    # Should it be owed again, that is told.
    late("a", 3, status="issued", amount_due=5, missing_since=None)
    assert sync(told) == [("a", 1)]


def wait_with_event(state: str) -> None:
    WebhookEvent.objects.create(
        id="e", invoice_id="a", state=state, received_at=primary.now()
    )


def wait_to_be_fetched() -> None:
    InvoiceRecheck.objects.create(invoice_id="a", due_at=primary.now())


def wait_for_what_can_be_stored() -> None:
    InvoiceFailure.objects.create(invoice_id="a", failed_at=primary.now())


@pytest.mark.parametrize(
    "wait",
    [
        partial(wait_with_event, "received"),
        partial(wait_with_event, "failed"),
        wait_to_be_fetched,
        wait_for_what_can_be_stored,
    ],
)
@pytest.mark.parametrize("is_recorded", [False, True])
def test_nothing_is_told_while_orb_may_have_shown_something_newer(
    any_database: str, told: Told, wait: Callable[[], None], is_recorded: bool
) -> None:
    """That the invoice was paid, for instance."""
    watch(days=40)
    late("a", 2)
    late("b", 2)
    if is_recorded:
        with pytest.MonkeyPatch.context() as patch:
            crash_points.dies_after_commit(patch)
            run = SyncRun.objects.create(kind="full", started_at=primary.now())
            overdue.notice(run)
    wait()
    assert sync(told) == [("b", 1)]

    WebhookEvent.objects.update(state="processed")
    InvoiceRecheck.objects.all().delete()
    InvoiceFailure.objects.all().delete()
    assert sync(told) == [("a", 1)]


def test_due_date_that_moves_brings_no_second_reminder(
    any_database: str, told: Told
) -> None:
    watch(days=40)
    late("a", 2)
    assert sync(told) == [("a", 1)]
    late("a", -5)
    assert sync(told) == []
    late("a", 2)
    assert sync(told) == []


def test_receiver_that_cannot_do_it_now_is_called_again(
    any_database: str, told: Told
) -> None:
    watch(days=40)
    late("a", 2)
    troubles = [OperationalError("away")]

    def fail(**named: Any) -> None:
        if troubles:
            raise troubles.pop()

    invoice_overdue.connect(fail, sender=Invoice)
    try:
        assert sync(told) == [("a", 1)]
        told.clear()
        change_log.announce()
    finally:
        invoice_overdue.disconnect(fail, sender=Invoice)
    assert told == [("a", 1)]
    assert InvoiceChange.objects.get(kind="overdue").attempts == 2
    assert OverdueNotice.objects.count() == 1


def test_without_receivers_nothing_is_recorded_or_watched(any_database: str) -> None:
    watch(days=40)
    late("a", 2)
    run = SyncRun.objects.create(kind="full", started_at=primary.now())

    assert overdue.notice(run) == 0
    assert not OverdueThreshold.objects.exists()
    assert not InvoiceChange.objects.filter(kind="overdue").exists()


def test_statements_do_not_grow_with_what_is_overdue(
    any_database: str, told: Told
) -> None:
    def count(start: int, many: int) -> int:
        for number in range(start, start + many):
            late(f"late{number}", 2)
        run = SyncRun.objects.create(kind="full", started_at=primary.now())
        with pytest.MonkeyPatch.context() as patch:
            crash_points.dies_after_commit(patch)
            with CaptureQueriesContext(connections[any_database]) as captured:
                assert overdue.notice(run) == many
        return len(captured)

    watch(days=40)
    assert count(0, 1) == count(1, 20)


@pytest.mark.django_db(transaction=True)
def test_scheduled_sync_tells(orb: OrbSandbox, told: Told) -> None:
    """One that lets in an invoice that Orb says is paid tells nothing of it."""
    services.sync_invoices(mode="full")
    watch(days=40)
    first, second = orb.invoice_ids("issued")[:2]
    due = (datetime.now(timezone.utc) - timedelta(days=2)).isoformat()
    for invoice_id in (first, second):
        orb.update_invoice(invoice_id, due_date=due, amount_due="5.00")
    orb.mark_paid(second)
    told.clear()
    services.sync_invoices()

    assert (first, 1) in told
    assert second not in dict(told)
    assert len(told) == len(set(told))
    services.sync_invoices(invoice_ids=[first])
    assert len(told) == len(set(told))
