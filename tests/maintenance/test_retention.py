from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_orb import tasks
from django_orb.conf import OrbSettings, get_settings
from django_orb.db.clock import database_now
from django_orb.maintenance import retention
from django_orb.models import (
    InvoiceChange,
    InvoiceOperation,
    SyncAbsence,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)

State = WebhookEvent.State


def make_event(state: str, received_at: datetime) -> WebhookEvent:
    return WebhookEvent.objects.create(
        id=f"{state} {received_at}",
        type="invoice.issued",
        state=state,
        body="{}",
        received_at=received_at,
    )


def test_only_settled_events_of_old_are_pruned(any_database: str) -> None:
    now = database_now(any_database)
    for state in State.values:
        for hours in range(3):
            make_event(state, now - timedelta(days=2, hours=hours))
    make_event(State.PROCESSED.value, now)

    yesterday = now - timedelta(days=1)
    assert retention.prune_events(before=yesterday) == 6

    left = WebhookEvent.objects.values_list("state", flat=True)
    assert sorted(left) == ["failed"] * 3 + ["processed"] + ["received"] * 3


def test_prune_keeps_events_as_long_as_the_settings_say(
    any_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_RETENTION_DAYS": 3}
    now = database_now(any_database)
    young, _ = (make_event("processed", now - timedelta(age)) for age in (2.9, 3.1))

    tasks.prune()

    assert [*WebhookEvent.objects.all()] == [young]


def test_old_runs_are_pruned_but_the_newest_that_succeeded_of_each_kind(
    any_database: str,
) -> None:
    now = database_now(any_database)

    def ended(kind: str, state: str, days: int) -> int:
        run = SyncRun.objects.create(
            kind=kind,
            state=state,
            active_kind=kind if state == "running" else None,
            started_at=now - timedelta(days=days),
            finished_at=None if state == "running" else now - timedelta(days=days),
        )
        SyncWindow.objects.create(run=run, position=0, kind="list", state="done")
        SyncAbsence.objects.create(
            run=run, invoice_id="inv1", started_at=now, ended_at=now
        )
        return run.pk

    for _ in range(3):
        ended("full", "succeeded", days=400)
    kept = {ended("full", "succeeded", days=300), ended("one", "succeeded", days=99)}
    ended("full", "failed", days=200)
    ended("incremental", "cancelled", days=91)
    kept |= {
        ended("incremental", "running", days=200),
        ended("partial", "failed", days=89),
    }

    SyncRun.objects.bulk_create(  # more than a batch of them
        SyncRun(kind="one", state="failed", started_at=old, finished_at=old)
        for old in [now - timedelta(days=200)] * 100
    )

    before = now - timedelta(days=90)
    assert retention.prune_runs(before=before) == 105

    assert set(SyncRun.objects.values_list("pk", flat=True)) == kept
    assert set(SyncWindow.objects.values_list("run", flat=True)) == kept
    assert set(SyncAbsence.objects.values_list("run", flat=True)) == kept


def test_prune_keeps_runs_as_long_as_the_settings_say(
    any_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "RUN_RETENTION_DAYS": 3}
    now = database_now(any_database)
    young, _ = (
        SyncRun.objects.create(
            kind="full",
            state="failed",
            started_at=now,
            finished_at=now - timedelta(age),
        )
        for age in (2.9, 3.1)
    )

    tasks.prune()

    assert [*SyncRun.objects.all()] == [young]


def test_failed_events_have_a_retention_of_their_own(
    any_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "FAILED_WEBHOOK_RETENTION_DAYS": 50}
    now = database_now(any_database)
    kept = [make_event("failed", now - timedelta(49)).pk]
    for hours in range(5):
        make_event("failed", now - timedelta(days=51, hours=hours))
    held = make_event("failed", now - timedelta(60))
    WebhookEvent.objects.filter(pk=held.pk).update(lease="of a worker")
    kept += [held.pk, make_event("received", now - timedelta(400)).pk]

    tasks.prune()

    assert set(WebhookEvent.objects.values_list("pk", flat=True)) == set(kept)


def change_of(announced_at: datetime | None, created_at: datetime) -> InvoiceChange:
    return InvoiceChange(
        invoice_id="inv1",
        kind="updated",
        status="issued",
        origin="sync",
        created_at=created_at,
        announced_at=announced_at,
    )


def make_change(announced_at: datetime | None, created_at: datetime) -> int:
    change = change_of(announced_at, created_at)
    change.save()
    return change.pk


def test_changes_are_pruned_in_batches_but_never_one_that_waits(
    any_database: str,
) -> None:
    now = database_now(any_database)
    long_ago = now - timedelta(500)
    kept = {make_change(None, long_ago), make_change(now, long_ago)}
    many = [change_of(long_ago, long_ago) for _ in range(2001)]  # two batches and one
    InvoiceChange.objects.bulk_create(many)
    kept.add(make_change(now - timedelta(399), now - timedelta(399)))

    with CaptureQueriesContext(connections[any_database]) as statements:
        tasks.prune()

    assert set(InvoiceChange.objects.values_list("pk", flat=True)) == kept
    deletions = [
        query["sql"]
        for query in statements
        if query["sql"].startswith("DELETE") and "orb_invoicechange" in query["sql"]
    ]
    assert len(deletions) == 3


def test_operations_are_kept_for_ever_unless_the_settings_say_otherwise(
    any_database: str, settings: Any
) -> None:
    now = database_now(any_database)
    old = now - timedelta(100)

    def make(state: str, **values: Any) -> int:
        return InvoiceOperation.objects.create(
            kind="void_invoice",
            state=state,
            invoice_id="inv1",
            idempotency_key=uuid.uuid4().hex,
            created_at=old,
            **values,
        ).pk

    for state in ("refused", "cancelled"):
        make(state, finished_at=old)
    make("succeeded", finished_at=old, mirrored_at=old)
    kept = {
        make("pending"),
        make("needs_attention"),
        make("needs_attention", finished_at=old),
        make("succeeded", finished_at=old),
        make("refused", finished_at=now - timedelta(89)),
    }

    tasks.prune()
    assert InvoiceOperation.objects.count() == 8

    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "OPERATION_RETENTION_DAYS": 90}
    tasks.prune()
    assert set(InvoiceOperation.objects.values_list("pk", flat=True)) == kept


