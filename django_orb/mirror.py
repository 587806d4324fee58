"""
The writer: the only code that changes the mirror's rows.

# Note [Never stale]
An answer of Orb shows an invoice as it was at some instant between the request
and the end of the answer: an interval, not an instant. What is stored carries
the interval in which it was seen. An observation that lies wholly after is
taken, one wholly before is dropped, and one that overlaps with other content is
a doubt that only a new fetch decides. Seeing the same content again moves both
bounds up, never down, so that an older state cannot slip in behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from django.db import connections, router
from django.utils import timezone

from .clock import Interval, clock_of
from .database import run_in_transaction, upsert
from .exceptions import OrbPayloadError
from .models import Invoice, InvoiceFailure, InvoiceLineItem, InvoiceObservation
from .payloads import SQLITE_EXACT_DIGITS, MappedInvoice, invoice_id_of, map_invoice

# The content hash of an invoice that Orb answered 404 for.
ABSENT = "absent"

# Where the ids of failures begin that have none of Orb's.
NO_ID = "(no id"

_ID_LENGTH = InvoiceFailure._meta.get_field("invoice_id").max_length

Verdict = Literal["take", "same", "drop", "doubt"]


@dataclass(frozen=True)
class Observation:
    """
    What Orb showed of one invoice, and when.

    `is_absent` is a confirmed 404. `supersedes` is the version of the
    stored observation that was committed before the request began: whatever the
    clocks say, this one is newer than that.
    """

    invoice_id: str
    payload: Any
    interval: Interval
    supersedes: int | None = None
    is_absent: bool = False

    @classmethod
    def absent(cls, invoice_id: str, interval: Interval) -> Observation:
        return cls(invoice_id, None, interval, is_absent=True)


@dataclass
class WriteResult:
    """Ids by what became of them; `failed` with the reason."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Failure:
    reason: str
    payload: Any


def database_alias() -> str:
    """Where the mirror lives, as the project's database router says."""
    return router.db_for_write(Invoice)


def read_page(payloads: Sequence[Any], interval: Interval) -> list[Observation]:
    """Make observations of a page; what has no usable id gets an id that says so."""
    observations: dict[str, Observation] = {}
    for position, payload in enumerate(payloads):
        try:
            invoice_id = invoice_id_of(payload)
        except OrbPayloadError:
            invoice_id = f"{NO_ID}, item {position} of a page)"
        observations[invoice_id] = Observation(invoice_id, payload, interval)
    return list(observations.values())


def write(
    observations: Sequence[Observation],
    *,
    using: str,
    run_id: int | None = None,
    also: Callable[[WriteResult], None] | None = None,
) -> WriteResult:
    """
    Bring what was observed into the mirror, in one transaction.

    `also` runs inside it with the result; when it raises, nothing is written.
    One invoice that cannot be stored fails alone and is recorded. Ids in
    `doubtful` were not written: fetch them again (see Note [Never stale]).
    """
    is_sqlite = connections[using].vendor == "sqlite"
    exact_digits = SQLITE_EXACT_DIGITS if is_sqlite else None
    readable: dict[str, tuple[Observation, MappedInvoice | None]] = {}
    failures: dict[str, _Failure] = {}
    for seen in observations:
        try:
            readable[seen.invoice_id] = seen, _map(seen, exact_digits)
        except OrbPayloadError as err:
            failures[seen.invoice_id] = _Failure(str(err), seen.payload)

    def body() -> WriteResult:
        result = _write(readable, using=using, run_id=run_id)
        result.failed = {key: failure.reason for key, failure in failures.items()}
        _record_failures(failures, list(readable), using=using, run_id=run_id)
        if also is not None:
            also(result)
        return result

    return run_in_transaction(body, using=using)


def versions(invoice_ids: Sequence[str], *, using: str) -> dict[str, int]:
    """The committed versions of observations, for `Observation.supersedes`."""
    rows = InvoiceObservation.objects.using(using).filter(pk__in=invoice_ids)
    return dict(rows.values_list("pk", "version"))


def _map(seen: Observation, exact_digits: int | None) -> MappedInvoice | None:
    if seen.is_absent:
        return None
    return map_invoice(seen.payload, exact_digits=exact_digits)


