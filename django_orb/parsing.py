"""
Read numbers, days and times.

Orb's may have any form of ISO 8601. A person's have one form, whatever Python or Django
would read besides. No number is too large to work with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timezone
from decimal import MAX_PREC, Context, Decimal, InvalidOperation
from typing import Any

# Enough for any amount with any digits, and few enough to calculate with and to write.
MAX_DIGITS = 200
# What a money column holds: digits before and after the point.
MAX_WHOLE_DIGITS = 20
MAX_PLACES = 18

_EXACT = Context(prec=MAX_PREC)
# As JSON writes numbers. `Decimal` also reads underscores, spaces around the number and
# the digits of every script, of which Orb sends none.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_MOMENT = re.compile(
    rf"{_DAY.pattern}(?:[T ]{_CLOCK}(?::[0-5][0-9](?:\.[0-9]{{1,6}})?)?"
    rf"(?:Z|[+-]{_CLOCK})?)?"
)


def read_decimal(raw: Any) -> Decimal | None:
    """Read a number of a payload. Return None if it is not a number of usable size."""
    try:
        number = parse_decimal(raw)
    except (InvalidOperation, ValueError):
        return None
    return number if is_usable(number) else None


def exact_sum(numbers: Iterable[Decimal]) -> Decimal:
    """Add up usable numbers without rounding, however many digits they have."""
    total = Decimal(0)
    for number in numbers:
        total = _EXACT.add(total, number)
    return total


def is_usable(number: Decimal) -> bool:
    """Tell whether a number is finite and can be written with at most `MAX_DIGITS`."""
    if not number.is_finite():
        return False
    return places_of(number) <= MAX_DIGITS and number.adjusted() <= MAX_DIGITS


def fits_money(number: Decimal) -> bool:
    """Tell whether a money column holds the number without rounding it."""
    is_small = number.adjusted() < MAX_WHOLE_DIGITS
    return is_small and places_of(number) <= MAX_PLACES


def places_of(number: Decimal) -> int:
    """Return how many digits are written after the point."""
    return max(0, -int(number.as_tuple().exponent))


def parse_datetime(value: Any) -> datetime:
    """
    Return Orb's text as an aware datetime in UTC. A text without an offset is UTC.

    Raises:
        ValueError: it is not an ISO 8601 date or time.
    """
    if not isinstance(value, str):
        raise ValueError("not a text")
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        # Python 3.10 reads neither "Z" nor fractions of other than 3 or 6 digits.
        from dateutil.parser import isoparse  # not for each process that has models

        parsed = isoparse(value)
    if parsed.tzinfo is timezone.utc:
        return parsed
    if parsed.tzinfo is None:
        return parsed.replace(tzinfo=timezone.utc)
    return parsed.astimezone(timezone.utc)


def parse_month(text: str) -> date:
    """
    Return the first day of a month that a person wrote as 2026-01.

    Raises:
        ValueError: it has another form, or there is no such month.
    """
    if not _MONTH.fullmatch(text):
        raise ValueError("not a month")
    return date.fromisoformat(f"{text}-01")


def parse_day(text: str) -> date:
    """
    Return a day that a person wrote as 2026-01-31.

    Raises:
        ValueError: it has another form, or there is no such day.
    """
    if not _DAY.fullmatch(text):
        raise ValueError("not a day")
    return date.fromisoformat(text)


def parse_moment(text: str) -> datetime:
    """
    Return a day or a time that a person wrote, in UTC, which it is without an offset.

    A time has the form 2026-01-31T09:30, and may have seconds and an offset.

    Raises:
        ValueError: it has another form, or there is no such time.
    """
    if not _MOMENT.fullmatch(text):
        raise ValueError("not a time")
    try:
        return parse_datetime(text)
    except OverflowError as err:
        raise ValueError("beyond the calendar in UTC") from err


def parse_decimal(value: Any) -> Decimal:
    """
    Return Orb's text or number as a finite `Decimal`.

    Raises:
        ValueError: it is neither, or the text is not a number as JSON writes it.
        InvalidOperation: its exponent is out of range.
    """
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise ValueError("not a number")
    elif isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError("not a number")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number
