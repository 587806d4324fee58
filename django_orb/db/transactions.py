"""Run whole transactions, again after a deadlock or time-out, and explain errors."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError

from django_orb.exceptions import OrbTransactionError

from . import primary

T = TypeVar("T")

#: What locks the rows of a SELECT for reading, by the database's vendor. MariaDB does not
#: know FOR SHARE. SQLite has no locks of rows: there a transaction that has written is
#: alone.
SHARED_LOCK = {"postgresql": "FOR SHARE", "mysql": "LOCK IN SHARE MODE"}

MAX_ATTEMPTS = 10
# MariaDB: deadlock, lock wait time-out, row changed since it was read.
# The last comes from 11.8 on by default, which has `innodb_snapshot_isolation` on.
# After 1205 the earlier statements of the transaction are still there, unless
# `innodb_rollback_on_timeout` is on: so all of it is rolled back here.
_MYSQL_RETRY_CODES = {1213, 1205, 1020}
# PostgreSQL: serialization failure, deadlock, lock time-out.
_SQLSTATES = {"40001", "40P01", "55P03"}
# SQLite's own words, since Python 3.10 gives no code of its errors. Other databases call
# other things locked, such as accounts.
_SQLITE_LOCKED = re.compile(r"database (table |schema )?is locked")


def run_in_transaction(body: Callable[[], T]) -> T:
    """
    Run `body` in a transaction, and again after a deadlock or a lock time-out.

    Inside a caller's transaction it runs once: what the caller did before cannot
    be repeated from here.
    """
    # A savepoint, so that an error here leaves the caller's transaction usable.
    if primary.connection().in_atomic_block:
        with primary.atomic():
            return body()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with primary.atomic():
                return body()
        except OperationalError as err:
            if attempt == MAX_ATTEMPTS or not is_contention(err):
                raise
            # A random pause, so that two that collided do not collide again.
            time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311
    raise AssertionError("unreachable")


def require_outside_transaction(reason: str) -> None:
    """
    Make sure that no transaction is open, so that the next one commits at its end.

    Raises:
        OrbTransactionError: one is open; `reason` is what it says.
    """
    try:
        # Django raises inside any block but the one that its own `TestCase` opens, so
        # that projects can test what calls these services.
        with primary.atomic(durable=True):
            pass
    except RuntimeError as err:
        raise OrbTransactionError(reason) from err


@contextmanager
def snapshot(rows: QuerySet[Any, Any] | None = None) -> Iterator[None]:
    """
    Let all reads of the block see one instant, however long it takes: those from the
    database of `rows`, by default the primary one.

    It changes nothing inside a caller's transaction, which has read before, or on
    SQLite, where no other process could write until the end.
    """
    connection = primary.connection() if rows is None else connections[rows.db]
    if connection.in_atomic_block or connection.vendor not in ("mysql", "postgresql"):
        yield
        return
    with transaction.atomic(using=connection.alias):
        with connection.cursor() as cursor:
            # Both read what is committed, statement by statement, unless they are told
            # otherwise: PostgreSQL by its own default, MariaDB by Django's. PostgreSQL
            # takes this only as the first statement.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


@contextmanager
def uncompiled(rows: QuerySet[Any, Any]) -> Iterator[None]:
    """
    Keep PostgreSQL from compiling what the block runs on the database of `rows`.

    PostgreSQL compiles a statement that it expects to be expensive, which takes seconds
    if there are many conditions, even if only few rows have to be read.
    """
    if connections[rows.db].vendor != "postgresql":
        yield
        return
    with transaction.atomic(using=rows.db):
        with connections[rows.db].cursor() as cursor:
            cursor.execute("SET LOCAL jit = off")
        yield


def is_contention(err: BaseException) -> bool:
    """Tell whether a database error only says that another transaction interfered."""
    if _SQLITE_LOCKED.match(str(err)):
        return True
    if err.args and err.args[0] in _MYSQL_RETRY_CODES:
        return True
    cause = err.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state in _SQLSTATES


class StatementLog:
    """
    Django's log of statements, which keeps their texts while DEBUG is on.

    A long run would fill the memory with its pages. Earlier statements stay, and all
    of them stay if a caller captures them.
    """

    def __init__(self) -> None:
        self._connection = primary.connection()
        log = self._connection.queries_log
        self._last = log[-1] if log else None

    def forget(self) -> None:
        """Drop the statements that were logged since this object was made."""
        if not settings.DEBUG or self._connection.force_debug_cursor:
            return
        log = self._connection.queries_log
        while log and log[-1] is not self._last:
            log.pop()


def ends_work(err: BaseException) -> bool:
    """Tell whether an exception is meant for the process, whatever it interrupted."""
    return any(
        # Celery raises it wherever the task is when its time is up, and it is an
        # ordinary Exception, which `except Exception` around any call would take.
        isinstance(cause, SoftTimeLimitExceeded) or not isinstance(cause, Exception)
        for cause in _causes(err)
    )


def why_refused(err: Exception) -> str:
    """Say why a write was refused, without what a project's own rows contain."""
    if isinstance(err, ProtectedError):
        rows = err.protected_objects
    elif isinstance(err, RestrictedError):
        rows = err.restricted_objects
    else:
        return f"The database refused it: {err}"
    models = sorted({row._meta.label for row in rows})
    return (
        f"Rows of {', '.join(models)} point to what would be deleted, and their on_delete "
        "forbids that."
    )


def is_passing(err: BaseException) -> bool:
    """Tell whether the same call may succeed later, or in another process."""
    passing = (OperationalError, InterfaceError, MemoryError)
    return ends_work(err) or any(isinstance(cause, passing) for cause in _causes(err))


def _causes(err: BaseException) -> Iterator[BaseException]:
    """Yield the exception, its causes, and what was being handled when it was raised."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [err]
    while waiting:
        cause = waiting.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__]
            waiting += getattr(cause, "exceptions", ())  # of a group


def is_spoilt() -> bool:
    """Tell whether the open transaction can no longer be committed."""
    connection = primary.connection()
    return (
        connection.needs_rollback
        or connection.closed_in_transaction
        or connection.connection is None
    )


def renew_connection() -> None:
    """Close a connection that was lost, so that the next statement opens another."""
    if not primary.connection().in_atomic_block:
        primary.connection().close_if_unusable_or_obsolete()
