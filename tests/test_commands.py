from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import connections

from django_orb.db import in_this_context
from django_orb.management import options, progress
from django_orb.management.progress import ProgressPrinter
from django_orb.models import Invoice, SyncRun, SyncWindow
from tests import times

from .brokers import catch_messages
from .workers import wait_for

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox


def run_command(*args: str) -> str:
    out = StringIO()
    call_command("orb_sync_invoices", *args, stdout=out)
    return out.getvalue()


def test_full_sync_in_process_says_what_it_did(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    out = run_command("--mode", "full", "--in-process")

    count = len(orb.invoice_ids())
    assert f"{count} invoices seen: {count} new, 0 changed, 0 unchanged." in out
    assert Invoice.objects.count() == count


def test_a_scheduler_may_call_it_in_a_thread_of_its_own(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    if connections[any_committed_database].vendor == "sqlite":
        pytest.skip("SQLite's database in memory has no second connection")

    def sync() -> str:
        try:
            return run_command("--mode", "full", "--in-process")
        finally:
            connections[any_committed_database].close()

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ThreadPoolExecutor(1) as scheduler:
        out = scheduler.submit(in_this_context(sync)).result()

    assert "invoices seen" in out
    assert before == [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    ]


def test_single_invoices(any_committed_database: str, orb: OrbSandbox) -> None:
    one, two = orb.invoice_ids()[:2]

    assert "2 invoices seen: 2 new" in run_command("--invoice", one, "--invoice", two)


@pytest.mark.parametrize("since", ["2020-01-01", "2020-01-01T00:00:00+02:00"])
def test_since_takes_days_and_moments(
    any_committed_database: str, orb: OrbSandbox, since: str
) -> None:
    run_command("--since", since, "--in-process")

    run = SyncRun.objects.get()
    assert run.kind == "partial"
    assert run.since is not None
    assert run.since.isoformat().startswith(
        "2020-01-01" if len(since) == 10 else "2019-12-31T22"
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T23:59", "2026-01-31T23:59:00+00:00"),
        ("2026-01-31 09:30:15", "2026-01-31T09:30:15+00:00"),
        ("2026-01-31T09:30:15.5Z", "2026-01-31T09:30:15.500000+00:00"),
        ("2026-01-31T00:30+01:00", "2026-01-30T23:30:00+00:00"),
    ],
)
def test_since_means_the_same_moment_everywhere(text: str, moment: str) -> None:
    assert options.read_moment(text).isoformat() == moment


@pytest.mark.parametrize("command", ["orb_sync_invoices", "orb_verify_invoices"])
@pytest.mark.parametrize(
    "since",
    [
        "yesterday",
        "2026",
        "2026-01",
        "2026-1-3",
        "20260103",
        "2026-W01-1",
        "2026-13-01",
        "2026-02-30",
        "2026-01-31T24:00",
        "2026-01-31T09",
        "2026-01-31T09:30+0100",
        "2026-01-31T09:30+25:00",
        "0001-01-01T00:00+01:00",
        " 2026-01-31",
        "٢٠٢٦-01-31",
    ],
)
def test_since_in_another_form_is_refused(command: str, since: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command(command, "--since", since)
    assert str(caught.value) == (
        f"Error: argument --since: {since!r} is neither a date such as 2026-01-31 nor "
        "a time such as 2026-01-31T09:30+01:00."
    )


def test_unknown_invoice_fails_in_one_line(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    with pytest.raises(CommandError, match="Orb does not know nope") as caught:
        run_command("--invoice", "nope")

    assert "\n" not in str(caught.value)


def test_missing_key_fails_in_one_line(
    any_database: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORB_API_KEY", raising=False)
    settings.DJANGO_ORB = {}

    with pytest.raises(CommandError, match="API_KEY"):
        run_command("--in-process")


def test_invoice_that_fails_makes_the_command_fail(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    orb.update_invoice(orb.invoice_ids()[0], total="a lot")

    with pytest.raises(CommandError, match="1 could not be mirrored"):
        run_command("--mode", "full", "--in-process")


def test_without_in_process_workers_do_it(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = catch_messages(monkeypatch)

    assert "Started Incremental sync" in run_command()
    assert len(messages) == 3  # what is open, what is recent, and Orb's events
    with pytest.raises(CommandError, match="has been running since"):
        run_command()


def test_without_a_broker_the_run_is_recorded_and_waits(
    any_committed_database: str, no_broker: None
) -> None:
    out = run_command()

    assert out.startswith("Recorded Incremental sync ")
    assert "The message broker is out of reach, so it waits" in out
    assert SyncRun.objects.get().is_active


def test_interrupt_stops_cleanly_and_the_next_call_goes_on(
    any_committed_database: str,
    orb: OrbSandbox,
    process_environment: Callable[[], dict[str, str]],
) -> None:
    orb.latency_ms = 100
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "django",
            "orb_sync_invoices",
            "--since=2020-01-01",
            "--in-process",
        ],
        env={**process_environment(), "DJANGO_ORB_TEST_PAGE_SIZE": "5"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_for(Invoice.objects.exists, seconds=30)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert err == "Stopped. The next call goes on where this one stopped.\n"
    stored = Invoice.objects.count()
    assert 0 < stored < len(orb.invoice_ids())

    orb.latency_ms = 0
    out = run_command("--since", "2020-01-01", "--in-process")
    assert f"{len(orb.invoice_ids())} invoices seen" in out
    assert SyncRun.objects.count() == 1


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_bar_once_the_size_is_known(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    times.hurry(monkeypatch, progress)
    run_command("--mode", "full", "--in-process")
    out = Terminal()

    call_command("orb_sync_invoices", "--mode=full", "--in-process", stdout=out)

    assert "█" in out.getvalue()
    assert "s left" in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_progress_says_what_it_waits_for(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    run = SyncRun.objects.create(kind="full", started_at="2026-01-01T00:00Z")
    SyncWindow.objects.create(
        run=run, position=0, kind="list", state="pending", error="429: slow down"
    )
    out = StringIO()

    ProgressPrinter(OutputWrapper(out)).show(run)

    assert (
        out.getvalue() == "0 invoices, 0 pages, 0/s. Waiting for Orb: 429: slow down\n"
    )
