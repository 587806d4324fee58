"""Turn the day that a user asks for into the moment that a report looks back at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

from django.utils import timezone as django_timezone

from django_orb.exceptions import OrbInputError
from django_orb.formatting import in_zone, report_zone
from django_orb.parsing import parse_day

INSTANT = timedelta(microseconds=1)
#: Long before Orb was founded, and late enough that every time zone has the day.
FIRST_DAY = date(2000, 1, 1)


@dataclass(frozen=True)
class AsOf:
    """
    The moment that a report looks back at.

    It is the end of `day` in `REPORT_TIME_ZONE`, or the present if that day is not over
    yet (`is_now`).
    """

    day: date
    moment: datetime
    is_now: bool


def as_of(day: date | str | None = None, *, now: datetime | None = None) -> AsOf:
    """
    Return the end of a day, given as a date or as "2026-01-31"; today by default.

    Raises:
        OrbInputError: it is not a day, has not come yet, or is before Orb's time.
    """
    now = now or django_timezone.now()
    today = in_zone(now, report_zone()).date()
    chosen = today if day is None or day == "" else to_day(day)
    if chosen > today:
        raise OrbInputError(
            f"{chosen} has not come yet: choose today or a day before it.", field="day"
        )
    if chosen < FIRST_DAY:
        raise OrbInputError(
            f"{chosen} is too long ago: choose a day since {FIRST_DAY}.", field="day"
        )
    if chosen == today:
        # A day that is not over has no end yet. What is open now is owed, without history.
        return AsOf(chosen, now, is_now=True)
    # The beginning of the next day, and not 24 hours after that of this one: a day has
    # 23 or 25 hours if the clocks change. What happened at midnight is the next day's.
    return AsOf(chosen, begin_of(chosen + timedelta(days=1)) - INSTANT, is_now=False)


def to_day(day: date | str) -> date:
    """
    Return a day that is given as a date or as text.

    Raises:
        OrbInputError: it is not a day.
    """
    # To Python a datetime is a date, but which day it is depends on a time zone.
    if isinstance(day, date) and not isinstance(day, datetime):
        return day
    try:
        return parse_day(str(day).strip())
    except ValueError as err:
        raise OrbInputError(
            f"{str(day)[:40]!r} is not a day such as 2026-01-31.", field="day"
        ) from err


def begin_of(day: date) -> datetime:
    """Return the first moment of a day in `REPORT_TIME_ZONE`, in UTC."""
    try:
        return datetime.combine(day, time(), report_zone()).astimezone(timezone.utc)
    except OverflowError:  # the first day of the calendar, east of Greenwich
        return datetime.min.replace(tzinfo=timezone.utc)
