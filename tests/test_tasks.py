from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import before_task_publish
from django.core.management import call_command
from kombu import Connection

from django_orb import operations, services, tasks
from django_orb.db.clock import database_now
from django_orb.exceptions import OrbOutcomeUnknownError
from django_orb.models import Invoice, InvoiceOperation, SyncRun, SyncWindow
from django_orb.operations.ledger import Request
from django_orb.publishing import publish
from django_orb.sync import steps, windows
from django_orb.testing import OrbSandbox
from tests import brokers, times

from .sync.test_runs import assert_mirrors
from .workers import Workers, wait_for

RUN_SECONDS = 120
# So that the long form gets to a second run, in which Orb changes.
MOST_KILLS_IN_A_RUN = 20


@pytest.fixture(params=["rabbitmq", "redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def make_workers(
    process_environment: Callable[[], dict[str, str]], tmp_path: Path
) -> Iterator[Callable[..., Workers]]:
    made: list[Workers] = []

    def make(broker_url: str, **environment: str) -> Workers:
        workers = Workers(
            broker_url,
            {**process_environment(), **environment},
            tmp_path / f"worker{len(made)}.log",
        )
        made.append(workers)
        return workers

    yield make
    for workers in made:
        workers.stop()


@pytest.fixture(params=["celery", "django"])
def sent(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> list[brokers.Message]:
    """What is handed to Celery, or to a backend of Django's tasks."""
    if request.param == "celery":
        return brokers.catch_messages(monkeypatch)
    messages: list[brokers.Message] = []
    brokers.use_django_tasks(settings, "CatchingBackend", messages=messages)
    return messages


def send(workers: Workers, task: Any, **options: Any) -> None:
    with Connection(workers.broker_url) as connection:
        task.apply_async(connection=connection, queue=workers.queue, **options)


def all_finished() -> bool:
    return not SyncRun.objects.filter(state=SyncRun.State.RUNNING).exists()


@pytest.mark.proof
@pytest.mark.parametrize("orb", [{"invoices": 300}], indirect=True)
def test_workers_share_a_full_run_over_a_real_broker(
    any_committed_database: str,
    broker_url: str,
    orb: OrbSandbox,
    make_workers: Callable[..., Workers],
) -> None:
    workers = make_workers(broker_url, DJANGO_ORB_TEST_PAGE_SIZE="20")
    workers.start()

    send(workers, tasks.sync_invoices, kwargs={"mode": "full"})

    done = wait_for(
        lambda: SyncRun.objects.exists() and all_finished(), seconds=RUN_SECONDS
    )
    assert done, workers.log_text()
    run = SyncRun.objects.get()
    assert (run.state, run.error) == (SyncRun.State.SUCCEEDED, "")
    assert (run.created, run.unchanged) == (len(orb.invoice_ids()), 0)
    assert_mirrors(orb)


def test_start_sends_one_message_for_each_window(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    run_id = tasks.sync_invoices("full")

    windows = SyncWindow.objects.filter(run_id=run_id, kind="list")
    assert sorted(sent) == sorted(
        ("sync_page", (window.pk, window.lease)) for window in windows
    )


def test_second_start_joins_silently(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    first = tasks.sync_invoices()
    sent.clear()

    assert tasks.sync_invoices() == first
    assert sent == []


def test_messages_alone_carry_a_run_to_its_end(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    tasks.sync_invoices()

    while sent:
        name, args = sent.pop(0)
        assert name == "sync_page"
        tasks.sync_page(*args)

    assert SyncRun.objects.get().state == SyncRun.State.SUCCEEDED
    assert Invoice.objects.unsettled().count() == len(
        orb.invoice_ids("draft") + orb.invoice_ids("issued")
    )


def test_repeated_and_stale_messages_do_nothing(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    tasks.sync_invoices()
    messages = list(sent)
    for _, args in messages:
        tasks.sync_page(*args)
    asked = len(orb.requests)
    sent.clear()

    for _, args in messages:
        tasks.sync_page(*args)

    assert len(orb.requests) == asked
    assert sent == []


def test_turn_that_is_over_hands_the_window_on(
    any_committed_database: str,
    orb: OrbSandbox,
    sent: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5}
    tasks.sync_invoices()
    times.hurry(monkeypatch, windows)
    first = sent.pop(0)

    tasks.sync_page(*first[1])

    assert sent[-1] == first
    assert Invoice.objects.count() == 5


def test_time_limit_while_the_broker_hangs_ends_the_task(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        brokers.refuse_messages(patch, SoftTimeLimitExceeded())
        with pytest.raises(SoftTimeLimitExceeded):
            tasks.sync_invoices()

    sent = brokers.catch_messages(monkeypatch)
    SyncWindow.objects.update(lease_expires_at=None)
    tasks.recover()
    assert len(sent) == SyncWindow.objects.filter(state="pending").count()


def test_broker_that_is_away_loses_nothing(
    any_committed_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        brokers.refuse_messages(patch)
        tasks.sync_invoices()
    assert "The broker took no message" in caplog.text

    sent = brokers.catch_messages(monkeypatch)
    tasks.recover()
    assert len(sent) == SyncWindow.objects.filter(state="pending").count()


def test_recover_takes_up_windows_whose_worker_went_silent(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    tasks.sync_invoices()
    stale = list(sent)
    sent.clear()
    tasks.recover()
    assert sent == []

    SyncWindow.objects.update(
        lease_expires_at=database_now(any_committed_database) - timedelta(seconds=1)
    )
    tasks.recover()

    assert len(sent) == len(stale)
    assert not set(sent) & set(stale)


def test_recover_finishes_a_run_whose_last_worker_died(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    tasks.sync_invoices()
    SyncWindow.objects.update(state=SyncWindow.State.DONE)

    tasks.recover()

    assert SyncRun.objects.get().state == SyncRun.State.SUCCEEDED


@pytest.mark.parametrize("key", ["another-key", ""])
def test_key_that_is_not_the_accounts_ends_the_run_in_words(
    any_committed_database: str,
    orb: OrbSandbox,
    sent: list[Any],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    monkeypatch.delenv("ORB_API_KEY", raising=False)
    services.sync_invoices(mode="full")
    tasks.sync_invoices()
    with OrbSandbox(invoices=20, seed=9, api_key="another-key") as other:
        orb_settings = {"API_KEY": key, "BASE_URL": other.base_url}
        settings.DJANGO_ORB = {**settings.DJANGO_ORB, **orb_settings}
        for _, args in list(sent):
            tasks.sync_page(*args)

    run = SyncRun.objects.get(kind="incremental")
    assert run.state == SyncRun.State.FAILED
    assert ("another Orb account" if key else "no API key") in run.error
    tasks.recover()


def test_recover_settles_operations_and_refreshes_their_invoices(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    issued = orb.invoice_ids("issued")[0]
    orb.cut_next(3, when="after", route="void_invoice")
    with pytest.raises(OrbOutcomeUnknownError):
        services.void_invoice(issued)
    InvoiceOperation.objects.update(
        lease_expires_at=database_now(any_committed_database) - timedelta(seconds=1)
    )

    tasks.recover()

    assert InvoiceOperation.objects.get().state == "succeeded"
    assert sent == []
    assert Invoice.objects.get().status == "void"


def test_tasks_go_to_the_queue_that_was_chosen(
    any_database: str, settings: Any
) -> None:
    queues: list[str] = []
    due: list[bool] = []

    def note(routing_key: str, headers: dict[str, Any], **named: Any) -> None:
        queues.append(routing_key)
        due.append(headers["eta"] is None)

    before_task_publish.connect(note)
    try:
        publish(tasks.sync_page, 1, "lease")
        settings.DJANGO_ORB = {**settings.DJANGO_ORB, "CELERY_QUEUE": "billing"}
        publish(tasks.sync_page, 1, "lease", seconds=3)
    finally:
        before_task_publish.disconnect(note)

    assert queues == ["celery", "billing"]
    assert due == [True, False]


@pytest.mark.parametrize(
    ("orb", "kills", "seed"),
    [
        pytest.param({"invoices": 2_000, "latency_ms": 40}, 3, 1, id="short"),
        *(
            pytest.param(
                {"invoices": 20_000, "latency_ms": 40},
                50,
                seed,
                id=f"full {seed}",
                marks=pytest.mark.long,
            )
            for seed in range(1, 5)
        ),
    ],
    indirect=["orb"],
)
@pytest.mark.proof
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_killed_workers_lose_nothing_and_double_nothing(
    orb: OrbSandbox,
    kills: int,
    seed: int,
    rabbitmq_url: str,
    make_workers: Callable[..., Workers],
) -> None:
    """Workers die at random instants of several full runs, some while Orb changes."""
    chance = random.Random(seed)
    workers = make_workers(rabbitmq_url, DJANGO_ORB_TEST_PAGE_SIZE="20")
    is_full = kills > 3
    ids = orb.invoice_ids()
    done = 0
    runs = 0
    while done < kills or runs == 0:
        change = Changes(orb, chance) if runs % 2 else None
        restart = restart_rabbitmq if is_full and runs == 1 else None
        due = min(kills - done, MOST_KILLS_IN_A_RUN)
        done += _run_with_kills(workers, chance, due, change, restart)
        runs += 1

    assert done == kills
    first = SyncRun.objects.filter(kind="full").last()
    assert first is not None
    # Nothing changed during the first run, so that each invoice counts once.
    assert (first.created, first.failed) == (len(ids), 0)
    services.sync_invoices(mode="full")
    call_command("orb_verify_invoices")  # an error where there is a difference
    assert_mirrors(orb)


def restart_rabbitmq() -> None:
    """Only the full form does so: it disturbs whoever else uses the broker."""
    for command in ("stop_app", "start_app"):
        subprocess.run(["rabbitmqctl", command], check=True, capture_output=True)


def _run_with_kills(
    workers: Workers,
    chance: random.Random,
    kills: int,
    changes: Changes | None,
    restart_broker: Callable[[], None] | None,
) -> int:
    """One full run; returns how often its workers were killed."""
    workers.start()
    send(workers, tasks.sync_invoices, kwargs={"mode": "full"})
    run_id = SyncRun.objects.count()
    assert wait_for(lambda: SyncRun.objects.count() > run_id, seconds=RUN_SECONDS)
    done = 0
    if changes:
        changes.start()
    while not all_finished():
        time.sleep(chance.uniform(0.05, 0.8))
        if restart_broker and done:
            restart_broker()
            restart_broker = None
        if done < kills and not all_finished() and not is_any_page_suspect():
            workers.kill()
            done += 1
            if chance.random() < 0.5 or is_any_page_suspect():
                # Nobody waits two minutes here for leases of the dead to end.
                SyncWindow.objects.update(lease_expires_at=None)
            workers.start()
        send(workers, tasks.recover)
    if changes:
        changes.stop()
    workers.kill()
    return done


def is_any_page_suspect() -> bool:
    """Whether one more kill would have a page taken apart, as if it killed workers."""
    windows = SyncWindow.objects.filter(state=SyncWindow.State.PENDING)
    return windows.filter(attempts__gte=steps.MAX_DEATHS).exists()


class Changes(threading.Thread):
    """Orb's own side at work while invoices are read."""

    def __init__(self, orb: OrbSandbox, chance: random.Random) -> None:
        super().__init__()
        self._orb = orb
        self._chance = random.Random(chance.random())
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            issued = self._orb.invoice_ids("issued")
            if issued:
                self._orb.mark_paid(self._chance.choice(issued))
            self._orb.add_invoice(days_ago=self._chance.uniform(-30, 400))

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.mark.proof
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_queue_outlives_workers_that_are_killed(
    broker_url: str, orb: OrbSandbox, make_workers: Callable[..., Workers]
) -> None:
    """However often, each invoice is voided once, and the mirror shows it."""
    ids = [orb.add_invoice(days_ago=1)["id"] for _ in range(12)]
    requests = [Request("void_invoice", one, idempotency_key=one) for one in ids]
    operations.queue(requests, batch="batch")
    orb.latency_ms = 30
    workers = make_workers(broker_url)
    for done in (3, 7):
        workers.start()
        send(workers, tasks.send_operations)
        assert wait_for(partial(has_ended, done), seconds=RUN_SECONDS), (
            workers.log_text()
        )
        workers.kill()
        InvoiceOperation.objects.filter(state="pending").update(
            lease_expires_at=database_now("postgresql") - timedelta(seconds=1)
        )
    workers.start()
    send(workers, tasks.recover)
    assert wait_for(partial(has_ended, 12), seconds=RUN_SECONDS), workers.log_text()
    workers.stop()
    InvoiceOperation.objects.update(
        finished_at=database_now("postgresql") - timedelta(minutes=2)
    )
    tasks.recover()

    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert [*states] == ["succeeded"] * 12
    voids = Counter(
        event["invoice"]["id"]
        for event in orb.webhook_events()
        if event["type"] == "invoice.manually_marked_as_void"
    )
    assert {one: voids[one] for one in ids} == dict.fromkeys(ids, 1)
    assert Invoice.objects.filter(pk__in=ids, status="void").count() == 12


def has_ended(count: int) -> bool:
    return InvoiceOperation.objects.exclude(state="pending").count() >= count
