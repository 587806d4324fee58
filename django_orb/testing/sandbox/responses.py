"""Build answers from bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

from werkzeug.wrappers import Response

from django_orb.testing.account import dumps

_SLOW_PIECES = 10
_BODIES_AT_ONCE = 8
# Orb's summaries leave these out (types/invoice_list_summary_response.py of its SDK).
NOT_IN_SUMMARY = [
    "discount",
    "discounts",
    "hidden_line_item_count",
    "line_items",
    "maximum",
    "maximum_amount",
    "minimum",
    "minimum_amount",
    "subtotal",
]


def json_response(payload: Any, status: int = 200) -> Response:
    return raw_response(dumps(payload), status)


def raw_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status=status, content_type="application/json")


def page_response(bodies: list[bytes], cursor: str | None) -> Response:
    # Orb's SDK follows any cursor and ignores has_more; others do the reverse.
    metadata = dumps({"has_more": cursor is not None, "next_cursor": cursor})
    head, foot = b'{"data":[', b'],"pagination_metadata":%b}' % metadata
    pieces = chain([head], _joined(bodies), [foot])
    response = Response(pieces, content_type="application/json")
    commas = max(0, len(bodies) - 1)
    response.content_length = sum(map(len, (head, foot, *bodies))) + commas
    return response


def _joined(bodies: list[bytes]) -> Iterator[bytes]:
    # A page of a megabyte is never joined as a whole: the allocation would take longer
    # than the rest of serving it.
    for start in range(0, len(bodies), _BODIES_AT_ONCE):
        separator = b"," if start else b""
        yield separator + b",".join(bodies[start : start + _BODIES_AT_ONCE])


def without_zero_lines(body: bytes) -> bytes:
    payload = json.loads(body)
    lines = payload["line_items"]
    kept = [line for line in lines if line["quantity"]]
    hidden = payload["hidden_line_item_count"] + len(lines) - len(kept)
    return dumps(payload | {"line_items": kept, "hidden_line_item_count": hidden})


def summary(body: bytes) -> bytes:
    payload = json.loads(body)
    for name in NOT_IN_SUMMARY:
        del payload[name]
    return dumps(payload)


def slowed(response: Response, seconds: float) -> Response:
    """Return the same answer, in pieces that take this long in total."""
    body = response.get_data()
    pieces = _pieces(body, seconds)
    slow = Response(pieces, status=response.status_code, headers=response.headers)
    slow.content_length = len(body)
    return slow


def _pieces(body: bytes, seconds: float) -> Iterator[bytes]:
    size = max(1, -(-len(body) // _SLOW_PIECES))
    for start in range(0, len(body), size):
        time.sleep(seconds / _SLOW_PIECES)
        yield body[start : start + size]
