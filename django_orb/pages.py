"""Pages of Orb's list as text, cut into invoices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from .raw import RawInvoice

_ID_FIRST = re.compile(rb'\s*\{\s*"id"\s*:\s*"([\x20-\x21\x23-\x5b\x5d-\x7e]+)"')


class _Head(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    pagination_metadata: Any = None


@dataclass(frozen=True)
class RawPage:
    """A page of the list: its invoices as text, and the rest of it as JSON."""

    invoices: list[RawInvoice]
    envelope: dict[str, Any]


def split_page(body: bytes) -> RawPage:
    """
    Cut a page at the borders of its invoices, without reading them.

    The `envelope` of the result has just the page's `pagination_metadata`.

    Raises:
        ValueError: the body is not JSON, or not an object with a list `data`.
    """
    try:
        page = msgspec.json.decode(body, type=_Page)
    except RecursionError as err:
        raise ValueError("The JSON is nested too deeply.") from err
    envelope = {"pagination_metadata": page.pagination_metadata}
    return RawPage([_cut(bytes(raw)) for raw in page.data], envelope)


def _cut(data: bytes) -> RawInvoice:
    first = _ID_FIRST.match(data)
    if first is not None:
        return RawInvoice(data, id=first.group(1).decode())
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (ValueError, RecursionError):
        return RawInvoice(data)
    return RawInvoice(data, id=head.id)
