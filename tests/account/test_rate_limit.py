from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_orb import services
from django_orb.account import rate_limit
from django_orb.account.rate_limit import (
    READS,
    WRITES,
    PacedClient,
    Pacer,
    hold_back,
    in_turn,
    reserve,
)
from django_orb.client import OrbClient
from django_orb.db.clock import database_now
from django_orb.models import RequestBudget
from django_orb.sync import side_by_side
from tests import databases, times

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox


def test_turns_follow_each_other_whoever_takes_them(
    any_committed_database: str,
) -> None:
    begin = database_now(any_committed_database)

    for _ in range(4):
        reserve(READS, 5, 10)

    reserved = RequestBudget.objects.get().next_at - begin
    assert reserved >= timedelta(seconds=1.99)


def test_turns_that_are_taken_at_the_same_moment_are_not_the_same(
    any_committed_database: str,
) -> None:
    begin = database_now(any_committed_database)
    reserve(READS, 1, 0.1)
    others: list[float] = []

    def take_one() -> None:
        others.append(reserve(READS, 1, 0.1))
        connections[any_committed_database].close()

    def let_another_in(execute: Any, sql: str, *args: Any) -> Any:
        if sql.startswith("UPDATE") and not others:
            with ThreadPoolExecutor() as executor:
                executor.submit(take_one).result()
        return execute(sql, *args)

    with connections[any_committed_database].execute_wrapper(let_another_in):
        reserve(READS, 1, 0.1)

    assert others
    assert RequestBudget.objects.get().next_at - begin >= timedelta(seconds=30)


def test_budgets_are_apart(any_committed_database: str) -> None:
    reserve("reads", 10_000, 10)

    assert reserve("writes", 1, 10) < 500


def test_held_back_budget_holds_everybody(any_committed_database: str) -> None:
    hold_back(READS, 50)
    hold_back(READS, 2)

    assert 30 < reserve(READS, 1, 10) <= 60


def test_many_processes_together_keep_to_the_rate(any_committed_database: str) -> None:
    """Threads with pacers of their own, as processes have them."""
    sent: list[float] = []

    def keep_sending() -> None:
        pacer = Pacer(READS, 100)
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> times.Clock:
    """The package's time moves only while it waits, and when a test moves it."""
    clock = times.Clock()
    times.rule(
        monkeypatch,
        among=rate_limit.__name__,
        monotonic=clock.monotonic,
        sleep=clock.sleep,
    )
    return clock


def test_no_burst_follows_idleness(
    any_committed_database: str, clock: times.Clock
) -> None:
    pacer = Pacer(READS, 10)
    for _ in range(9):  # so that a block is reserved, and some of it is left
        pacer.wait()
    clock.now += 3600
    RequestBudget.objects.update(next_at=F("next_at") - timedelta(hours=1))

    sent = []
    for _ in range(12):
        pacer.wait()
        sent.append(clock.now)

    assert min(b - a for a, b in itertools.pairwise(sent)) > 0.05
    assert sent[-1] - sent[0] >= 1.05


def test_one_request_after_idleness_takes_one_turn(
    any_committed_database: str, clock: times.Clock
) -> None:
    """Others would wait for turns that it reserved and did not use."""
    pacer = Pacer(READS, 100)
    for _ in range(40):
        pacer.wait()
    clock.now += 3600
    before = RequestBudget.objects.get().next_at + timedelta(seconds=20)
    RequestBudget.objects.update(next_at=before)

    pacer.wait()

    assert RequestBudget.objects.get().next_at - before == timedelta(seconds=0.01)


def test_no_burst_follows_idleness_of_a_thread_that_only_waits(
    any_committed_database: str, clock: times.Clock
) -> None:
    pacer = Pacer(READS, 10)
    for _ in range(4):
        pacer.wait()
    pacer.top_up()
    clock.now += 3600
    sent = []

    def send() -> None:
        for _ in range(4):
            pacer.wait()
            sent.append(clock.now)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()

    assert sent[-1] - sent[0] >= 0.29


