"""Dates and times: Orb's dates are midnight at the customer, shown in UTC."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone, tzinfo
from functools import lru_cache

from dateutil.tz import gettz

DAY = 86_400


@lru_cache(maxsize=64)
def zone(name: str) -> tzinfo:
    # dateutil has its own copy of the zones; zoneinfo fails if the system has none.
    found = gettz(name)
    return found if found is not None else timezone.utc


def midnight(day: date, time_zone: str) -> int:
    """Return when a day begins in a time zone, in seconds since 1970."""
    return int(datetime(*day.timetuple()[:3], tzinfo=zone(time_zone)).timestamp())


@lru_cache(maxsize=100_000)
def month_start(months: int, day: int, time_zone: str) -> int:
    """Return when a day of a month begins; `months` are counted from year 0."""
    year, month = divmod(months, 12)
    return midnight(date(year, month + 1, day), time_zone)


def shown(moment: int) -> str:
    """Write a time as Orb does: to the second, with +00:00 instead of `Z`."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat()


def stamp(moment: int | None) -> bytes:
    """Write a time as JSON: a string as `shown` gives it, or null."""
    return b"null" if moment is None else b'"%b"' % shown_bytes(moment)


def shown_bytes(moment: int) -> bytes:
    """Return the same as `shown`, but quicker, from parts that are kept."""
    day, second = divmod(moment, DAY)
    return _day(day) + _MINUTES[second // 60] + _SECONDS[second % 60]


_MINUTES = [b"T%02d:%02d" % divmod(minute, 60) for minute in range(24 * 60)]
_SECONDS = [b":%02d+00:00" % second for second in range(60)]


@lru_cache(maxsize=20_000)
def _day(day: int) -> bytes:
    return shown(day * DAY)[:10].encode()


def parsed(moment: str | None) -> int | None:
    return None if moment is None else int(datetime.fromisoformat(moment).timestamp())


def parse_day(text: str) -> date:
    """
    Read YYYY-MM-DD and nothing else: from Python 3.11 on `fromisoformat` takes more.

    Raises:
        ValueError: the text is not a date.
    """
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise ValueError(text)
    return date.fromisoformat(text)


def parse_moment(text: str, zone: tzinfo) -> datetime:
    """
    Read a time, or the midnight of a date; without an offset it is in `zone`.

    Raises:
        ValueError: the text is neither.
    """
    # Python 3.10 does not read `Z`.
    moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
