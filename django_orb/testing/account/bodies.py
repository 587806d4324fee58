"""Read the JSON body of a request, and report everything that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .calendars import parse_day, parse_moment
from .money import decimal
from .problems import Problem, invalid

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

MAX_BODY = 1_000_000
MAX_COUNT = 1_000_000


def json_body(request: Request) -> dict[str, Any]:
    """
    Return the body as a dict with `Decimal` fractions; an empty body is an empty dict.

    Raises:
        Problem: 400 or 413.
    """
    if (request.content_length or 0) > MAX_BODY:
        raise Problem("413-request-too-large", f"More than {MAX_BODY} bytes.")
    try:
        body = json.loads(request.get_data() or b"{}", parse_float=Decimal)
    except ValueError as error:
        raise invalid("body: not JSON") from error
    if not isinstance(body, dict):
        raise invalid("body: not a JSON object")
    return body


@contextmanager
def reading(body: dict[str, Any]) -> Iterator[Body]:
    """Raise a single `Problem` for all errors that were found inside the block."""
    reader = Body(body)
    yield reader
    if reader.errors:
        raise invalid(*reader.errors)


class Body:
    """
    Fields by type. One that is missing or wrong gives an error and a harmless value.
    """

    def __init__(self, fields: dict[str, Any], path: str = "") -> None:
        self._fields = fields
        self._path = path
        self.errors: list[str] = []

    def wrong(self, name: str, reason: str) -> None:
        self.errors.append(f"{self._path}{name}: {reason}")

    def given(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def names(self, name: str) -> bool:
        """Tell whether the field is there, even if it is null."""
        return name in self._fields

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or not value:
            self.wrong(name, "a string is required")
            return ""
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.given(name) else None

    def amount(self, name: str) -> Decimal:
        # A JSON number is refused: Orb takes amounts as strings.
        text = self.text(name)
        try:
            return decimal(text or "0")
        except ValueError:
            self.wrong(name, f"{text!r} is not a decimal number")
            return Decimal(0)

    def number(self, name: str) -> Decimal:
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self.wrong(name, "a number is required")
            return Decimal(0)
        return Decimal(value)

    def optional_count(self, name: str) -> int | None:
        if not self.given(name):
            return None
        number = self.number(name)
        # Compare before int(): writing out 1e2000000000 would fill the memory.
        if not 0 <= number <= MAX_COUNT or number != int(number):
            self.wrong(name, f"a whole number from 0 to {MAX_COUNT} is required")
            return None
        return int(number)

    def flag(self, name: str, default: bool) -> bool:
        value = self._fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(name, "true or false is required")
        return bool(value)

    def day(self, name: str) -> date:
        text = self.text(name)
        try:
            return parse_day(text) if text else date.min
        except ValueError:
            self.wrong(name, f"{text!r} is not a date (YYYY-MM-DD)")
            return date.min

    def moment(self, name: str, zone: tzinfo) -> datetime:
        """Read a time, or the midnight of a date; without an offset it is in `zone`."""
        text = self.text(name)
        try:
            return parse_moment(text, zone)
        except ValueError:
            if text:
                self.wrong(name, f"{text!r} is not an ISO 8601 date or time")
            return datetime.now(zone)

    def objects(self, name: str) -> list[Body]:
        value = self._fields.get(name)
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self.wrong(name, "a list of objects is required")
            return []
        return [self._inner(v, f"{name}[{n}]") for n, v in enumerate(value)]

    def optional_object(self, name: str) -> Body | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(name, "an object is required")
            return None
        return self._inner(value, name)

    def _inner(self, fields: dict[str, Any], name: str) -> Body:
        inner = Body(fields, f"{self._path}{name}.")
        inner.errors = self.errors
        return inner

    def metadata(self, name: str = "metadata") -> dict[str, str | None] | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(
            v is None or isinstance(v, str) for v in value.values()
        ):
            self.wrong(name, "an object of strings is required")
            return {}
        return value
