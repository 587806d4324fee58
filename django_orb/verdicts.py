"""
What an observation of Orb means for what is stored; no database here.

# Note [Never stale]
An answer of Orb shows an invoice as it was at some instant between the request
and the end of the answer: an interval, not an instant. What is stored carries
the interval in which it was seen. An observation that lies wholly after is
taken, one wholly before is dropped, and one that overlaps with other content is
a doubt that only a new fetch decides. Seeing the same content again moves both
bounds up, never down, so that an older state cannot slip in behind it.

Orb's answers may lag behind our own writes. For a while after a write, only an
answer that shows it counts at all.

# Note [Hashed when needed]
Hashing content takes as long as reading and mapping it together, and a text that
comes again as it was needs no hash. So what came as text is stored with the digest
of the text alone; what is stored is hashed when another text comes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from .changes import Before
from .clock import Interval
from .exact_json import JSONText
from .exceptions import OrbPayloadError
from .models import InvoiceOperation
from .payloads import (
    MAPPER_VERSION,
    MappedInvoice,
    content_hash,
    invoice_id_of,
    invoice_keys,
    map_invoice,
    usable_id,
)
from .raw import RawInvoice

# The content hash of an invoice that Orb answered 404 for, and of an id that it
# answered so for and that never was in the mirror.
ABSENT = "absent"
NEVER_THERE = "never there"

_DIGEST_PREFIX = f"{MAPPER_VERSION}-"

# Where the ids of failures begin that have none of Orb's.
NO_ID = "(no id"

Verdict = Literal["take", "same", "drop", "doubt"]


@dataclass(frozen=True)
class Observation:
    """
    What Orb showed of one invoice, and when.

    `payload` is its JSON, as a value or as a `RawInvoice`. `is_absent` is a
    confirmed 404. `supersedes` is the version of the stored observation that was
    committed before the request began: whatever the clocks say, this one is newer
    than that. `refusal` is why it must not be written, only recorded as failed.
    """

    invoice_id: str
    payload: Any
    interval: Interval
    supersedes: int | None = None
    is_absent: bool = False
    refusal: str = ""

    @classmethod
    def absent(
        cls, invoice_id: str, interval: Interval, supersedes: int | None = None
    ) -> Observation:
        return cls(invoice_id, None, interval, supersedes, is_absent=True)


@dataclass
class Known:
    """What is stored of an invoice's last observation."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    content_hash: str = ""
    raw_digest: str = ""
    version: int = 0
    run_id: int | None = None
    has_failed: bool = False
    was_written_to: bool = False
    before: Before | None = None

    @property
    def lacks_hash(self) -> bool:
        """See Note [Hashed when needed]; what an older mapper stored is never equal."""
        return not self.content_hash and self.raw_digest.startswith(_DIGEST_PREFIX)

    @property
    def was_there(self) -> bool:
        """Whether the mirror has the invoice, be it marked missing."""
        return self.version > 0 and self.content_hash != NEVER_THERE


