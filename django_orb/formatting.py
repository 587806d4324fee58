"""Write amounts, numbers, dates and links for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import MAX_PREC, Context, Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from django.utils import dateformat, formats
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.timezone import get_current_timezone, now
from django.utils.translation import get_language, gettext, gettext_noop, npgettext_lazy

from .conf import get_settings
from .parsing import parse_datetime, read_decimal

DAY = "j M Y"
MOMENT = "j M Y, H:i"
LIST_CHARACTERS = 60

_EXACT = Context(prec=MAX_PREC)
# Like Django's, but in the form that stands before "ago", since languages inflect it.
_AGO: dict[str, Any] = {
    "year": npgettext_lazy("before “ago”", "%(num)d year", "%(num)d years", "num"),
    "month": npgettext_lazy("before “ago”", "%(num)d month", "%(num)d months", "num"),
    "week": npgettext_lazy("before “ago”", "%(num)d week", "%(num)d weeks", "num"),
    "day": npgettext_lazy("before “ago”", "%(num)d day", "%(num)d days", "num"),
    "hour": npgettext_lazy("before “ago”", "%(num)d hour", "%(num)d hours", "num"),
    "minute": npgettext_lazy(
        "before “ago”", "%(num)d minute", "%(num)d minutes", "num"
    ),
}
# What users decided about an operation, which is stored with their names.
CHECKED_DONE = gettext_noop("%(who)s checked in Orb: it was done.")
CHECKED_NOT_DONE = gettext_noop("%(who)s checked in Orb: it was not done.")
STOPPED = gettext_noop("%(who)s stopped it before it was sent.")
_OF_USERS = (CHECKED_DONE, CHECKED_NOT_DONE, STOPPED)
# The names of Orb that are translated; a name that Orb adds is shown as it is.
_WORDS = {
    # changes of a customer's balance
    gettext_noop("Applied to invoice"),
    gettext_noop("Manual adjustment"),
    gettext_noop("Prorated refund"),
    gettext_noop("Revert prorated refund"),
    gettext_noop("Return from voiding"),
    gettext_noop("Credit note applied"),
    gettext_noop("Credit note voided"),
    gettext_noop("Overpayment refund"),
    gettext_noop("External payment"),
    gettext_noop("Small invoice carryover"),
    # credit notes
    gettext_noop("Adjustment"),
    gettext_noop("Refund"),
    # adjustments
    gettext_noop("Usage discount"),
    gettext_noop("Amount discount"),
    gettext_noop("Percentage discount"),
    gettext_noop("Tiered percentage discount"),
    gettext_noop("Minimum"),
    gettext_noop("Maximum"),
    # prices
    gettext_noop("Unit"),
    gettext_noop("Tiered"),
    gettext_noop("Package"),
    gettext_noop("Matrix"),
    gettext_noop("Bulk"),
}


def money(amount: Decimal | None, currency: str = "") -> str:
    """Write an amount with all its decimal places, at least two, and its currency."""
    if amount is None:
        return ""
    return f"{_grouped(amount, min_places=2)} {currency}".strip()


def quantity(value: Decimal | None) -> str:
    """Write a number with all its decimal places and no more."""
    return "" if value is None else _grouped(value, min_places=0)


def _grouped(value: Decimal, *, min_places: int) -> str:
    places = -int(value.normalize(_EXACT).as_tuple().exponent)
    return formats.number_format(
        value if value else Decimal(0), max(places, min_places), force_grouping=True
    )


def to_decimal(raw: Any) -> Decimal | None:
    """Read a number from a payload; None if it is not a number of usable size."""
    return read_decimal(raw)


def to_moment(raw: Any) -> datetime | None:
    """Read a date and time from a payload; None if it is not one."""
    try:
        return parse_datetime(raw)
    except (ValueError, OverflowError):
        return None


def day(value: date | None) -> str:
    if value is None:
        return ""
    # A plain date, so that all moments of a day share an entry of the cache.
    return _written(date(value.year, value.month, value.day), DAY, get_language())


@lru_cache(maxsize=4096)
def _written(value: date, pattern: str, language: str | None) -> str:
    """Write a date, from a cache: lists show the same few days again and again."""
    return dateformat.format(value, pattern)


def utc_day(value: datetime | None) -> str:
    """Write the day of a bound that a sync has in UTC."""
    return day(value and in_zone(value, timezone.utc))


def report_zone() -> ZoneInfo:
    return ZoneInfo(get_settings().REPORT_TIME_ZONE)


def report_day(value: datetime | None) -> str:
    """
    Write the day of an invoice's date in `REPORT_TIME_ZONE`, as reports and files do.

    Orb's dates are midnights at the customer, whose time zone is not known here.
    """
    return day(value and in_zone(value, report_zone()))


def report_short(value: datetime | None) -> str:
    """Write the day as `report_day` does, and the time unless it is midnight."""
    if value is None:
        return ""
    at = in_zone(value, report_zone())
    is_midnight = (at.hour, at.minute) == (0, 0)
    return day(at) if is_midnight else dateformat.format(at, f"{MOMENT} T")


def utc_moment(value: datetime | None) -> str:
    if value is None:
        return ""
    at = in_zone(value, timezone.utc)
    return f"{_written(at, MOMENT, get_language())} UTC"


def local_moment(value: datetime | None) -> str:
    """Write when something happened here, in the time zone of the site."""
    if value is None:
        return ""
    return dateformat.format(in_zone(value), f"{MOMENT} T")


def in_zone(value: datetime, zone: tzinfo | None = None) -> datetime:
    """
    Return the moment in a time zone, by default the site's.

    The first and the last hours of the calendar do not exist in every time zone: such
    a moment stays in UTC, or in the zone that it has.
    """
    for target in (zone or get_current_timezone(), timezone.utc):
        try:
            return value.astimezone(target)
        except OverflowError:
            continue
    return value


def ago(moment: datetime) -> str:
    if now() - moment < timedelta(minutes=1):
        return gettext("less than a minute ago")
    return gettext("%(time)s ago") % {"time": timesince(moment, time_strings=_AGO)}


def short(text: str) -> str:
    """Return a text, cut to the length that a list has room for."""
    fits = len(text) <= LIST_CHARACTERS
    return text if fits else Truncator(text).chars(LIST_CHARACTERS)


def safe_link(url: Any, *, or_path: bool = False) -> str:
    """
    Return the address if a browser may open it, else "": only http and https.

    With `or_path` also a path of the same site, which only the project itself can give.
    """
    if not isinstance(url, str):
        return ""
    try:
        url.encode()  # fails for half of a surrogate pair
        parts = urlsplit(url)
    except ValueError:
        return ""
    if or_path and url.startswith("/"):
        # Browsers leave out what is not printable, and what follows may then be the name
        # of another site.
        is_path = url.isprintable() and url_has_allowed_host_and_scheme(url, None)
        return url if is_path else ""
    return url if parts.scheme in {"http", "https"} and parts.netloc else ""


def as_map(value: Any) -> Mapping[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_maps(value: Any) -> list[Mapping[str, Any]]:
    """Return the JSON objects in the value if it is a list, else an empty list."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]


def as_text(value: Any) -> str:
    """Write a JSON value as a person would; null is an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    return str(value)


def humanized(name: Any) -> str:
    """Write one of Orb's names, such as "applied_to_invoice", as words."""
    words = as_text(name).replace("_", " ").capitalize()
    return gettext(words) if words in _WORDS else words


def span(start: str, end: str) -> str:
    """Write a range; if one end is empty, only the other."""
    if not (start and end):
        return start or end
    return gettext("%(start)s to %(end)s") % {"start": start, "end": end}


def recorded(text: str) -> str:
    """Translate a text that was stored in English, if it is one of ours."""
    for of_user in _OF_USERS:
        rest = of_user.removeprefix("%(who)s")
        if text.endswith(rest):
            return gettext(of_user) % {"who": text.removesuffix(rest)}
    return gettext(text) if text else ""


def joined(separator: str, *parts: str) -> str:
    """Join the texts that are not empty."""
    return separator.join(part for part in parts if part)
