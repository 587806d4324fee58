"""
The statements about observations that every page needs, in SQL of our own.

A page in which nothing changed costs little else, and the ORM would take longer to
build them than the database takes to execute them. Their text is the same for any page.
`page_writer` says what they are for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_orb.db import Interval, claim, epoch_sql, primary
from django_orb.models import InvoiceFailure, InvoiceObservation, InvoiceOperation

from .ordering import Known

_EMPTY = {"content_hash": "", "raw_digest": "", "version": 0, "mapper_version": 0}


def claim_observations(invoice_ids: Sequence[str]) -> None:
    """Make sure that each invoice has an observation, which its writers lock."""
    # In the order in which pages lock them, since MariaDB locks those that exist, too.
    rows = [{"invoice": pk, **_EMPTY} for pk in sorted({*invoice_ids})]
    claim(InvoiceObservation, rows)


def lock_texts(
    invoice_ids: Sequence[str], *, written_since: datetime
) -> tuple[dict[str, Known], float | None]:
    """
    Lock rows like `lock_known`, but return only what tells whether a text came before.
    """
    rows, epoch = _lock(
        f"{_TEXTS}, {_WRITTEN_TO}", invoice_ids, _written(written_since)
    )
    known = {}
    for pk, _, content_hash, raw_digest, version, mapper_version, *answers in rows:
        is_flagged, has_failed, was_written_to = map(bool, answers)
        known[pk] = Known(
            content_hash=content_hash,
            raw_digest=raw_digest,
            version=version,
            mapper_version=mapper_version,
            is_flagged=is_flagged,
            has_failed=has_failed,
            was_written_to=was_written_to,
        )
    return known, epoch


def lock_known(
    invoice_ids: Sequence[str], *, written_since: datetime
) -> tuple[dict[str, Known], float | None]:
    """
    Lock rows in the order of their ids. Return them, and the database's time.

    `was_written_to` says whether we changed the invoice in Orb after `written_since`, or
    may have changed it, because no answer has come yet.
    The time is in seconds since 1970. On SQLite it is None, and rows have no locks:
    there a statement before must have written.
    """
    rows, epoch = _lock(
        f"{_KNOWN}, {_WRITTEN_TO}", invoice_ids, _written(written_since)
    )
    read_time = _time_reader(primary.connection())
    known = {}
    for pk, _, *values, was_written_to in rows:
        for index in range(len(_TIMES)):
            values[index] = values[index] and read_time(values[index])
        columns = dict(zip(_TIMES + _OTHERS, values, strict=True))
        known[pk] = Known(**columns, was_written_to=bool(was_written_to))
    return known, epoch


def _written(since: datetime) -> list[Any]:
    """Return the parameters of `_WRITTEN_TO`."""
    adapt = primary.connection().ops.adapt_datetimefield_value
    states = InvoiceOperation.State
    return [states.SUCCEEDED.value, adapt(since), states.PENDING.value]


def _lock(
    columns: str, invoice_ids: Sequence[str], parameters: Sequence[Any] = ()
) -> tuple[list[tuple[Any, ...]], float | None]:
    connection = primary.connection()
    sql = _text(connection.vendor, _LOCK.replace("{columns}", columns))
    with connection.cursor() as cursor:
        cursor.execute(
            sql % _one_of(connection, invoice_ids),
            [*parameters, *_parameters(connection, invoice_ids)],
        )
        rows = cursor.fetchall()
    epoch = rows[0][1] if rows else None
    return rows, None if epoch is None else float(epoch)


def _time_reader(connection: BaseDatabaseWrapper) -> Callable[[Any], datetime]:
    """Return a converter from the driver's times to aware ones."""
    convert = getattr(connection.ops, "convert_datetimefield_value", None)
    if convert is None:
        return lambda value: value
    return lambda value: convert(value, None, connection)


def begin_writing(connection: BaseDatabaseWrapper) -> None:
    """
    Let a transaction on SQLite write before it reads.

    A transaction that began with a read cannot go on to write while another one does.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _text(connection.vendor, "UPDATE {seen} SET version = 0 WHERE 1 = 0")
        )


def see_again(
    invoice_ids: Sequence[str], interval: Interval, run_id: int | None
) -> None:
    """Advance the intervals of rows that are locked and unchanged."""
    connection = primary.connection()
    adapt = connection.ops.adapt_datetimefield_value
    bounds = [adapt(interval.started_at), adapt(interval.ended_at)]
    sql = _text(connection.vendor, _SEE_AGAIN) % _one_of(connection, invoice_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            sql, [*bounds, run_id or 0, *_parameters(connection, invoice_ids)]
        )


_TIMES = ("started_at", "ended_at", "failed_from", "failed_until", "rewrite_at")
_OTHERS = ("content_hash", "raw_digest", "version", "run_id", "mapper_version")
_KNOWN = ", ".join(f"s.{name}" for name in _TIMES + _OTHERS)
_WRITTEN_TO = """
    EXISTS (
        SELECT 1 FROM {operation} o
        WHERE o.invoice_id = s.invoice_id AND (
            o.state = %%s AND o.finished_at > %%s
            OR o.state = %%s AND o.first_sent_at IS NOT NULL
        )
    )
"""
_TEXTS = """
    s.content_hash, s.raw_digest, s.version, s.mapper_version,
    s.rewrite_at IS NOT NULL,
    s.failed_until IS NOT NULL OR EXISTS (SELECT 1 FROM {failed} f WHERE f.invoice_id = s.invoice_id)
"""
# In the order of ids, so that two pages with the same invoices wait for each other and
# do not deadlock. The clock is read in the same statement, which costs no other one.
# `%%s` is left for the driver; `%s` becomes the list of ids.
_LOCK = """
    SELECT s.invoice_id, {epoch}, {columns} FROM {seen} s
    WHERE s.invoice_id %s ORDER BY s.invoice_id {for_update}
"""
# Zero stands for no run: if one argument is NULL, so is the greatest on SQLite and
# MariaDB; only PostgreSQL passes over it.
_SEE_AGAIN = """
    UPDATE {seen} SET version = version + 1,
        started_at = {greatest}(started_at, %%s),
        ended_at = {greatest}(ended_at, %%s),
        run_id = NULLIF({greatest}(COALESCE(run_id, 0), %%s), 0)
    WHERE invoice_id %s
"""


@cache
def _text(vendor: str, sql: str) -> str:
    is_sqlite = vendor == "sqlite"
    return sql.format(
        seen=_table(InvoiceObservation),
        failed=_table(InvoiceFailure),
        operation=_table(InvoiceOperation),
        epoch=epoch_sql(vendor),
        for_update="" if is_sqlite else "FOR UPDATE",
        greatest="MAX" if is_sqlite else "GREATEST",
    )


def _table(model: type[models.Model]) -> str:
    return model._meta.db_table


def _one_of(connection: BaseDatabaseWrapper, values: Sequence[str]) -> str:
    if connection.vendor == "postgresql":
        return "= ANY(%s)"
    if connection.vendor == "sqlite":
        # One parameter for any number of ids, so that the text stays the same.
        return "IN (SELECT value FROM json_each(%s))"
    return f"IN ({', '.join(['%s'] * len(values))})"


def _parameters(connection: BaseDatabaseWrapper, values: Sequence[str]) -> list[Any]:
    if connection.vendor == "postgresql":
        return [list(values)]
    if connection.vendor == "sqlite":
        return [json.dumps(list(values))]
    return list(values)