def test_thread_that_only_waits_keeps_to_the_turns_that_were_reserved(
    any_committed_database: str, clock: times.Clock
) -> None:
    hold_back(READS, 50)
    pacer = Pacer(READS, 10)
    pacer.top_up()
    begin = clock.now

    thread = threading.Thread(target=pacer.wait)
    thread.start()
    thread.join()

    assert clock.now - begin > 30


def test_thread_that_only_waits_keeps_the_pace_once_no_turn_is_left(
    any_committed_database: str, clock: times.Clock
) -> None:
    pacer = Pacer(READS, 10)
    pacer.top_up()
    begin = clock.now

    with ThreadPoolExecutor(max_workers=1) as executor:
        for _ in range(5):
            executor.submit(pacer.wait).result()

    assert 0.39 <= clock.now - begin <= 0.61


def test_what_other_threads_will_send_is_in_the_budget(
    any_committed_database: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READS_PER_SECOND": 1}
    begin = database_now(any_committed_database)

    with PacedClient.connect() as client, OrbClient("key") as without_budget:
        for paced in (client, client, client, without_budget):
            in_turn(paced, lambda: None, lambda: False)

    assert RequestBudget.objects.get().next_at - begin >= timedelta(seconds=3)


def test_threads_side_by_side_share_the_turns_that_were_reserved_for_them(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READS_PER_SECOND": 10}
    failures: list[Any] = []
    left: list[float] = []

    def ask(client: OrbClient) -> None:
        client.ping()
        left.append(time.monotonic())
        failures.append(connections[any_committed_database].connection)

    with PacedClient.connect(retries=0) as client, ThreadPoolExecutor(6) as executor:
        begin = time.monotonic()
        for _ in range(6):
            executor.submit(in_turn(client, partial(ask, client), lambda: False))
        executor.shutdown()

    assert failures == [None] * 6  # they need no database
    for number, moment in enumerate(sorted(left)):
        assert moment - begin >= 0.1 * number


def test_turn_that_nobody_needs_any_more_is_not_waited_for(
    any_committed_database: str, orb: OrbSandbox, clock: times.Clock
) -> None:
    hold_back(READS, 50)
    begin = clock.now

    with PacedClient.connect() as client:
        send = in_turn(client, client.ping, lambda: clock.now > begin + 3)
        with pytest.raises(CancelledError):
            send()

    assert clock.now < begin + 10
    assert not orb.requests


def test_retry_of_a_thread_waits_for_a_turn_of_its_own(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READS_PER_SECOND": 4}

    with PacedClient.connect() as client:
        send = in_turn(client, lambda: (client.ping(), client.ping()), lambda: False)
        begin = time.monotonic()
        send()

    assert time.monotonic() - begin >= 0.2


def test_a_process_never_takes_more_than_half_a_second_from_the_others(
    any_committed_database: str, clock: times.Clock
) -> None:
    hold_back(READS, 60)  # so that no turn passes meanwhile
    pacer = Pacer(READS, 100)
    taken = [RequestBudget.objects.get().next_at]

    for _ in range(200):
        pacer.wait()
        taken.append(RequestBudget.objects.get().next_at)

    steps = [later - earlier for earlier, later in itertools.pairwise(taken)]
    assert timedelta(seconds=0.3) < max(steps) <= timedelta(seconds=0.5)


def test_database_is_asked_once_for_many_requests(
    any_committed_database: str, clock: times.Clock
) -> None:
    pacer = Pacer(READS, 100)

    with CaptureQueriesContext(connections[any_committed_database]) as queries:
        for _ in range(200):
            pacer.top_up()
            pacer.wait()

    assert len(queries) < 40


def test_idle_budget_gives_no_credit(any_committed_database: str) -> None:
    hour_ago = database_now(any_committed_database) - timedelta(hours=1)
    RequestBudget.objects.create(name=READS, next_at=hour_ago)
    begin = database_now(any_committed_database)

    assert reserve(READS, 20, 10) >= 0
    assert reserve(READS, 1, 10) > 1
    assert RequestBudget.objects.get().next_at >= begin + timedelta(seconds=2.05)


@pytest.mark.parametrize("per_second", [0.5, 20])
def test_clock_that_was_set_back_delays_requests_for_a_moment_only(
    any_committed_database: str, per_second: float
) -> None:
    reserve(READS, 1, per_second)
    RequestBudget.objects.update(next_at=F("next_at") + timedelta(days=1))

    first = reserve(READS, 1, per_second)
    second = reserve(READS, 1, per_second)

    assert first <= max(90, 100 / per_second)
    # One after the other as ever, and the time that passes counts.
    assert second <= max(90, 100 / per_second)
    ahead = RequestBudget.objects.get().next_at - database_now(any_committed_database)
    most = max(90, 100 / per_second) + 1 / per_second
    assert ahead <= timedelta(seconds=most + 1)


def test_reads_inside_a_transaction_take_turns_with_all_others(
    any_committed_database: str,
) -> None:
    using = any_committed_database
    begin = database_now(using)
    pacer = Pacer(READS, 200)

    with transaction.atomic(using=using):
        for _ in range(40):
            pacer.wait()
        transaction.set_rollback(True, using=using)

    if connections[using].vendor == "sqlite":
        # Another process could not have written, and this one kept its distance.
        assert not RequestBudget.objects.exists()
        assert database_now(using) - begin >= timedelta(seconds=39 / 200)
    else:
        reserved = RequestBudget.objects.get().next_at - begin
        assert reserved >= timedelta(seconds=39 / 200)


def test_transactions_together_keep_to_the_rate(any_committed_database: str) -> None:
    """Each view of a site under ATOMIC_REQUESTS has a transaction of its own."""
    using = any_committed_database
    if connections[using].vendor == "sqlite":
        pytest.skip("SQLite's transactions exclude each other")
    sent: list[float] = []

    def view() -> None:
        pacer = Pacer(READS, 100)
        with transaction.atomic(using=using):
            for _ in range(15):
                pacer.wait()
                sent.append(time.monotonic())
        connections[using].close()

    threads = [threading.Thread(target=view) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sent) == 60
    assert max(sent) - min(sent) >= 0.4


def test_held_back_budget_holds_reads_inside_a_transaction(
    any_committed_database: str,
) -> None:
    hold_back(READS, 50)

    with transaction.atomic(using=any_committed_database):
        seconds = reserve(READS, 1, 10)

    assert 30 < seconds <= 50


def test_what_a_transaction_holds_back_stays_so(any_committed_database: str) -> None:
    using = any_committed_database
    if connections[using].vendor == "sqlite":
        pytest.skip("SQLite has a single writer, which is the transaction")

    with transaction.atomic(using=using):
        hold_back(READS, 50)
        transaction.set_rollback(True, using=using)

    assert reserve(READS, 1, 10) > 30


def test_reads_without_autocommit_take_turns_with_all_others(
    any_committed_database: str,
) -> None:
    using = any_committed_database
    if connections[using].vendor == "sqlite":
        pytest.skip("SQLite has a single writer, which is the transaction")
    transaction.set_autocommit(False, using=using)
    try:
        reserve(READS, 1, 10)
        transaction.rollback(using=using)
    finally:
        transaction.set_autocommit(True, using=using)

    assert RequestBudget.objects.exists()


def test_what_a_transaction_holds_back_holds_others_once_it_is_over(
    any_committed_database: str,
) -> None:
    using = any_committed_database

    with transaction.atomic(using=using):
        RequestBudget.objects.create(name="other", next_at=database_now(using))
        hold_back(READS, 50)

    assert reserve(READS, 1, 10) > 30


def test_budget_that_somebody_locked_holds_a_transaction_up_for_a_moment_only(
    any_committed_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = any_committed_database
    if connections[using].vendor == "sqlite":
        pytest.skip("SQLite has no locks of rows")
    monkeypatch.setattr("django_orb.account.rate_limit.CONNECTION_SECONDS", 0.1)
    reserve(READS, 1, 10)
    is_locked, may_end = threading.Event(), threading.Event()
    ends = []

    def lock() -> None:
        with transaction.atomic(using=using):
            RequestBudget.objects.update(next_at=F("next_at"))
            is_locked.set()
            ends.append("told to" if may_end.wait(20) else "by itself")
        connections[using].close()

    thread = threading.Thread(target=lock)
    thread.start()
    is_locked.wait()
    with transaction.atomic(using=using):
        reserve(READS, 1, 10)
    may_end.set()
    thread.join()

    assert ends == ["told to"]


def test_what_a_test_case_holds_back_goes_with_it(any_database: str) -> None:
    """Or the next test would wait."""
    if connections[any_database].vendor == "sqlite":
        pytest.skip("SQLite's database in memory has no second connection")

    hold_back(READS, 50)

    assert is_held_back(any_database)
    with ThreadPoolExecutor() as apart:
        assert not apart.submit(is_held_back_apart, any_database).result()


def is_held_back(using: str) -> bool:
    soon = database_now(using) + timedelta(seconds=20)
    return RequestBudget.objects.using(using).filter(next_at__gt=soon).exists()


def is_held_back_apart(using: str) -> bool:
    """As another process sees it; a test before may have reserved for good."""
    try:
        return is_held_back(using)
    finally:
        connections[using].close()


def test_requests_leave_where_no_connection_is_left_to_reserve_over(
    any_committed_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = any_committed_database
    main = threading.get_ident()
    connect = BaseDatabaseWrapper.connect

    def refuse(self: BaseDatabaseWrapper) -> None:
        if threading.get_ident() != main:
            raise OperationalError("too many connections")
        connect(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", refuse)

    with transaction.atomic(using=using):
        seconds = reserve(READS, 1, 10)

    assert seconds == pytest.approx(0.1, abs=0.05)


def test_turns_not_used_in_time_are_given_up(
    any_committed_database: str, clock: times.Clock
) -> None:
    pacer = Pacer(READS, 1000)
    pacer.top_up()
    first = RequestBudget.objects.get().next_at
    clock.now += 3600

    pacer.top_up()

    assert RequestBudget.objects.get().next_at > first


def test_thread_that_only_waits_touches_no_database(
    any_committed_database: str,
) -> None:
    pacer = Pacer(READS, 100)
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
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = database_now(any_committed_database)
    held: list[timedelta] = []

    def wait(seconds: float) -> None:
        budget = RequestBudget.objects.filter(name=READS)
        held.append(budget.get().next_at - begin)
        budget.update(next_at=begin)

    times.rule(monkeypatch, among=side_by_side.__name__, sleep=wait)
    orb.fail_next(1, status=429, headers={"Retry-After": "300"})

    services.sync_invoices()

    assert held[0] > timedelta(seconds=55)  # a minute is the longest


def test_writes_have_a_budget_of_their_own(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WRITES_PER_SECOND": 0.1}
    begin = database_now(any_committed_database)

    services.void_invoice(orb.invoice_ids("issued")[0])

    ahead = {
        budget.name: budget.next_at - begin for budget in RequestBudget.objects.all()
    }
    assert ahead[WRITES] >= timedelta(seconds=10) > ahead[READS]


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


def test_connection_apart_is_closed_whatever_the_router_says_by_then(
    any_committed_database: str,
) -> None:
    """As when the caller has given up waiting, and does something else."""

    def call() -> Any:
        connection = connections[any_committed_database]
        connection.ensure_connection()
        databases.use_alias(
            "default" if any_committed_database != "default" else "other"
        )
        return connection

    try:
        connection = rate_limit._apart(call)
    finally:
        databases.use_alias(any_committed_database)

    is_in_memory = connection.vendor == "sqlite"  # which only its test may close
    assert is_in_memory or connection.connection is None
