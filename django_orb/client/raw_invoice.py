"""
Invoices as Orb's text, without losing a digit.

One whose text is the same as last time needs no reading at all; one that is new is
stored as the text that came.
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

# Orb signs these links anew; their query says nothing about the invoice.
_QUERY = re.compile(rb'\s*:\s*"[^"?]*(\?[^"]*)"')
_LINKS = (b'"hosted_invoice_url"', b'"invoice_pdf"')
# What can follow a key of the invoice itself, if no list or object does.
_OUTERMOST = re.compile(rb"[^{}\[\]]*\}\s*\Z")
# NUL and halves of surrogate pairs: databases differ in whether they store them.
_DELICATE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


class RawInvoice:
    """One invoice as Orb's text, in UTF-8, read when somebody asks for its value."""

    def __init__(self, data: bytes, value: Any = None, id: str | None = None) -> None:
        self.data = data
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
        return cls(exact_json.dumps(value).encode(), value)

    @property
    def text(self) -> str:
        """
        The JSON as it came.

        Raises:
            ValueError: it is not in UTF-8.
        """
        return self.data.decode()

    @cached_property
    def value(self) -> Any:
        """
        What the JSON says, numbers exact.

        Raises:
            ValueError: it is none.
        """
        return exact_json.loads(self.data)

    def read_only(self, shape: Shape) -> Any:
        """
        What the JSON says under these keys; it may give more than that.

        Raises:
            ValueError: it is no JSON.
        """
        if "value" in self.__dict__:
            return self.value
        try:
            return _decoder_of(shape).decode(self.data)
        except NOT_READ_BY_MSGSPEC:
            return self.value

    @property
    def is_delicate(self) -> bool:
        """Whether there may be characters in it that not every database stores."""
        return _DELICATE.search(self.data) is not None

    @cached_property
    def digest(self) -> str:
        """
        Equal digests mean equal content; different ones mean nothing.

        Signatures of links are left out where it is certain that they are links of
        the invoice, and not, say, of its metadata.
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
    """Where the signatures of the links are; nowhere if that is uncertain."""
    found = []
    for link in _LINKS:
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
    """Keys of an object: plain ones, those with objects, those with lists of them."""

    plain: Sequence[str] = ()
    objects: Mapping[str, Shape] = field(default_factory=dict)
    lists: Mapping[str, Shape] = field(default_factory=dict)


@cache
def _decoder_of(shape: Shape) -> Any:
    return msgspec.json.Decoder(_typed(shape), float_hook=Decimal)


def _typed(shape: Shape) -> Any:
    """A type that has msgspec pass over all other keys."""
    keys: dict[str, Any] = dict.fromkeys(shape.plain, Any)
    keys |= {key: _typed(inner) | None for key, inner in shape.objects.items()}
    keys |= {
        key: list[_typed(inner)] | None  # type: ignore[misc]
        for key, inner in shape.lists.items()
    }
    return TypedDict("Keys", keys, total=False)  # type: ignore[operator]
