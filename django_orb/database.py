"""What Django's ORM does not offer: whole transactions retried, rows upserted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

T = TypeVar("T")

MAX_ATTEMPTS = 10
# MariaDB: deadlock, lock wait time-out, row changed since it was read.
_MYSQL_RETRY_CODES = {1213, 1205, 1020}
# PostgreSQL: serialization failure, deadlock.
_SQLSTATES = {"40001", "40P01"}
# PostgreSQL's protocol counts parameters with 16 bits.
_MAX_PARAMETERS = 60_000


def run_in_transaction(body: Callable[[], T], *, using: str) -> T:
    """
    Run `body` in a transaction, and all of it again when others were in the way.

    Inside a caller's transaction it runs once: what the caller did before cannot
    be repeated from here.
    """
    if connections[using].in_atomic_block:
        with transaction.atomic(using=using):
            return body()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with transaction.atomic(using=using):
                return body()
        except OperationalError as err:
            if attempt == MAX_ATTEMPTS or not is_contention(err):
                raise
            time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311
    raise AssertionError("unreachable")


def is_contention(err: BaseException) -> bool:
    """Whether a database error only says that another transaction was in the way."""
    if "locked" in str(err):  # SQLite
        return True
    if err.args and err.args[0] in _MYSQL_RETRY_CODES:
        return True
    cause = err.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state in _SQLSTATES


def upsert(
    model: type[models.Model],
    rows: Sequence[dict[str, Any]],
    *,
    key: Iterable[str],
    using: str,
) -> None:
    """
    Insert rows, or overwrite those that have the same key.

    All rows name the same columns, by field name. No signals, no return values.
    """
    if not rows:
        return
    connection = connections[using]
    fields = [model._meta.get_field(name) for name in rows[0]]
    parameters = [
        [
            field.get_db_prep_save(row[field.name], connection)  # type: ignore[union-attr]
            for field in fields
        ]
        for row in rows
    ]
    head, one, tail = _upsert_sql(connection, model, fields, set(key))
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executemany(f"{head} {one} {tail}", parameters)
            return
        size = _MAX_PARAMETERS // len(fields)
        for start in range(0, len(parameters), size):
            batch = parameters[start : start + size]
            values = ", ".join([one] * len(batch))
            cursor.execute(
                f"{head} {values} {tail}", [value for row in batch for value in row]
            )


def _upsert_sql(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    fields: Sequence[Any],
    key: set[str],
) -> tuple[str, str, str]:
    quote = connection.ops.quote_name
    columns = [quote(field.column) for field in fields]
    head = f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(columns)}) VALUES"
    one = f"({', '.join(['%s'] * len(columns))})"
    changed = [quote(field.column) for field in fields if field.name not in key]
    if connection.vendor == "mysql":
        update = ", ".join(f"{column} = VALUES({column})" for column in changed)
        return head, one, f"ON DUPLICATE KEY UPDATE {update}"
    target = ", ".join(quote(field.column) for field in fields if field.name in key)
    update = ", ".join(f"{column} = excluded.{column}" for column in changed)
    return head, one, f"ON CONFLICT ({target}) DO UPDATE SET {update}"
