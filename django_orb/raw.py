"""
Orb's answers as text: pages cut into invoices without losing a digit.

An invoice whose text is the same as last time needs no reading at all; one that
is new is stored as the text that came.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Any

from . import exact_json

try:
    import msgspec
except ImportError:
    HAS_FAST = False
else:
    HAS_FAST = True

# Orb signs these links anew; their query says nothing about the invoice.
_QUERY = re.compile(r'\s*:\s*"[^"?]*(\?[^"]*)"')
_LINKS = ('"hosted_invoice_url"', '"invoice_pdf"')
_SPACE = re.compile(r"[ \t\r\n]*")
_decoder = exact_json.ExactJSONDecoder()

if HAS_FAST:

    class _Head(msgspec.Struct):
        id: str

    class _Page(msgspec.Struct):
        data: list[msgspec.Raw]
        pagination_metadata: Any = None


class RawInvoice:
    """One invoice as Orb's text, read when somebody asks for its value."""

    def __init__(self, text: str, value: Any = None, id: str | None = None) -> None:
        self.text = text
        self._id = id
        if value is not None:
            self.value = value

    @property
    def id(self) -> Any:
        """What stands where the id should; None where nothing does."""
        if self._id is not None:
            return self._id
        return self.value.get("id") if isinstance(self.value, dict) else None

    @classmethod
    def of(cls, value: Any) -> RawInvoice:
        """
        From JSON that was read before.

        Raises:
            ValueError: it cannot be written as JSON.
        """
        return cls(exact_json.dumps(value), value)

    @cached_property
    def value(self) -> Any:
        return exact_json.loads(self.text)

    @cached_property
    def digest(self) -> str:
        """
        Equal digests mean equal content; different ones mean nothing.

        Signatures of links are left out where it is certain that they are links of
        the invoice, and not, say, of its metadata.
        """
        text = self.text
        if all(_is_once(link, text) for link in _LINKS):
            for link in _LINKS:
                text = _without_query(link, text)
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16).hexdigest()


def _is_once(link: str, text: str) -> bool:
    first = text.find(link)
    return first >= 0 and text.find(link, first + 1) < 0


def _without_query(link: str, text: str) -> str:
    after = text.find(link) + len(link)
    match = _QUERY.match(text, after)
    if match is None:
        return text
    return text[: match.start(1)] + text[match.end(1) :]


class RawPage:
    """A page of the list: its invoices as text, and the rest of it as JSON."""

    def __init__(self, invoices: list[RawInvoice], envelope: dict[str, Any]) -> None:
        self.invoices = invoices
        self.envelope = envelope


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
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.MsgspecError:
        return RawInvoice(data.decode("utf-8"))
    return RawInvoice(data.decode("utf-8"), id=head.id)


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
        invoices.append(RawInvoice(text[position:end], value))
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
