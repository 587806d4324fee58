from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections, transaction
from django.dispatch import Signal

from django_orb import mirror, services, tasks
from django_orb.mirror import change_log
from django_orb.mirror.change_log import Origin
from django_orb.models import Invoice, InvoiceChange, SyncRun
from django_orb.signals import (
    invoice_created,
    invoice_status_changed,
    invoice_updated,
    sync_finished,
)
from django_orb.testing import OrbSandbox
from tests import crash_points, databases, times

from .test_writing import at, fetch, make, page_of, see

Told = list[tuple[str, dict[str, Any]]]
Connect = Callable[..., None]
SIGNALS = {
    "created": invoice_created,
    "updated": invoice_updated,
    "status": invoice_status_changed,
}


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect receivers for as long as the test lasts."""
    connected: list[tuple[Signal, Any, Any]] = []

    def connect(signal: Signal, receiver: Any, sender: Any = Invoice) -> None:
        signal.connect(receiver, sender=sender, weak=False)
        connected.append((signal, receiver, sender))

    yield connect
    for signal, receiver, sender in connected:
        signal.disconnect(receiver, sender=sender)


@pytest.fixture
def told(connect: Connect) -> Told:
    """What was told, by which signal, in order."""
    heard: Told = []

    def listen_to(name: str) -> Any:
        def listen(signal: Any, sender: Any, **named: Any) -> None:
            heard.append((name, named))

        return listen

    for name, signal in SIGNALS.items():
        connect(signal, listen_to(name))
    return heard


def outline(told: Told) -> list[tuple[str, str, str, str]]:
    return [
        (name, named["invoice"].pk, named["previous_status"], named["status"])
        for name, named in told
    ]


# What is recorded


def test_new_invoice_is_a_change_of_its_own(any_database: str) -> None:
    see(make(), at(0, 1), origin=Origin("webhook", "whk1"))

    change = InvoiceChange.objects.get()
    assert (change.invoice_id, change.kind) == ("inv1", "created")
    assert (change.previous_status, change.status) == ("", "issued")
    assert change.changed_fields == []
    assert (change.origin, change.origin_id) == ("webhook", "whk1")


def test_change_says_what_changed_in_orbs_words(any_database: str) -> None:
    see(make(), at(0, 1))

    see(make(status="paid", memo="Thanks", paid_at="2026-03-05T12:00:00Z"), at(2, 3))

    change = InvoiceChange.objects.latest("pk")
    assert change.kind == "updated"
    assert (change.previous_status, change.status) == ("issued", "paid")
    assert change.changed_fields == ["memo", "paid_at", "status"]


def test_change_within_a_line_or_a_field_without_a_column_is_one(
    any_database: str,
) -> None:
    payload = make()
    see(payload, at(0, 1))
    lines = [{**payload["line_items"][0], "name": "Other"}, *payload["line_items"][1:]]

    see({**payload, "line_items": lines}, at(2, 3))
    see({**payload, "line_items": lines, "of_tomorrow": 1}, at(4, 5))

    recorded = InvoiceChange.objects.filter(kind="updated").order_by("pk")
    assert [one.changed_fields for one in recorded] == [["line_items"], ["of_tomorrow"]]


def test_unchanged_write_is_no_change(any_database: str) -> None:
    payload = make()
    see(payload, at(0, 1))

    see(payload, at(2, 3))
    see({**payload, "invoice_pdf": payload["invoice_pdf"] + "?signed=anew"}, at(4, 5))
    mirror.write_again([payload["id"]])
    assert fetch(payload).updated == ["inv1"]

    assert InvoiceChange.objects.count() == 1


def test_link_that_is_signed_anew_is_not_among_what_changed(any_database: str) -> None:
    payload = make()
    see(payload, at(0, 1))

    link = payload["invoice_pdf"] + "?signed=anew"
    see({**payload, "invoice_pdf": link, "memo": "New"}, at(2, 3))

    assert InvoiceChange.objects.latest("pk").changed_fields == ["memo"]


def test_invoice_that_vanishes_and_comes_back_is_two_changes(any_database: str) -> None:
    see(make(), at(0, 1))
    gone = [mirror.Observation.absent("inv1", at(2, 3))]
    mirror.write(gone)
    mirror.write([mirror.Observation.absent("inv1", at(4, 5))])
    see(make(), at(6, 7))

    recorded = InvoiceChange.objects.filter(kind="updated").order_by("pk")
    assert [one.changed_fields for one in recorded] == [["missing_since"]] * 2


def test_what_is_rolled_back_was_no_change(any_database: str) -> None:
    def refuse(result: mirror.WriteResult) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        see(make(), at(0, 1), also=refuse)

    assert not InvoiceChange.objects.exists()


@pytest.mark.parametrize("orb", [{"invoices": 30}], indirect=True)
def test_first_full_run_is_old_news(any_database: str, orb: OrbSandbox) -> None:
    services.sync_invoices(mode="incremental")
    services.sync_invoices(mode="full")
    assert not InvoiceChange.objects.exists()

    paid, added = orb.invoice_ids("issued")[0], orb.add_invoice()["id"]
    orb.mark_paid(paid)
    run = services.sync_invoices(mode="full")

    recorded = InvoiceChange.objects.values_list("invoice_id", "kind", "status")
    assert set(recorded) == {(paid, "updated", "paid"), (added, "created", "issued")}
    assert set(InvoiceChange.objects.values_list("origin", "origin_id")) == {
        ("sync", str(run.pk))
    }


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
def test_first_full_run_is_news_where_asked_for(
    any_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full", announce=True)

    assert InvoiceChange.objects.count() == len(orb.invoice_ids())


@pytest.mark.parametrize("orb", [{"invoices": 30}], indirect=True)
def test_what_changes_during_the_first_run_is_news(
    any_database: str, orb: OrbSandbox
) -> None:
    services.fetch_invoice(orb.invoice_ids("issued")[0])
    orb.mark_paid(orb.invoice_ids("issued")[0])

    services.sync_invoices(mode="full")

    assert InvoiceChange.objects.latest("pk").status == "paid"


def test_void_is_told_to_come_from_its_operation(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])

    services.void_invoice(invoice)

    change = InvoiceChange.objects.latest("pk")
    assert (change.origin, change.status) == ("operation", "void")


# What is told


def test_receivers_hear_of_each_change_in_order(
    any_committed_database: str, told: Told
) -> None:
    for number, status in enumerate(("issued", "paid", "paid")):
        see(make(status=status), at(2 * number, 2 * number + 1))
    see(make(status="paid", memo="Thanks"), at(10, 11))

    assert outline(told) == [
        ("created", "inv1", "", "issued"),
        ("status", "inv1", "", "issued"),
        ("updated", "inv1", "issued", "paid"),
        ("status", "inv1", "issued", "paid"),
        ("updated", "inv1", "paid", "paid"),
    ]
    assert told[2][1]["changed_fields"] == ["status"]
    assert told[2][1]["change_id"] == told[3][1]["change_id"]
    assert told[2][1]["origin"] == "fetch"
    assert not InvoiceChange.objects.filter(announced_at=None).exists()


def test_nobody_hears_before_the_commit(
    any_committed_database: str, told: Told
) -> None:
    with transaction.atomic(using=any_committed_database):
        see(make(), at(0, 1))
        assert told == []
    assert len(told) == 2

    with transaction.atomic(using=any_committed_database):
        see(make("inv2"), at(0, 1))
        transaction.set_rollback(True, using=any_committed_database)
    assert len(told) == 2


def test_what_happened_while_nobody_listened_is_not_told_later(
    any_committed_database: str, request: pytest.FixtureRequest
) -> None:
    see(make(), at(0, 1))

    told = request.getfixturevalue("told")
    change_log.announce()

    assert told == []


def break_the_database(**named: Any) -> None:
    """As a receiver may: on PostgreSQL no statement works after this one."""
    users = get_user_model().objects.using(databases.current_alias)
    users.create(username="twice")
    users.create(username="twice")


def fail(**named: Any) -> None:
    raise ValueError("a receiver's own trouble")


@pytest.mark.parametrize("trouble", [fail, break_the_database])
def test_receiver_that_raises_stops_nobody_else(
    any_committed_database: str,
    connect: Connect,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    trouble: Any,
) -> None:
    connect(invoice_created, trouble)
    told = request.getfixturevalue("told")

    see(make(), at(0, 1))

    assert outline(told)[0] == ("created", "inv1", "", "issued")
    assert Invoice.objects.exists()
    assert not InvoiceChange.objects.filter(announced_at=None).exists()
    assert "A receiver of a signal failed" in caplog.text
    assert not get_user_model().objects.exists()  # undone alone


def test_receiver_may_be_asynchronous(
    any_committed_database: str, connect: Connect
) -> None:
    heard = []

    async def listen(invoice: Invoice, **named: Any) -> None:
        heard.append(invoice.pk)

    connect(invoice_created, listen)
    see(make(), at(0, 1))

    assert heard == ["inv1"]


def count_status(change_id: uuid.UUID, **named: Any) -> None:
    """What a project does: it writes to the same database."""
    users = get_user_model().objects.using(databases.current_alias)
    users.create(username=f"change {change_id}")


def counted() -> int:
    return get_user_model().objects.count()


def test_worker_that_dies_between_commit_and_call_loses_nothing(
    any_committed_database: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(invoice_status_changed, count_status)
    with monkeypatch.context() as patch:
        crash_points.dies_after_commit(patch)
        see(make(), at(0, 1))
    assert counted() == 0

    tasks.recover()
    assert counted() == 1

    tasks.recover()
    assert counted() == 1


def test_worker_that_dies_within_a_receiver_leaves_it_undone(
    any_committed_database: str, connect: Connect
) -> None:
    deaths = [True]

    def die_once(**named: Any) -> None:
        count_status(**named)
        if deaths.pop() if deaths else False:
            raise KeyboardInterrupt

    connect(invoice_status_changed, die_once)
    with pytest.raises(KeyboardInterrupt):
        see(make(), at(0, 1))
    assert Invoice.objects.exists()
    assert counted() == 0

    tasks.recover()
    assert counted() == 1


def test_trouble_of_the_database_is_left_to_recover(
    any_committed_database: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deadlocks undo the whole transaction, and with it what receivers wrote."""
    times.rule(monkeypatch, sleep=lambda seconds: None)
    deadlocks = [True] * 12

    def count_in_deadlock(**named: Any) -> None:
        count_status(**named)
        if deadlocks:
            deadlocks.pop()
            raise OperationalError("database is locked")

    connect(invoice_status_changed, count_in_deadlock)
    see(make(), at(0, 1))
    assert (counted(), len(deadlocks)) == (0, 2)

    tasks.recover()
    assert (counted(), len(deadlocks)) == (1, 0)


