"""Decide what an observation of Orb means for what is stored, without a database."""

# Note [Never stale]
# An answer of Orb shows an invoice as it was at some instant between the request and
# the end of the answer: an interval, not an instant. What is stored carries the
# interval in which it was seen. An observation that lies wholly after is taken, one
# wholly before is dropped, and one that overlaps with other content is a doubt that
# only a new fetch decides. Seeing the same content again moves both bounds up, never
# down, so that an older state cannot slip in behind it.
#
# An answer that cannot be stored has an interval too. It is ordered against what is
# stored and against the failure before it, and only a later answer makes it go away.
#
# Orb's answers may lag behind our own writes. For a while after a write, only an answer
# that shows it counts at all. A write to which Orb gave no answer counts from when the
# mirror last saw it. One that was left out may have shown a later change by
# another party, so the invoice is fetched again when that while is over.
#
# Nothing blanks an interval. An invoice whose row is to be written although unchanged
# is flagged, and the flag goes with an answer to a request that began after it was set.

# Note [Releases side by side]
# A row tells which mapper filled it. A newer release fills it again, once; an older one
# leaves it alone, unless the content has changed. Content is compared by what it says,
# whichever mapper wrote it.

# Note [Hashed when needed]
# Hashing content takes as long as reading and mapping it together, and a text that
# comes again as it was needs no hash. So what came as text is stored with the digest of
# the text alone; what is stored is hashed when another text comes.

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from django_orb import exact_json
from django_orb.client import OrbClient, RawInvoice, Shape
from django_orb.db import Interval
from django_orb.exact_json import JSONText
from django_orb.exceptions import OrbPayloadError
from django_orb.models import InvoiceOperation

from . import hashing, mapping, personal
from .change_log import Before
from .hashing import content_hash
from .mapping import MappedInvoice, invoice_id_of, invoice_keys, map_invoice, usable_id

# The content hash of an invoice that Orb answered 404 for, and of an id that it
# answered so for and that never was in the mirror.
ABSENT = "absent"
NEVER_THERE = "never there"

# The first id of failures that have none of Orb's.
NO_ID = "(no id"

_CUSTOMER = Shape(objects={"customer": Shape(plain=("id",))})

# To write the content again; to record that it cannot be written.
Decision = Literal["take", "same", "rewrite", "fail", "drop", "doubt"]
Order = Literal["after", "overlap", "before"]


@dataclass(frozen=True)
class Observation:
    """
    The state of one invoice as Orb showed it, and when that was.

    `payload` is its JSON, as a value or as a `RawInvoice`. `is_absent` is a
    confirmed 404. `supersedes` is the version of the stored observation that was
    committed before the request began: whatever the clocks say, this one is newer
    than that. `refusal` is why it must not be written, only recorded as failed.
    `client` is the one that asked Orb; an event has none.
    """

    invoice_id: str
    payload: Any
    interval: Interval
    supersedes: int | None = None
    is_absent: bool = False
    refusal: str = ""
    client: OrbClient | None = None

    @classmethod
    def absent(
        cls, invoice_id: str, interval: Interval, supersedes: int | None = None
    ) -> Observation:
        return cls(invoice_id, None, interval, supersedes, is_absent=True)


