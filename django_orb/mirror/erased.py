"""
Know which customers are erased, so that their personal data is never written again.
"""

# Note [No way past an erasure]
# An erasure is a row, committed before anything is blanked. Every writer of what Orb
# sent (the page writer, and what records an operation's outcome) first locks the one
# row of `ErasureGate` for reading, until its transaction ends, and blanks the data of
# erased customers. The inbox of events, for which Orb waits, reads that row once its
# insert is committed, and blanks what it has to. An erasure changes that row. So it
# waits for all writers that began before it, whose rows are committed when the walk
# over the stored rows begins; and all that begin after it know of it. No writer uses an
# outdated set of customers, however long ago the invoice was requested, read or mapped.
#
# The token in that row changes with each erasure, and tells a process whether the set
# that it has read is still right. So the gate usually costs one statement, and only for
# a page that writes something: a page of unchanged texts writes nothing that Orb sent.
#
# Texts are compared by digests of what Orb sent, and content by hashes of what is
# stored. So a blanked invoice counts as unchanged, without a signal, as long as Orb's
# text is.

from __future__ import annotations

import uuid

from django_orb.db import SHARED_LOCK, claim, primary
from django_orb.models import CustomerErasure, ErasureGate, Invoice

from .observation_sql import begin_writing

_GATE = 1
# Few are enough: there is a new one with each erasure only.
_MAX_SETS = 16
# By token.
_sets: dict[str, frozenset[str]] = {}
# By alias; only a guess.
_latest: dict[str, frozenset[str]] = {}
#: How many seconds writers may have to wait behind a waiting erasure.
WAIT_SECONDS = 2


def customers(*, is_first: bool = False) -> frozenset[str]:
    """
    Return the erased customers. The set cannot change until the transaction ends.

    `is_first` says that this begins the transaction; otherwise, on SQLite, an earlier
    statement must have written.
    """
    if is_first and primary.connection().vendor == "sqlite":
        begin_writing(primary.connection())
    token = _shared_token()
    found = _sets.get(token)
    if found is None:
        if len(_sets) >= _MAX_SETS:
            _sets.clear()
        found = _sets[token] = _read()
    _latest[primary.alias()] = found
    return found


def probably() -> frozenset[str]:
    """Return the set that this process saw last, without asking the database."""
    return _latest.get(primary.alias(), frozenset())


def is_of(invoice_id: str, erased: frozenset[str]) -> bool:
    """Tell whether a stored invoice belongs to one of these customers."""
    if not erased or not invoice_id:
        return False
    invoices = primary.rows(Invoice).filter(pk=invoice_id)
    return invoices.values_list("customer_id", flat=True).first() in erased


def close_gate() -> None:
    """
    Wait for all writers of what Orb sent, and make new ones wait until the commit.

    Call it only in a short transaction. After some seconds it fails, and is tried again,
    because the writers that wait behind it may have little time.
    """
    connection = primary.connection()
    _make_gate()
    table = ErasureGate._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
        if connection.vendor == "mysql":
            sql = f"SELECT id FROM {table} WHERE id = %s FOR UPDATE WAIT {WAIT_SECONDS}"  # noqa: S608
            cursor.execute(sql, [_GATE])
            cursor.fetchall()
    primary.rows(ErasureGate).filter(pk=_GATE).update(token=uuid.uuid4().hex)


def _shared_token() -> str:
    connection = primary.connection()
    lock = SHARED_LOCK.get(connection.vendor, "")
    table = ErasureGate._meta.db_table
    sql = f"SELECT token FROM {table} WHERE id = %s {lock}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [_GATE])
        row = cursor.fetchone()
        if row is None:  # the first time in this database
            _make_gate()
            cursor.execute(sql, [_GATE])
            row = cursor.fetchone()
    return str(row[0])


def _make_gate() -> None:
    """Create the row with a new token, unless there is one."""
    claim(ErasureGate, [{"id": _GATE, "token": uuid.uuid4().hex}])


def _read() -> frozenset[str]:
    connection = primary.connection()
    # Locked too, since MariaDB could otherwise show a state from before the gate's.
    lock = SHARED_LOCK.get(connection.vendor, "")
    table = CustomerErasure._meta.db_table
    name = "active_customer_id"
    sql = f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL {lock}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return frozenset(str(value) for (value,) in cursor.fetchall())
