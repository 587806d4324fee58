"""The database's clock: in any time zone, and after it was set back."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections
from django.db.models import F

from django_orb import maintenance, services
from django_orb.db import primary
from django_orb.db.clock import DatabaseClock, database_epoch, database_now, epoch_sql
from django_orb.mirror import fetching
from django_orb.models import (
    InvoiceOperation,
    InvoiceRecheck,
    SyncRun,
    SyncWindow,
    WebhookEvent,
    WebhookFeed,
)
from django_orb.operations import confirmation, recovery
from django_orb.sync import runs
from django_orb.testing import OrbSandbox
from django_orb.webhooks import attempts, inbox, polling
from django_orb.webhooks.payload import parse_event
from tests.conftest import skip_or_fail
from tests.deliveries import as_bytes, event

HOUR = 3600


@contextmanager
def zone_that_changes_at(moment: int) -> Iterator[str]:
    """A time zone of the server's whose summer ends then, an hour ahead before."""
    name = f"django_orb/{uuid.uuid4().hex}"
    with connections["mariadb"].cursor() as cursor:
        try:
            cursor.execute(
                "INSERT INTO mysql.time_zone (Use_leap_seconds) VALUES ('N')"
            )
        except DatabaseError as err:
            skip_or_fail("a MariaDB whose zones may be added to", str(err))
        zone = cursor.lastrowid
        try:
            cursor.execute(
                "INSERT INTO mysql.time_zone_name VALUES (%s, %s)", [name, zone]
            )
            cursor.execute(
                "INSERT INTO mysql.time_zone_transition_type VALUES "
                "(%s, 0, 3600, 1, 'S'), (%s, 1, 0, 0, 'W')",
                [zone, zone],
            )
            cursor.execute(
                "INSERT INTO mysql.time_zone_transition VALUES (%s, 0, 0), (%s, %s, 1)",
                [zone, zone, moment],
            )
            yield name
        finally:
            for end in ("", "_name", "_transition", "_transition_type"):
                cursor.execute(
                    f"DELETE FROM mysql.time_zone{end} WHERE Time_zone_id = %s", [zone]
                )


@contextmanager
def session_in(zone: str) -> Iterator[Any]:
    with connections["mariadb"].cursor() as cursor:
        cursor.execute("SET time_zone = %s", [zone])
        try:
            yield cursor
        finally:
            cursor.execute("SET time_zone = DEFAULT")


def is_now(epoch: float, before: float) -> bool:
    return before - 0.01 <= epoch <= time.time() + 0.01


mariadb = pytest.mark.django_db(databases=["mariadb"], transaction=True)


@pytest.fixture
def _mariadb(request: pytest.FixtureRequest) -> None:
    if "mariadb" not in connections.settings:
        skip_or_fail("mariadb", "see above")


@pytest.mark.usefixtures("_mariadb")
@mariadb
@pytest.mark.parametrize("seconds", [-1800, 1800], ids=["after", "before"])
def test_hour_that_a_zone_has_twice_is_told_apart(seconds: int) -> None:
    with zone_that_changes_at(int(time.time()) + seconds) as zone, session_in(zone):
        before = time.time()
        assert is_now(database_epoch(connections["mariadb"]), before)


@pytest.mark.usefixtures("_mariadb")
@mariadb
@pytest.mark.parametrize("zone", ["+00:00", "-09:30", "+12:45"])
def test_clock_is_that_of_utc_in_any_zone(zone: str) -> None:
    with session_in(zone):
        before = time.time()
        assert is_now(database_epoch(connections["mariadb"]), before)


def test_clock_tells_the_instant_and_not_when_the_statement_began(
    any_committed_database: str,
) -> None:
    connection = connections[any_committed_database]
    sleep = {"postgresql": "pg_sleep(0.3)", "mysql": "sleep(0.3)"}
    if connection.vendor not in sleep:
        pytest.skip("SQLite's clock is this process's")
    with connection.cursor() as cursor:
        before = time.time()
        # The inner query ends first.
        cursor.execute(
            f"SELECT {epoch_sql(connection.vendor)} "
            f"FROM (SELECT {sleep[connection.vendor]} AS nap LIMIT 1) AS first"
        )
        epoch = float(cursor.fetchone()[0])

    assert before + 0.29 <= epoch <= time.time() + 0.01


def set_back(model: Any, *names: str, hours: float = 48) -> None:
    """Move what was noted ahead, as if the clock had been set back since."""
    later = {name: F(name) + timedelta(hours=hours) for name in names}
    model.objects.update(**later)


