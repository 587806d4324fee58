"""Cut pages of Orb's list into invoices, which stay text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from .raw_invoice import RawInvoice

# Most invoices need no parsing for their id: it comes first, and has no escapes.
_ID_FIRST = re.compile(rb'\s*\{\s*"id"\s*:\s*"([\x20-\x21\x23-\x5b\x5d-\x7e]+)"')
# A page of one unreadable invoice, with its keys in Orb's order.
_PAGE_OF_ONE = re.compile(
    rb'\s*\{\s*"data"\s*:\s*\[\s*(?P<invoice>\{.*\})\s*\]\s*,'
    rb'\s*"pagination_metadata"\s*:\s*(?P<metadata>\{[^{}\[\]]*\})\s*\}\s*',
    re.DOTALL,
)
# Any escape; the group matches half of a surrogate pair without the other half.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# This byte occurs in no UTF-8 text, so what takes the place of a backslash can be found
# again.
_NOT_IN_UTF8 = b"\xff"


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

    The result's `envelope` has only the page's `pagination_metadata`.

    Raises:
        ValueError: the body is not JSON, or not an object with a list `data`.
    """
    try:
        page = _decode(body)
        invoices = [bytes(raw) for raw in page.data]
    except ValueError:
        hidden = _hide_halves(body)
        if hidden == body or _NOT_IN_UTF8 in body:
            raise
        page = _decode(hidden)
        invoices = [bytes(raw).replace(_NOT_IN_UTF8, b"\\") for raw in page.data]
    envelope = {"pagination_metadata": page.pagination_metadata}
    return RawPage([_cut(data) for data in invoices], envelope)


def split_page_of_one(body: bytes) -> RawPage:
    """
    Cut a page of at most one invoice, even if the invoice cannot be read.

    The metadata after the invoice then still says where the list goes on.

    Raises:
        ValueError: the metadata cannot be found either.
    """
    try:
        return split_page(body)
    except ValueError:
        page = _PAGE_OF_ONE.fullmatch(body)
        if page is None:
            raise
        metadata = msgspec.json.decode(page["metadata"])
    found = _ID_FIRST.match(page["invoice"])
    id = found.group(1).decode() if found else None
    invoice = RawInvoice(page["invoice"], id=id)
    return RawPage([invoice], {"pagination_metadata": metadata})


def _decode(body: bytes) -> _Page:
    try:
        return msgspec.json.decode(body, type=_Page)
    except RecursionError as err:
        raise ValueError("The JSON is nested too deeply.") from err


def _hide_halves(body: bytes) -> bytes:
    """Replace the escapes that msgspec refuses, even in text that it only skips."""
    return _ESCAPE.sub(
        lambda found: _NOT_IN_UTF8 + found[1] if found[1] else found[0], body
    )


def _cut(data: bytes) -> RawInvoice:
    first = _ID_FIRST.match(data)
    if first is not None:
        return RawInvoice(data, id=first.group(1).decode())
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (ValueError, RecursionError):
        return RawInvoice(data)
    return RawInvoice(data, id=head.id)
