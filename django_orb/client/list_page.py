"""Pages of Orb's list as text, cut into invoices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from .raw_invoice import RawInvoice

_ID_FIRST = re.compile(rb'\s*\{\s*"id"\s*:\s*"([\x20-\x21\x23-\x5b\x5d-\x7e]+)"')
# An unreadable invoice between what surrounds it in a page, in Orb's order.
_PAGE_OF_ONE = re.compile(
    rb'\s*\{\s*"data"\s*:\s*\[\s*(?P<invoice>\{.*\})\s*\]\s*,'
    rb'\s*"pagination_metadata"\s*:\s*(?P<metadata>\{[^{}\[\]]*\})\s*\}\s*',
    re.DOTALL,
)
# Escapes; the group is half of a surrogate pair that stands alone.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
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

    The `envelope` of the result has just the page's `pagination_metadata`.

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
    Cut a page that was asked to have one invoice, even if that cannot be read.

    What follows the invoice then still says where the list goes on.

    Raises:
        ValueError: not even that can be found.
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
    """Spoil the escapes that msgspec refuses even in what it passes over."""
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
