"""What a database takes and holds: large rows, narrow encodings, the log of DEBUG."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.core import checks
from django.db import connections

from django_orb import mirror, services, tasks
from django_orb.db.clock import Interval
from django_orb.models import Invoice, InvoiceFailure, InvoiceLineItem, WebhookEvent
from django_orb.webhooks import inbox
from django_orb.webhooks.payload import parse_event
from tests import databases
from tests.deliveries import as_bytes, event_of
from tests.mirror.test_writing import make

NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)
SECONDS = itertools.count()
EMOJI = "\N{GRINNING FACE}"


def packet() -> int:
    """Return MariaDB's limit, and about as much for databases without one."""
    connection = connections[databases.current_alias]
    if connection.vendor != "mysql":
        return 1_000_000
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        limit = int(cursor.fetchone()[0])
    if limit > 2**25:
        pytest.skip("max_allowed_packet is too large for a quick test")
    return limit


def write(*payloads: dict[str, Any]) -> mirror.WriteResult:
    """Each page was asked for a second after the one before."""
    moment = NOON + timedelta(seconds=next(SECONDS))
    page = mirror.read_page(payloads, Interval(moment, moment))
    return mirror.write(page)


def test_a_page_larger_than_a_statement_may_be_is_stored(
    any_committed_database: str,
) -> None:
    text = '"' * (packet() // 5)
    page = [make(f"inv{number}", invented=text) for number in range(4)]

    assert write(*page).created == ["inv0", "inv1", "inv2", "inv3"]

    changed = [{**payload, "other": 1} for payload in page]
    assert len(write(*changed).updated) == 4
    assert Invoice.objects.get(pk="inv3").payload == changed[3]


def test_an_invoice_larger_than_a_statement_may_be_fails_alone_in_words(
    any_committed_database: str,
) -> None:
    page = [make("big", invented="x" * packet()), make("small")]

    result = write(*page)

    if any_committed_database == "mariadb":
        assert list(result.failed) == ["big"]
        failure = InvoiceFailure.objects.get()
        assert "max_allowed_packet" in failure.reason
        assert failure.payload_text == ""
    assert Invoice.objects.filter(pk="small").exists()
    assert write(*page).unchanged == ["small"] or not result.failed


def test_an_event_larger_than_a_statement_may_be_is_kept_without_its_invoice(
    any_committed_database: str,
) -> None:
    invoice = make("inv1", invented="x" * packet())
    body = as_bytes(event_of(invoice, "invoice.edited"))

    inbox.store(parse_event(body), body.decode())

    stored = WebhookEvent.objects.get()
    assert parse_event(stored.body.encode()).invoice_id == "inv1"
    if any_committed_database == "mariadb":
        assert len(stored.body) < 10_000


@contextmanager
def narrow_tables(charset: str) -> Iterator[None]:
    """Have the tables as in a MariaDB whose default is not utf8mb4."""
    tables = [model._meta.db_table for model in (Invoice, InvoiceLineItem)]
    tables += [WebhookEvent._meta.db_table, InvoiceFailure._meta.db_table]
    with connections["mariadb"].cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, column_type, is_nullable, collation_name "
            "FROM information_schema.columns WHERE table_schema = DATABASE() "
            "AND table_name IN %s AND collation_name NOT LIKE '%%\\_bin'",
            [tables],
        )
        columns = cursor.fetchall()
        assert columns

        def alter(how: str) -> None:
            for table, column, kind, is_nullable, collation in columns:
                null = "NULL" if is_nullable == "YES" else "NOT NULL"
                encoding = how or f"utf8mb4 COLLATE {collation}"
                cursor.execute(
                    f"ALTER TABLE {table} MODIFY `{column}` {kind} "
                    f"CHARACTER SET {encoding} {null}"
                )

        alter(charset)
        try:
            yield
        finally:
            alter("")


@pytest.fixture
def mariadb(any_committed_database: str) -> Iterator[Any]:
    if any_committed_database != "mariadb":
        pytest.skip("only MariaDB has an encoding for each column")
    yield connections["mariadb"]
    connections["mariadb"].close()  # with its mode


@pytest.mark.parametrize("mode", ["", "STRICT_TRANS_TABLES"], ids=["lax", "strict"])
@pytest.mark.parametrize("charset", ["latin1", "utf8mb3"])
def test_what_a_table_cannot_hold_is_not_replaced(
    mariadb: Any, charset: str, mode: str
) -> None:
    bad = make("bad")
    bad["line_items"][0]["name"] = EMOJI
    payload = event_of(make("inv1", memo=EMOJI), "invoice.edited")
    body = as_bytes(payload).decode().replace("\\ud83d\\ude00", EMOJI)
    with narrow_tables(charset):
        with mariadb.cursor() as cursor:
            cursor.execute("SET sql_mode = %s", [mode])

        result = write(bad, make("good", memo="plain"))
        inbox.store(parse_event(body.encode()), body)

        assert list(result.failed) == ["bad"]
        assert result.created == ["good"]
        assert InvoiceFailure.objects.get().invoice_id == "bad"
        assert "?" not in WebhookEvent.objects.get().body
        assert not write(make("good", memo=EMOJI)).updated
        assert Invoice.objects.get(pk="good").payload["memo"] == "plain"


def test_w011_tables_that_do_not_hold_every_character(mariadb: Any) -> None:
    def found() -> list[checks.CheckMessage]:
        messages = checks.run_checks(tags=["database"], databases=["mariadb"])
        return [one for one in messages if one.id == "django_orb.W011"]

    assert found() == []
    with narrow_tables("latin1"):
        (message,) = found()
    assert "django_orb_invoice in latin1" in message.msg


def test_debug_keeps_no_statements_of_a_long_run(
    any_committed_database: str, orb: Any, settings: Any
) -> None:
    settings.DEBUG = True
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5}
    connection = connections[any_committed_database]
    connection.queries_log.clear()
    assert not Invoice.objects.exists()

    services.sync_invoices(mode="full")
    list(services.list_invoices())
    list(services.verify_invoices())

    statements = [one["sql"] for one in connection.queries_log]
    assert any("django_orb_invoice" in sql for sql in statements[:3])  # the test's own
    assert not [sql for sql in statements if "line_items" in sql]
    assert len(statements) < 200
    before = len(statements)
    tasks.recover()
    tasks.prune()
    assert len(connection.queries_log) == before
