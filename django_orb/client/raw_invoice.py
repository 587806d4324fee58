"""
Keep invoices as Orb's text, so that no digit is lost.

An invoice whose text is unchanged is not even parsed, and a new one is stored as the
text that came.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, cached_property
from typing import Any, TypedDict

import msgspec

from django_orb import exact_json
from django_orb.exact_json import NOT_READ_BY_MSGSPEC

#: Links that an invoice has itself.
INVOICE_LINKS = ("hosted_invoice_url", "invoice_pdf")
#: The links that Orb signs again in each answer: another signature is not a change.
#: A payment attempt has the receipt.
SIGNED_LINKS = (*INVOICE_LINKS, "receipt_pdf")

_QUOTED_LINKS = [f'"{name}"'.encode() for name in INVOICE_LINKS]
# The signature is in the link's query.
_QUERY = re.compile(rb'\s*:\s*"[^"?]*(\?[^"]*)"')
# If only plain values follow a key to the end, it is a key of the invoice itself.
_OUTERMOST = re.compile(rb"[^{}\[\]]*\}\s*\Z")
# NUL and halves of surrogate pairs, which not every database stores.
_DELICATE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


class RawInvoice:
    """One invoice as Orb's text in UTF-8, parsed when its value is first used."""

    def __init__(self, data: bytes, value: Any = None, id: str | None = None) -> None:
        self.data = data
        #: What callers have computed from it, by keys that they choose.
        self.kept: dict[Any, Any] = {}
        self._id = id
        if value is not None:
            self.value = value

    @property
    def id(self) -> Any:
        """The value of the key `id`, whatever its type; None if it is missing."""
        if self._id is not None:
            return self._id
        return self.value.get("id") if isinstance(self.value, dict) else None

    @classmethod
    def of(cls, value: Any) -> RawInvoice:
        """
        Return an invoice for JSON that was parsed before.

        Raises:
            ValueError: the value cannot be written as JSON.
        """
        return cls(exact_json.dumps(value).encode(), value)

    @property
    def text(self) -> str:
        """
        The JSON as it came.

        Raises:
            ValueError: the text is not UTF-8.
        """
        return self.data.decode()

    @cached_property
    def value(self) -> Any:
        """
        The parsed JSON, with exact numbers.

        Raises:
            ValueError: the text is not JSON.
        """
        return exact_json.loads(self.data)

    def read_only(self, shape: Shape) -> Any:
        """
        Parse only these keys. The result may have others as well.

        Raises:
            ValueError: the text is not JSON.
        """
        if "value" in self.__dict__:
            return self.value
        try:
            return _decoder_of(shape).decode(self.data)
        except NOT_READ_BY_MSGSPEC:
            return self.value

    @cached_property
    def may_be_unstorable(self) -> bool:
        """Whether not every database may be able to store the text and read it back."""
        is_delicate = _DELICATE.search(self.data) is not None
        return is_delicate or exact_json.may_be_unstorable(self.data)

    @cached_property
    def digest(self) -> str:
        """
        A hash of the text. Equal digests mean equal content, and unequal ones may, too.

        Signatures of links are left out if the links certainly belong to the invoice
        itself, and not to its metadata, for instance.
        """
        data = self.data
        digest = hashlib.sha256()
        begin = 0
        for start, end in _queries(data):
            digest.update(data[begin:start])
            begin = end
        digest.update(data[begin:])
        return digest.hexdigest()[:32]


def _queries(data: bytes) -> list[tuple[int, int]]:
    """Return the spans of the links' signatures, or none if they are uncertain."""
    # Where this is too careful, nothing is lost but time: another digest only means
    # that the content is compared by its hash.
    found = []
    for link in _QUOTED_LINKS:
        position = data.rfind(link)
        if position < 0:
            return []
        if not _OUTERMOST.match(data, position) and data.find(link, 0, position) >= 0:
            return []
        match = _QUERY.match(data, position + len(link))
        if match is not None:
            found.append(match.span(1))
    return sorted(found)


@dataclass(frozen=True, eq=False)
class Shape:
    """The keys to parse: those of plain values, of objects, and of lists of objects."""

    plain: Sequence[str] = ()
    objects: Mapping[str, Shape] = field(default_factory=dict)
    lists: Mapping[str, Shape] = field(default_factory=dict)


@cache
def _decoder_of(shape: Shape) -> Any:
    return msgspec.json.Decoder(_typed(shape), float_hook=Decimal)


def _typed(shape: Shape) -> Any:
    """Return a type with which msgspec skips all other keys."""
    keys: dict[str, Any] = dict.fromkeys(shape.plain, Any)
    keys |= {key: _typed(inner) | None for key, inner in shape.objects.items()}
    keys |= {
        key: list[_typed(inner)] | None  # type: ignore[misc]
        for key, inner in shape.lists.items()
    }
    return TypedDict("Keys", keys, total=False)  # type: ignore[operator]
