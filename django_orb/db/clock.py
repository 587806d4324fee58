"""Read the mirror database's clock without asking the database each time."""

# Note [Eras]
# A worker knows the database's clock by how far it is ahead of the worker's own
# monotonic clock. If a measurement contradicts this, one of the clocks was set at some
# instant since the measurement before, and another era began. An interval that may lie
# in either era gets the bounds that hold in both. A clock that was set back shows some
# times twice, so until it has passed them an interval ends with the last of them.

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Generic, NamedTuple, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

REMEASURE_SECONDS = 60.0
# How far a monotonic clock may drift from the database's, in seconds per second: far
# more than real clocks do.
DRIFT = 0.001
# How much clocks and drivers round, in seconds.
RESOLUTION = 0.001
MAX_ERAS = 16
# A time beyond the longest wait plus this slack was written before the clock was set back:
# each process measures the clock again after a minute.
SLACK = timedelta(seconds=2 * REMEASURE_SECONDS)

# MariaDB tells the present only in local time, which has an hour twice when summer time
# ends. In UTC it tells when the statement began; the difference of both in local time is
# how long ago that was, apart from a change of the zone, which is of half hours.
# Half an hour is 1,800,000,000 microseconds. A day and a quarter hour is added before
# `mod`, and a quarter hour subtracted after it, so that negative differences work.
_MARIADB_NOW = """(
    timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))
    + mod(timestampdiff(microsecond, now(6), sysdate(6)) + 87300000000, 1800000000)
    - 900000000
) / 1000000"""

# The instant itself, not the start of the transaction or of the statement.
_NOW_SQL = {
    "postgresql": "extract(epoch FROM clock_timestamp())",
    "mysql": _MARIADB_NOW,
}


@dataclass(frozen=True)
class Interval:
    """
    A span of time that contains the instant whose state an answer of Orb shows.

    Both bounds are aware, on the mirror database's clock. If this process
    measured them, `readings` are those of its own clock.
    """

    started_at: datetime
    ended_at: datetime
    readings: tuple[float, ...] = ()
    era: int = 0


class _Era(NamedTuple):
    """
    A period in which neither clock was set, as far as this process has seen.

    `earliest` and `latest` bound how far the database's clock was ahead of ours
    when that was `measured`. The era was seen from `first` to `last`. No interval
    in it ends before `floor`, in seconds since 1970.
    """

    number: int
    first: float
    last: float
    measured: float
    earliest: float
    latest: float
    floor: float

    def lower(self, moment: float) -> float:
        return self.earliest + moment - self._error(moment)

    def upper(self, moment: float) -> float:
        return self.latest + moment + self._error(moment)

    def _error(self, moment: float) -> float:
        return RESOLUTION + DRIFT * abs(moment - self.measured)


class DatabaseClock:
    """
    Bounds of the database's present time; see Note [Eras].

    Workers on machines whose clocks differ agree on this one. The error of the
    measurement, half a round trip and some drift, only widens the bounds.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self.eras: tuple[_Era, ...] = ()
        # All threads share the clock, and one must not replace what another has noted.
        self._noting = threading.Lock()

    def latest(self) -> datetime:
        """Return an instant that is certainly not before the present."""
        self.keep_measured()
        return _aware(self.eras[-1].upper(time.monotonic()))

    def interval(self, started: float, ended: float) -> Interval:
        """Return bounds of the time between two readings of `time.monotonic()`."""
        self.keep_measured()
        possible = self._eras_between(started, ended)
        return Interval(
            _aware(min(era.lower(started) for era in possible)),
            _aware(max(max(era.upper(ended), era.floor) for era in possible)),
            readings=(started, ended),
            era=self.eras[-1].number,
        )

    def corrected(self, interval: Interval) -> Interval:
        """Return the interval with the bounds that hold by what is known now."""
        if not interval.readings or interval.era == self.eras[-1].number:
            return interval
        return self.interval(*interval.readings)

    def keep_measured(self) -> None:
        """Measure, unless the last time was within a minute. Call it before a request."""
        age = time.monotonic() - self.eras[-1].measured if self.eras else None
        if age is None or age > REMEASURE_SECONDS:
            self.check()

    def check(self) -> None:
        """Measure, and note whether a clock was set since. Executes one statement."""
        before = time.monotonic()
        epoch = database_epoch(connections[self._using])
        self.compare(before, epoch, time.monotonic())

    def compare(self, before: float, epoch: float, after: float) -> None:
        """Note what the database's clock showed between two readings of our own."""
        new = _Era(1, after, before, after, epoch - after, epoch - before, 0.0)
        with self._noting:
            self._note(new, before, epoch, after)

    def _note(self, new: _Era, before: float, epoch: float, after: float) -> None:
        if not self.eras:
            self.eras = (new,)
            return
        *earlier, era = self.eras
        if era.lower(before) <= epoch <= era.upper(after):
            if after - era.measured > REMEASURE_SECONDS:
                new = new._replace(first=era.first, floor=era.floor, number=era.number)
            else:
                new = era._replace(last=max(before, era.last))
            self.eras = (*earlier, new)
        else:
            floor = max(era.upper(after), era.floor)
            new = new._replace(number=era.number + 1, floor=floor)
            self.eras = (*self.eras, new)[-MAX_ERAS:]

    def _eras_between(self, started: float, ended: float) -> list[_Era]:
        """Return the eras in which an instant between two readings may lie."""
        # Read once: all threads share the clock, and another one may measure meanwhile.
        eras = self.eras
        return [
            era
            for before, era, after in zip(
                (None, *eras), eras, (*eras[1:], None), strict=False
            )
            if (before is None or before.last <= ended)
            and (after is None or started <= after.first)
        ]


T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """The value of a call, and when it began and ended by `time.monotonic()`."""

    value: T
    started: float
    ended: float


def timed(call: Callable[[], T]) -> Timed[T]:
    """Make a call and note its times. Any thread may, as this needs no database."""
    started = time.monotonic()
    value = call()
    return Timed(value, started, time.monotonic())


_clocks: dict[str, DatabaseClock] = {}


def clock_of(using: str) -> DatabaseClock:
    """Return this process's clock for a database alias."""
    return _clocks.setdefault(using, DatabaseClock(using))


def database_epoch(connection: BaseDatabaseWrapper) -> float:
    """Return the seconds since 1970 on the database's clock; SQLite's is our own."""
    sql = _NOW_SQL.get(connection.vendor)
    if sql is None:
        return time.time()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}")
        return float(cursor.fetchone()[0])


def epoch_sql(vendor: str) -> str:
    """Return the SQL expression for `database_epoch`; NULL on SQLite."""
    return _NOW_SQL.get(vendor, "NULL")


def database_now(using: str) -> datetime:
    """Return the database's present time. Executes one statement (none on SQLite)."""
    return _aware(database_epoch(connections[using]))


def _aware(epoch: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=epoch)
