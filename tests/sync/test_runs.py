from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, connections
from werkzeug.wrappers import Response

from django_orb import exact_json, mirror, services, tasks
from django_orb.client.orb_client import OrbClient
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import primary
from django_orb.db.clock import Interval, database_now
from django_orb.exceptions import OrbInputError, OrbSyncFailedError, OrbSyncRunningError
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceLineItem,
    SyncAbsence,
    SyncRun,
    SyncWindow,
)
from django_orb.sync import runs, windows
from tests import crash_points, times
from tests.factories import make_invoices

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

LATER = timedelta(minutes=4)  # no lease of a window lasts so long


def assert_mirrors(orb: OrbSandbox) -> None:
    """Every invoice of the sandbox is here, value for value, and nothing else."""
    stored = Invoice.objects.in_bulk()
    assert sorted(stored) == sorted(orb.invoice_ids())
    for invoice_id, invoice in stored.items():
        assert invoice.payload == exact_json.loads(json.dumps(orb.invoice(invoice_id)))
        lines = [line["id"] for line in invoice.payload["line_items"]]
        assert [line.orb_id for line in invoice.line_items.all()] == lines


def start(kind: str = "full", **options: Any) -> SyncRun:
    return runs.start_run(kind, **options)


def step_once(window: SyncWindow, lease: str) -> windows.Progress:
    with OrbClient.from_settings(retries=0) as client:
        return runs.turn(
            window.pk, lease, connect=lambda: nullcontext(client), seconds=0
        )


def is_commit_of_step(sql: str) -> bool:
    """The last statement of a step's transaction: its counts and its cursor."""
    return sql.startswith("UPDATE") and "orb_syncwindow" in sql and "pages" in sql


def take(window: SyncWindow) -> str:
    lease = windows.lease_window(window)
    assert lease is not None
    window.refresh_from_db()
    return lease


