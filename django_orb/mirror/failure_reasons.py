"""Why Orb failed at an invoice, as events tell, and until when that holds."""

# Note [Which failure is over]
# Events come twice, late and in any order. So each row keeps the newest failure and the
# newest moment up to which failures are over, and both only move on: whatever the order
# of the events, the row ends the same. The newest is the one created last; of two that
# were created in the same second, the one with the greater id; and an end counts before
# a failure of the same second. A failure is over
#
# - once an event of success, created at the same time or later, says so;
# - once the mirror sees the invoice leave the statuses in which it fails. What is noted
#   then is the invoice's own time of the failure, so that a late event of it counts as
#   over even if the invoice is in such a status again;
# - if the mirror, which is never behind an event that was processed, has already left
#   those statuses.
#
# Orb does not clear the time of a failure from an invoice, and a later failure changes
# it. That, too, `InvoiceFailureReason.objects.current()` compares. The invoice shows
# nothing of the sync to accounting: such a failure is over only when a success of the
# same connection says so, since an invoice that is paid, or void, still has to reach
# the books.
#
# All of it happens under the lock that writers of the invoice take.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from django.db import DataError

from django_orb.db import primary, run_in_transaction, upsert
from django_orb.models import Invoice, InvoiceFailureReason, InvoiceObservation
from django_orb.models.failure_reasons import EVENT_PRECEDES, FAILING, FailureKind
from django_orb.parsing import parse_datetime

from . import erased
from .change_log import After, Before
from .observation_sql import begin_writing

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Told:
    """An event's word about a kind of failure. `reason` is None if it is over."""

    kind: FailureKind
    created_at: datetime
    event_id: str
    reason: str | None = None
    provider: str = ""
    connection_type: str = ""


@dataclass
class _Row:
    """A row of `InvoiceFailureReason` that is about to be written."""

    reason: str = ""
    provider: str = ""
    event_id: str = ""
    failed_at: datetime | None = None
    over_until: datetime | None = None

    def take(self, told: Told) -> None:
        """See Note [Which failure is over]."""
        if told.reason is None:
            self.end(told.created_at)
            return
        if self.failed_at and (told.created_at, told.event_id) <= (
            self.failed_at,
            self.event_id,
        ):
            return
        self.reason, self.provider = told.reason, told.provider
        self.event_id, self.failed_at = told.event_id, told.created_at
        if self.over_until and self.over_until < told.created_at:
            self.over_until = None

    def end(self, moment: datetime) -> None:
        is_newer = self.over_until is None or moment > self.over_until
        if is_newer and (self.failed_at is None or moment >= self.failed_at):
            self.over_until = moment


def keep(invoice_id: str, told: Sequence[Told]) -> None:
    """
    Keep what events tell about an invoice, after they brought it into the mirror.

    Nothing is kept of an invoice that is not in the mirror.
    """
    try:
        run_in_transaction(partial(_keep, invoice_id, told))
    except DataError:
        # The table cannot hold all characters.
        escaped = [
            Told(
                one.kind,
                one.created_at,
                one.event_id,
                _escaped(one.reason),
                _escaped(one.provider) or "",
                _escaped(one.connection_type) or "",
            )
            for one in told
        ]
        again = partial(_keep, invoice_id, escaped)
        run_in_transaction(again)


def _escaped(text: str | None) -> str | None:
    if text is None:
        return None
    return text.encode("ascii", "backslashreplace").decode()


def _keep(invoice_id: str, told: Sequence[Told]) -> None:
    if primary.connection().vendor == "sqlite":
        begin_writing(primary.connection())
    seen = primary.rows(InvoiceObservation).filter(pk=invoice_id)
    seen.select_for_update().values_list("pk").first()
    invoice = Invoice.objects.using(primary.alias()).filter(pk=invoice_id)
    columns = [failing.column for failing in FAILING.values()]
    shown = invoice.values("status", "customer_id", *columns).first()
    if shown is None:
        return
    if shown["customer_id"] in erased.customers():
        told = [replace(one, reason=one.reason and "") for one in told]
    rows = _rows([invoice_id])
    changed: dict[Key, _Row] = {}
    # A success is kept only where there is, or was, a failure that it ends.
    for one in sorted(told, key=lambda one: one.reason is None):
        key = (invoice_id, one.kind.value, one.connection_type)
        failing = FAILING.get(one.kind)
        never_failed = failing is not None and shown[failing.column] is None
        if one.reason is None and key not in rows and never_failed:
            continue  # so no failure can come late
        row = changed[key] = rows.setdefault(key, _Row())
        row.take(one)
        is_failing = failing is None or shown["status"] in failing.statuses
        if one.reason is not None and not is_failing:
            row.end(one.created_at)
    _write(changed)


def end(before: Mapping[str, Before], after: Mapping[str, After]) -> None:
    """
    Note that invoices no longer fail, in the transaction that writes them.

    Without such an invoice this costs no statement.
    """
    over: dict[tuple[str, FailureKind], datetime] = {}
    for invoice_id, new in after.items():
        old = before.get(invoice_id)
        if old is None or old.status == new.status:
            continue
        for kind, failing in FAILING.items():
            if old.status in failing.statuses and new.status not in failing.statuses:
                failed_at = _moment(old.payload.get(failing.column))
                if failed_at is not None:
                    over[invoice_id, kind] = failed_at + EVENT_PRECEDES
    if not over:
        return
    rows = _rows(sorted({invoice_id for invoice_id, _ in over}))
    changed: dict[Key, _Row] = {}
    for (invoice_id, kind), moment in over.items():
        key = (invoice_id, kind.value, "")
        row = changed[key] = rows.get(key, _Row())
        # What is told by now is of before: its event brought the mirror up to it.
        row.end(max(moment, row.failed_at or moment))
    _write(changed)


def _moment(value: Any) -> datetime | None:
    try:
        return None if value is None else parse_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _rows(invoice_ids: Sequence[str]) -> dict[Key, _Row]:
    stored = primary.rows(InvoiceFailureReason).filter(invoice__in=invoice_ids)
    return {
        (row.invoice_id, row.kind, row.connection_type): _Row(
            row.reason, row.provider, row.event_id, row.failed_at, row.over_until
        )
        for row in stored.order_by()
    }


def _write(changed: Mapping[Key, _Row]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "invoice": invoice_id,
            "kind": kind,
            "connection_type": connection_type,
            **vars(row),
        }
        for (invoice_id, kind, connection_type), row in sorted(
            changed.items(), key=lambda item: item[0]
        )
    ]
    key = ["invoice", "kind", "connection_type"]
    upsert(InvoiceFailureReason, rows, key=key)
