"""Write observations into the mirror. Only `blanking`, for an erasure, writes beside it."""

# Note [Quick when nothing changed]
# An invoice whose text has the stored digest is not even read. A page of nothing else
# takes two statements, one to lock and one to move on. Otherwise the rows are let go,
# the content is compared by hash, and only what differs is mapped to columns; then they
# are locked and compared again.

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import DataError, IntegrityError, models, transaction
from django.db.models import Q, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from django_orb.client import RawInvoice
from django_orb.db import SLACK, insert, is_text_taken, primary, upsert, why_refused
from django_orb.exceptions import OrbPayloadError
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceObservation,
    InvoiceOperation,
    InvoiceRecheck,
)

from . import change_log, erased, failure_reasons
from .change_log import After, Before, Origin
from .children import insert_children, write_children
from .hashing import content_hash
from .mapping import MappedInvoice, digits_kept
from .observation_sql import (
    begin_writing,
    claim_observations,
    lock_known,
    lock_texts,
    see_again,
)
from .ordering import Decision, Incoming, Known, Observation, judge, touch

# How long Orb's answers may lag behind our own writes.
LAG = timedelta(minutes=1)

WITHHELD = (
    "It cannot be stored, and does not say which customer it is for. Because customers "
    "were erased, neither the reason nor what Orb sent is kept."
)


