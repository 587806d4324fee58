"""The filters of GET /invoices, in each of the encodings that clients use."""

from __future__ import annotations

import base64
import binascii
import json
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dateutil.relativedelta import relativedelta

from .calendars import parse_day, parse_moment
from .money import decimal
from .problems import Problem, invalid
from .rows import STATUSES, Row

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    Args = MultiDict[str, str]
else:
    Args = Any  # the factories work without werkzeug

Bound = tuple[str, float]

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
# Orb's list leaves out drafts and voids unless they are asked for:
# https://docs.withorb.com/api-reference/invoice/list-invoices
DEFAULT_STATUSES = ("issued", "paid", "synced")

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
}


@dataclass(frozen=True)
class Query:
    statuses: tuple[str, ...]
    limit: int
    after: tuple[int, str] | None = None
    customer_id: str | None = None
    external_customer_id: str | None = None
    subscription_id: str | None = None
    invoice_dates: tuple[Bound, ...] = ()
    due_dates: tuple[Bound, ...] = ()
    amounts: tuple[tuple[str, Decimal], ...] = ()
    is_recurring: bool | None = None
    zero_quantity_lines: bool = True
    amount_of: Callable[[Row], Decimal] = field(default=lambda row: Decimal(0))

    def test(self) -> Callable[[Row], bool]:
        """Return a test for all filters except the customer and the invoice date."""
        # A query for all statuses also finds those that Orb may add.
        every = set(STATUSES) <= set(self.statuses)
        statuses = frozenset(self.statuses)
        if self._filters_by_status_only():
            return lambda row: every or row.status in statuses
        return lambda row: (every or row.status in statuses) and self._takes(row)

    def _filters_by_status_only(self) -> bool:
        others = self.subscription_id, self.is_recurring, self.due_dates, self.amounts
        return others == (None, None, (), ())

    def _takes(self, row: Row) -> bool:
        return (
            self.subscription_id in {None, row.subscription_id}
            and self.is_recurring in {None, row.source != "one_off"}
            and self._takes_due(row.due)
            and self._takes_amount(row)
        )

    def _takes_due(self, due: int | None) -> bool:
        if due is None:
            return not self.due_dates
        return within(due, self.due_dates)

    def _takes_amount(self, row: Row) -> bool:
        if not self.amounts:
            return True
        amount = self.amount_of(row)
        return all(_COMPARE[name](amount, bound) for name, bound in self.amounts)  # type: ignore[arg-type]


def within(moment: float, bounds: Iterable[Bound]) -> bool:
    return all(_COMPARE[name](moment, bound) for name, bound in bounds)


def parse(args: Args, now: datetime, amount_of: Callable[[Row], Decimal]) -> Query:
    """
    Read the parameters of GET /invoices.

    Raises:
        Problem: 400, naming every parameter that is wrong.
    """
    reader = Reader(args)
    if "customer_id" in args and "external_customer_id" in args:
        reader.errors.append("customer_id and external_customer_id exclude each other")
    query = Query(
        statuses=reader.statuses(),
        limit=reader.limit(),
        after=reader.cursor(),
        customer_id=args.get("customer_id"),
        external_customer_id=args.get("external_customer_id"),
        subscription_id=args.get("subscription_id"),
        invoice_dates=reader.invoice_dates(),
        due_dates=reader.due_dates() + reader.window(now),
        amounts=reader.amounts(),
        is_recurring=reader.flag("is_recurring"),
        zero_quantity_lines=reader.flag("include_zero_quantity_line_items")
        is not False,
        amount_of=amount_of,
    )
    reader.finish()
    return query


def parse_flag(args: Args, name: str) -> bool | None:
    reader = Reader(args)
    value = reader.flag(name)
    reader.finish()
    return value


