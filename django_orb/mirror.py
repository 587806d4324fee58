"""
The writer: the only code that changes the mirror's rows.

# Note [Quick when nothing changed]
An invoice whose text has the stored digest is not even read. Otherwise its
content is compared by hash, and only what differs is mapped to columns. That is
done before the transaction, against the hashes of that moment, and looked at
again once the rows are locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import (
    DataError,
    IntegrityError,
    connections,
    models,
    router,
    transaction,
)
from django.db.models import Case, Exists, F, OuterRef, Value, When
from django.utils import timezone

from .clock import clock_of, epoch_column
from .database import run_in_transaction
from .exceptions import OrbPayloadError
from .models import (
    Invoice,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceObservation,
    InvoiceOperation,
)
from .payloads import SQLITE_EXACT_DIGITS, MappedInvoice
from .tables import claim, insert, upsert
from .verdicts import (
    ABSENT,
    NO_ID,
    Incoming,
    Known,
    Observation,
    judge,
    read_page,
    touch,
)

__all__ = [
    "ABSENT",
    "NO_ID",
    "Observation",
    "WriteResult",
    "database_alias",
    "forget",
    "read_page",
    "versions",
    "write",
]

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


_KNOWN = ("started_at", "ended_at", "content_hash", "raw_digest", "version", "run_id")


def database_alias() -> str:
    """Where the mirror lives, as the project's database router says."""
    return router.db_for_write(Invoice)


def versions(invoice_ids: Sequence[str], *, using: str) -> dict[str, int]:
    """The committed versions of observations, for `Observation.supersedes`."""
    rows = InvoiceObservation.objects.using(using).filter(pk__in=invoice_ids)
    return dict(rows.values_list("pk", "version"))


def claim_observations(invoice_ids: Sequence[str], *, using: str) -> None:
    """Make sure that there is something to lock, and to note things at."""
    empty = {"content_hash": "", "raw_digest": "", "version": 0}
    rows = [{"invoice": pk, **empty} for pk in invoice_ids]
    claim(InvoiceObservation, rows, using=using)


def forget(invoice_ids: Sequence[str], *, using: str) -> None:
    """Have these invoices written anew when next seen, although nothing changed."""
    rows = InvoiceObservation.objects.using(using).filter(pk__in=invoice_ids)
    rows.update(content_hash="", raw_digest="", started_at=None, ended_at=None)


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
    digits = SQLITE_EXACT_DIGITS if is_sqlite else None
    incoming = {seen.invoice_id: Incoming(seen, digits) for seen in observations}
    page = _Page(incoming, using=using, run_id=run_id)
    page.prepare()

    def body() -> WriteResult:
        result = page.write()
        if also is not None:
            also(result)
        return result

    try:
        return run_in_transaction(body, using=using)
    except (DataError, IntegrityError):
        page.distrust()
        return run_in_transaction(body, using=using)


class _Page:
    """One transaction's worth of observations."""

    def __init__(
        self, incoming: dict[str, Incoming], *, using: str, run_id: int | None
    ) -> None:
        self._incoming = incoming
        self._using = using
        self._run_id = run_id
        self._known: dict[str, Known] = {}
        self._failures: dict[str, str] = {}
        self._trusts_claims = True

    def prepare(self) -> None:
        """Read and map what seems to be new, before anything is locked."""
        ids = list(self._incoming)
        failed_before = InvoiceFailure.objects.filter(pk=OuterRef("pk"))
        written_to = self._operations().filter(invoice_id=OuterRef("pk"))
        if ids:
            rows = self._observations(ids).values_list(
                "pk", *_KNOWN, Exists(failed_before), Exists(written_to)
            )
            self._known = {pk: Known(*values) for pk, *values in rows}
        self._find_late()
        for invoice_id, one in self._incoming.items():
            known = self._known.get(invoice_id)
            if one.seen.refusal:
                self._failures[invoice_id] = one.seen.refusal
                continue
            try:
                if not one.seen.is_absent and not (known and one.is_stored_in(known)):
                    one.mapped  # noqa: B018
                    one.content_hash  # noqa: B018
            except OrbPayloadError as err:
                self._failures[invoice_id] = str(err)

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
        is_plain = len({one.interval for one in self._incoming.values()}) == 1
        for invoice_id, known in stored.items():
            one = self._incoming[invoice_id]
            verdict = judge(known, one, now)
            if verdict == "doubt":
                result.doubtful.append(invoice_id)
                continue
            if verdict != "take":
                result.unchanged.append(invoice_id)
                is_plain &= verdict == "same" and one.raw_digest == known.raw_digest
            elif not one.seen.is_absent:
                taken.append(one.mapped)
                (result.updated if known.was_there else result.created).append(
                    invoice_id
                )
            elif known.was_there:
                result.missing.append(invoice_id)
            touched.append(touch(invoice_id, known, one, verdict, self._run_id))
        self._store(taken, result.updated)
        if result.missing:
            Invoice.objects.using(self._using).filter(pk__in=result.missing).update(
                missing_since=now, mirrored_at=timezone.now()
            )
        if is_plain and len(touched) == len(result.unchanged):
            self._see_again(result.unchanged)
        else:
            upsert(InvoiceObservation, touched, key=["invoice"], using=self._using)

    def _lock(self, ids: list[str]) -> dict[str, Known]:
        """
        Claim the unknown and lock all, in the order of their ids.

        On SQLite the first statement must write: a transaction that began with a
        read cannot go on to write while another does.
        """
        manager = InvoiceObservation.objects.using(self._using)
        unknown = [pk for pk in ids if pk not in self._known]
        if unknown:
            claim_observations(unknown, using=self._using)
        elif connections[self._using].vendor == "sqlite":
            manager.filter(pk="").update(version=0)
        rows = self._observations(ids).order_by("pk").select_for_update()
        epoch = epoch_column(connections[self._using])
        before = time.monotonic()
        found = list(rows.values_list("pk", epoch, *_KNOWN))
        self._check_clock(before, found[0][1])
        return {pk: Known(*values) for pk, _, *values in found}

    def _check_clock(self, before: float, epoch: Any) -> None:
        """Bound what was seen by all that is known of the clock by now."""
        clock = clock_of(self._using)
        if epoch is None:
            clock.check()
        else:
            clock.compare(before, float(epoch), time.monotonic())
        for one in self._incoming.values():
            one.interval = clock.corrected(one.interval)

    def _observations(self, ids: Sequence[str]) -> Any:
        return InvoiceObservation.objects.using(self._using).filter(pk__in=ids)

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

    def _see_again(self, ids: Sequence[str]) -> None:
        """Advance the bounds of what is just as it was; all share one interval."""
        if not ids:
            return
        interval = self._incoming[ids[0]].interval
        bounds = {
            "started_at": _at_least("started_at", interval.started_at),
            "ended_at": _at_least("ended_at", interval.ended_at),
        }
        if self._run_id:
            bounds["run_id"] = _at_least("run_id", self._run_id)
        self._observations(ids).update(version=F("version") + 1, **bounds)

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


def _at_least(column: str, value: Any) -> Case:
    """The column, raised to the value; GREATEST differs between databases."""
    kind = models.BigIntegerField() if column == "run_id" else models.DateTimeField()
    given = Value(value, output_field=kind)
    return Case(
        When(**{f"{column}__lt": value}, then=given),
        When(**{f"{column}__isnull": True}, then=given),
        default=F(column),
    )