class Incoming:
    """An observation on its way in; read and mapped no earlier than needed."""

    def __init__(self, seen: Observation, exact_digits: int | None) -> None:
        self.seen = seen
        self.interval = seen.interval
        self.is_late = False
        self._exact_digits = exact_digits

    @cached_property
    def _raw(self) -> RawInvoice | None:
        payload = self.seen.payload
        return payload if isinstance(payload, RawInvoice) else None

    @cached_property
    def raw_digest(self) -> str:
        return f"{_DIGEST_PREFIX}{self._raw.digest}" if self._raw else ""

    @cached_property
    def value(self) -> Any:
        if self._raw is None:
            return self.seen.payload
        try:
            return self._raw.value
        except ValueError as err:
            raise OrbPayloadError(f"It cannot be read: {err}") from err

    def as_ascii(self) -> str:
        """As JSON with everything escaped, to look at what a database refuses."""
        try:
            return json.dumps(self.value, default=str)
        except OrbPayloadError:
            data = self._raw.data if self._raw else b""
            return data.decode("ascii", "backslashreplace")

    @cached_property
    def content_hash(self) -> str:
        return ABSENT if self.seen.is_absent else content_hash(self.value)

    @property
    def hash_if_known(self) -> str:
        """Empty where nobody needed it; see Note [Hashed when needed]."""
        return "" if self.raw_digest and not self._is_hashed else self.content_hash

    @property
    def _is_hashed(self) -> bool:
        return "content_hash" in self.__dict__

    def check(self) -> None:
        """
        Make sure that it can be stored, before anything is.

        Raises:
            OrbPayloadError: it cannot.
        """
        if self.mapped.id != self.seen.invoice_id:
            raise OrbPayloadError("It has more than one id.")
        if self._raw is None or self._raw.is_delicate:
            self.content_hash  # noqa: B018

    @cached_property
    def mapped(self) -> MappedInvoice:
        if self._raw is None:
            return map_invoice(self.value, exact_digits=self._exact_digits)
        try:
            value, text = self._raw.read_only(invoice_keys()), self._raw.text
        except ValueError as err:
            raise OrbPayloadError(f"It cannot be read: {err}") from err
        mapped = map_invoice(value, exact_digits=self._exact_digits)
        mapped.columns["payload"] = JSONText(text)
        return mapped

    def shows(self, operation: InvoiceOperation) -> bool:
        """Whether it shows what we did; what cannot be read fails elsewhere."""
        if self.seen.is_absent:
            return False
        try:
            return operation.is_shown_in(self.value)
        except (OrbPayloadError, AttributeError, TypeError):
            return True

    def is_stored_in(self, known: Known) -> bool:
        """Whether it shows the content that is stored."""
        if self.raw_digest and self.raw_digest == known.raw_digest:
            return True
        if self.seen.is_absent:
            return known.content_hash in (ABSENT, NEVER_THERE)
        return known.version > 0 and self.content_hash == known.content_hash


def read_page(payloads: Sequence[Any], interval: Interval) -> list[Observation]:
    """Make observations of a page; what has no usable id gets an id that says so."""
    observations: dict[str, Observation] = {}
    for position, payload in enumerate(payloads):
        try:
            if isinstance(payload, RawInvoice):
                invoice_id = usable_id(payload.id)
            else:
                invoice_id = invoice_id_of(payload)
        except OrbPayloadError:
            invoice_id = f"{NO_ID}, item {position} of a page)"
        observations[invoice_id] = Observation(invoice_id, payload, interval)
    return list(observations.values())


def judge(known: Known, one: Incoming, now: datetime) -> Verdict:
    """See Note [Never stale]; `now` is on the database's clock."""
    if one.is_late:
        return "drop"
    if known.started_at is None or known.ended_at is None:
        return "take"
    if one.is_stored_in(known):
        return "same"
    interval = one.interval
    if one.seen.supersedes == known.version or interval.started_at > known.ended_at:
        return "take"
    # A stored end in the future means that the database's clock stepped back.
    if interval.ended_at < known.started_at and known.ended_at <= now:
        return "drop"
    return "doubt"


def touch(
    invoice_id: str,
    known: Known,
    one: Incoming,
    verdict: Verdict,
    run_id: int | None,
) -> dict[str, Any]:
    """The stored observation's row after this one."""
    row = {
        "invoice": invoice_id,
        "started_at": known.started_at,
        "ended_at": known.ended_at,
        "content_hash": known.content_hash,
        "raw_digest": known.raw_digest,
        "version": known.version,
        "run_id": max(known.run_id or 0, run_id or 0) or None,
    }
    interval = one.interval
    if verdict == "take":
        is_unknown = one.seen.is_absent and not known.was_there
        row["content_hash"] = NEVER_THERE if is_unknown else one.hash_if_known
        row["started_at"], row["ended_at"] = interval.started_at, interval.ended_at
    elif verdict == "same" and known.started_at and known.ended_at:
        row["started_at"] = max(known.started_at, interval.started_at)
        row["ended_at"] = max(known.ended_at, interval.ended_at)
    if verdict != "drop":
        row["version"] = known.version + 1
        row["raw_digest"] = one.raw_digest or (
            known.raw_digest if verdict == "same" else ""
        )
    return row
