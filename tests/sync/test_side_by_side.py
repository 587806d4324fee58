"""Several windows at a time in one process: who waits for whom, and who is blamed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
import requests
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from werkzeug.wrappers import Response

from django_orb import services
from django_orb.db import primary
from django_orb.exceptions import OrbSyncFailedError
from django_orb.models import Invoice, InvoiceFailure, SyncRun, SyncWindow
from django_orb.sync import runs, side_by_side
from tests import crash_points, times

from .test_runs import assert_mirrors, is_commit_of_step

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

LIST, FETCH = "list_invoices", "fetch_invoice"
SPREAD = pytest.mark.parametrize("orb", [{"invoices": 60, "seed": 3}], indirect=True)


@pytest.fixture(autouse=True)
def small_pages(settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5, "CONCURRENCY": 4}


@pytest.fixture
def spread(orb: OrbSandbox) -> OrbSandbox:
    """Invoices in each of the windows that a full run has."""
    for days in range(0, 800, 25):
        orb.add_invoice(days_ago=days)
    return orb


class Gate:
    """Holds answers until so many wait for it, and lets one go by chance."""

    def __init__(
        self, orb: OrbSandbox, chance: random.Random, most: int, of: str = LIST
    ) -> None:
        self._of = of
        self._chance = chance
        self._most = most
        self._change = threading.Condition()
        self._waiting: list[object] = []
        self.numbers: list[int] = []
        orb.answer_through(self._answer)

    def _answer(
        self, route: str, request: Any, go_on: Callable[[], Response]
    ) -> Response:
        page = go_on()
        if route != self._of:
            return page
        mine = object()
        with self._change:
            self._waiting.append(mine)
            self.numbers.append(len(self._waiting))
            self._change.notify_all()
            while mine in self._waiting:
                is_full = len(self._waiting) >= self._most
                # A busy machine may take its time until all have come once.
                seconds = 0.05 if self._most in self.numbers else 1.0
                if is_full or not self._change.wait(seconds):
                    self._waiting.remove(self._chance.choice(self._waiting))
                    self._change.notify_all()
        return page


@contextmanager
def only_here() -> Iterator[None]:
    """No other thread opens a connection to the mirror's database."""
    opened: list[str] = []
    connect = BaseDatabaseWrapper.connect

    def note(self: BaseDatabaseWrapper) -> None:
        if threading.current_thread() is not threading.main_thread():
            opened.append(threading.current_thread().name)
        connect(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "connect", note)
        yield
    assert [name for name in opened if name.startswith("django_orb")] == []


@pytest.mark.parametrize("concurrency", [1, 3, 4])
def test_as_many_windows_as_configured_wait_for_orb_at_a_time(
    any_database: str, spread: OrbSandbox, settings: Any, concurrency: int
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "CONCURRENCY": concurrency}
    gate = Gate(spread, random.Random(1), concurrency)

    with only_here():
        run = services.sync_invoices(mode="full")

    assert max(gate.numbers) == concurrency
    assert run.failed == 0
    assert run.created == len(spread.invoice_ids())
    assert_mirrors(spread)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_as_many_single_invoices_as_configured_are_fetched_at_a_time(
    any_database: str, spread: OrbSandbox, settings: Any, concurrency: int
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "CONCURRENCY": concurrency}
    gate = Gate(spread, random.Random(1), concurrency, of=FETCH)
    chosen = spread.invoice_ids()[:30]

    with only_here():
        run = services.sync_invoices(invoice_ids=chosen)

    assert max(gate.numbers) == concurrency
    assert len(gate.numbers) == len(chosen)
    assert run.created == len(chosen)
    assert {*Invoice.objects.values_list("pk", flat=True)} == {*chosen}


def test_single_invoice_that_orb_refuses_for_a_while_hides_no_other(
    any_database: str, spread: OrbSandbox, waits: list[float]
) -> None:
    chosen = spread.invoice_ids()[:30]
    refused = [chosen[2], chosen[2], chosen[17]]

    def refuse(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        invoice_id = request.path.rpartition("/")[2]
        if route == FETCH and invoice_id in refused:
            refused.remove(invoice_id)
            return Response(status=503)
        return go_on()

    spread.answer_through(refuse)

    run = services.sync_invoices(invoice_ids=chosen)

    assert not refused
    assert (run.created, run.failed) == (len(chosen), 0)
    assert {*Invoice.objects.values_list("pk", flat=True)} == {*chosen}


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(4))
def test_answers_may_come_in_any_order_while_orb_changes(
    any_database: str, spread: OrbSandbox, seed: int
) -> None:
    chance = random.Random(seed)
    gate = Gate(spread, chance, 4)
    paid: set[str] = set()

    def change(run: SyncRun) -> None:
        issued = spread.invoice_ids("issued")
        if issued and chance.random() < 0.3:
            paid.add(invoice_id := chance.choice(issued))
            spread.mark_paid(invoice_id)

    services.sync_invoices(mode="full", on_step=change)
    assert len(gate.numbers) > 10
    services.sync_invoices(mode="full")

    assert paid
    assert_mirrors(spread)


