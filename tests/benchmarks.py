"""
How fast the mirror is, beside what it is compared with, in one run.

    python -m tests.benchmarks [--invoices 5000] [--rounds 5] [--database postgresql]

The contestants take turns on the same account, served by a sandbox in a process of
its own, and write to the same tables with the same indexes. Medians of the rounds;
look at the ratios, a machine's absolute figures mean little.

- sdk loop: Orb's official SDK, `update_or_create`, lines deleted and created anew.
- floor: no Django and no guarantees: JSON read, values put in rows by hand, COPY into
  a temporary table and INSERT .. SELECT .. ON CONFLICT (PostgreSQL), or executemany
  with ON CONFLICT (SQLite).
- first, again, changed: a full run of django_orb with every guarantee, into empty
  tables; with nothing changed; with 1 % changed.
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
from contextlib import contextmanager
from typing import Any

import requests

KEY = "benchmark-key"
STATUSES = ["draft", "issued", "paid", "synced", "void"]
SDK_SHARE = 10  # the SDK loop gets a tenth of the invoices: it is that slow

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


@contextmanager
def sandbox(invoices: int) -> Iterator[str]:
    command = [sys.executable, "-m", "django_orb.testing", "--api-key", KEY]
    process = subprocess.Popen(
        [*command, "--invoices", str(invoices)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


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
                InvoiceLineItem.objects.create(invoice=invoice, **line)
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


def timed(name: str, invoices: int, call: Callable[[], None], figures: Any) -> None:
    begin = time.perf_counter()
    call()
    rate = invoices / (time.perf_counter() - begin)
    figures.setdefault(name, []).append(rate)
    print(f"  {name}: {rate:,.0f}/s", flush=True)


def measure(alias: str, base_url: str, invoices: int, rounds: int) -> None:
    figures: dict[str, list[float]] = {}
    few = max(100, invoices // SDK_SHARE)
    for number in range(rounds):
        print(f"{alias}, round {number + 1} of {rounds}", flush=True)
        clear()
        timed("sdk loop", few, lambda: sdk_loop(base_url, alias, few), figures)
        clear()
        timed("floor", invoices, lambda: floor(base_url, alias), figures)
        clear()
        timed("first", invoices, lambda: sync(created=invoices), figures)
        timed("again", invoices, sync, figures)
        change(base_url, 0.01)
        timed("changed", invoices, sync, figures)
    report(alias, figures)


def report(alias: str, figures: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(
        f"\n{alias:<12}{'median/s':>10}{'min':>9}{'max':>9}{'x sdk':>8}{'x floor':>9}"
    )
    for name, values in figures.items():
        median = medians[name]
        print(
            f"{name:<12}{median:>10,.0f}{min(values):>9,.0f}{max(values):>9,.0f}"
            f"{median / medians['sdk loop']:>8.1f}{median / medians['floor']:>9.2f}"
        )
    print(f"again / first: {medians['again'] / medians['first']:.1f}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--invoices", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--database", choices=["postgresql", "sqlite", "both"], default="both"
    )
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

    import django
    from django.conf import settings
    from django.test.utils import setup_databases, teardown_databases

    from tests import databases

    django.setup()
    names = {"postgresql": ["postgresql"], "sqlite": ["default"]}
    aliases = names.get(options.database, ["postgresql", "default"])
    created = setup_databases(
        0, False, aliases={"default": None, **dict.fromkeys(aliases)}
    )
    try:
        with sandbox(options.invoices) as base_url:
            # Rendered once, as for everybody after. A month that ends now adds some.
            invoices = sum(len(page) for page in pages(base_url))
            settings.DJANGO_ORB = {
                "API_KEY": KEY,
                "BASE_URL": base_url,
                "READS_PER_SECOND": 100_000,
            }
            for alias in aliases:
                databases.use_alias(alias)
                measure(alias, base_url, invoices, options.rounds)
    finally:
        teardown_databases(created, 0)


if __name__ == "__main__":
    main()
