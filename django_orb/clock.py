"""The mirror database's clock, read without asking the database each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Generic, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

REMEASURE_SECONDS = 60.0
# How far a monotonic clock may run away from the database's between two
# measurements: far more than real clocks do.
DRIFT = 0.001

# The instant itself, not the start of the transaction.
_NOW_SQL = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
}


@dataclass(frozen=True)
class Interval:
    """
    An answer of Orb shows the state at some instant of it.

    Both bounds are aware, on the mirror database's clock.
    """

    started_at: datetime
    ended_at: datetime


class DatabaseClock:
    """
    Bounds of the database's present time.

    Workers on machines whose clocks differ agree on this one. The error of the
    measurement, half a round trip and some drift, only widens the bounds.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._measured_at = float("-inf")
        self._earliest_offset = 0.0
        self._latest_offset = 0.0

    def latest(self) -> datetime:
        """An instant that is not before the present for sure."""
        self._ensure_measured()
        return self._latest_at(time.monotonic())

    def interval(self, started: float, ended: float) -> Interval:
        """The bounds of what lay between two readings of `time.monotonic()`."""
        self._ensure_measured()
        slack = DRIFT * abs(started - self._measured_at)
        return Interval(
            _aware(self._earliest_offset + started - slack), self._latest_at(ended)
        )

    def _latest_at(self, moment: float) -> datetime:
        slack = DRIFT * abs(moment - self._measured_at)
        return _aware(self._latest_offset + moment + slack)

    def _ensure_measured(self) -> None:
        if time.monotonic() - self._measured_at > REMEASURE_SECONDS:
            self._measure()

    def _measure(self) -> None:
        before = time.monotonic()
        epoch = database_epoch(connections[self._using])
        after = time.monotonic()
        self._earliest_offset = epoch - after
        self._latest_offset = epoch - before
        self._measured_at = after


T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """The value of a call, and when it began and ended by `time.monotonic()`."""

    value: T
    started: float
    ended: float


def timed(call: Callable[[], T]) -> Timed[T]:
    """Make a call and note when; needs no database, so any thread may."""
    started = time.monotonic()
    value = call()
    return Timed(value, started, time.monotonic())


_clocks: dict[str, DatabaseClock] = {}


def clock_of(using: str) -> DatabaseClock:
    """This process's clock for one database alias."""
    return _clocks.setdefault(using, DatabaseClock(using))


def database_epoch(connection: BaseDatabaseWrapper) -> float:
    """Seconds since 1970 on the database's clock; SQLite's is this process's."""
    sql = _NOW_SQL.get(connection.vendor)
    if sql is None:
        return time.time()
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return float(cursor.fetchone()[0])


def database_now(using: str) -> datetime:
    """The database's present time; one statement (none on SQLite)."""
    return _aware(database_epoch(connections[using]))


def _aware(epoch: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=epoch)
