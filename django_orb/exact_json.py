"""
JSON whose numbers stay exact: a fractional number is a `Decimal`, both ways.

`json` has no hook for writing a number in digits of one's own, so a `Decimal`
goes through it as a string that starts with a NUL, and loses its quotes in the
finished text. A real NUL is refused: PostgreSQL cannot store it in JSON.

Source: https://www.postgresql.org/docs/current/datatype-json.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import (
    MAX_EMAX,
    MAX_PREC,
    MIN_EMIN,
    Context,
    Decimal,
    InvalidOperation,
)
from typing import Any

import msgspec

_MARKED_NUMBER = re.compile(r'"\\u0000(-?\d+(?:\.\d+)?(?:E[+-]?\d+)?)"')
# An odd number of backslashes: an even one is text that shows an escape.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Digits are never rounded here; beyond so many zeros 1E+999 stays as it is.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MAX_ZEROS = 400
# Where msgspec ends, Python's `json` reads on, or says what is wrong.
NOT_READ_BY_MSGSPEC = (
    msgspec.MsgspecError,
    InvalidOperation,
    RecursionError,
    UnicodeError,
)
_reader = msgspec.json.Decoder(float_hook=Decimal)


class JSONText(str):
    """JSON that is text already, to be stored as it is."""

    __slots__ = ()


class ExactJSONEncoder(json.JSONEncoder):
    """
    Write `Decimal` as a bare number with its own digits.

    Raises:
        ValueError: NaN, an infinity, or a NUL character in a text or a key.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "allow_nan": False})
        self._marked = 0

    def default(self, o: Any) -> Any:
        if not isinstance(o, Decimal):
            return super().default(o)
        if not o.is_finite():
            raise ValueError(f"{o} is not JSON.")
        self._marked += 1
        return f"\0{o}"

    def encode(self, o: Any) -> str:
        self._marked = 0
        text = super().encode(o)
        if "\\u0000" not in text:
            return text
        text, numbers = _MARKED_NUMBER.subn(r"\1", text)
        if numbers != self._marked or ("\\u0000" in text and _NUL.search(text)):
            raise ValueError("A NUL character cannot be stored in JSON.")
        return text

    def iterencode(self, o: Any, _one_shot: bool = False) -> Iterator[str]:
        if _one_shot:
            return super().iterencode(o, _one_shot)
        return iter([self.encode(o)])


class ExactJSONDecoder(json.JSONDecoder):
    """
    Read fractional numbers as `Decimal`.

    Raises:
        ValueError: NaN or an infinity, which Python's `json` takes by default.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **{**kwargs, "parse_float": _decimal, "parse_constant": _refuse}
        )


def _decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation as err:
        raise ValueError("A number's exponent is out of range.") from err


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON.")


def dumps(value: Any) -> str:
    """
    Write JSON in ASCII, without spaces.

    Raises:
        ValueError: see `ExactJSONEncoder`.
        TypeError: something that JSON cannot hold.
    """
    return json.dumps(value, cls=ExactJSONEncoder, separators=(",", ":"))


def canonical(value: Any) -> str:
    """
    Write JSON so that equal content gives equal text: keys sorted, 1.50 as 1.5.

    Raises:
        ValueError: see `ExactJSONEncoder`.
    """
    return json.dumps(
        value,
        cls=_CanonicalEncoder,
        separators=(",", ":"),
        sort_keys=True,
        ensure_ascii=False,
    )


class _CanonicalEncoder(ExactJSONEncoder):
    def default(self, o: Any) -> Any:
        if isinstance(o, Decimal) and o.is_finite():
            # PostgreSQL knows neither a negative zero nor exponents.
            o = o.normalize(_EXACT) or Decimal(0)
            if 0 < o.as_tuple().exponent < _MAX_ZEROS:
                o = o.quantize(Decimal(1), context=_EXACT)
        return super().default(o)


def loads(text: str | bytes) -> Any:
    """
    Read JSON; bytes are UTF-8.

    Raises:
        ValueError: `text` is not JSON.
    """
    try:
        return _reader.decode(text)
    except NOT_READ_BY_MSGSPEC:
        return _loads(text)


def _loads(text: str | bytes) -> Any:
    try:
        return json.loads(text, cls=ExactJSONDecoder)
    except RecursionError as err:
        raise ValueError("The JSON is nested too deeply.") from err
