"""
How fast the mirror is, beside what it is compared with, in one run.

    python -m tests.benchmarks [--database postgresql mariadb sqlite] [--rounds 5]
        [--invoices 5000] [--lines 1 5 50] [--latency 0 50 200] [--workers 1 2 3 4]
        [--only first again] [--json FILE]

The contestants take turns on the same account, served by a sandbox in a process of
its own, and write to the same tables with the same indexes. Medians of the rounds;
look at the ratios, a machine's absolute figures mean little.

- sdk loop: Orb's official SDK, `update_or_create`, lines deleted and created anew.
- floor: no Django and no guarantees: JSON read, values put in rows by hand, COPY into
  a temporary table and INSERT .. SELECT .. ON CONFLICT (PostgreSQL), or executemany
  with ON CONFLICT (SQLite).
- node: the design of the known Node engine, see `node_design` (PostgreSQL).
- node again: the same with nothing changed.
- first, again, changed: a full run of django_orb in one process with every guarantee,
  into empty tables; with nothing changed; with 1 % changed.
- one chain, one chain again: the same with `CONCURRENCY` 1.
- N workers, N workers again: N processes that take windows as Celery's workers do, but
  without a broker (not on SQLite, whose database is in memory).

`--lines` gives each invoice so many lines; without it they have what the sandbox gives
them. `--latency` is what Orb takes for each answer, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import requests

from tests import node_design

KEY = "benchmark-key"
STATUSES = ["draft", "issued", "paid", "synced", "void"]
SDK_SHARE = 10  # the SDK loop gets a tenth of the invoices: it is that slow

ALIASES = {"postgresql": "postgresql", "mariadb": "mariadb", "sqlite": "default"}
# What becomes of an invoice that the sandbox gave no line.
FALLBACK = {"name": "Line", "amount": "1.00", "subtotal": "1.00", "quantity": 1}

INVOICE = [
    "id",
    "invoice_number",
    "invoice_number_key",
    "invoice_source",
    "status",
    "currency",
    "subtotal",
    "total",
    "amount_due",
    "customer_id",
    "external_customer_id",
    "external_customer_key",
    "subscription_id",
    "invoice_date",
    "due_date",
    "created_at",
    "issued_at",
    "paid_at",
    "voided_at",
    "scheduled_issue_at",
    "eligible_to_issue_at",
    "will_auto_issue",
    "issue_failed_at",
    "sync_failed_at",
    "payment_started_at",
    "payment_failed_at",
    "payment_received_at",
    "memo",
    "hosted_invoice_url",
    "invoice_pdf",
    "payload",
    "rounded_fields",
    "missing_since",
    "mirrored_at",
]
LINE = [
    "invoice_id",
    "orb_id",
    "position",
    "name",
    "quantity",
    "amount",
    "subtotal",
    "adjusted_subtotal",
    "credits_applied",
    "partially_invoiced_amount",
    "start_date",
    "end_date",
    "grouping",
    "item_id",
    "price_id",
    "price_type",
    "price_model_type",
    "rounded_fields",
]


class Peer:
    """A process of ours that does what it reads, line by line, and says when it has."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self.answer()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


def serve(invoices: int, lines: int | None) -> None:
    """Be Orb, with the latency that each line of the input gives."""
    from django_orb.testing import OrbSandbox

    with OrbSandbox(invoices=invoices, api_key=KEY) as orb:
        for invoice_id in orb.invoice_ids() if lines else ():
            given = orb.invoice(invoice_id)["line_items"] or [FALLBACK]
            made = [
                {**given[n % len(given)], "id": f"{invoice_id}line{n}"}
                for n in range(lines or 0)
            ]
            orb.update_invoice(invoice_id, line_items=made)
        orb.warm()
        print(orb.base_url, flush=True)
        for line in sys.stdin:
            orb.latency_ms = float(line)
            print("ok", flush=True)