@dataclass
class Known:
    """The stored part of an invoice's last observation."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    failed_from: datetime | None = None
    failed_until: datetime | None = None
    rewrite_at: datetime | None = None
    content_hash: str = ""
    raw_digest: str = ""
    version: int = 0
    run_id: int | None = None
    mapper_version: int = 0
    is_flagged: bool = False
    has_failed: bool = False
    was_written_to: bool = False
    before: Before | None = None

    @property
    def lacks_hash(self) -> bool:
        """Return whether to hash what is stored; see Note [Hashed when needed]."""
        is_absent = self.content_hash in (ABSENT, NEVER_THERE)
        is_hashed = self.content_hash.startswith(_hash_prefix())
        return self.was_there and not is_absent and not is_hashed

    @property
    def was_there(self) -> bool:
        """Return whether the mirror has the invoice, even if marked missing."""
        has_content = bool(self.content_hash or self.raw_digest)
        return has_content and self.content_hash != NEVER_THERE

    def shows(self, operation: InvoiceOperation) -> bool:
        """Return whether what is stored, and was read, shows what we asked for."""
        if self.before is None or self.before.missing_since or self.ended_at is None:
            return False
        try:
            return operation.is_shown_in(self.before.payload)
        except (AttributeError, TypeError):
            return False

    @property
    def is_outdated(self) -> bool:
        """Return whether an older mapper wrote it; see Note [Releases side by side]."""
        is_row = self.was_there and self.content_hash != ABSENT
        return is_row and self.mapper_version < mapping.MAPPER_VERSION


def _hash_prefix() -> str:
    return f"{hashing.HASH_VERSION}-"


class Incoming:
    """
    An observation on its way in; read and mapped no earlier than needed.

    `failure` is why it cannot be stored. `believed_from` is when Orb no longer lags
    behind our own write, if it does not show that. If `is_blank`, its value has no
    personal data, but its digest is that of Orb's text.
    """

    def __init__(self, seen: Observation, exact_digits: int | None) -> None:
        self.seen = seen
        self.interval = seen.interval
        self.failure = seen.refusal
        self.believed_from: datetime | None = None
        self.is_blank = False
        self._exact_digits = exact_digits

    @cached_property
    def _raw(self) -> RawInvoice | None:
        payload = self.seen.payload
        return payload if isinstance(payload, RawInvoice) else None

    @cached_property
    def raw_digest(self) -> str:
        return f"{_hash_prefix()}{self._raw.digest}" if self._raw else ""

    def keep_blank(self, erased: Collection[str]) -> bool:
        """Leave personal data out if the customer is erased. Return whether that changed it."""
        is_blank = bool(erased) and self.customer_id in erased
        if is_blank == self.is_blank:
            return False
        self.is_blank = is_blank
        self.failure = self.seen.refusal
        for name in ("value", "content_hash", "mapped"):
            self.__dict__.pop(name, None)
        return True

    @cached_property
    def customer_id(self) -> str | None:
        """Orb's id of the customer; None if it does not say."""
        try:
            sent = self._raw.read_only(_CUSTOMER) if self._raw else self.seen.payload
        except ValueError:
            return None
        return personal.customer_of(sent)

    @cached_property
    def value(self) -> Any:
        return personal.blank_invoice(self._sent) if self.is_blank else self._sent

    @cached_property
    def _sent(self) -> Any:
        if self._raw is None:
            return self.seen.payload
        try:
            return self._raw.value
        except ValueError as err:
            raise OrbPayloadError(f"It cannot be read: {err}") from err

    def as_ascii(self) -> str:
        """Return it as JSON with everything escaped, for a person to look at."""
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
        """
        The content's hash, or "" if it was not needed; see Note [Hashed when needed].
        """
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
        raw = None if self.is_blank else self._raw
        if raw and not raw.may_be_unstorable:
            return
        try:
            exact_json.require_storable(self.value)
        except ValueError as err:
            raise OrbPayloadError(f"The payload cannot be stored: {err}") from err
        self.content_hash  # noqa: B018

    @cached_property
    def mapped(self) -> MappedInvoice:
        if self._raw is None or self.is_blank:
            return map_invoice(self.value, exact_digits=self._exact_digits)
        ahead: MappedInvoice | None = self._raw.kept.get(self._exact_digits)
        return ahead or _map_raw(self._raw, self._exact_digits)

    def shows(self, operation: InvoiceOperation) -> bool:
        """Return whether it shows what we did. What cannot be read fails elsewhere."""
        if self.seen.is_absent:
            return False
        try:
            return operation.is_shown_in(self._sent)
        except (OrbPayloadError, AttributeError, TypeError):
            return True

    def is_stored_in(self, known: Known) -> bool:
        """Return whether it shows the content that is stored."""
        if self.raw_digest and self.raw_digest == known.raw_digest:
            return True
        if self.seen.is_absent:
            return known.content_hash in (ABSENT, NEVER_THERE)
        return known.was_there and self.content_hash == known.content_hash

    def is_after(self, known: Known, moment: datetime | None) -> bool:
        """Return whether Orb was surely asked after the moment, or after all known."""
        if moment is None or self.seen.supersedes == known.version:
            return True
        return self.interval.started_at > moment


def map_ahead(raw: RawInvoice, exact_digits: int | None, *, to_copy: bool) -> None:
    """
    Map an invoice that is probably new ahead of time, in a thread that has time.

    With `to_copy` its rows are formatted for COPY. If it cannot be mapped, it fails only
    when it is written.
    """
    with suppress(OrbPayloadError):
        mapped = _map_raw(raw, exact_digits)
        raw.may_be_unstorable  # noqa: B018  # computed here, and kept
        raw.kept[exact_digits] = mapped.formatted() if to_copy else mapped