def test_window_waits_for_no_time_of_a_clock_that_was_set_back(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    using = any_committed_database
    run = runs.start_run("incremental")
    now = database_now(using)
    SyncWindow.objects.filter(state=SyncWindow.State.PENDING).update(
        not_before=now + timedelta(seconds=30),
        lease="dead",
        lease_expires_at=now + timedelta(seconds=100),
    )
    assert runs.due_windows() == []

    set_back(SyncWindow, "not_before", "lease_expires_at")

    assert runs.due_windows() != []
    assert services.sync_invoices() == run
    run.refresh_from_db(using=using)
    assert run.state == SyncRun.State.SUCCEEDED


@pytest.mark.parametrize("tried", [0, 3])
def test_event_waits_for_no_time_of_a_clock_that_was_set_back(
    any_committed_database: str, tried: int
) -> None:
    body = as_bytes(event())
    inbox.store(parse_event(body), body.decode())
    [taken] = attempts.take(parse_event(body).id)
    WebhookEvent.objects.update(attempts=tried)
    assert attempts.due_events() == []

    set_back(WebhookEvent, "next_attempt_at", "lease_expires_at")

    assert attempts.due_events() == [taken.pk]
    assert attempts.due_events() == []
    assert [one.pk for one in attempts.take(taken.pk)] == [taken.pk]


def test_first_attempt_waits_for_minutes_at_most(any_committed_database: str) -> None:
    body = as_bytes(event())
    inbox.store(parse_event(body), body.decode())

    set_back(WebhookEvent, "next_attempt_at", hours=0.5)

    assert attempts.due_events()


def pending(using: str, **columns: Any) -> InvoiceOperation:
    now = database_now(using)
    values = {
        "kind": InvoiceOperation.Kind.VOID,
        "invoice_id": "inv1",
        "idempotency_key": uuid.uuid4().hex,
        "created_at": now,
        "first_sent_at": now,
        "lease_expires_at": now + timedelta(minutes=5),
    }
    return InvoiceOperation.objects.create(**{**values, **columns})


def test_operation_waits_for_no_time_of_a_clock_that_was_set_back(
    any_committed_database: str,
) -> None:
    pending(any_committed_database)
    assert not recovery.stuck_operations().exists()

    set_back(InvoiceOperation, "lease_expires_at", "first_sent_at")

    assert recovery.stuck_operations().exists()


def test_operation_sent_at_a_time_to_come_is_looked_at_and_not_sent(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """Nothing tells how old its key is."""
    using = any_committed_database
    pending(using, invoice_id=orb.invoice_ids("issued")[0])
    set_back(InvoiceOperation, "lease_expires_at", "first_sent_at")
    orb.clear_requests()

    maintenance.finish_operations()

    assert not orb.request_counts()["void_invoice"]
    found = InvoiceOperation.objects.get()
    assert found.state == InvoiceOperation.State.NEEDS_ATTENTION


def test_what_was_done_is_read_back_also_after_the_clock_was_set_back(
    any_committed_database: str,
) -> None:
    using = any_committed_database
    pending(using, state="succeeded", finished_at=database_now(using))
    assert not confirmation.unmirrored_operations().exists()

    set_back(InvoiceOperation, "finished_at")

    assert confirmation.unmirrored_operations().exists()


def test_events_of_the_time_that_comes_again_are_read(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    """A clock that was days ahead has left the feed's position there."""
    services.sync_invoices(mode="full")
    services.sync_invoices()
    set_back(WebhookFeed, "read_until", "asked_at")

    services.sync_invoices()

    now = primary.now()
    assert WebhookFeed.objects.get().read_until <= now


def test_recheck_waits_for_no_time_of_a_clock_that_was_set_back(
    any_committed_database: str,
) -> None:
    due_at = database_now(any_committed_database) + timedelta(minutes=1)
    InvoiceRecheck.objects.create(pk="inv1", due_at=due_at)
    assert not fetching.due_rechecks().exists()

    set_back(InvoiceRecheck, "due_at")

    assert fetching.due_rechecks().exists()


def test_sweep_of_a_time_to_come_is_not_recent(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "SWEEP_MINUTES": 60}
    services.sync_invoices()
    WebhookFeed.objects.update(newest_at=database_now(any_committed_database))
    assert not polling.plan(sweep=False).sweeps

    set_back(SyncRun, "started_at")

    assert polling.plan(sweep=False).sweeps


def test_list_of_events_is_asked_for_again_although_the_clock_was_set_back(
    any_committed_database: str,
) -> None:
    now = database_now(any_committed_database)
    WebhookFeed.objects.create(
        pk=1, is_offered=False, read_until=now, asked_at=now, newest_at=None
    )
    assert not polling.plan(sweep=True).events

    set_back(WebhookFeed, "asked_at")

    assert polling.plan(sweep=True).events


class EpochThatIsReadTogether(float):
    """A time that is compared only once all threads do so, or have waited in vain."""

    together: threading.Barrier

    def __ge__(self, other: float) -> bool:
        with suppress(threading.BrokenBarrierError):
            self.together.wait(timeout=0.5)
        return super().__ge__(other)


def test_no_thread_replaces_the_era_that_another_has_noted() -> None:
    together = threading.Barrier(2)
    EpochThatIsReadTogether.together = together
    clock = DatabaseClock("default")
    clock.compare(0.0, 1_000.0, 0.1)
    threads = [
        threading.Thread(
            target=clock.compare, args=(1.0, EpochThatIsReadTogether(epoch), 1.1)
        )
        for epoch in (5_000.0, 9_000.0)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [era.number for era in clock.eras] == [1, 2, 3]
    # The instant may lie in either of the new eras.
    interval = clock.interval(1.05, 1.05)
    assert (interval.ended_at - interval.started_at).total_seconds() > 3_900
