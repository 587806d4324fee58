"""
Read and write JSON with exact numbers: a fractional number is a `Decimal`.

Not everything that can be read can be stored: a value is stored only if every supported
database returns it unchanged, see `require_storable`.

`json` has no hook for writing a number in given digits, so a `Decimal` goes through it
as a string that starts with a NUL, and loses its quotes in the finished text. A real
NUL is refused: PostgreSQL cannot store it in JSON.

Source: https://www.postgresql.org/docs/current/datatype-json.html
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any

import msgspec

_MARKED_NUMBER = re.compile(r'"\\u0000(-?\d+(?:\.\d+)?(?:E[+-]?\d+)?)"')
# `u0000` after an odd number of backslashes; after an even one it is plain text.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Digits are never rounded here; a number with more zeros than this keeps its exponent.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MAX_ZEROS = 400
# If msgspec fails, Python's `json` reads the text, or says what is wrong.
NOT_READ_BY_MSGSPEC = (
    msgspec.MsgspecError,
    InvalidOperation,
    RecursionError,
    UnicodeError,
)
_reader = msgspec.json.Decoder(float_hook=Decimal)
# Python reads integers of so many digits whatever its limit is set to, and PostgreSQL
# writes 1E+700 as one of 701 digits.
MAX_DIGITS = 640
# MariaDB refuses JSON that is 32 levels deep.
MAX_DEPTH = 30
_SHAPE_OF_NUMBERS = bytes.maketrans(b"123456789E+", b"000000000e-")
# With digits as 0 and E+ as e-, three searches find each number that may have too many
# digits: with fewer than 200 in a row on each side of the point, and an exponent below
# 100, it is written in fewer than 400.
_LONG_NUMBERS = (b"0" * 200, b"0e000", b"0e-000")
# Python's texts may hold it, UTF-8 does not.
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_TOO_LARGE = 10**MAX_DIGITS
_TOO_MANY_DIGITS = f"A number has more than {MAX_DIGITS} digits."
_NOT_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")


class JSONText(str):
    """JSON that is a text already, and is stored as it is."""

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
        # Counted, because a text that begins with a NUL and digits looks the same.
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
        # `json.dump` calls this and not `encode`, and would write the marks.
        return iter([self.encode(o)])


class ExactJSONDecoder(json.JSONDecoder):
    """
    Read fractional numbers, and integers of many digits, as `Decimal`.

    A number whose exponent no `Decimal` can have becomes NaN, which is not stored.

    Raises:
        ValueError: NaN or an infinity, which Python's `json` takes by default.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            **{
                **kwargs,
                "parse_float": _decimal,
                "parse_int": _integer,
                "parse_constant": _refuse,
            }
        )


def _decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:
        return Decimal("NaN")


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= MAX_DIGITS else Decimal(digits)


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


def may_be_unstorable(data: bytes) -> bool:
    """Tell whether JSON may hold a number or a depth that `require_storable` refuses."""
    shape = data.translate(_SHAPE_OF_NUMBERS)
    return any(long in shape for long in _LONG_NUMBERS) or _may_be_deep(data)


def _may_be_deep(data: bytes) -> bool:
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    brackets = data.translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return True  # it is deep, or there are brackets in texts


def require_storable(value: Any) -> None:
    """
    Make sure that a value can be stored as JSON and read back, on every database.

    Raises:
        ValueError: it cannot; the message says why.
    """
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        reason = _why_not(item, depth)
        if reason:
            raise ValueError(reason)
        left += [(inner, depth + 1) for inner in _inside(item)]


def why_not_text(text: str) -> str:
    """Return why not every database can store a text, or ""."""
    if "\0" in text:
        return "A NUL character cannot be stored."
    is_whole = text.isascii() or not _HALF_OF_A_PAIR.search(text)
    return "" if is_whole else "Half of a surrogate pair is not a character."


def storable_text(text: str) -> str:
    """
    Return the text with "?" in place of each character that not every database stores.

    Errors may quote anything that Orb or a receiver holds, so their texts pass here before
    they are stored: otherwise what was being recorded would be lost, too.
    """
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def storable(value: Any) -> Any:
    """Return the value with a text in place of all that `require_storable` refuses."""
    try:
        require_storable(value)
    except ValueError:
        return _storable(value, 0)
    return value


def _storable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    reason = _why_not(value, depth)
    if reason:
        return f"({reason})"
    if isinstance(value, dict):
        return {
            _storable(key, depth): _storable(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_storable(inner, depth + 1) for inner in value]
    return value


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, (list, tuple)) else ()


def _why_not(value: Any, depth: int) -> str:
    """Return why a value, apart from what is inside it, cannot be stored, or ""."""
    if depth > MAX_DEPTH:
        return f"It is nested more than {MAX_DEPTH} deep."
    if isinstance(value, str):
        return why_not_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not JSON."
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        return _TOO_MANY_DIGITS
    if isinstance(value, Decimal):
        return _why_not_decimal(value)
    return ""


def _why_not_decimal(value: Decimal) -> str:
    if not value.is_finite():
        return "A number is not finite, or its exponent is out of range."
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101  it is finite
    has_too_many = max(value.adjusted(), 0) + max(-exponent, 0) >= MAX_DIGITS
    return _TOO_MANY_DIGITS if has_too_many else ""