def _map_raw(raw: RawInvoice, exact_digits: int | None) -> MappedInvoice:
    try:
        value, text = raw.read_only(invoice_keys()), raw.text
    except ValueError as err:
        raise OrbPayloadError(f"It cannot be read: {err}") from err
    mapped = map_invoice(value, exact_digits=exact_digits)
    mapped.columns["payload"] = JSONText(text)
    return mapped


def read_page(
    payloads: Sequence[Any], interval: Interval, *, client: OrbClient | None = None
) -> list[Observation]:
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
        observations[invoice_id] = Observation(
            invoice_id, payload, interval, client=client
        )
    return list(observations.values())


def judge(known: Known, one: Incoming, now: datetime) -> Decision:
    """See Note [Never stale]; `now` is on the database's clock."""
    if one.believed_from is not None:
        return "drop"
    stored = _order(known, one, known.started_at, known.ended_at, now)
    failed = _order(known, one, known.failed_from, known.failed_until, now)
    if one.failure:
        return _judge_failure(one, stored, failed)
    if failed == "overlap":
        return "doubt"
    if known.started_at is None:
        return "take"
    if one.is_stored_in(known):
        return _judge_unchanged(known, one, stored, now)
    by_order: dict[Order, Decision] = {"after": "take", "before": "drop"}
    return by_order.get(stored, "doubt")


def _judge_failure(one: Incoming, stored: Order, failed: Order) -> Decision:
    if "before" in (stored, failed):
        return "drop"
    # Of two failures that overlap either will do: a fetch would only fail again.
    is_doubtful = stored == "overlap" and not one.seen.refusal
    return "doubt" if is_doubtful else "fail"


def _judge_unchanged(
    known: Known, one: Incoming, stored: Order, now: datetime
) -> Decision:
    if known.rewrite_at is not None:
        flagged = _order(known, one, known.rewrite_at, known.rewrite_at, now)
        if flagged != "before":
            return "rewrite" if flagged == "after" else "doubt"
    return "rewrite" if known.is_outdated and stored != "before" else "same"


def _order(
    known: Known,
    one: Incoming,
    started_at: datetime | None,
    ended_at: datetime | None,
    now: datetime,
) -> Order:
    """Return the place of an observation relative to an interval of what is known."""
    if started_at is None or ended_at is None or one.is_after(known, ended_at):
        return "after"
    # A stored end in the future means that the database's clock stepped back.
    is_before = one.interval.ended_at < started_at and ended_at <= now
    return "before" if is_before else "overlap"


def touch(
    invoice_id: str, known: Known, one: Incoming, decision: Decision, run_id: int | None
) -> dict[str, Any]:
    """Return the stored observation's row after this observation."""
    row = {
        "invoice": invoice_id,
        "started_at": known.started_at,
        "ended_at": known.ended_at,
        "content_hash": known.content_hash,
        "raw_digest": known.raw_digest,
        "version": known.version + (decision != "drop"),
        "run_id": max(known.run_id or 0, run_id or 0) or None,
        "mapper_version": known.mapper_version,
        "rewrite_at": known.rewrite_at,
        "failed_from": known.failed_from,
        "failed_until": known.failed_until,
    }
    started_at, ended_at = one.interval.started_at, one.interval.ended_at
    if decision == "fail":
        row["run_id"] = known.run_id  # not seen: it may be missing from Orb
        row["failed_from"] = max(known.failed_from or started_at, started_at)
        row["failed_until"] = max(known.failed_until or ended_at, ended_at)
    if decision == "take":
        is_unknown = one.seen.is_absent and not known.was_there
        row["content_hash"] = NEVER_THERE if is_unknown else one.hash_if_known
        row["raw_digest"] = one.raw_digest
        row["started_at"], row["ended_at"] = started_at, ended_at
    if decision in ("same", "rewrite"):
        row["raw_digest"] = one.raw_digest or known.raw_digest
        row["started_at"] = max(known.started_at or started_at, started_at)
        row["ended_at"] = max(known.ended_at or ended_at, ended_at)
    if decision in ("take", "rewrite"):
        row["mapper_version"] = mapping.MAPPER_VERSION
        if one.is_after(known, known.rewrite_at):
            row["rewrite_at"] = None
    if decision in ("take", "rewrite", "same") and one.is_after(
        known, known.failed_until
    ):
        row["failed_from"] = row["failed_until"] = None
    return row