def test_full_run_mirrors_every_invoice_in_every_status(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = services.sync_invoices(mode="full")

    assert run.state == SyncRun.State.SUCCEEDED
    assert run.created == len(orb.invoice_ids())
    assert set(Invoice.objects.values_list("status", flat=True)) == {
        status for status, count in orb.status_counts().items() if count
    }
    # What its pages showed counts as seen, and is not fetched once more.
    assert set(orb.request_counts()) == {"list_invoices"}
    assert_mirrors(orb)


@pytest.mark.parametrize("orb", [{"invoices": 250}], indirect=True)
def test_second_run_finds_nothing_to_write(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    orb.sign_links = True
    orb.clear_requests()

    run = services.sync_invoices(mode="full")

    assert (run.created, run.updated) == (0, 0)
    assert run.unchanged == len(orb.invoice_ids())
    assert run.requests == orb.request_counts()["list_invoices"] < 20


def test_incremental_run_finds_every_exit_from_draft_and_issued(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    orb.has_webhook_events = False
    paid, voided, deleted = (orb.add_invoice(days_ago=400)["id"] for _ in range(3))
    orb.update_invoice(deleted, status="draft")
    services.sync_invoices(mode="full")
    orb.mark_paid(paid)
    orb.void(voided)
    orb.delete_draft(deleted)
    added = orb.add_invoice(days_ago=-20)["id"]

    run = services.sync_invoices()

    assert Invoice.objects.get(pk=paid).status == "paid"
    assert Invoice.objects.get(pk=voided).status == "void"
    assert Invoice.objects.get(pk=deleted).missing_since is not None
    assert Invoice.objects.filter(pk=added).exists()
    assert run.missing == 1


def test_what_is_missing_comes_back(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = orb.invoice_ids("draft")[0]
    services.sync_invoices(mode="full")
    later = database_now(any_committed_database) + timedelta(seconds=1)
    gone = mirror.Observation.absent(draft, Interval(later, later))
    mirror.write([gone])
    assert Invoice.objects.get(pk=draft).missing_since is not None

    run = services.sync_invoices(mode="full")

    assert run.updated == 1
    assert Invoice.objects.get(pk=draft).missing_since is None


def test_many_missing_are_not_believed_unasked(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    drafts = [orb.add_invoice(status="draft")["id"] for _ in range(51)]
    services.sync_invoices(mode="full")
    for draft in drafts:
        orb.delete_draft(draft)

    with pytest.raises(OrbSyncFailedError, match="no longer knows 51 of the mirrored"):
        services.sync_invoices(mode="full")
    assert not Invoice.objects.exclude(missing_since=None).exists()

    run = services.sync_invoices(mode="full", accept_missing=True)
    assert run.missing == 51
    assert Invoice.objects.exclude(missing_since=None).count() == 51


def paid_copy(invoice: Invoice, pk: str) -> Invoice:
    copied = copy(invoice)
    copied.pk, copied.status, copied.payload = pk, "paid", {}
    return copied


def test_one_percent_of_a_large_mirror_may_be_missing_unasked(
    any_database: str, orb: OrbSandbox
) -> None:
    services.fetch_invoice(orb.invoice_ids()[0])  # the key is known
    make_invoices(55)  # Orb knows none of them
    others = [Invoice.objects.all()[0]] * 5500
    Invoice.objects.bulk_create(
        paid_copy(one, f"paid{number:05}") for number, one in enumerate(others)
    )

    run = services.sync_invoices()

    assert run.missing == 55


def test_absence_that_is_in_doubt_is_decided_after_the_run(
    any_database: str, orb: OrbSandbox
) -> None:
    """Another worker saw the invoice at about the time of the 404."""
    gone = orb.add_invoice(status="draft")["id"]
    shown = {**orb.invoice(gone), "memo": "new"}
    services.sync_invoices(mode="full")
    orb.delete_draft(gone)
    others: list[SyncRun] = []

    def see(run: SyncRun) -> None:
        if SyncAbsence.objects.exists() and not others:
            others.append(run)
            at_the_time = Interval(run.started_at, primary.now())
            mirror.write(mirror.read_page([shown], at_the_time))

    run = services.sync_invoices(mode="full", on_step=see)
    assert others
    # It is fetched again after the run, as all that is outstanding.
    assert run.missing == 0
    assert Invoice.objects.get(pk=gone).missing_since is not None


def test_run_can_be_stopped_while_it_waits_for_orb(
    any_database: str, orb: OrbSandbox, waits: list[float]
) -> None:
    services.sync_invoices(invoice_ids=orb.invoice_ids()[:1])  # the key is known
    orb.fail_next(1000, status=503, route="list_invoices")
    since = database_now(any_database) - timedelta(days=9999)

    def stop(run: SyncRun) -> None:
        if sum(waits) > 5:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        services.sync_invoices(since=since, on_step=stop)

    assert sum(waits) < 10


def test_since_bounds_the_invoice_date_and_marks_nothing(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    gone = orb.add_invoice(status="draft", days_ago=1)["id"]
    services.sync_invoices()
    orb.delete_draft(gone)
    since = database_now(any_committed_database) - timedelta(days=30)

    run = services.sync_invoices(since=since)

    assert run.kind == SyncRun.Kind.PARTIAL
    recent = Invoice.objects.filter(invoice_date__gte=since).exclude(pk=gone)
    assert run.unchanged == recent.count()
    assert Invoice.objects.get(pk=gone).missing_since is None


def test_chosen_invoices_are_fetched_one_by_one(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    chosen = orb.invoice_ids()[:3]

    run = services.sync_invoices(invoice_ids=chosen)

    assert run.created == 3
    assert sorted(Invoice.objects.values_list("pk", flat=True)) == sorted(chosen)
    assert set(orb.request_counts()) == {"fetch_invoice"}


def test_unknown_chosen_invoice_ends_the_run_in_words(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with pytest.raises(OrbSyncFailedError, match="Orb does not know nope"):
        services.sync_invoices(invoice_ids=["nope", orb.invoice_ids()[0]])

    assert Invoice.objects.count() == 1


def test_wrong_key_ends_the_run_in_words(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "API_KEY": "wrong"}

    with pytest.raises(OrbSyncFailedError):
        services.sync_invoices()

    run = SyncRun.objects.get()
    assert run.state == SyncRun.State.FAILED
    assert "wrong" not in run.error.split()
    assert not Invoice.objects.exists()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"Retry-After": "7"}},
        {"status": 429},
        {"status": 500},
        {"status": 502, "html": True},
        {"status": 408},
    ],
    ids=lambda fault: f"{fault['status']}{'+' if len(fault) > 1 else ''}",
)
def test_trouble_at_orb_delays_a_run_and_never_ends_it(
    any_committed_database: str,
    orb: OrbSandbox,
    waits: list[float],
    fault: dict[str, Any],
) -> None:
    orb.fail_next(7, route="list_invoices", skip=1, **fault)

    run = services.sync_invoices(mode="full")

    assert run.state == SyncRun.State.SUCCEEDED
    assert orb.waiting_faults == 0
    assert len(waits) >= 3
    if "headers" in fault:
        assert sum(waits) >= 7 * 7
    assert_mirrors(orb)


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_cut_connections_delay_a_run_and_never_end_it(
    any_committed_database: str, orb: OrbSandbox, waits: list[float], when: str
) -> None:
    orb.cut_next(5, route="list_invoices", when=when)

    services.sync_invoices(mode="full")

    assert_mirrors(orb)


def test_one_bad_invoice_is_recorded_and_the_run_goes_on(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    bad = orb.invoice_ids("paid")[3]
    before = orb.invoice(bad)["total"]
    orb.update_invoice(bad, total="a lot")

    run = services.sync_invoices(mode="full")

    assert run.failed == 1
    assert run.error == "1 could not be mirrored; see their reasons."
    assert "total is 'a lot'" in InvoiceFailure.objects.get(pk=bad).reason
    assert Invoice.objects.count() == len(orb.invoice_ids()) - 1

    orb.update_invoice(bad, total=before)
    assert services.sync_invoices().failed == 0
    assert not InvoiceFailure.objects.exists()
    assert_mirrors(orb)


@pytest.mark.parametrize("orb", [{"invoices": 450}], indirect=True)
def test_run_goes_on_where_its_worker_died(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """The second page's transaction never commits; the first page is not read again."""
    commits = []

    def die_once(execute: Any, sql: str, *args: Any) -> Any:
        if is_commit_of_step(sql):
            commits.append(sql)
            if len(commits) == 2:
                raise KeyboardInterrupt
        return execute(sql, *args)

    start_of_time = database_now(any_committed_database) - timedelta(days=9999)
    with (
        connections[any_committed_database].execute_wrapper(die_once),
        pytest.raises(KeyboardInterrupt),
    ):
        services.sync_invoices(since=start_of_time)
    asked = len(orb.requests)

    run = services.sync_invoices(since=start_of_time)

    assert SyncRun.objects.count() == 1
    assert run.created == run.invoices == len(orb.invoice_ids())
    assert run.pages == -(-len(orb.invoice_ids()) // 100)
    assert all("cursor" in request.query for request in orb.requests[asked:])
    assert_mirrors(orb)


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded, MemoryError, InterfaceError])
def test_run_that_is_interrupted_while_it_is_finished_is_finished_later(
    any_committed_database: str, orb: OrbSandbox, error: type[Exception]
) -> None:
    """As by Celery's time limit, which has to end the task and not the run."""
    gone = orb.add_invoice(status="draft")["id"]
    services.sync_invoices(mode="full")
    orb.delete_draft(gone)

    def is_mark(sql: str, params: Any) -> bool:
        return "orb_invoice" in sql and "COALESCE" in sql and "missing_since" in sql

    with (
        crash_points.dying_at_statement(any_committed_database, is_mark, error),
        pytest.raises(error),
    ):
        services.sync_invoices(mode="full")
    run = SyncRun.objects.get(active_kind="full")
    tasks.recover()

    run.refresh_from_db()
    assert (run.state, run.missing) == (SyncRun.State.SUCCEEDED, 1)
    assert Invoice.objects.get(pk=gone).missing_since is not None


def test_second_run_of_a_kind_is_refused_while_one_is_active(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = start("full")

    with pytest.raises(OrbSyncRunningError) as caught:
        start("full")

    assert caught.value.run == run
    assert start("incremental").pk != run.pk


def test_two_schedulers_at_once_start_one_run(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    started: list[Any] = []
    barrier = threading.Barrier(4)

    def schedule() -> None:
        barrier.wait()
        try:
            started.append(start("incremental"))
        except OrbSyncRunningError as err:
            started.append(err)
        finally:
            connections[any_committed_database].close()

    threads = [threading.Thread(target=schedule) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert SyncRun.objects.count() == 1
    assert sum(isinstance(one, SyncRun) for one in started) == 1
    assert len(started) == 4


def test_worker_that_lost_its_lease_writes_nothing(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    start("full")
    window = SyncWindow.objects.filter(kind="list").last()
    assert window is not None
    lease = take(window)
    SyncWindow.objects.filter(pk=window.pk).update(lease="somebody else's")

    assert step_once(window, lease).is_lost
    assert not Invoice.objects.exists()


def test_same_page_done_by_two_workers_counts_once(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """A broker that redelivers: both have the lease, one commits."""
    start("incremental")
    window = SyncWindow.objects.get(position=0)
    lease = take(window)

    progress: list[windows.Progress] = []

    def overtaken(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        page = go_on()
        if not is_overtaken.is_set():
            is_overtaken.set()
            other = SyncWindow.objects.get(pk=window.pk)
            progress.append(step_once(other, lease))
            connections[any_committed_database].close()
        return page

    is_overtaken = threading.Event()
    orb.answer_through(overtaken)

    assert step_once(window, lease).is_lost
    assert progress[0].is_done
    window.refresh_from_db()
    assert window.pages == 1
    assert window.created == Invoice.objects.count() > 0


@pytest.mark.parametrize("orb", [{"invoices": 350}], indirect=True)
def test_page_that_was_undone_and_written_by_others_meanwhile_counts_once(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that was rolled back leaves no counts."""
    undone: list[str] = []

    def contend(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if not undone and is_commit_of_step(sql):
            undone.append(sql)
            raise OperationalError("database is locked")
        return result

    def others_write(seconds: float) -> None:
        """While it waits for its next attempt."""
        assert not Invoice.objects.exists()
        list(services.list_invoices())

    times.rule(monkeypatch, among="django_orb.db.transactions", sleep=others_write)
    with connections[primary.alias()].execute_wrapper(contend):
        run = services.sync_invoices(mode="full")

    assert len(undone) == 1
    assert (run.created, run.unchanged) == (0, len(orb.invoice_ids()))
    assert sum(window.pages for window in run.windows.all()) >= 4
    assert_mirrors(orb)


def test_cancelled_run_stops_at_the_next_page(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = start("full")
    window = SyncWindow.objects.get(position=0)
    lease = take(window)

    runs.cancel_run(run)

    assert step_once(window, lease).is_lost
    run.refresh_from_db()
    assert (run.state, run.active_kind) == (SyncRun.State.CANCELLED, None)
    start("full")


def start_and_take() -> tuple[SyncRun, SyncWindow, str]:
    """Start a full run, and take its last window."""
    run = start("full")
    window = SyncWindow.objects.filter(run=run, kind="list").latest("position")
    return run, window, take(window)


def die_before(number: int) -> Callable[[str, Any], bool]:
    """Tell whether a statement is the one of this number, from 0 on."""
    statements = itertools.count()
    return lambda sql, params: next(statements) == number


@pytest.mark.parametrize("number", range(12))
def test_run_whose_worker_dies_while_it_fails_is_never_called_complete(
    any_committed_database: str, orb: OrbSandbox, number: int
) -> None:
    run, window, lease = start_and_take()

    with (
        suppress(KeyboardInterrupt),
        crash_points.dying_at_statement(any_committed_database, die_before(number)),
    ):
        runs.fail_window(window.pk, lease, "It cannot be read.")
    SyncWindow.objects.update(lease_expires_at=None)
    SyncWindow.objects.filter(pk=window.pk).update(attempts=windows.MAX_ATTEMPTS)
    with suppress(OrbSyncFailedError):
        services.sync_invoices(mode="full")

    run.refresh_from_db()
    assert (run.state, run.active_kind) == (SyncRun.State.FAILED, None)


def test_worker_that_lost_its_window_does_not_end_the_run(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run, window, lease = start_and_take()

    def lose(sql: str, params: Any) -> None:
        if not SyncWindow.objects.filter(pk=window.pk, lease="another's").exists():
            SyncWindow.objects.filter(pk=window.pk).update(lease="another's")

    looked: list[int] = []

    def after_the_look(sql: str, params: Any) -> None:
        looked.append(1)
        if len(looked) == 2:
            lose(sql, params)

    with crash_points.before_statements(any_committed_database, after_the_look):
        runs.fail_window(window.pk, lease, "It cannot be read.")

    run.refresh_from_db()
    assert run.is_active


def test_page_that_is_stored_while_its_run_is_cancelled_counts(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run, window, lease = start_and_take()
    stored: list[int] = []

    def store(sql: str, params: Any) -> None:
        """Another worker's page, just before the run's windows lose their leases."""
        is_release = sql.startswith("UPDATE") and "orb_syncwindow" in sql
        if is_release and not stored:
            stored.append(1)
            SyncWindow.objects.filter(pk=window.pk).update(created=7)

    with crash_points.before_statements(any_committed_database, store):
        runs.cancel_run(run)

    assert stored
    assert lease
    assert SyncRun.objects.get().created == 7


@pytest.mark.parametrize("begin", [runs.start_run, runs.start_or_join])
def test_run_starts_if_the_active_one_ends_just_then(
    any_committed_database: str, orb: OrbSandbox, begin: Callable[[str], SyncRun]
) -> None:
    first = start("full")

    def end(sql: str, params: Any) -> None:
        """The insert was refused because of the first run, which ends before the look."""
        is_look = (
            sql.startswith("SELECT") and "active_kind" in sql.partition("WHERE")[2]
        )
        if is_look and SyncRun.objects.filter(pk=first.pk, finished_at=None).exists():
            SyncRun.objects.filter(pk=first.pk).update(
                active_kind=None, state="cancelled", finished_at=primary.now()
            )

    with crash_points.before_statements(any_committed_database, end):
        second = begin("full")

    assert second.pk != first.pk
    assert second.is_active


def test_worker_keeps_its_window_from_step_to_step(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5}
    since = database_now(any_committed_database) - timedelta(days=9999)
    run = start("partial", since=since)
    window = runs.due_windows(run=run)[0]
    lease = take(window)

    for _ in range(2):
        step_once(window, lease)
        assert not runs.due_windows(run=run)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("advice", "seconds"), [("50", 50), ("3600", 60)])
def test_window_waits_as_long_as_orb_asked_for_but_a_minute_at_most(
    any_committed_database: str, orb: OrbSandbox, status: int, advice: str, seconds: int
) -> None:
    since = database_now(any_committed_database) - timedelta(days=9999)
    run = start("partial", since=since)
    window = runs.due_windows(run=run)[0]
    lease = take(window)
    orb.fail_next(1, status=status, headers={"Retry-After": advice})

    assert step_once(window, lease).wait_seconds == seconds
    windows.release_window(window.pk, lease)

    assert not runs.due_windows(run=run)
    window.refresh_from_db()
    assert window.not_before is not None
    wait = window.not_before - database_now(any_committed_database)
    assert seconds - 20 < wait.total_seconds() < seconds + 1


def test_leased_window_is_not_taken_until_its_holder_is_silent(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = start("incremental")
    window = runs.due_windows(run=run)[0]
    take(window)

    assert windows.lease_window(window) is None
    assert window not in runs.due_windows(run=run)

    window.refresh_from_db()
    assert window.lease_expires_at is not None
    window.lease_expires_at -= LATER
    window.save()
    assert window in runs.due_windows(run=run)
    take(window)


def test_window_stays_in_its_holders_hands_while_orb_may_still_answer(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TIMEOUT_SECONDS": 1000}
    run = start("incremental")
    window = runs.due_windows(run=run)[0]
    take(window)
    window.refresh_from_db()
    assert window.lease_expires_at is not None

    for seconds in (0, 2 * (5 + 2 * 1000)):  # as long as two requests at most
        window.lease_expires_at -= timedelta(seconds=seconds)
        window.save()
        assert window not in runs.due_windows(run=run)


def test_refused_cursor_starts_again_at_the_last_date_seen(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    run = start("incremental")
    window = SyncWindow.objects.get(position=0)
    lease = take(window)
    step_once(window, lease)
    SyncWindow.objects.filter(pk=window.pk).update(cursor="not one of Orb's")
    windows.release_window(window.pk, lease)

    with OrbClient.from_settings() as client:
        runs.work_here(run, client=client)

    assert run.state == SyncRun.State.SUCCEEDED
    unsettled = orb.invoice_ids("draft") + orb.invoice_ids("issued")
    assert set(unsettled) <= set(Invoice.objects.values_list("pk", flat=True))


def test_repeated_cursors_are_passed_by_starting_again(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    start_of_time = database_now(any_committed_database) - timedelta(days=9999)
    orb.repeat_next(3, skip=1)

    services.sync_invoices(since=start_of_time)

    assert orb.waiting_faults == 0
    assert_mirrors(orb)


def test_repeated_cursor_fails_loudly_when_starting_again_does_not_help(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    for _ in range(30):
        orb.add_invoice(invoice_date="2030-01-01T00:00:00+00:00")
    orb.repeat_next(1000, skip=1)

    with pytest.raises(OrbSyncFailedError, match="repeated a cursor"):
        services.sync_invoices(mode="full")

    assert SyncRun.objects.get().state == SyncRun.State.FAILED


def test_doubt_is_settled_by_a_fetch_within_the_run(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """The invoice is paid, and fetched by somebody else, while the page is read."""
    invoice_id = orb.invoice_ids("issued")[0]
    is_read: list[bool] = []

    def while_read(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        page = go_on()
        if not is_read and f'"{invoice_id}"' in page.get_data(as_text=True):
            is_read.append(True)
            orb.mark_paid(invoice_id)
            fetch_elsewhere()
        return page

    def fetch_elsewhere() -> None:
        services.fetch_invoice(invoice_id)
        connections[any_committed_database].close()

    orb.answer_through(while_read)

    services.sync_invoices(mode="full")

    assert Invoice.objects.get(pk=invoice_id).status == "paid"
    assert_mirrors(orb)


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_invoice_that_vanishes_while_it_is_in_doubt_is_missing(orb: OrbSandbox) -> None:
    """The run meets its absence twice: at the doubt, and for what it did not see."""
    services.sync_invoices(mode="full")
    draft = orb.invoice_ids("draft")[0]
    is_read: list[bool] = []

    def while_read(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        page = go_on()
        if not is_read and f'"{draft}"' in page.get_data(as_text=True):
            is_read.append(True)
            orb.update_invoice(draft, metadata={"note": "new"})
            fetch_elsewhere()
            orb.delete_draft(draft)
        return page

    def fetch_elsewhere() -> None:
        services.fetch_invoice(draft)
        connections["postgresql"].close()

    orb.answer_through(while_read)

    run = services.sync_invoices(mode="full")

    assert (run.state, run.error) == (SyncRun.State.SUCCEEDED, "")
    assert Invoice.objects.get(pk=draft).missing_since


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "everything"}, "mode is"),
        ({"mode": "full", "invoice_ids": ["a"]}, "with mode or since"),
        ({"invoice_ids": [""]}, "invoice_ids is empty"),
        ({"invoice_ids": ["a", ".."]}, "'..' is not an id in Orb"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    any_committed_database: str, orb: OrbSandbox, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(OrbInputError, match=words):
        services.sync_invoices(**arguments)

    assert not SyncRun.objects.exists()


def test_lines_of_every_invoice_add_up(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")

    expected = sum(len(orb.invoice(pk)["line_items"]) for pk in orb.invoice_ids())
    assert InvoiceLineItem.objects.count() == expected


@pytest.mark.parametrize("orb", [{"invoices": 30}], indirect=True)
def test_page_that_keeps_ending_its_worker_is_taken_apart(
    any_committed_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
) -> None:
    poison = orb.invoice_ids()[4]
    write = mirror.write

    def die(observations: Any, **options: Any) -> mirror.WriteResult:
        for one in observations:
            if one.invoice_id == poison and not one.refusal:
                raise MemoryError
        return write(observations, **options)

    monkeypatch.setattr(mirror, "write", die)
    since = database_now(any_committed_database) - timedelta(days=9999)
    for _ in range(windows.MAX_ATTEMPTS):
        try:
            services.sync_invoices(since=since)
        except MemoryError:
            continue
        break

    run = SyncRun.objects.get()
    assert run.state == SyncRun.State.SUCCEEDED
    assert run.failed == 1
    assert "3 workers died" in InvoiceFailure.objects.get(pk=poison).reason
    assert Invoice.objects.count() == len(orb.invoice_ids()) - 1


def test_failure_of_an_invoice_that_orb_no_longer_knows_goes(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(invoice_ids=orb.invoice_ids("paid")[:1])
    draft = orb.invoice_ids("draft")[0]
    odd = RawInvoice.of({**orb.invoice(draft), "total": "lots"})
    past = database_now(any_committed_database) - timedelta(minutes=1)
    seen = mirror.read_page([odd], Interval(past, past))
    mirror.write(seen)
    assert InvoiceFailure.objects.get().pk == draft
    orb.delete_draft(draft)

    services.sync_invoices(mode="full")

    assert not InvoiceFailure.objects.exists()
    assert not Invoice.objects.filter(pk=draft).exists()