def work() -> None:
    """Work on the runs that the input names, one a line, as Celery's workers do."""
    from django_orb.account import open_account
    from django_orb.models import SyncRun
    from django_orb.sync import runs, windows

    def work_on(run: SyncRun) -> None:
        for window in runs.due_windows(run=run):
            lease = windows.lease_window(window)
            progress = windows.Progress(is_lost=not lease)
            while lease and not progress.is_done and not progress.is_lost:
                progress = runs.turn(
                    window.pk,
                    lease,
                    connect=partial(open_account, retries=0),
                    seconds=20,
                )
                time.sleep(progress.wait_seconds)

    print("ready", flush=True)
    for line in sys.stdin:
        run = SyncRun.objects.get(pk=int(line))
        while run.is_active:
            work_on(run)
            runs.advance(run)
            run.refresh_from_db()
            time.sleep(0.01)
        print("done", flush=True)


def pages(base_url: str) -> Iterator[list[dict[str, Any]]]:
    """The whole account, as the floor reads it."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"
    cursor = None
    while True:
        response = session.get(
            f"{base_url}/invoices",
            params={"status[]": STATUSES, "limit": 100, "cursor": cursor},
        )
        page = json.loads(response.content)
        yield page["data"]
        cursor = page["pagination_metadata"]["next_cursor"]
        if cursor is None:
            return


def rows_of(page: list[dict[str, Any]]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Rows by hand: what the floor does instead of mapping."""
    now = "2026-01-01 00:00:00"
    invoices, lines = [], []
    for one in page:
        number = one["invoice_number"]
        external = one["customer"]["external_customer_id"] or ""
        extra = {
            "invoice_number_key": number.casefold()[:100],
            "customer_id": one["customer"]["id"],
            "external_customer_id": external,
            "external_customer_key": external.casefold()[:100],
            "subscription_id": (one["subscription"] or {}).get("id", ""),
            "memo": one["memo"] or "",
            "hosted_invoice_url": one["hosted_invoice_url"] or "",
            "invoice_pdf": one["invoice_pdf"] or "",
            "payload": json.dumps(one),
            "rounded_fields": "[]",
            "missing_since": None,
            "mirrored_at": now,
        }
        invoices.append([extra[n] if n in extra else one[n] for n in INVOICE])
        for position, line in enumerate(one["line_items"]):
            price = line["price"]
            extra = {
                "invoice_id": one["id"],
                "orb_id": line["id"],
                "position": position,
                "grouping": line["grouping"] or "",
                "item_id": price["item"]["id"],
                "price_id": price["id"],
                "price_type": price["price_type"],
                "price_model_type": price["model_type"],
                "rounded_fields": "[]",
            }
            lines.append([extra[n] if n in extra else line[n] for n in LINE])
    return invoices, lines


def floor(base_url: str, alias: str) -> None:
    from django.db import connections

    wrapper = connections[alias]
    wrapper.ensure_connection()
    tables = (
        ("django_orb_invoice", INVOICE, "id"),
        ("django_orb_invoicelineitem", LINE, "invoice_id, orb_id"),
    )
    write = _copy if wrapper.vendor == "postgresql" else _executemany
    for page in pages(base_url):
        write(wrapper.connection, tables, rows_of(page))


