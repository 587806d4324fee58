from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from django_orb import retention, tasks
from django_orb.clock import database_now
from django_orb.models import SyncAbsence, SyncRun, SyncWindow, WebhookEvent

State = WebhookEvent.State


def make_event(state: str, received_at: datetime) -> WebhookEvent:
    return WebhookEvent.objects.create(
        id=f"{state} {received_at}",
        type="invoice.issued",
        state=state,
        body="{}",
        received_at=received_at,
    )


def test_only_settled_events_of_old_are_pruned(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "EVENTS_AT_ONCE", 2)
    now = database_now(any_database)
    for state in State.values:
        for hours in range(3):
            make_event(state, now - timedelta(days=2, hours=hours))
    make_event(State.PROCESSED.value, now)

    yesterday = now - timedelta(days=1)
    assert retention.prune_events(before=yesterday, using=any_database) == 6

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
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 2)
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

    before = now - timedelta(days=90)
    assert retention.prune_runs(before=before, using=any_database) == 5

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
