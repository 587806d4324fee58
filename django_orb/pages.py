"""Pages of Orb's list as text, cut into invoices."""

from __future__ import annotations

import re
from typing import Any

from . import exact_json
from .raw import HAS_FAST, RawInvoice

if HAS_FAST:
    import msgspec

    class _Head(msgspec.Struct):
        id: str

    class _Page(msgspec.Struct):
        data: list[msgspec.Raw]
        pagination_metadata: Any = None


_SPACE = re.compile(r"[ \t\r\n]*")
_ID_FIRST = re.compile(rb'\s*\{\s*"id"\s*:\s*"([\x20-\x21\x23-\x5b\x5d-\x7e]+)"')
# How a page begins, how its first invoice does, and what divides it from the next.
_BEGIN = re.compile(rb'\s*\{\s*"data"\s*:\s*\[\s*')
_FIRST_KEYS = re.compile(rb'(\{\s*"id"\s*:\s*")[^"\\]*("\s*,\s*"\w+"\s*:)')
_BETWEEN = re.compile(rb"\}\s*,\s*\Z")
_BETWEEN_LENGTH = 16
_decoder = exact_json.ExactJSONDecoder()


class RawPage:
    """
    A page of the list: its invoices as text, and the rest of it as JSON.

    `is_certain` is whether the text was read to find where its invoices end.
    """

    def __init__(
        self,
        invoices: list[RawInvoice],
        envelope: dict[str, Any],
        guessed_from: bytes = b"",
    ) -> None:
        self.invoices = invoices
        self.envelope = envelope
        self._guessed_from = guessed_from

    @property
    def is_certain(self) -> bool:
        return not self._guessed_from

    def ascertain(self) -> None:
        """
        Read it, if it was only guessed.

        Raises:
            ValueError: see `split_page`.
        """
        if self._guessed_from:
            page = split_page(self._guessed_from)
            self._guessed_from = b""
            self.invoices, self.envelope = page.invoices, page.envelope


def guess_page(body: bytes) -> RawPage:
    """
    Cut a page where its invoices seem to begin, without reading them.

    A guess is right where every text is one that was an invoice's before.

    Raises:
        ValueError: see `split_page`.
    """
    return _guess(body) or split_page(body)


def _guess(body: bytes) -> RawPage | None:
    begin = _BEGIN.match(body)
    tail = body.rfind(b'"pagination_metadata"')
    end = body.rfind(b"]", 0, max(tail, 0))
    if begin is None or end < 0 or body[end + 1 : tail].strip() != b",":
        return None
    try:
        envelope = exact_json.loads(b"{" + body[tail:])
        invoices = _guess_list(body, begin.end(), end)
    except ValueError:
        return None
    return RawPage(invoices, envelope, guessed_from=body) if invoices else None


def _guess_list(body: bytes, position: int, end: int) -> list[RawInvoice]:
    """Invoices that all begin with the same two keys, the id first."""
    keys = _FIRST_KEYS.match(body, position, end)
    if keys is None:
        return []
    opening, following = keys.groups()
    begins: list[int] = []
    ends: list[int] = []
    ids: list[str] = []
    # The second key is much rarer than the first, which prices and items have too.
    mark = body.find(following, position, end)
    while mark >= 0:
        id_begin = body.rfind(b'"', 0, mark) + 1
        begin, id = id_begin - len(opening), body[id_begin:mark]
        start = max(0, begin - _BETWEEN_LENGTH)
        between = _BETWEEN.search(body, start, begin) if begins else None
        is_first = begin == position
        if (
            body.startswith(opening, begin)
            and b"\\" not in id
            and (is_first or between)
        ):
            if between is not None:
                ends.append(between.start() + 1)
            begins.append(begin)
            ids.append(id.decode())
        mark = body.find(following, mark + len(following), end)
    ends.append(len(body[:end].rstrip()))
    if len(set(ids)) < len(ids):
        return []  # the texts of one could not all be known
    return [
        RawInvoice(body[begin:until], id=id)
        for begin, until, id in zip(begins, ends, ids, strict=True)
    ]


def split_page(body: bytes) -> RawPage:
    """
    Cut a page at the borders of its invoices.

    `envelope` is the page without its `data`, which are `invoices`; with the extra
    `[fast]` it has just the `pagination_metadata`, and no invoice is read.

    Raises:
        ValueError: it is not JSON, or no object with a list `data`.
    """
    return _split_fast(body) if HAS_FAST else _split(body)


def _split_fast(body: bytes) -> RawPage:
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
    except msgspec.MsgspecError:
        return RawInvoice(data)
    return RawInvoice(data, id=head.id)


def _split(body: bytes) -> RawPage:
    text = body.decode("utf-8")
    envelope: dict[str, Any] = {}
    invoices: list[RawInvoice] | None = None
    position = _expect(text, 0, "{")
    while not text.startswith("}", position):
        name, position = _read(text, position)
        if not isinstance(name, str):
            raise ValueError(f"A key is no text before {position}.")
        position = _expect(text, position, ":")
        if name == "data" and text.startswith("[", position):
            invoices, position = _split_list(text, position)
        else:
            envelope[name], position = _read(text, position)
        position = _pass_comma(text, position, "}")
    if _skip(text, position + 1) != len(text):
        raise ValueError(f"Extra text at {position + 1}.")
    if invoices is None:
        raise ValueError("There is no list of invoices.")
    return RawPage(invoices, envelope)


def _split_list(text: str, position: int) -> tuple[list[RawInvoice], int]:
    invoices: list[RawInvoice] = []
    position = _expect(text, position, "[")
    while not text.startswith("]", position):
        value, end = _decode(text, position)
        invoices.append(RawInvoice(text[position:end].encode(), value))
        position = _pass_comma(text, _skip(text, end), "]")
    return invoices, _skip(text, position + 1)


def _pass_comma(text: str, position: int, end: str) -> int:
    """To the next element, or to the end of the list or object."""
    if text.startswith(end, position):
        return position
    position = _expect(text, position, ",")
    if text.startswith(end, position):
        raise ValueError(f"Nothing after the comma before {position}.")
    return position


def _read(text: str, position: int) -> tuple[Any, int]:
    value, end = _decode(text, position)
    return value, _skip(text, end)


def _decode(text: str, position: int) -> tuple[Any, int]:
    try:
        return _decoder.raw_decode(text, position)
    except RecursionError as err:
        raise ValueError("The JSON is nested too deeply.") from err


def _expect(text: str, position: int, mark: str) -> int:
    position = _skip(text, position)
    if not text.startswith(mark, position):
        raise ValueError(f"Expected {mark} at {position}.")
    return _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # noqa: S101
    return match.end()