def _copy(connection: Any, tables: Any, rows: Any) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        for (table, columns, key), values in zip(tables, rows, strict=True):
            names = ", ".join(columns)
            cursor.execute(
                f"CREATE TEMP TABLE IF NOT EXISTS t_{table} ON COMMIT DELETE ROWS "
                f"AS SELECT {names} FROM {table} WITH NO DATA"
            )
            with cursor.copy(f"COPY t_{table} ({names}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row(row)
            update = ", ".join(f"{name} = excluded.{name}" for name in columns)
            cursor.execute(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM t_{table} "
                f"ON CONFLICT ({key}) DO UPDATE SET {update}"
            )


def _executemany(connection: Any, tables: Any, rows: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    for (table, columns, key), values in zip(tables, rows, strict=True):
        update = ", ".join(f"{name} = excluded.{name}" for name in columns)
        cursor.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
            f"({', '.join('?' * len(columns))}) ON CONFLICT ({key}) DO UPDATE SET {update}",
            values,
        )
    connection.commit()


def sdk_loop(base_url: str, alias: str, invoices: int) -> None:
    from django.db import transaction
    from orb import Orb

    from django_orb import exact_json
    from django_orb.mirror.mapping import map_invoice
    from django_orb.models import Invoice, InvoiceLineItem

    client = Orb(api_key=KEY, base_url=base_url)
    statuses: Any = STATUSES
    for count, one in enumerate(client.invoices.list(status=statuses, limit=100), 1):
        mapped = map_invoice(exact_json.loads(one.model_dump_json()))
        with transaction.atomic(using=alias):
            columns = {**mapped.columns, "mirrored_at": one.created_at}
            invoice, _ = Invoice.objects.update_or_create(
                id=columns.pop("id"), defaults=columns
            )
            invoice.line_items.all().delete()
            for line in mapped.lines:
                InvoiceLineItem.objects.create(**{**line, "invoice": invoice})
        if count == invoices:
            return


def sync(created: int | None = None) -> None:
    from django_orb import services

    run = services.sync_invoices(mode="full")
    assert created is None or run.created == created, (run.created, run.error)


def clear() -> None:
    from django_orb import models

    for model in (
        models.SyncAbsence,
        models.SyncWindow,
        models.SyncRun,
        models.InvoiceChange,
        models.InvoiceLineTax,
        models.InvoiceCreditNote,
        models.InvoicePaymentAttempt,
        models.InvoiceBalanceTransaction,
        models.InvoiceLineItem,
        models.InvoiceObservation,
        models.Invoice,
        models.MirroredAccount,
    ):
        model.objects.all()._raw_delete(model.objects.db)


def change(base_url: str, share: float) -> None:
    """Let the sandbox change a share of its invoices: their metadata."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"
    step = round(1 / share)
    ids = [one["id"] for page in pages(base_url) for one in page]
    for invoice_id in ids[::step]:
        body = {"metadata": {"changed": str(time.time())}}
        session.put(f"{base_url}/invoices/{invoice_id}", json=body).raise_for_status()


def run_by(workers: list[Peer], created: int | None = None) -> None:
    from django_orb.models import SyncRun
    from django_orb.sync import runs

    run = runs.start_run("full")
    for worker in workers:
        worker.tell(str(run.pk))
    for worker in workers:
        worker.answer()
    run.refresh_from_db()
    assert run.state == SyncRun.State.SUCCEEDED, run.error
    assert created is None or run.created == created, (run.created, run.error)


def node(base_url: str, alias: str) -> None:
    from django.db import connections

    parameters = connections[alias].get_connection_params()
    known = {"host", "port", "user", "password", "dbname"}
    node_design.mirror(
        pages(base_url), {name: parameters[name] for name in known & {*parameters}}
    )


def prepare_node(alias: str) -> None:
    from django.db import connections

    connections[alias].ensure_connection()
    node_design.create(connections[alias].connection)


class Measure:
    """The contestants on one database, against one server."""

    def __init__(self, alias: str, base_url: str, invoices: int, only: list[str]):
        self.alias = alias
        self.base_url = base_url
        self.invoices = invoices
        self.only = only
        self.figures: dict[str, list[float]] = {}

    def time(self, name: str, call: Callable[[], None], count: int = 0) -> None:
        begin = time.perf_counter()
        call()
        rate = (count or self.invoices) / (time.perf_counter() - begin)
        self.figures.setdefault(name, []).append(rate)
        print(f"  {name}: {rate:,.0f}/s", file=sys.stderr, flush=True)

    def wants(self, *names: str) -> bool:
        return not self.only or any(name in self.only for name in names)

    def others(self) -> None:
        few = max(100, self.invoices // SDK_SHARE)
        if self.wants("sdk loop"):
            clear()
            loop = partial(sdk_loop, self.base_url, self.alias, few)
            self.time("sdk loop", loop, few)
        if self.wants("floor") and self.alias != "mariadb":
            clear()
            self.time("floor", partial(floor, self.base_url, self.alias))
        if self.wants("node") and self.alias == "postgresql":
            prepare_node(self.alias)
            for name in ("node", "node again"):
                self.time(name, partial(node, self.base_url, self.alias))

    def ours(self) -> None:
        if not self.wants("first", "again", "changed"):
            return
        clear()
        self.time("first", partial(sync, created=self.invoices))
        self.time("again", sync)
        if self.wants("changed"):
            change(self.base_url, 0.01)
            self.time("changed", sync)

    def one_chain(self) -> None:
        from django.conf import settings

        if not self.wants("one chain"):
            return
        clear()
        before = settings.DJANGO_ORB
        settings.DJANGO_ORB = {**before, "CONCURRENCY": 1}
        self.time("one chain", partial(sync, created=self.invoices))
        self.time("one chain again", sync)
        settings.DJANGO_ORB = before

    def workers(self, peers: list[Peer]) -> None:
        from django_orb.account import open_account

        clear()
        with open_account():  # so that the account is known
            name = f"{len(peers)} workers"
            self.time(name, partial(run_by, peers, self.invoices))
            self.time(f"{name} again", partial(run_by, peers))


def report(title: str, figures: dict[str, list[float]]) -> None:
    base = statistics.median(next(iter(figures.values())))
    print(f"\n{title}")
    print(f"{'':<18}{'median/s':>10}{'min':>9}{'max':>9}{'ratio':>8}")
    for name, values in figures.items():
        median = statistics.median(values)
        spread = f"{min(values):>9,.0f}{max(values):>9,.0f}"
        print(f"{name:<18}{median:>10,.0f}{spread}{median / base:>8.2f}")
    sys.stdout.flush()


def measure_server(
    options: argparse.Namespace, aliases: list[str], lines: int | None
) -> list[dict[str, Any]]:
    """Measure everything against an account whose invoices have so many lines."""
    from django.conf import settings

    from tests import databases
    from tests.conftest import environment_of

    found = []
    arguments = ["--serve", "--invoices", str(options.invoices)]
    arguments += ["--lines", str(lines)] if lines else []
    with Peer(*arguments) as server, ExitStack() as stack:
        base_url = server.first
        invoices = sum(len(page) for page in pages(base_url))
        environment = {
            "DJANGO_ORB_TEST_API_KEY": KEY,
            "DJANGO_ORB_TEST_BASE_URL": base_url,
        }
        settings.DJANGO_ORB = {
            "API_KEY": KEY,
            "BASE_URL": base_url,
            "READS_PER_SECOND": 100_000,
        }
        for alias in aliases:
            databases.use_alias(alias)
            peers = [
                stack.enter_context(
                    Peer("--work", **{**environment_of(alias), **environment})
                )
                for _ in range(0 if alias == "default" else max(options.workers))
            ]
            for latency in options.latency:
                server.tell(str(latency))
                server.answer()
                measure = Measure(alias, base_url, invoices, options.only)
                for _ in range(options.rounds):
                    measure.others()
                    measure.one_chain()
                    measure.ours()
                    for number in options.workers if peers else ():
                        if number:
                            measure.workers(peers[:number])
                title = f"{alias}, {lines or 'usual'} lines, {latency:g} ms"
                report(title, measure.figures)
                found += [
                    {
                        "database": alias,
                        "lines": lines,
                        "latency_ms": latency,
                        "invoices": invoices,
                        "name": name,
                        "rates": values,
                        "median": statistics.median(values),
                    }
                    for name, values in measure.figures.items()
                ]
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--invoices", type=int, default=5000)
    add("--rounds", type=int, default=5)
    add("--database", nargs="+", choices=ALIASES, default=["postgresql", "sqlite"])
    add("--lines", type=int, nargs="+", default=[None])
    add("--latency", type=float, nargs="+", default=[0.0])
    add("--workers", type=int, nargs="+", default=[0], help="0: none")
    add("--only", nargs="+", default=[], help="contestants besides the workers")
    add("--json", type=Path, metavar="FILE", help="write the figures here as well")
    add("--serve", action="store_true", help=argparse.SUPPRESS)
    add("--work", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.serve:
        serve(options.invoices, options.lines[0])
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

    import django
    from django.test.utils import setup_databases, teardown_databases

    django.setup()
    if options.work:
        work()
        return
    aliases = [ALIASES[name] for name in options.database]
    created = setup_databases(
        0, False, aliases={"default": None, **dict.fromkeys(aliases)}
    )
    found: list[dict[str, Any]] = []
    try:
        for lines in options.lines:
            found += measure_server(options, aliases, lines)
    finally:
        teardown_databases(created, 0)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
