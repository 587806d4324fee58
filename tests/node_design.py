"""
The design of the known Node engine, written afresh, for `tests.benchmarks`.

A page is read, then each of its invoices is one upsert with its lines as one JSON value,
over five connections at a time; nothing is compared, locked or counted. PostgreSQL only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

CONNECTIONS = 5
TABLE = "node_design_invoice"

TEXTS = (
    *("id", "invoice_number", "invoice_source", "status", "currency", "memo"),
    *("hosted_invoice_url", "invoice_pdf"),
)
AMOUNTS = ("subtotal", "total", "amount_due", "minimum_amount", "maximum_amount")
TIMES = (
    *("invoice_date", "due_date", "created_at", "issued_at", "paid_at", "voided_at"),
    *("scheduled_issue_at", "eligible_to_issue_at", "issue_failed_at"),
    *("sync_failed_at", "payment_started_at", "payment_failed_at"),
)
VALUES = (
    *("line_items", "customer", "subscription", "auto_collection", "discounts"),
    *("billing_address", "shipping_address", "customer_tax_id", "metadata"),
    *("customer_balance_transactions", "credit_notes", "payment_attempts"),
    *("discount", "minimum", "maximum"),
)
COLUMNS = (*TEXTS, *AMOUNTS, *TIMES, *VALUES)


def create(connection: Any) -> None:
    kinds = (
        *((name, "text") for name in TEXTS),
        *((name, "numeric") for name in AMOUNTS),
        *((name, "timestamptz") for name in TIMES),
        *((name, "jsonb") for name in VALUES),
    )
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds)
    connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
    connection.execute(
        f"CREATE TABLE {TABLE} ({columns}, synced_at timestamptz, PRIMARY KEY (id))"
    )


def row_of(invoice: dict[str, Any]) -> list[Any]:
    plain = [invoice.get(name) for name in (*TEXTS, *AMOUNTS, *TIMES)]
    return [*plain, *(json.dumps(invoice.get(name)) for name in VALUES)]


def upsert_sql() -> str:
    marks = ", ".join(["%s"] * len(COLUMNS))
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    return (
        f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}, synced_at) "
        f"VALUES ({marks}, now()) ON CONFLICT (id) DO UPDATE SET {updates}, "
        "synced_at = excluded.synced_at"
    )


def mirror(pages: Iterable[list[dict[str, Any]]], parameters: dict[str, Any]) -> None:
    """Store all pages; the table is there. `parameters` are psycopg's."""
    import psycopg

    sql = upsert_sql()
    pool: SimpleQueue[Any] = SimpleQueue()
    opened = [
        psycopg.connect(**parameters, autocommit=True) for _ in range(CONNECTIONS)
    ]
    for connection in opened:
        pool.put(connection)

    def upsert(invoice: dict[str, Any]) -> None:
        connection = pool.get()
        try:
            connection.execute(sql, row_of(invoice))
        finally:
            pool.put(connection)

    try:
        with ThreadPoolExecutor(CONNECTIONS) as executor:
            for page in pages:
                list(executor.map(upsert, page))
    finally:
        for connection in opened:
            connection.close()