def test_many_announcers_tell_once_and_in_order(
    any_committed_database: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        crash_points.dies_after_commit(patch)
        for number, status in enumerate(("draft", "issued", "paid")):
            for invoice_id in ("inv1", "inv2"):
                see(make(invoice_id, status=status), at(2 * number, 2 * number + 1))
    together = threading.Barrier(4)
    errors: list[Exception] = []

    def announce() -> None:
        try:
            together.wait(10)
            change_log.announce()
        except Exception as err:  # noqa: BLE001
            errors.append(err)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=announce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    for invoice_id in ("inv1", "inv2"):
        statuses = [
            (one[2], one[3])
            for one in outline(told)
            if one[0] == "status" and one[1] == invoice_id
        ]
        assert statuses == [("", "draft"), ("draft", "issued"), ("issued", "paid")]
    if any_committed_database != "default":  # SQLite may undo, and tell again
        assert len({named["change_id"] for _, named in told}) == 6


def test_writers_of_the_same_invoices_are_told_of_in_order(
    any_committed_database: str, told: Told
) -> None:
    statuses = ["draft", "issued", "paid", "void"]
    errors: list[Exception] = []

    def keep_writing(seed: int) -> None:
        choose = random.Random(seed)
        try:
            for number in range(12):
                second = number * 10 + seed
                page = page_of(4, 1, status=choose.choice(statuses))
                seen = mirror.read_page(page, at(second, second))
                mirror.write(seen)
        except Exception as err:  # noqa: BLE001
            errors.append(err)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=keep_writing, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    told_ids: dict[str, list[uuid.UUID]] = {}
    for name, named in told:
        if name != "status":
            told_ids.setdefault(named["invoice"].pk, []).append(named["change_id"])
    for invoice_id, ids in told_ids.items():
        recorded = InvoiceChange.objects.filter(invoice_id=invoice_id).order_by("pk")
        assert list(dict.fromkeys(ids)) == [one.change_id for one in recorded]
        previous = ""
        for one in recorded:
            assert one.previous_status == previous
            previous = one.status
        assert Invoice.objects.get(pk=invoice_id).status == previous


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
def test_end_of_a_run_is_told(
    any_committed_database: str, orb: OrbSandbox, connect: Connect
) -> None:
    heard: list[tuple[int, str]] = []

    def listen(run: SyncRun, **named: Any) -> None:
        heard.append((run.pk, run.state))

    def fail(**named: Any) -> None:
        raise ValueError

    connect(sync_finished, fail, SyncRun)
    connect(sync_finished, listen, SyncRun)
    run = services.sync_invoices()

    assert heard == [(run.pk, "succeeded")]


def test_waiting_changes_are_told_in_batches(
    any_committed_database: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "BATCH", 2)
    with monkeypatch.context() as patch:
        crash_points.dies_after_commit(patch)
        for number in range(5):
            see(make(f"inv{number}"), at(0, 1))

    counts = [change_log.announce() for _ in range(4)]

    assert counts == [2, 2, 1, 0]
    assert [one[1] for one in outline(told)][::2] == [f"inv{n}" for n in range(5)]