def _write(
    readable: Mapping[str, tuple[Observation, MappedInvoice | None]],
    *,
    using: str,
    run_id: int | None,
) -> WriteResult:
    result = WriteResult()
    if not readable:
        return result
    rows = _lock(sorted(readable), using)
    now = clock_of(using).latest()
    taken: list[MappedInvoice] = []
    touched: list[dict[str, Any]] = []
    never_seen: list[str] = []
    for invoice_id, row in rows.items():
        seen, mapped = readable[invoice_id]
        if mapped is None and not row.version:
            never_seen.append(invoice_id)
            continue
        content_hash = mapped.content_hash if mapped else ABSENT
        verdict = _judge(row, seen, content_hash, now)
        if verdict == "doubt":
            result.doubtful.append(invoice_id)
            continue
        if verdict != "take":
            result.unchanged.append(invoice_id)
        elif mapped is None:
            result.missing.append(invoice_id)
        else:
            taken.append(mapped)
            (result.updated if row.version else result.created).append(invoice_id)
        touched.append(_touch(row, seen, content_hash, verdict, run_id))
    _store(taken, result.updated, using)
    if result.missing:
        Invoice.objects.using(using).filter(pk__in=result.missing).update(
            missing_since=now, mirrored_at=timezone.now()
        )
    if never_seen:
        InvoiceObservation.objects.using(using).filter(pk__in=never_seen).delete()
    upsert(InvoiceObservation, touched, key=["invoice"], using=using)
    return result


def _lock(invoice_ids: list[str], using: str) -> dict[str, InvoiceObservation]:
    """
    Claim the unknown and lock all, in the order of their ids.

    The insert comes first because SQLite cannot turn a transaction that began
    with a read into one that writes while another does.
    """
    manager = InvoiceObservation.objects.using(using)
    manager.bulk_create(
        [InvoiceObservation(invoice_id=pk) for pk in invoice_ids], ignore_conflicts=True
    )
    rows = manager.filter(pk__in=invoice_ids).order_by("pk").select_for_update()
    return {row.pk: row for row in rows}


def _judge(
    row: InvoiceObservation, seen: Observation, content_hash: str, now: datetime
) -> Verdict:
    if row.started_at is None or row.ended_at is None:
        return "take"
    if row.content_hash == content_hash:
        return "same"
    if seen.supersedes == row.version or seen.interval.started_at > row.ended_at:
        return "take"
    # A stored end in the future means that the database's clock stepped back.
    if seen.interval.ended_at < row.started_at and row.ended_at <= now:
        return "drop"
    return "doubt"


def _touch(
    row: InvoiceObservation,
    seen: Observation,
    content_hash: str,
    verdict: Verdict,
    run_id: int | None,
) -> dict[str, Any]:
    started_at, ended_at = row.started_at, row.ended_at
    interval = seen.interval
    if verdict == "take":
        row.content_hash = content_hash
        started_at, ended_at = interval.started_at, interval.ended_at
    elif verdict == "same" and started_at and ended_at:
        started_at = max(started_at, interval.started_at)
        ended_at = max(ended_at, interval.ended_at)
    return {
        "invoice": row.pk,
        "started_at": started_at,
        "ended_at": ended_at,
        "content_hash": row.content_hash,
        "version": row.version + (verdict != "drop"),
        "run_id": max(row.run_id or 0, run_id or 0) or None,
    }


def _store(taken: Sequence[MappedInvoice], existing: Sequence[str], using: str) -> None:
    """Write changed invoices and their lines; lines are replaced as a set."""
    mirrored_at = timezone.now()
    invoices = [
        {**mapped.columns, "missing_since": None, "mirrored_at": mirrored_at}
        for mapped in taken
    ]
    lines = [
        {"invoice": mapped.id, **line} for mapped in taken for line in mapped.lines
    ]
    upsert(Invoice, invoices, key=["id"], using=using)
    if existing:
        kept = {(line["invoice"], line["orb_id"]) for line in lines}
        manager = InvoiceLineItem.objects.using(using)
        stored = manager.filter(invoice_id__in=existing)
        removed = [
            pk
            for pk, *identity in stored.values_list("pk", "invoice_id", "orb_id")
            if tuple(identity) not in kept
        ]
        if removed:
            manager.filter(pk__in=removed).delete()
    upsert(InvoiceLineItem, lines, key=["invoice", "orb_id"], using=using)


def _record_failures(
    failures: Mapping[str, _Failure],
    recovered: Sequence[str],
    *,
    using: str,
    run_id: int | None,
) -> None:
    if recovered:
        InvoiceFailure.objects.using(using).filter(pk__in=recovered).delete()
    failed_at = timezone.now()
    rows = [
        {
            "invoice_id": invoice_id.replace("\0", "")[:_ID_LENGTH],
            "reason": failure.reason,
            # Escaped to ASCII, so that what a database refuses can be looked at.
            "payload_text": json.dumps(failure.payload, default=str),
            "failed_at": failed_at,
            "run_id": run_id,
        }
        for invoice_id, failure in failures.items()
    ]
    upsert(InvoiceFailure, rows, key=["invoice_id"], using=using)
