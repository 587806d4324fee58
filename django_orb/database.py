"""Whole transactions, retried when others were in the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import OperationalError, connections, transaction

T = TypeVar("T")

MAX_ATTEMPTS = 10
# MariaDB: deadlock, lock wait time-out, row changed since it was read.
_MYSQL_RETRY_CODES = {1213, 1205, 1020}
# PostgreSQL: serialization failure, deadlock.
_SQLSTATES = {"40001", "40P01"}


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


class StatementLog:
    """
    Django's log of statements, which keeps their texts while DEBUG is on.

    A long run would fill the memory with its pages. Statements that were there
    before stay, and all do where a caller captures them.
    """

    def __init__(self, using: str) -> None:
        self._connection = connections[using]
        log = self._connection.queries_log
        self._last = log[-1] if log else None

    def forget(self) -> None:
        """Drop the statements that came since."""
        if not settings.DEBUG or self._connection.force_debug_cursor:
            return
        log = self._connection.queries_log
        while log and log[-1] is not self._last:
            log.pop()
