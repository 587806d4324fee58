from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from django_orb import services
from django_orb.clock import database_now
from django_orb.models import RequestBudget
from django_orb.pacing import READS, Pacer, hold_back, reserve

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox


def test_turns_follow_each_other_whoever_takes_them(
    any_committed_database: str,
) -> None:
    begin = database_now(any_committed_database)

    for _ in range(4):
        reserve(READS, 5, 10, using=any_committed_database)

    reserved = RequestBudget.objects.get().next_at - begin
    assert reserved >= timedelta(seconds=1.99)


def test_budgets_are_apart(any_committed_database: str) -> None:
    reserve("reads", 10_000, 10, using=any_committed_database)

    assert reserve("writes", 1, 10, using=any_committed_database) < 500


def test_held_back_budget_holds_everybody(any_committed_database: str) -> None:
    hold_back(READS, 700, using=any_committed_database)
    hold_back(READS, 2, using=any_committed_database)

    assert 300 < reserve(READS, 1, 10, using=any_committed_database) <= 700


def test_many_processes_together_keep_to_the_rate(any_committed_database: str) -> None:
    """Threads with pacers of their own, as processes have them."""
    sent: list[float] = []

    def keep_sending() -> None:
        pacer = Pacer(READS, 100, using=any_committed_database)
        for _ in range(15):
            pacer.wait()
            sent.append(time.monotonic())
        connections[any_committed_database].close()

    threads = [threading.Thread(target=keep_sending) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sent) == 60
    # 59 turns after the first one's are 0.59 s; whoever was late shortens that.
    assert max(sent) - min(sent) >= 0.4


def test_turns_not_used_in_time_are_given_up(
    any_committed_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_orb.pacing.KEEP_SECONDS", 0.0)
    pacer = Pacer(READS, 1000, using=any_committed_database)
    pacer.top_up()
    first = RequestBudget.objects.get().next_at
    time.sleep(0.02)

    pacer.top_up()

    assert RequestBudget.objects.get().next_at > first


def test_thread_that_only_waits_touches_no_database(
    any_committed_database: str,
) -> None:
    pacer = Pacer(READS, 100, using=any_committed_database)
    pacer.top_up()
    failures: list[Any] = []

    def wait() -> None:
        pacer.wait()
        pacer.wait()
        failures.append(connections[any_committed_database].connection)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()

    assert failures == [None]


def test_too_many_requests_slow_everybody_down(
    any_committed_database: str,
    orb: OrbSandbox,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[float] = []
    monkeypatch.setattr("django_orb.runs.time.sleep", lambda seconds: None)
    monkeypatch.setattr(
        "django_orb.windows.hold_back",
        lambda name, seconds, *, using: held.append(seconds),
    )
    orb.fail_next(1, status=429, headers={"Retry-After": "3"})

    services.sync_invoices()

    assert held == [3]


def test_sync_keeps_to_the_budget(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "READS_PER_SECOND": 20,
        "PAGE_SIZE": 5,
    }
    begin = time.monotonic()

    run = services.sync_invoices(mode="full")

    assert run.requests >= 15
    assert time.monotonic() - begin >= (run.requests - 1) / 20 * 0.95