@dataclass
class WriteResult:
    """The ids of what was written, by outcome; `failed` has the reasons."""

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
        run_id: int | None = None,
        origin: Origin = change_log.FETCHED,
    ) -> None:
        self._run_id = run_id
        self._origin = origin
        self._known: dict[str, Known] = {}
        self._trusts_claims = True
        self._erased: frozenset[str] = frozenset()
        digits = digits_kept()
        self._incoming = {
            seen.invoice_id: Incoming(seen, digits) for seen in observations
        }

    @property
    def is_mapped_ahead(self) -> bool:
        """Tell whether the page is probably new, so that it was mapped already."""
        return any(
            isinstance(one.seen.payload, RawInvoice) and one.seen.payload.kept
            for one in self._incoming.values()
        )

    def see_again(self) -> WriteResult | None:
        """Only advance the intervals if all texts are unchanged; else return None."""
        ids = sorted(self._incoming)
        if not ids:
            return None
        if primary.connection().vendor == "sqlite":
            begin_writing(primary.connection())
        before = time.monotonic()
        self._known, epoch = lock_texts(ids, written_since=self._lags_since())
        if not self._is_as_before():
            transaction.set_rollback(True, using=primary.alias())
            return None
        self._check_clock(before, epoch)
        interval = self._incoming[ids[0]].interval
        see_again(ids, interval, self._run_id)
        return WriteResult(unchanged=ids)

    def prepare(self) -> None:
        """Read and map what seems to be new, while nothing is locked."""
        for one in self._incoming.values():
            one.keep_blank(erased.probably())
        self._hash_stored(self._known)
        for invoice_id, one in self._incoming.items():
            self._check(one, self._known.get(invoice_id))

    def _check(self, one: Incoming, known: Known | None) -> None:
        """Find out whether an invoice can be stored, if it is to be stored."""
        if one.failure or one.seen.is_absent:
            return
        try:
            is_stored = known is not None and one.is_stored_in(known)
            if not is_stored or (known and (known.is_outdated or known.is_flagged)):
                one.check()
        except OrbPayloadError as err:
            one.failure = str(err)

    def _is_as_before(self) -> bool:
        """Return whether every text is the latest one, all seen at one time."""
        interval = next((one.interval for one in self._incoming.values()), None)
        for pk, one in self._incoming.items():
            known = self._known.get(pk)
            if (
                known is None
                or not one.raw_digest
                or one.raw_digest != known.raw_digest
                or one.interval is not interval
                or known.is_flagged
                or known.is_outdated
                or known.has_failed
                or known.was_written_to
                or one.seen.refusal
            ):
                return False
        return interval is not None

    def _hash_stored(self, known: dict[str, Known]) -> None:
        """
        Hash the stored content if another text came; see Note [Hashed when needed].
        """
        other_text = []
        for pk, stored in known.items():
            text = self._incoming[pk].raw_digest
            if not stored.lacks_hash or (text and text == stored.raw_digest):
                continue
            seen = self._known.get(pk)
            # Not written since it was hashed, while nothing was locked.
            if seen and not seen.lacks_hash and seen.version == stored.version:
                stored.content_hash, stored.before = seen.content_hash, seen.before
            else:
                other_text.append(pk)
        self._read_stored({pk: known[pk] for pk in other_text})
        for pk in other_text:
            if before := known[pk].before:
                known[pk].content_hash = content_hash(before.payload)

    def _read_stored(self, known: dict[str, Known]) -> None:
        """Read what is stored of these invoices, unless that was read under this lock."""
        unread = [pk for pk, stored in known.items() if stored.before is None]
        for pk, before in change_log.read_before(unread).items():
            known[pk].before = before

    def _lags_since(self) -> datetime:
        """Return since when Orb's answers may not show what we did there."""
        asked_at = [one.interval.started_at for one in self._incoming.values()]
        return min(asked_at) - LAG

    def _operations(self) -> models.QuerySet[InvoiceOperation]:
        """
        Return operations that Orb's answers may not show yet: the recent ones, and those
        that were sent and not answered.
        """
        states = InvoiceOperation.State
        recent = Q(
            state=states.SUCCEEDED,
            finished_at__gt=self._lags_since(),
            # Later than now: the clock was set back since.
            finished_at__lte=primary.now() + SLACK,
        )
        unanswered = Q(state=states.PENDING, first_sent_at__isnull=False)
        return primary.rows(InvoiceOperation).filter(recent | unanswered)

    def _find_late(self, stored: dict[str, Known]) -> None:
        """
        Mark the answers that were asked for after our own write and do not show it.

        A write without an answer counts if the mirror shows it already.
        """
        ids = [pk for pk, known in stored.items() if known.was_written_to]
        if not ids:
            return
        operations = self._operations().filter(invoice_id__in=ids)
        last: dict[tuple[str, str], InvoiceOperation] = {}
        unanswered: dict[str, InvoiceOperation] = {}
        for one in operations.order_by("finished_at", "pk"):
            key = (one.invoice_id, one.subject)
            if one.finished_at is not None:
                last[key] = one.after(last[key]) if key in last else one
            elif not self._incoming[one.invoice_id].shows(one):
                unanswered[one.invoice_id] = one
        for done in last.values():
            if not self._incoming[done.invoice_id].shows(done):
                self._believe_from(done.invoice_id, done.finished_at)
        self._read_stored({pk: stored[pk] for pk in unanswered})
        for pk, operation in unanswered.items():
            # Orb did it by the time at which it was last seen.
            if stored[pk].shows(operation):
                self._believe_from(pk, stored[pk].ended_at)

    def _believe_from(self, invoice_id: str, written_at: datetime | None) -> None:
        """Mark an answer that may lag behind what was written by then."""
        assert written_at  # noqa: S101
        one, believed_from = self._incoming[invoice_id], written_at + LAG
        if one.interval.started_at < believed_from:
            one.believed_from = max(believed_from, one.believed_from or believed_from)

    def distrust(self) -> None:
        """
        Find out which invoices the database refuses; they fail alone.

        Rows may also be there that should not, such as after a partial restore.
        """
        self._trusts_claims = False
        for invoice_id, one in sorted(self._incoming.items()):
            if one.failure:
                continue
            try:
                with primary.atomic():
                    self._write([invoice_id], WriteResult())
                    transaction.set_rollback(True, using=primary.alias())
            except (DataError, IntegrityError) as err:
                one.failure = why_refused(err)

    def write(self) -> WriteResult:
        """
        Write the page. Called again from the start after a deadlock or lock time-out.
        """
        result = WriteResult()
        if self._incoming:
            self._write(sorted(self._incoming), result)
        return result

    def _write(self, ids: list[str], result: WriteResult) -> None:
        stored = self._lock(ids)
        now = primary.now()
        taken: list[MappedInvoice] = []
        touched: list[dict[str, Any]] = []
        for invoice_id, known in stored.items():
            one = self._incoming[invoice_id]
            decision = self._judge(known, one, now)
            if decision == "doubt":
                result.doubtful.append(invoice_id)
                continue
            if decision == "fail":
                result.failed[invoice_id] = self._reason(one)
            elif decision not in ("take", "rewrite"):
                result.unchanged.append(invoice_id)
            elif not one.seen.is_absent:
                taken.append(one.mapped)
                (result.updated if known.was_there else result.created).append(
                    invoice_id
                )
            elif known.was_there:
                result.missing.append(invoice_id)
            touched.append(touch(invoice_id, known, one, decision, self._run_id))
        before = self._read_before([*result.updated, *result.missing], stored)
        self._store(taken, before, stored)
        if result.missing:
            primary.rows(Invoice).filter(pk__in=result.missing).update(
                missing_since=Coalesce("missing_since", Value(now)),
                mirrored_at=timezone.now(),
            )
        self._record_changes(before, taken, result.missing)
        self._record_failures(stored, touched, result.failed)
        if result.created or result.failed:
            self._require_account(stored)
        self._record_rechecks(ids)
        upsert(InvoiceObservation, touched, key=["invoice"])

    def _judge(self, known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        if decision in ("take", "rewrite") and not one.seen.is_absent:
            # What is stored may be another than when it was prepared.
            try:
                one.check()
            except OrbPayloadError as err:
                one.failure = str(err)
                return judge(known, one, now)
        return decision

    def _lock(self, ids: list[str]) -> dict[str, Known]:
        """Claim the unknown and lock all, in the order of their ids."""
        unknown = [pk for pk in ids if pk not in self._known]
        # A claim writes, which on SQLite has to come before all reading.
        if unknown:
            claim_observations(unknown)
        elif primary.connection().vendor == "sqlite":
            begin_writing(primary.connection())
        before = time.monotonic()
        stored, epoch = lock_known(ids, written_since=self._lags_since())
        self._check_clock(before, epoch)
        self._find_late(stored)
        self._keep_blank(stored)
        self._hash_stored(stored)
        return stored

    def _keep_blank(self, stored: dict[str, Known]) -> None:
        """Leave personal data of erased customers out; see `erased`."""
        self._erased = erased.customers()
        for invoice_id, known in stored.items():
            one = self._incoming[invoice_id]
            if one.keep_blank(self._erased):
                self._check(one, known)

    def _check_clock(self, before: float, epoch: float | None) -> None:
        """Bound the observations by all that is known of the clock by now."""
        clock = primary.clock()
        if epoch is None:
            clock.check()
        else:
            clock.compare(before, epoch, time.monotonic())
        for one in self._incoming.values():
            one.interval = clock.corrected(one.interval)

    def _store(
        self,
        taken: Sequence[MappedInvoice],
        before: dict[str, Before],
        stored: dict[str, Known],
    ) -> None:
        """Write changed invoices and all they carry; lines are replaced as a set."""
        mirrored_at = timezone.now()
        invoices = [mapped.columns for mapped in taken]
        for row in invoices:
            row["missing_since"], row["mirrored_at"] = None, mirrored_at
        lines = [line for mapped in taken for line in mapped.lines]
        was_there = [mapped.id for mapped in taken if stored[mapped.id].was_there]
        # Only who has claimed the observation of an unknown invoice writes its rows, so
        # none can be there, and COPY will do, which knows no conflicts.
        if self._trusts_claims and not was_there:
            insert(Invoice, invoices)
            insert(InvoiceLineItem, lines)
            insert_children(taken)
            return
        upsert(Invoice, invoices, key=["id"])
        self._remove_lines([mapped.id for mapped in taken], lines)
        upsert(InvoiceLineItem, lines, key=["invoice", "orb_id"])
        write_children(
            taken,
            {pk: before[pk].payload for pk in was_there if pk in before},
            {pk: self._incoming[pk].value for pk in was_there},
            unsure=[pk for pk in stored if self._is_unsure(stored[pk])],
        )

    def _require_account(self, stored: dict[str, Known]) -> None:
        """
        Make sure that invoices which are new to the mirror are of its account.

        Raises:
            OrbAccountError: another key has taken the empty mirror meanwhile.
        """
        asked = [one.seen for one in self._incoming.values() if one.seen.client]
        # Orb knows under this key what is stored, and that proves it without asking.
        if any(stored[one.invoice_id].was_there and not one.is_absent for one in asked):
            return
        for client in {one.client for one in asked}:
            check = getattr(client, "before_first_commit", None)
            if check is not None:
                check()

    def _is_unsure(self, known: Known) -> bool:
        """Return whether the previous payload does not tell which rows exist."""
        is_flagged = known.rewrite_at is not None
        return is_flagged or known.is_outdated or not self._trusts_claims

    def _read_before(
        self, ids: Sequence[str], stored: dict[str, Known]
    ) -> dict[str, Before]:
        """
        Return what will be overwritten; only what was not read for its hash is read.
        """
        known = {pk: before for pk in ids if (before := stored[pk].before)}
        unread = [pk for pk in ids if pk not in known]
        return known | change_log.read_before(unread)

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
        change_log.record(before, after, missing, origin=self._origin)
        failure_reasons.end(before, after)

    def _remove_lines(
        self, invoice_ids: Sequence[str], lines: Sequence[dict[str, Any]]
    ) -> None:
        """Delete the lines of these invoices that are not among `lines`."""
        kept = {(line["invoice"], line["orb_id"]) for line in lines}
        manager = primary.rows(InvoiceLineItem)
        stored = manager.filter(invoice_id__in=invoice_ids)
        removed = [
            pk
            for pk, *identity in stored.values_list("pk", "invoice_id", "orb_id")
            if tuple(identity) not in kept
        ]
        if removed:
            manager.filter(pk__in=removed).delete()

    def _record_failures(
        self,
        stored: dict[str, Known],
        touched: Sequence[dict[str, Any]],
        failed: dict[str, str],
    ) -> None:
        """Record what cannot be stored; forget what a later answer has made good."""
        manager = primary.rows(InvoiceFailure)
        recovered = [
            row["invoice"]
            for row in touched
            if row["failed_until"] is None
            and row["version"] > stored[row["invoice"]].version
            and self._has_failed(row["invoice"], stored)
        ]
        if recovered:
            manager.filter(pk__in=recovered).delete()
        failed_at = timezone.now()
        rows: list[dict[str, Any]] = [
            {
                "invoice_id": invoice_id,
                # In what every table can hold, whatever it quotes.
                "reason": reason.replace("\0", "")
                .encode("ascii", "backslashreplace")
                .decode(),
                "payload_text": text if is_text_taken(text) else "",
                "failed_at": failed_at,
                "run_id": self._run_id,
            }
            for invoice_id, reason in failed.items()
            for text in [self._text_of(invoice_id)]
        ]
        upsert(InvoiceFailure, rows, key=["invoice_id"])

    def _reason(self, one: Incoming) -> str:
        """Return why an invoice failed, as far as that may be told and kept."""
        return WITHHELD if self._may_be_erased(one) else one.failure

    def _text_of(self, invoice_id: str) -> str:
        """Return what Orb sent, as far as that may be kept."""
        one = self._incoming[invoice_id]
        return "" if self._may_be_erased(one) else one.as_ascii()

    def _may_be_erased(self, one: Incoming) -> bool:
        """Tell whether an invoice does not say whose it is, and customers are erased."""
        is_anyones = one.seen.payload is not None and one.customer_id is None
        return is_anyones and bool(self._erased)

    def _has_failed(self, invoice_id: str, stored: dict[str, Known]) -> bool:
        looked_at = self._known.get(invoice_id)
        is_recorded = looked_at is not None and looked_at.has_failed
        return is_recorded or stored[invoice_id].failed_until is not None

    def _record_rechecks(self, ids: Sequence[str]) -> None:
        """Schedule fetches, once Orb no longer lags, of what did not show our own write."""
        late = [one for pk in ids if (one := self._incoming[pk]).believed_from]
        if not late:
            return
        # Only an answer to a request after this instant can decide.
        now = primary.now()
        rows: list[dict[str, Any]] = [
            {
                "invoice_id": one.seen.invoice_id,
                "due_at": max(one.believed_from or now, now),
                "attempts": 0,
            }
            for one in late
        ]
        upsert(InvoiceRecheck, rows, key=["invoice_id"])