@pytest.mark.parametrize("days", [None, 0])
def test_without_a_number_of_days_everything_is_kept(
    any_database: str, settings: Any, days: int | None
) -> None:
    names = [name for name in vars(OrbSettings) if name.endswith("RETENTION_DAYS")]
    assert len(names) == 5
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, **dict.fromkeys(names, days)}
    now = database_now(any_database)
    old = now - timedelta(4000)
    make_event("processed", old)
    make_event("failed", old)
    make_change(old, old)
    SyncRun.objects.create(kind="full", state="failed", started_at=old, finished_at=old)

    counts = retention.prune(get_settings(), now=now)

    assert set(counts.values()) == {0}
    assert WebhookEvent.objects.count() == 2
    assert InvoiceChange.objects.count() == SyncRun.objects.count() == 1


def test_what_hangs_on_a_run_is_deleted_in_batches_too(any_database: str) -> None:
    old = database_now(any_database) - timedelta(400)
    run = SyncRun.objects.create(
        kind="full", state="failed", started_at=old, finished_at=old
    )
    SyncAbsence.objects.bulk_create(
        SyncAbsence(run=run, invoice_id=f"inv{number}", started_at=old, ended_at=old)
        for number in range(2001)  # two batches and one
    )

    with CaptureQueriesContext(connections[any_database]) as statements:
        tasks.prune()

    assert not SyncRun.objects.exists()
    deletions = [
        query["sql"]
        for query in statements
        if query["sql"].startswith("DELETE") and "orb_syncabsence" in query["sql"]
    ]
    # Three of its own, and what Django asks for on behalf of the run.
    assert len(deletions) == 4


def test_prune_reports_how_many_of_each_it_deleted(
    any_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="django_orb.tasks")
    old = database_now(any_database) - timedelta(4000)
    make_event("processed", old)
    make_event("failed", old)
    make_change(old, old)

    tasks.prune()

    assert [record.getMessage() for record in caplog.records] == [
        "1 webhook events were deleted.",
        "1 failed webhook events were deleted.",
        "1 invoice changes were deleted.",
        "0 operations were deleted.",
        "0 sync runs were deleted.",
    ]
