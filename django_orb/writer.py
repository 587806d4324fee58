"""
The writer: the only code that changes the mirror's rows.

# Note [Quick when nothing changed]
An invoice whose text has the stored digest is not even read. A page of nothing
else takes two statements, one to lock and one to move on. Otherwise the rows are
let go, the content is compared by hash, and only what differs is mapped to
columns; then they are locked again, and looked at again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import DataError, IntegrityError, connections, models, transaction
from django.utils import timezone

from . import changes
from .changes import After, Before, Origin
from .clock import clock_of
from .exceptions import OrbPayloadError
from .models import (
    Invoice,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceObservation,
    InvoiceOperation,
)
from .observations import (
    begin_writing,
    claim_observations,
    lock_known,
    lock_texts,
    see_again,
)
from .payloads import SQLITE_EXACT_DIGITS, MappedInvoice, content_hash
from .tables import insert, upsert
from .verdicts import Incoming, Known, Observation, judge, touch

# How long Orb's answers may lag behind our own writes.
LAG = timedelta(minutes=1)
_ID_LENGTH = InvoiceFailure._meta.get_field("invoice_id").max_length


@dataclass
class WriteResult:
    """Ids by what became of them; `failed` with the reason."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class PageWriter:
    """One transaction's worth of observations."""

    def __init__(
        self,
        observations: Sequence[Observation],
        *,
        using: str,
        run_id: int | None = None,
        origin: Origin = changes.FETCHED,
    ) -> None:
        self._using = using
        self._run_id = run_id
        self._origin = origin
        self._known: dict[str, Known] = {}
        self._failures: dict[str, str] = {}
        self._trusts_claims = True
        is_sqlite = connections[using].vendor == "sqlite"
        digits = SQLITE_EXACT_DIGITS if is_sqlite else None
        self._incoming = {
            seen.invoice_id: Incoming(seen, digits) for seen in observations
        }

    def see_again(self) -> WriteResult | None:
        """Move on a page of texts that all came before; None if it is no such page."""
        ids = sorted(self._incoming)
        if not ids:
            return None
        if connections[self._using].vendor == "sqlite":
            begin_writing(connections[self._using])
        since = clock_of(self._using).latest() - 2 * LAG
        before = time.monotonic()
        self._known, epoch = lock_texts(ids, written_since=since, using=self._using)
        if not self._is_as_before():
            transaction.set_rollback(True, using=self._using)
            return None
        self._check_clock(before, epoch)
        interval = self._incoming[ids[0]].interval
        see_again(ids, interval, self._run_id, using=self._using)
        return WriteResult(unchanged=ids)

    def prepare(self) -> None:
        """Read and map what seems to be new, while nothing is locked."""
        self._hash_stored(self._known)
        self._find_late()
        for invoice_id, one in self._incoming.items():
            known = self._known.get(invoice_id)
            if one.seen.refusal:
                self._failures[invoice_id] = one.seen.refusal
                continue
            try:
                if not one.seen.is_absent and not (known and one.is_stored_in(known)):
                    one.check()
            except OrbPayloadError as err:
                self._failures[invoice_id] = str(err)

    def _is_as_before(self) -> bool:
        """Whether every text is the one that came last, all seen at one time."""
        interval = next((one.interval for one in self._incoming.values()), None)
        for pk, one in self._incoming.items():
            known = self._known.get(pk)
            if (
                known is None
                or not one.raw_digest
                or one.raw_digest != known.raw_digest
                or one.interval is not interval
                or known.has_failed
                or known.was_written_to
                or one.seen.refusal
            ):
                return False
        return interval is not None

    def _hash_stored(self, known: dict[str, Known]) -> None:
        """Hash what is stored where another text came; see Note [Hashed when needed]."""
        other_text = []
        for pk, stored in known.items():
            if stored.lacks_hash and stored.raw_digest != self._incoming[pk].raw_digest:
                seen = self._known.get(pk)
                if seen and seen.content_hash and seen.version == stored.version:
                    stored.content_hash, stored.before = seen.content_hash, seen.before
                else:
                    other_text.append(pk)
        if other_text:
            for pk, before in changes.read_before(
                other_text, using=self._using
            ).items():
                known[pk].before = before
                known[pk].content_hash = content_hash(before.payload)

    def _operations(self) -> models.QuerySet[InvoiceOperation]:
        """What we did in Orb so short ago that its answers may not show it."""
        return InvoiceOperation.objects.using(self._using).filter(
            state=InvoiceOperation.State.SUCCEEDED,
            finished_at__gt=clock_of(self._using).latest() - 2 * LAG,
        )

    def _find_late(self) -> None:
        """Mark what was asked for after our own write and does not show it."""
        ids = [pk for pk, known in self._known.items() if known.was_written_to]
        if not ids:
            return
        operations = self._operations().filter(invoice_id__in=ids)
        last = {
            (one.invoice_id, one.subject): one
            for one in operations.order_by("finished_at", "pk")
        }
        for operation in last.values():
            one = self._incoming[operation.invoice_id]
            assert operation.finished_at  # noqa: S101  the query asks for it
            believed_from = operation.finished_at + LAG
            if one.interval.started_at < believed_from and not one.shows(operation):
                one.is_late = True

    def distrust(self) -> None:
        """
        Find out which invoices the database refuses; they fail alone.

        Rows may also be there that should not, such as after a partial restore.
        """
        self._trusts_claims = False
        for invoice_id in sorted(self._incoming.keys() - self._failures.keys()):
            try:
                with transaction.atomic(using=self._using):
                    self._write([invoice_id], WriteResult())
                    transaction.set_rollback(True, using=self._using)
            except (DataError, IntegrityError) as err:
                self._failures[invoice_id] = f"The database refused it: {err}"

    def write(self) -> WriteResult:
        """Do it all; called again from the start when others were in the way."""
        result = WriteResult(failed=dict(self._failures))
        ids = sorted(self._incoming.keys() - self._failures.keys())
        if ids:
            self._write(ids, result)
        self._record_failures(ids, result)
        return result

    def _write(self, ids: list[str], result: WriteResult) -> None:
        stored = self._lock(ids)
        now = clock_of(self._using).latest()
        taken: list[MappedInvoice] = []
        touched: list[dict[str, Any]] = []
        for invoice_id, known in stored.items():
            one = self._incoming[invoice_id]
            verdict = judge(known, one, now)
            if verdict == "doubt":
                result.doubtful.append(invoice_id)
                continue
            if verdict != "take":
                result.unchanged.append(invoice_id)
            elif not one.seen.is_absent:
                taken.append(one.mapped)
                (result.updated if known.was_there else result.created).append(
                    invoice_id
                )
            elif known.was_there:
                result.missing.append(invoice_id)
            touched.append(touch(invoice_id, known, one, verdict, self._run_id))
        before = self._read_before([*result.updated, *result.missing], stored)
        self._store(taken, result.updated)
        if result.missing:
            Invoice.objects.using(self._using).filter(pk__in=result.missing).update(
                missing_since=now, mirrored_at=timezone.now()
            )
        self._record_changes(before, taken, result.missing)
        upsert(InvoiceObservation, touched, key=["invoice"], using=self._using)

    def _lock(self, ids: list[str]) -> dict[str, Known]:
        """Claim the unknown and lock all, in the order of their ids."""
        unknown = [pk for pk in ids if pk not in self._known]
        if unknown:
            claim_observations(unknown, using=self._using)
        elif connections[self._using].vendor == "sqlite":
            begin_writing(connections[self._using])
        before = time.monotonic()
        stored, epoch = lock_known(ids, using=self._using)
        self._check_clock(before, epoch)
        self._hash_stored(stored)
        return stored

    def _check_clock(self, before: float, epoch: float | None) -> None:
        """Bound what was seen by all that is known of the clock by now."""
        clock = clock_of(self._using)
        if epoch is None:
            clock.check()
        else:
            clock.compare(before, epoch, time.monotonic())
        for one in self._incoming.values():
            one.interval = clock.corrected(one.interval)

    def _store(self, taken: Sequence[MappedInvoice], existing: Sequence[str]) -> None:
        """Write changed invoices and their lines; lines are replaced as a set."""
        mirrored_at = timezone.now()
        invoices = [
            {**mapped.columns, "missing_since": None, "mirrored_at": mirrored_at}
            for mapped in taken
        ]
        lines = [
            {"invoice": mapped.id, **line} for mapped in taken for line in mapped.lines
        ]
        if self._trusts_claims and not existing:
            insert(Invoice, invoices, using=self._using)
            insert(InvoiceLineItem, lines, using=self._using)
            return
        upsert(Invoice, invoices, key=["id"], using=self._using)
        self._remove_lines([mapped.id for mapped in taken], lines)
        upsert(InvoiceLineItem, lines, key=["invoice", "orb_id"], using=self._using)

    def _read_before(
        self, ids: Sequence[str], stored: dict[str, Known]
    ) -> dict[str, Before]:
        """What will be overwritten, as far as it was not read for its hash."""
        known = {pk: before for pk in ids if (before := stored[pk].before)}
        unread = [pk for pk in ids if pk not in known]
        return known | changes.read_before(unread, using=self._using)

    def _record_changes(
        self,
        before: dict[str, Before],
        taken: Sequence[MappedInvoice],
        missing: Sequence[str],
    ) -> None:
        after = {
            one.id: After(
                one.columns["status"],
                self._incoming[one.id].value if one.id in before else {},
            )
            for one in taken
        }
        changes.record(before, after, missing, origin=self._origin, using=self._using)

    def _remove_lines(
        self, invoice_ids: Sequence[str], lines: Sequence[dict[str, Any]]
    ) -> None:
        """Delete the lines of these invoices that are not among `lines`."""
        kept = {(line["invoice"], line["orb_id"]) for line in lines}
        manager = InvoiceLineItem.objects.using(self._using)
        stored = manager.filter(invoice_id__in=invoice_ids)
        removed = [
            pk
            for pk, *identity in stored.values_list("pk", "invoice_id", "orb_id")
            if tuple(identity) not in kept
        ]
        if removed:
            manager.filter(pk__in=removed).delete()

    def _record_failures(self, ids: Sequence[str], result: WriteResult) -> None:
        recovered = [
            pk for pk in ids if pk in self._known and self._known[pk].has_failed
        ]
        manager = InvoiceFailure.objects.using(self._using)
        if recovered:
            manager.filter(pk__in=recovered).delete()
        failed_at = timezone.now()
        rows: list[dict[str, Any]] = [
            {
                "invoice_id": invoice_id.replace("\0", "")[:_ID_LENGTH],
                "reason": reason,
                "payload_text": self._incoming[invoice_id].as_ascii(),
                "failed_at": failed_at,
                "run_id": self._run_id,
            }
            for invoice_id, reason in self._failures.items()
        ]
        upsert(InvoiceFailure, rows, key=["invoice_id"], using=self._using)
        # By its observation the next writer knows that it failed.
        unknown = [pk for row in rows if (pk := row["invoice_id"]) not in self._known]
        claim_observations(unknown, using=self._using)
