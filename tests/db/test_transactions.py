from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError

from django_orb.db.transactions import is_contention


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("database is locked"), True),
        (OperationalError("database table is locked"), True),
        (OperationalError("database table is locked: django_orb_invoice"), True),
        (OperationalError("database schema is locked: main"), True),
        (OperationalError(1213, "Deadlock found when trying to get lock"), True),
        (OperationalError(1205, "Lock wait timeout exceeded"), True),
        (OperationalError(1020, "Record has changed since last read"), True),
        (OperationalError(4151, "Access denied, this account is locked"), False),
        (OperationalError(3118, "Access denied. Account is locked."), False),
        (OperationalError(2006, "Server has gone away"), False),
        (OperationalError('FATAL: the role "app" is locked'), False),
        (OperationalError("disk I/O error"), False),
        (OperationalError(), False),
    ],
)
def test_only_what_another_transaction_did_is_contention(
    error: Exception, expected: bool
) -> None:
    assert is_contention(error) is expected


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
def test_contention_is_told_by_the_state_of_postgresql(state: str) -> None:
    cause: Any = Exception("could not serialize access")
    cause.sqlstate = state
    error = OperationalError("could not serialize access")
    error.__cause__ = cause

    assert is_contention(error)


def test_sqlites_words_for_a_lock_are_those_that_are_looked_for(tmp_path: Any) -> None:
    path = tmp_path / "locked.sqlite3"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as one,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
    ):
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as raised:
            other.execute("BEGIN IMMEDIATE")

    assert is_contention(OperationalError(*raised.value.args))
