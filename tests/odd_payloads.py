"""
Orb's answers with something odd in them, made from the samples.

A payload is JSON text, because some oddities are not values: a key that stands twice,
half of a surrogate pair, a number that Python would not write.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from hypothesis import strategies as st

MISSING, DOUBLED = "missing", "the key twice"

# Instead of the value that should be there, as JSON; $ is that value.
INSTEAD = (
    "null",
    "true",
    "false",
    "0",
    "-1",
    "0.1",
    "1e30",
    "1E+500",
    "9" * 40,
    "9" * 700,
    "-0.0000000000000000000000001",
    '""',
    '" "',
    '"odd"',
    '"0"',
    '"-0.00"',
    '"1,000.00"',
    '"1_000.00"',
    '" 1000.00"',
    '"\\u0661\\u0660"',
    '"99999999999999999999.999999999"',
    '"NaN"',
    '"Infinity"',
    '"1e2000000000"',
    '"99999999999999999999.99"',
    '"123456789012345678901234567890"',
    '"0001-01-01"',
    '"0001-01-01T00:00:00+14:00"',
    '"1000-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59.999999Z"',
    '"9999-12-31T23:59:59-14:00"',
    '"2026-02-30"',
    '"draft"',
    '"javascript:alert(1)"',
    '"https://[odd"',
    '"<b>\\u0001&amp;{{ odd }}%s%(odd)s</b>"',
    '"\\u202e\\ud83d\\ude00\\u00e9"',
    '"a\\u0000b"',
    '"\\ud800"',
    f'"{"x" * 70}"',
    f'"{"long " * 20_000}"',
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[{}]",
    '[{}, null, 1, "odd", {"id": null}]',
    '{"": null}',
    '{"id": {"id": []}}',
    "[" * 20 + "]" * 20,
    "[$]",
    "[$, $]",
    "[[$]]",
    '{"odd": $}',
    DOUBLED,
    MISSING,
)


class Oddity(NamedTuple):
    path: tuple[str | int, ...]
    instead: str


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Any]:
    """Every key and every item, at any depth."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, below in items:
        yield (*path, key)
        yield from paths_of(below, (*path, key))


def every_oddity(payload: Any) -> list[Oddity]:
    return [Oddity(path, odd) for path in paths_of(payload) for odd in INSTEAD]


def is_of_a_child(path: tuple[str | int, ...]) -> bool:
    """Whether it is of what an invoice carries beside its lines, or within it."""
    children = {"credit_notes", "payment_attempts", "customer_balance_transactions"}
    return bool(children & {path[0]}) or "tax_amounts" in path


def write(payload: Any, oddities: Sequence[Oddity] = ()) -> str:
    """The payload as JSON; an oddity within another, or within what is gone, is none."""
    spoiled = copy.deepcopy(payload)
    for oddity in oddities:
        _spoil(spoiled, oddity)
    return _as_json(spoiled)


class _Odd(NamedTuple):
    """Where something odd comes instead of the proper value."""

    proper: Any
    instead: str


def _spoil(value: Any, oddity: Oddity) -> None:
    *above, last = oddity.path
    for key in above:
        if not _has(value, key):
            return
        value = value[key]
    if not _has(value, last) or isinstance(value[last], _Odd):
        return
    if oddity.instead == MISSING:
        del value[last]
    else:
        value[last] = _Odd(value[last], oddity.instead)


def _has(value: Any, key: str | int) -> bool:
    if isinstance(value, dict):
        return key in value
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def _as_json(value: Any) -> str:
    if isinstance(value, _Odd):
        proper = _as_json(value.proper)
        if value.instead == DOUBLED:  # an item of a list; for keys see below
            return f"{proper}, {proper}"
        return value.instead.replace("$", proper)
    if isinstance(value, dict):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _pairs(value: dict[str, Any]) -> Iterator[str]:
    for key, below in value.items():
        name = json.dumps(key)
        if isinstance(below, _Odd) and below.instead == DOUBLED:
            yield f"{name}: null"
            below = below.proper
        yield f"{name}: {_as_json(below)}"


def oddities(payload: Any, *, at_most: int = 2) -> st.SearchStrategy[list[Oddity]]:
    """A few at most, since each hides what the others would have shown."""
    paths = st.sampled_from(list(paths_of(payload)))
    single = st.builds(Oddity, paths, st.sampled_from(INSTEAD))
    return st.lists(single, min_size=1, max_size=at_most)