class Reader:
    """Reads parameters and collects what is wrong with them."""

    def __init__(self, args: Args) -> None:
        self._args = args
        self.errors: list[str] = []

    def finish(self) -> None:
        if self.errors:
            raise invalid(*self.errors)

    def statuses(self) -> tuple[str, ...]:
        # The official SDK sends a list as `status[]`, one value as `status`. The older
        # SDK repeats `status`; Orb does not document that, and here it is a list.
        given = self._args.getlist("status[]") + self._args.getlist("status")
        for status in given:
            if status not in STATUSES:
                self.errors.append(f"status: {status!r} is not one of {STATUSES}")
        return tuple(dict.fromkeys(given)) or DEFAULT_STATUSES

    def limit(self) -> int:
        text = self._args.get("limit", str(DEFAULT_LIMIT))
        # Own choice: a limit out of range is refused, not clamped.
        is_short = (
            text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT))
        )
        if not is_short or not 1 <= int(text) <= MAX_LIMIT:
            self.errors.append(f"limit: {text!r} is not between 1 and {MAX_LIMIT}")
            return DEFAULT_LIMIT
        return int(text)

    def cursor(self) -> tuple[int, str] | None:
        text = self._args.get("cursor")
        if not text:
            return None
        try:
            return decode_cursor(text)
        except Problem as error:
            self.errors.append(error.detail)
            return None

    def flag(self, name: str) -> bool | None:
        text = self._args.get(name)
        if text is None:
            return None
        if text.lower() not in {"true", "false"}:
            self.errors.append(f"{name}: {text!r} is neither true nor false")
        return text.lower() == "true"

    def invoice_dates(self) -> tuple[Bound, ...]:
        if self._by_due_date():
            return ()
        return self.moments("invoice_date")

    def due_dates(self) -> tuple[Bound, ...]:
        bounds = list(self._days("due_date"))
        if self._by_due_date():
            bounds += self.moments("invoice_date")
        return tuple(bounds)

    def _by_due_date(self) -> bool:
        # Own choice, as the documents only name the two values: `date_type` says
        # with which date the bounds of `invoice_date` are compared.
        kind = self._args.get("date_type", "invoice_date")
        message = f"date_type: {kind!r} is neither due_date nor invoice_date"
        if kind not in {"due_date", "invoice_date"} and message not in self.errors:
            self.errors.append(message)
        return kind == "due_date"

    def moments(self, name: str) -> tuple[Bound, ...]:
        bounds = []
        for comparison in ("gt", "gte", "lt", "lte"):
            text = self._args.get(f"{name}[{comparison}]")
            if text is not None:
                bounds.append((comparison, self._moment(f"{name}[{comparison}]", text)))
        return tuple(bounds)

    def _moment(self, name: str, text: str) -> float:
        try:
            return parse_moment(text, timezone.utc).timestamp()
        except ValueError:
            self.errors.append(f"{name}: {text!r} is not an ISO 8601 date or time")
            return 0.0

    def _days(self, name: str) -> list[Bound]:
        """Read dates as bounds for a time: each is a whole day, in UTC (own choice)."""
        bounds: list[Bound] = []
        for suffix, comparisons in _DAY_BOUNDS.items():
            text = self._args.get(name + suffix)
            if text is not None:
                start = self._day(name + suffix, text)
                bounds += [(c, start + shift) for c, shift in comparisons]
        return bounds

    def _day(self, name: str, text: str) -> float:
        try:
            day = parse_day(text)
        except ValueError:
            self.errors.append(f"{name}: {text!r} is not a date (YYYY-MM-DD)")
            return 0.0
        return datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()

    def window(self, now: datetime) -> tuple[Bound, ...]:
        text = self._args.get("due_date_window")
        if text is None:
            return ()
        match = re.fullmatch(r"(\d{1,4})([dm])", text)
        if match is None:
            self.errors.append(f"due_date_window: {text!r} is not like 7d or 2m")
            return ()
        count = int(match[1])
        unit = {"days": count} if match[2] == "d" else {"months": count}
        start = now - relativedelta(**unit)  # type: ignore[arg-type]
        return (("gte", start.timestamp()), ("lte", now.timestamp()))

    def amounts(self) -> tuple[tuple[str, Decimal], ...]:
        bounds = []
        for suffix, comparison in {"": "eq", "[gt]": "gt", "[lt]": "lt"}.items():
            text = self._args.get(f"amount{suffix}")
            if text is not None:
                bounds.append((comparison, self._decimal(f"amount{suffix}", text)))
        return tuple(bounds)

    def _decimal(self, name: str, text: str) -> Decimal:
        try:
            return decimal(text)
        except ValueError:
            self.errors.append(f"{name}: {text!r} is not a decimal number")
            return Decimal(0)


_DAY = 86_400
_DAY_BOUNDS: dict[str, tuple[Bound, ...]] = {
    "": (("gte", 0), ("lt", _DAY)),
    "[gt]": (("gte", _DAY),),
    "[lt]": (("lt", 0),),
}


def encode_cursor(key: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def decode_cursor(text: str) -> tuple[int, str]:
    try:
        key = json.loads(base64.urlsafe_b64decode(text.encode()))
        return int(key[0]), str(key[1])
    except (
        binascii.Error,
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        RecursionError,
    ) as error:
        raise invalid(f"cursor: {text!r} was not given by this API") from error
