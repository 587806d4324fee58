"""
The mirror at size: `python -m tests.scale --invoices 200000 --workers 4`.

A full run of a made-up account, one percent of it open, by Celery workers on RabbitMQ
into PostgreSQL, then incremental ones after some invoices were paid. Exit status 0 only
if the memory of no worker grew, and the incremental runs asked no more than they may.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

MAX_GROWTH_MB = 20.0
OPEN_SHARE = 0.01
SAMPLE_SECONDS = 0.2
#: What a worker imports for its first page counts as its beginning.
WARM_UP_SECONDS = 5.0
#: What a process used more than when the run began has done a page.
FIRST_PAGE_CPU_SECONDS = 0.3
#: `open + recent` are listed by pages of 100; the rest is asked for one by one.
PER_PAGE = 100
SPARE_REQUESTS = 5


@dataclass
class Memory:
    """The resident memory of processes, in MB, over time, and when each was at work."""

    samples: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    _idle_cpu_seconds: dict[int, float] = field(default_factory=dict)

    def sample(self, pids: list[int], moment: float) -> None:
        for pid in pids:
            megabytes = resident_mb(pid)
            if megabytes is not None:
                self.samples.setdefault(pid, []).append((moment, megabytes))
                used = cpu_seconds(pid)
                used -= self._idle_cpu_seconds.setdefault(pid, used)
                if used > FIRST_PAGE_CPU_SECONDS:
                    self.began.setdefault(pid, moment)

    def peak(self, pid: int, begin: float, end: float) -> float:
        found = [mb for moment, mb in self.samples[pid] if begin <= moment <= end]
        return max(found, default=0.0)


@dataclass
class Report:
    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, name: str, value: str, bound: str = "", ok: bool = True) -> None:
        self.rows.append((name, value, bound, ok))

    @property
    def is_good(self) -> bool:
        return all(ok for *_, ok in self.rows)

    def print(self) -> None:
        rows = [
            (name, value, bound, ("ok" if ok else "TOO MUCH") if bound else "")
            for name, value, bound, ok in self.rows
        ]
        widths = [max(len(row[n]) for row in rows) for n in range(4)]
        for row in rows:
            cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            print("  ".join(cells).rstrip())


def resident_mb(pid: int) -> float | None:
    """
    What a process holds in memory, shared or not; None if it is gone.

    What it shares with its parent becomes its own at any time, without growing.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    """What a process has used of processors so far; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


class Sandbox:
    """An Orb in a process of its own."""

    def __init__(self, invoices: int) -> None:
        command = [sys.executable, "-m", "django_orb.testing"]
        self._process = subprocess.Popen(
            [*command, "--invoices", str(invoices)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            raise RuntimeError("The sandbox did not start.")

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.base_url.removesuffix('/v1')}/_sandbox{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def request_count(self) -> int:
        return sum(self.ask("/")["request_counts"].values())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def own_database() -> Iterator[None]:
    """A PostgreSQL database for this run alone, which its workers use too."""
    import psycopg
    from psycopg import sql

    from .databases import address

    where = address("POSTGRESQL", 5432, "postgres", "postgres")
    name = f"django_orb_scale_{uuid.uuid4().hex[:12]}"

    def execute(statement: str) -> None:
        with psycopg.connect(
            host=where["HOST"],
            port=where["PORT"],
            user=where["USER"],
            password=where["PASSWORD"],
            dbname=where["NAME"],
            autocommit=True,
        ) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    execute("CREATE DATABASE {}")
    os.environ["DJANGO_ORB_POSTGRESQL_NAME"] = name
    try:
        yield
    finally:
        execute("DROP DATABASE {} WITH (FORCE)")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--invoices", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="give up after so long"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        stack.enter_context(own_database())
        sandbox = Sandbox(options.invoices)
        stack.callback(sandbox.stop)
        os.environ.update(
            DJANGO_SETTINGS_MODULE="tests.settings",
            DJANGO_ORB_TEST_ALIAS="postgresql",
            DJANGO_ORB_TEST_API_KEY="sandbox-key",
            DJANGO_ORB_TEST_BASE_URL=sandbox.base_url,
            DJANGO_ORB_TEST_SWEEP_MINUTES="60",
        )
        report = measure(sandbox, options, stack)
    report.print()
    return 0 if report.is_good else 1


def measure(sandbox: Sandbox, options: argparse.Namespace, stack: ExitStack) -> Report:
    import django

    django.setup()
    # Only now is there a database to import models for.
    from django.core.management import call_command
    from django.db import connections

    from .databases import rabbitmq_url, use_alias
    from .workers import Workers

    use_alias("postgresql")
    call_command("migrate", database="postgresql", verbosity=0)
    close_all_but(sandbox, int(options.invoices * OPEN_SHARE))
    stack.callback(connections.close_all)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    workers = Workers(
        rabbitmq_url(),
        dict(os.environ),
        Path(folder) / "worker.log",
        processes=options.workers,
    )
    workers.start()
    stack.callback(workers.stop)
    run = Runs(workers, sandbox, options.minutes * 60)
    report = Report()
    full(run, report)
    incremental(run, report)
    return report


class Runs:
    """Starts runs through the broker and watches the workers meanwhile."""

    def __init__(self, workers: Any, sandbox: Sandbox, seconds: float) -> None:
        self.workers = workers
        self.sandbox = sandbox
        self.memory = Memory()
        self._seconds = seconds

    def start(self, mode: str) -> Any:
        """The run of this mode, finished."""
        from kombu import Connection

        from django_orb import tasks
        from django_orb.models import SyncRun

        newest = SyncRun.objects.order_by("-pk").values_list("pk", flat=True).first()
        with Connection(self.workers.broker_url) as connection:

            def send(task: Any, **options: Any) -> None:
                task.apply_async(
                    connection=connection, queue=self.workers.queue, **options
                )

            send(tasks.sync_invoices, kwargs={"mode": mode})
            self._watch(
                lambda: SyncRun.objects.filter(
                    pk__gt=newest or 0, finished_at__isnull=False
                ).exists(),
                lambda: send(tasks.recover),
            )
        return SyncRun.objects.get(pk__gt=newest or 0)

    def _watch(self, is_done: Callable[[], bool], recover: Callable[[], None]) -> None:
        pids = children_of(self.workers._process.pid)
        begin = time.monotonic()
        recovered = begin
        while not is_done():
            now = time.monotonic()
            if now - begin > self._seconds:
                raise TimeoutError(self.workers.log_text()[-5000:])
            if now - recovered > 60:
                recover()
                recovered = now
            self.memory.sample(pids, now)
            time.sleep(SAMPLE_SECONDS)


def full(runs: Runs, report: Report) -> None:
    begin = time.monotonic()
    run = runs.start("full")
    end = time.monotonic()
    expected = sum(runs.sandbox.ask("/")["status_counts"].values())
    seconds = end - begin
    report.add("full run", f"{run.state}, {run.invoices} invoices {run.error}")
    report.add("created", str(run.created), f"= {expected}", ok=run.created == expected)
    report.add("duration", f"{seconds:.1f} s")
    report.add("invoices per second", f"{run.invoices / seconds:.0f}")
    report.add("requests", str(run.requests))
    tenth = seconds / 10
    for number, pid in enumerate(sorted(runs.memory.samples), start=1):
        began = runs.memory.began.get(pid, end)
        first = runs.memory.peak(pid, begin, began + max(tenth, WARM_UP_SECONDS))
        last = runs.memory.peak(pid, end - tenth, end)
        report.add(
            f"worker {number}: peak in first tenth, last tenth",
            f"{first:.1f} MB, {last:.1f} MB",
            f"grows < {MAX_GROWTH_MB:.0f} MB",
            ok=last - first < MAX_GROWTH_MB,
        )
    peaks = [max(mb for _, mb in taken) for taken in runs.memory.samples.values()]
    report.add(
        "peak of all", f"{max(peaks):.1f} MB, median {statistics.median(peaks):.1f}"
    )


def close_all_but(sandbox: Sandbox, wanted: int) -> None:
    """Leave so many invoices unsettled at Orb; the account has more as it is made."""
    from django_orb.client.orb_client import OrbClient

    with OrbClient.from_settings() as client:
        unsettled = [
            (invoice["id"], invoice["status"])
            for page in client.list_invoices(status=["draft", "issued"])
            for invoice in page["data"]
        ]
    unsettled.sort(key=lambda one: one[1])
    for invoice_id, status in unsettled[: max(0, len(unsettled) - wanted)]:
        if status == "draft":
            sandbox.ask(f"/invoices/{invoice_id}", "DELETE", {})
        else:
            sandbox.ask(f"/invoices/{invoice_id}/mark_paid", "POST", {})


def pay(sandbox: Sandbox, count: int) -> int:
    """Have so many issued invoices paid at Orb; how many were."""
    from django_orb.models import Invoice

    issued = Invoice.objects.filter(status="issued").order_by("invoice_date", "pk")
    chosen = list(issued.values_list("pk", flat=True)[:count])
    for invoice_id in chosen:
        sandbox.ask(f"/invoices/{invoice_id}/mark_paid", "POST", {})
    return len(chosen)


def incremental(runs: Runs, report: Report) -> None:
    """
    One in a hundred of those that are open is paid meanwhile.

    Found by a sweep, as in an account without a list of events, and by that list.
    """
    from django_orb.models import WebhookFeed

    runs.sandbox.ask("/options", "PUT", {"has_webhook_events": False})
    unsettled, recent, changed = incremental_run(runs, report, "sweep")
    bound = (unsettled + recent) / PER_PAGE + changed + SPARE_REQUESTS
    report_requests(runs, report, bound)

    runs.sandbox.ask("/options", "PUT", {"has_webhook_events": True})
    WebhookFeed.objects.all().delete()
    run = runs.start("incremental")  # reads what the account's making left in the list
    # As if that had been long ago, and not within what is read again each time.
    WebhookFeed.objects.update(read_until=run.started_at)
    _, _, changed = incremental_run(runs, report, "events")
    report_requests(runs, report, changed + SPARE_REQUESTS)


def incremental_run(runs: Runs, report: Report, name: str) -> tuple[int, int, int]:
    """How many were unsettled, recent and changed."""
    from django_orb.conf import get_settings
    from django_orb.models import Invoice, InvoiceChange

    wanted = int(Invoice.objects.count() * OPEN_SHARE)
    changed = pay(runs.sandbox, max(1, wanted // 100))
    known = InvoiceChange.objects.count()
    runs.sandbox.ask("/requests", "DELETE")
    begin = time.monotonic()

    run = runs.start("incremental")

    lookback = timedelta(days=get_settings().LOOKBACK_DAYS)
    counts = runs.sandbox.ask("/")["status_counts"]
    unsettled = counts["draft"] + counts["issued"]
    recent = Invoice.objects.filter(invoice_date__gte=run.started_at - lookback).count()
    found = InvoiceChange.objects.count() - known
    report.add(f"incremental run: {name}", f"{run.state}, {run.invoices} listed")
    report.add("duration", f"{time.monotonic() - begin:.1f} s")
    report.add("open, recent, changed", f"{unsettled}, {recent}, {changed}", "")
    report.add("found", str(found), f"= {changed}", found == changed)
    return unsettled, recent, changed


def report_requests(runs: Runs, report: Report, bound: float) -> None:
    asked = runs.sandbox.request_count()
    report.add("requests", str(asked), f"<= {bound:.2f}", ok=asked <= bound)


if __name__ == "__main__":
    sys.exit(main())