@pytest.mark.parametrize("seed", range(3))
def test_window_in_which_orb_fails_does_not_stop_the_others(
    any_database: str, spread: OrbSandbox, waits: list[float], seed: int
) -> None:
    """The newest window fails for long; the others are read meanwhile."""
    windows_done: list[set[int]] = []

    def fail(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        is_newest = route == LIST and "invoice_date[lt]" not in request.args
        if is_newest and "invoice_date[gte]" in request.args and not is_over.is_set():
            return Response(status=503)
        return go_on()

    def look(run: SyncRun) -> None:
        done = run.windows.filter(state=SyncWindow.State.DONE, kind="list")
        windows_done.append({*done.values_list("position", flat=True)})
        if len(windows_done[-1]) == 8:
            is_over.set()

    is_over = threading.Event()
    spread.answer_through(fail)

    run = services.sync_invoices(mode="full", on_step=look)

    assert is_over.is_set()
    assert run.failed == 0
    assert_mirrors(spread)


def test_leases_of_windows_that_wait_for_their_turn_are_kept(
    any_database: str, spread: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock takes a minute: without renewal some would end."""
    renewed: list[int] = []

    def note(sql: str, params: Any) -> None:
        if not sql.startswith("UPDATE") or "orb_syncwindow" not in sql:
            return
        if "heartbeat_at" in sql and "attempts" not in sql and "pages" not in sql:
            renewed.append(1)

    times.hurry(monkeypatch, side_by_side)

    with crash_points.before_statements(any_database, note):
        services.sync_invoices(mode="full")

    assert renewed
    assert_mirrors(spread)


def test_key_that_orb_refuses_meanwhile_ends_all_windows(
    any_database: str, spread: OrbSandbox
) -> None:
    services.sync_invoices(invoice_ids=spread.invoice_ids()[:1])
    spread.clear_requests()
    spread.fail_next(10_000, status=401, skip=5)

    with pytest.raises(OrbSyncFailedError, match="401"):
        services.sync_invoices(mode="full")

    run = SyncRun.objects.latest("pk")
    assert run.state == SyncRun.State.FAILED
    assert len(spread.requests) <= 5 + 2 * 4
    assert not run.windows.exclude(lease="").exists()


def test_cancelled_run_asks_for_nothing_but_what_was_under_way(
    any_database: str, spread: OrbSandbox
) -> None:
    asked: list[int] = []

    def cancel(run: SyncRun) -> None:
        if not asked and run.windows.exclude(step=0).count() >= 3:
            runs.cancel_run(SyncRun.objects.get(pk=run.pk))
            asked.append(len(spread.requests))

    with pytest.raises(OrbSyncFailedError, match="Cancelled"):
        services.sync_invoices(mode="full", on_step=cancel)

    assert len(spread.requests) <= asked[0] + 2 * 4


def test_interrupted_worker_leaves_its_windows_to_the_next(
    any_database: str, spread: OrbSandbox
) -> None:
    steps: list[int] = []

    def interrupt(run: SyncRun) -> None:
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        services.sync_invoices(mode="full", on_step=interrupt)
    leased = SyncWindow.objects.exclude(lease_expires_at=None)
    assert not leased.exists()

    run = services.sync_invoices(mode="full")

    assert SyncRun.objects.count() == 1
    assert run.created == len(spread.invoice_ids())
    assert_mirrors(spread)


@pytest.mark.parametrize("moment", ["answer", "commit"])
def test_only_the_window_of_a_page_that_kills_is_blamed(
    any_committed_database: str,
    spread: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
    moment: str,
) -> None:
    """The process is gone at that instant, while other windows wait for Orb, too."""
    poison = spread.add_invoice(days_ago=300)["id"]
    is_dead = threading.Event()
    inserted: list[str] = []

    def die() -> None:
        is_dead.set()
        raise KeyboardInterrupt

    def hand_over(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        page = go_on()
        kills = route in (LIST, FETCH) and poison in page.get_data(as_text=True)
        if not kills:
            threading.Event().wait(0.02)  # what kills comes before all others
        elif moment == "answer":
            page.headers["X-Kills"] = "yes"
        return page

    def receive(response: requests.Response) -> None:
        if response.headers.get("X-Kills"):
            response.close()
            die()

    def execute(sql: str, params: Any) -> None:
        if is_dead.is_set():
            raise KeyboardInterrupt
        if "INSERT" in sql and poison in str(params):
            inserted.append(sql)
        elif is_commit_of_step(sql) and inserted:
            is_refused = any("orb_invoicefailure" in one for one in inserted)
            inserted.clear()
            if not is_refused and moment == "commit":
                die()

    spread.answer_through(hand_over)
    after_answers(monkeypatch, receive)
    deaths = 0
    for _ in range(40):
        is_dead.clear()
        try:
            with crash_points.before_statements(any_committed_database, execute):
                run = services.sync_invoices(mode="full")
        except KeyboardInterrupt:
            deaths += 1
            blamed = SyncWindow.objects.filter(attempts__gt=2)
            assert blamed.count() <= 1
            SyncWindow.objects.update(lease_expires_at=None)  # as time does
            continue
        break

    assert deaths >= 6
    assert run.state == SyncRun.State.SUCCEEDED
    assert [*InvoiceFailure.objects.values_list("pk", flat=True)] == [poison]
    assert Invoice.objects.count() == len(spread.invoice_ids()) - 1


def test_window_whose_worker_died_is_asked_for_alone(
    any_database: str, spread: OrbSandbox
) -> None:
    run = runs.start_run("full")
    suspect = SyncWindow.objects.get(run=run, position=3)
    SyncWindow.objects.filter(pk=suspect.pk).update(attempts=1)
    assert suspect.invoice_date_lt is not None
    mark = suspect.invoice_date_lt.isoformat()
    under_way: list[str] = []
    beside: list[list[str]] = []
    numbers: list[int] = []

    def watch(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        end = request.args.get("invoice_date[lt]", "")
        under_way.append(end)
        numbers.append(len(under_way))
        if end == mark:
            beside.append([*under_way])
        threading.Event().wait(0.02)
        page = go_on()
        under_way.remove(end)
        return page

    spread.answer_through(watch)

    services.sync_invoices(mode="full")

    assert beside[0] == [mark]
    assert max(numbers) > 1
    assert_mirrors(spread)


def after_answers(
    patch: pytest.MonkeyPatch, act: Callable[[requests.Response], None]
) -> None:
    send = requests.Session.send

    def watched(session: Any, request: Any, **options: Any) -> requests.Response:
        response = send(session, request, **options)
        act(response)
        return response

    patch.setattr(requests.Session, "send", watched)


@pytest.mark.proof
@pytest.mark.django_db(transaction=True)
def test_page_that_comes_slowly_makes_the_next_ones_smaller(
    orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CONCURRENCY": 1,
        "PAGE_SIZE": 100,
        "TIMEOUT_SECONDS": 3,
    }
    for _ in range(150):
        orb.add_invoice(days_ago=400)
    seconds = {"100": 1.6, "50": 0.8}

    def take_long(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route == LIST:
            time.sleep(seconds.get(request.args["limit"], 0))
        return go_on()

    orb.answer_through(take_long)

    services.sync_invoices(since=datetime(2000, 1, 1, tzinfo=timezone.utc))

    asked = [
        int(parse_qs(request.query)["limit"][0])
        for request in orb.requests
        if request.route == LIST
    ]
    assert asked[0] == 100
    assert 50 in asked
    assert 20 not in asked
    assert_mirrors(orb)


@pytest.mark.proof
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_process_that_ends_anywhere_loses_nothing(
    any_committed_database: str,
    spread: OrbSandbox,
    process_environment: Callable[[], dict[str, str]],
    number: signal.Signals,
) -> None:
    if connections[any_committed_database].settings_dict["NAME"].startswith("file:"):
        pytest.skip("SQLite's database in memory belongs to one process")
    chance = random.Random(int(number))
    ends = [chance.randint(3, 25) for _ in range(3)]
    command = [sys.executable, "-m", "django", "orb_sync_invoices", "--in-process"]
    spread.latency_ms = 30
    for end in [*ends, 0]:
        spread.clear_requests()
        process = subprocess.Popen(
            [*command, "--mode", "full"],
            env={**process_environment(), "DJANGO_ORB_TEST_PAGE_SIZE": "5"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not 0 < end <= len(spread.requests):
            threading.Event().wait(0.005)
        if process.poll() is None:
            os.kill(process.pid, number)
        code = process.wait(60)
        # As after the minutes that a lease of a dead worker lasts.
        earlier = primary.now() - timedelta(minutes=1)
        leased = SyncWindow.objects.exclude(lease_expires_at=None)
        leased.update(lease_expires_at=earlier)
        if code == 0:
            break

    assert code == 0
    assert SyncRun.objects.count() == 1
    assert SyncRun.objects.get().state == SyncRun.State.SUCCEEDED
    assert not InvoiceFailure.objects.exists()
    assert_mirrors(spread)
