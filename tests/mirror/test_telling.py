"""What becomes of a change whose receivers could not do their work."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.models import F

from django_orb import tasks
from django_orb.mirror import change_log
from django_orb.models import Invoice, InvoiceChange, SyncRun
from django_orb.signals import invoice_status_changed, sync_finished
from django_orb.sync import runs
from tests import crash_points, databases, times

from .test_change_log import Connect, connect
from .test_writing import at, make, see

__all__ = ["connect"]  # a fixture

STATUSES = ("draft", "issued", "paid")
Trouble = Callable[[], None]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    times.rule(monkeypatch, sleep=lambda seconds: None)


def users() -> Any:
    return get_user_model().objects.using(databases.current_alias)


def let_time_pass() -> None:
    untold = InvoiceChange.objects.filter(announced_at=None)
    untold.update(next_attempt_at=F("next_attempt_at") - timedelta(hours=2))


def make_changes(*invoice_ids: str) -> None:
    """Change invoices step by step, as workers do that die before they tell it."""
    with pytest.MonkeyPatch.context() as patch:
        crash_points.dies_after_commit(patch)
        for number, status in enumerate(STATUSES):
            for invoice_id in invoice_ids:
                see(make(invoice_id, status=status), at(2 * number, 2 * number + 1))


def write_effect(invoice: Invoice, status: str, change_id: uuid.UUID) -> None:
    users().create(username=f"{invoice.pk} {status} {change_id}")


def effects(invoice_id: str) -> list[str]:
    """The statuses whose effects are in the database, in the order of their writing."""
    names = users().order_by("pk").values_list("username", flat=True)
    return [one.split()[1] for one in names if one.split()[0] == invoice_id]


def announce() -> None:
    try:
        change_log.announce()
    except (SoftTimeLimitExceeded, ValueError):  # or what a receiver made of it
        pass


# Troubles that are not the receiver's own


def lose_connection() -> None:
    connections[databases.current_alias].connection.close()
    users().count()


def lose_connection_and_say_nothing() -> None:
    try:
        lose_connection()
    except Exception:  # noqa: BLE001
        pass


def close_connection() -> None:
    connections[databases.current_alias].close()


def swallow() -> None:
    try:
        with transaction.atomic(using=databases.current_alias, savepoint=False):
            raise OperationalError("server closed the connection unexpectedly")
    except OperationalError:
        pass


def be_in_the_way() -> None:
    error = OperationalError("canceling statement due to lock timeout")
    error.__cause__ = type("LockNotAvailable", (Exception,), {"sqlstate": "55P03"})()
    raise error


def wrap() -> None:
    try:
        be_in_the_way()
    except OperationalError as err:
        raise ValueError("could not grant access") from err


def fail_while_handling() -> None:
    try:
        lose_connection()
    except Exception:  # noqa: BLE001
        raise KeyError("customer")  # noqa: B904


def use_up_the_time() -> None:
    raise SoftTimeLimitExceeded


def wrap_the_end_of_time() -> None:
    try:
        use_up_the_time()
    except SoftTimeLimitExceeded as err:
        raise ValueError("could not grant access") from err


def use_up_the_memory() -> None:
    raise MemoryError


TROUBLES = [
    lose_connection,
    lose_connection_and_say_nothing,
    close_connection,
    swallow,
    wrap,
    fail_while_handling,
    use_up_the_time,
    wrap_the_end_of_time,
    use_up_the_memory,
]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_not_the_receivers_own_failure_is_told_later_and_in_order(
    any_committed_database: str, connect: Connect, trouble: Trouble
) -> None:
    troubles = [trouble]

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        if troubles and invoice.pk == "inv1":
            troubles.pop()()

    connect(invoice_status_changed, receive)
    make_changes("inv1", "inv2")

    announce()
    assert (effects("inv1"), troubles) == ([], [])
    failed = InvoiceChange.objects.exclude(error="").get()
    assert (failed.invoice_id, failed.attempts, failed.announced_at) == (
        "inv1",
        1,
        None,
    )
    if "time" not in trouble.__name__:
        assert effects("inv2") == list(STATUSES)

    tasks.recover()
    assert effects("inv1") == effects("inv2") == list(STATUSES)
    assert not InvoiceChange.objects.exclude(error="").exists()


def test_lock_that_is_not_to_be_had_for_a_moment_is_waited_for(
    any_committed_database: str, connect: Connect
) -> None:
    troubles = [be_in_the_way, be_in_the_way]

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        if troubles:
            troubles.pop()()

    connect(invoice_status_changed, receive)
    make_changes("inv1")
    announce()

    assert effects("inv1") == list(STATUSES)


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_lock_timeout_of_postgresql_is_no_failure_of_the_receiver(
    connect: Connect,
) -> None:
    users().create(username="locked")

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        with connections["postgresql"].cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5ms'")
        users().filter(username="locked").update(first_name=status)

    connect(invoice_status_changed, receive)
    make_changes("inv1")
    other = connections.create_connection("postgresql")
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE auth_user SET last_name = 'x'")
            announce()
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    assert effects("inv1") == []

    tasks.recover()
    assert effects("inv1") == list(STATUSES)


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_slow_receiver_whose_session_is_ended_fails_in_the_end(
    connect: Connect,
) -> None:
    """As under `idle_in_transaction_session_timeout`."""

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        if invoice.pk == "inv1":
            with connections["postgresql"].cursor() as cursor:
                cursor.execute("SET idle_in_transaction_session_timeout = '1ms'")
            threading.Event().wait(0.05)

    connect(invoice_status_changed, receive)
    make_changes("inv1", "inv2")
    for _ in range(change_log.MAX_ATTEMPTS + 2):
        announce()
        let_time_pass()

    assert (effects("inv1"), effects("inv2")) == ([], list(STATUSES))
    first = InvoiceChange.objects.filter(invoice_id="inv1").earliest("pk")
    assert first.attempts == change_log.MAX_ATTEMPTS
    assert first.failed_at is not None


def test_change_that_can_never_be_told_fails_and_is_told_when_asked_for(
    any_committed_database: str, connect: Connect
) -> None:
    called = []

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        if invoice.pk == "inv1":
            called.append(status)
            if is_broken:
                raise MemoryError
        write_effect(invoice, status, change_id)

    is_broken = True
    connect(invoice_status_changed, receive)
    make_changes("inv1", "inv2")
    for _ in range(change_log.MAX_ATTEMPTS + 3):
        tasks.recover()
        let_time_pass()

    assert called == ["draft"] * change_log.MAX_ATTEMPTS
    assert effects("inv2") == list(STATUSES)
    failed = InvoiceChange.objects.get(failed_at__isnull=False)
    assert "MemoryError" in failed.error

    is_broken = False
    tasks.recover()
    assert effects("inv1") == []
    change_log.tell_again([failed.pk])
    tasks.recover()
    assert effects("inv1") == list(STATUSES)
    failed.refresh_from_db()
    assert (failed.failed_at, failed.error) == (None, "")


def test_attempts_wait_longer_each_time(any_committed_database: str) -> None:
    waits = [change_log._wait(number).total_seconds() for number in range(1, 13)]
    assert waits == [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


def test_attempt_that_takes_its_worker_along_is_counted(
    any_committed_database: str, connect: Connect
) -> None:
    """The process is killed inside the receiver, so that nothing is noted."""

    class KilledError(BaseException):
        pass

    called = []
    is_killed = threading.Event()

    def receive(invoice: Any, **more: Any) -> None:
        called.append(invoice.pk)
        if invoice.pk == "inv1":
            is_killed.set()
            raise KilledError

    def is_dead(sql: str, params: Any) -> bool:
        return is_killed.is_set()

    connect(invoice_status_changed, receive)
    make_changes("inv1", "inv2")
    for _ in range(change_log.MAX_ATTEMPTS + 2):
        is_killed.clear()
        with (
            crash_points.dying_at_statement(
                any_committed_database, is_dead, KilledError
            ),
            contextlib.suppress(KilledError),
        ):
            change_log.announce()
        let_time_pass()

    assert called.count("inv1") == change_log.MAX_ATTEMPTS
    assert called.count("inv2") == len(STATUSES)
    assert InvoiceChange.objects.filter(failed_at__isnull=False).count() == 1


def test_leased_change_is_left_to_whoever_tells_it(
    any_committed_database: str, connect: Connect
) -> None:
    called = []

    def receive(status: str, **more: Any) -> None:
        called.append(status)
        if len(called) == 1:
            change_log.announce()

    connect(invoice_status_changed, receive)
    make_changes("inv1")
    announce()

    assert called == list(STATUSES)


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_change_that_another_process_tells_is_not_waited_for(connect: Connect) -> None:
    begun, ended = threading.Event(), threading.Event()
    called: list[str] = []
    waited: list[bool] = []

    def receive(invoice: Invoice, **more: Any) -> None:
        called.append(invoice.pk)
        if invoice.pk == "inv1":
            other.start()
            waited.append(begun.wait(3))
        else:
            begun.set()
            waited.append(ended.wait(3))

    def tell() -> None:
        announce()
        connections.close_all()

    other = threading.Thread(target=tell)
    connect(invoice_status_changed, receive)
    with pytest.MonkeyPatch.context() as patch:
        crash_points.dies_after_commit(patch)
        for invoice_id in ("inv1", "inv2"):
            see(make(invoice_id, status="draft"), at(0, 1))

    announce()
    ended.set()
    other.join()

    assert called == ["inv1", "inv2"]
    assert waited == [True, True]


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_writer_tells_its_change_after_one_that_is_told_again(connect: Connect) -> None:
    called = []

    def write() -> None:
        see(make("inv1", status="issued"), at(2, 3))
        connections.close_all()

    writer = threading.Thread(target=write)

    def receive(status: str, **more: Any) -> None:
        called.append(status)
        if len(called) == 1:
            lose_connection()
        if len(called) == 2:
            writer.start()
            writer.join(0.5)  # it waits for this one to be told

    connect(invoice_status_changed, receive)
    see(make("inv1", status="draft"), at(0, 1))
    let_time_pass()
    announce()
    writer.join()

    assert called == ["draft", "draft", "issued"]


def test_constraint_that_fails_at_the_commit_holds_up_nobody_else(
    any_committed_database: str, connect: Connect
) -> None:
    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        if invoice.pk == "inv1" and is_broken:
            LogEntry.objects.create(
                user_id=987654, object_id="1", object_repr="x", action_flag=1
            )

    is_broken = True
    connect(invoice_status_changed, receive)
    make_changes("inv1", "inv2")
    tasks.recover()

    assert effects("inv2") == list(STATUSES)
    assert effects("inv1") == []
    if connections[any_committed_database].vendor == "mysql":
        return  # its constraints fail at once, and so does the receiver
    assert "IntegrityError" in InvoiceChange.objects.exclude(error="").get().error
    is_broken = False
    tasks.recover()
    assert effects("inv1") == list(STATUSES)


def test_what_a_receiver_does_after_the_commit_makes_nothing_untold(
    any_committed_database: str, connect: Connect
) -> None:
    def fail() -> None:
        raise ConnectionError("the broker is away")

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        transaction.on_commit(fail, using=any_committed_database)

    connect(invoice_status_changed, receive)
    make_changes("inv1")
    tasks.recover()

    assert effects("inv1") == list(STATUSES)
    assert not InvoiceChange.objects.exclude(error="").exists()


def test_own_failure_that_a_receiver_hides_is_its_own(
    any_committed_database: str, connect: Connect
) -> None:
    """As of old: the savepoint is gone, and the receiver is not called again."""
    called = []

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        called.append(status)
        for _ in range(2):
            try:
                write_effect(invoice, status, change_id)
            except IntegrityError:
                pass

    connect(invoice_status_changed, receive)
    make_changes("inv1")
    tasks.recover()
    tasks.recover()

    assert (called, effects("inv1")) == (list(STATUSES), [])


# Time limits are not swallowed


def test_soft_time_limit_in_a_receiver_ends_the_task(
    any_committed_database: str, connect: Connect
) -> None:
    troubles = [use_up_the_time]

    def receive(invoice: Any, status: str, change_id: Any, **more: Any) -> None:
        write_effect(invoice, status, change_id)
        if troubles:
            troubles.pop()()

    connect(invoice_status_changed, receive)
    with pytest.raises(SoftTimeLimitExceeded):
        see(make(), at(0, 1))
    assert Invoice.objects.exists()
    assert effects("inv1") == []

    tasks.recover()
    assert effects("inv1") == ["issued"]


def test_soft_time_limit_at_the_end_of_a_run_ends_the_task(
    any_committed_database: str, connect: Connect
) -> None:
    heard = []

    def run_out(run: SyncRun, **more: Any) -> None:
        raise SoftTimeLimitExceeded

    def listen(run: SyncRun, **more: Any) -> None:
        heard.append(run.state)

    connect(sync_finished, run_out, SyncRun)
    connect(sync_finished, listen, SyncRun)
    run = runs.start_run(SyncRun.Kind.FULL)
    with pytest.raises(SoftTimeLimitExceeded):
        runs.cancel_run(run)

    assert heard == ["cancelled"]
    assert SyncRun.objects.get().state == "cancelled"


# The id


def test_change_has_an_id_that_no_other_database_gives(
    any_committed_database: str, connect: Connect
) -> None:
    given = []
    connect(invoice_status_changed, lambda change_id, **more: given.append(change_id))
    see(make(), at(0, 1))
    before = InvoiceChange.objects.get()
    assert given == [before.change_id]
    assert isinstance(given[0], uuid.UUID)

    # An older backup is restored: the sequence gives the same keys again.
    InvoiceChange.objects.all().delete()
    see(make(status="paid"), at(2, 3))
    InvoiceChange.objects.update(id=before.pk)

    after = InvoiceChange.objects.get()
    assert (after.pk, given[1]) == (before.pk, after.change_id)
    assert given[0] != given[1]


def test_usual_path_costs_one_statement_for_the_attempt(
    any_committed_database: str, connect: Connect, django_assert_num_queries: Any
) -> None:
    connect(invoice_status_changed, lambda **more: None)
    make_changes("inv1", "inv2")
    connection = connections[any_committed_database]
    # Of each: the attempt, begin, the mark, the invoice, two savepoints, commit.
    with django_assert_num_queries(1 + 6 * 7, connection=connection):
        announce()
