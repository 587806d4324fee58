"""Record what changed in the mirror, and call the receivers of the signals about it."""

# Note [Told once]
# A change is a row of the transaction that wrote the invoice. Its receivers are called
# after that, inside a transaction that first marks the row as announced: the worker
# that marks it first holds its lock until the receivers are done, and what they wrote
# to this database is committed with the mark or not at all. The changes of one invoice
# are marked in the order of their keys, which is the order in which they were made,
# since writers of an invoice wait for each other.
#
# The attempt is counted before, in a statement of its own, so that it counts even if it
# ends its worker. A failure that is not the receiver's own is recorded, and the change
# is told again later; until then the invoice's later changes wait, and other invoices
# do not. After `MAX_ATTEMPTS` the change has failed: it needs attention, and is told
# again from the admin.

from __future__ import annotations

import logging
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import Error, InterfaceError, OperationalError
from django.db.models import Exists, F, Model, OuterRef, Q, QuerySet
from django.utils import timezone

from django_orb.db import (
    ends_work,
    has_come,
    insert,
    primary,
    renew_connection,
    run_in_transaction,
)
from django_orb.exact_json import storable_text
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceRecheck,
    OverdueNotice,
    SyncRun,
    WebhookEvent,
)
from django_orb.models.invoice_status import overdue_at
from django_orb.signals import (
    invoice_created,
    invoice_overdue,
    invoice_status_changed,
    invoice_updated,
)

from .hashing import content_hash
from .receivers import call_receivers

logger = logging.getLogger(__name__)

BATCH = 1000
# With these waits the last attempt comes almost two and a half hours after the first.
MAX_ATTEMPTS = 12
# How long a worker holds a change whose receivers it calls.
LEASE_SECONDS = 60
# The second attempt may begin at once, the third so much later, then doubling.
FIRST_WAIT_SECONDS = 10
MAX_WAIT_SECONDS = 3600
MISSING = "missing_since"


@dataclass(frozen=True)
class Origin:
    """The origin of a change; see `InvoiceChange.Origin`."""

    kind: str = InvoiceChange.Origin.FETCH.value
    id: str = ""
    tells_new: bool = True

    @classmethod
    def of_run(cls, run: SyncRun) -> Origin:
        kind = InvoiceChange.Origin.SYNC.value
        return cls(kind, str(run.pk), tells_new=run.announces_new)


FETCHED = Origin()


@dataclass(frozen=True)
class Before:
    """The state that a change is compared with."""

    status: str
    missing_since: datetime | None
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class After:
    status: str
    payload: Mapping[str, Any]


def read_before(invoice_ids: Sequence[str]) -> dict[str, Before]:
    """Return what is stored of invoices about to change; at most one statement."""
    if not invoice_ids:
        return {}
    rows = primary.rows(Invoice).filter(pk__in=invoice_ids)
    columns = rows.values_list("pk", "status", "missing_since", "payload")
    return {pk: Before(*values) for pk, *values in columns}


def record(
    before: Mapping[str, Before],
    after: Mapping[str, After],
    missing: Sequence[str],
    *,
    origin: Origin,
) -> None:
    """Note what changed, in the transaction that changed it; one statement, or none."""
    now = timezone.now()
    common = {
        "origin": origin.kind,
        "origin_id": origin.id,
        "created_at": now,
        # A receiver that is connected later is not told of what was before it.
        "announced_at": None if _has_listeners() else now,
        "attempts": 0,
        "error": "",
    }
    rows = []
    for invoice_id, new in after.items():
        row = _row(invoice_id, before.get(invoice_id), new)
        is_new = row["kind"] == InvoiceChange.Kind.CREATED
        if origin.tells_new if is_new else row["changed_fields"]:
            rows.append({**row, **common, "change_id": uuid.uuid4()})
    for invoice_id in missing:
        old = before.get(invoice_id)
        if old and old.missing_since is None:
            row = _row(invoice_id, old, After(old.status, old.payload))
            row = {**row, **common, "change_id": uuid.uuid4()}
            rows.append({**row, "changed_fields": [MISSING]})
    insert(InvoiceChange, rows)


def _row(invoice_id: str, old: Before | None, new: After) -> dict[str, Any]:
    kind = InvoiceChange.Kind
    return {
        "invoice": invoice_id,
        "kind": (kind.UPDATED if old else kind.CREATED).value,
        "previous_status": old.status if old else "",
        "status": new.status,
        "changed_fields": _changed_fields(old, new) if old else [],
    }


def _changed_fields(old: Before, new: After) -> list[str]:
    """
    Return the keys of Orb's JSON whose values differ; signatures of links do not count.
    """
    names = {*old.payload, *new.payload}
    changed = {name for name in names if _differs(name, old.payload, new.payload)}
    if old.missing_since is not None:
        changed.add(MISSING)
    return sorted(changed)


def _differs(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if name not in old or name not in new:
        return True
    if old[name] == new[name]:
        return False
    return content_hash({name: old[name]}) != content_hash({name: new[name]})


def _has_listeners() -> bool:
    signals = (invoice_created, invoice_updated, invoice_status_changed)
    return any(signal.has_listeners(Invoice) for signal in signals)


def announce_on_commit(invoice_ids: Sequence[str]) -> None:
    """Tell the changes of these invoices in this process, once they are committed."""
    if invoice_ids and (_has_listeners() or invoice_overdue.has_listeners(Invoice)):
        call = partial(_announce_committed, invoice_ids)
        primary.on_commit(call)


def _announce_committed(invoice_ids: Sequence[str]) -> None:
    """Like `on_commit(robust=True)`, but raise errors that must end the process."""
    try:
        announce(invoice_ids=invoice_ids)
    except Exception as err:
        if ends_work(err):
            raise
        logger.exception("Changes were not announced yet.")


def announce(*, invoice_ids: Sequence[str] | None = None) -> int:
    """
    Tell the changes that were not told yet, oldest first. Return how many were told.

    Without ids, the oldest changes of any invoices are told. See Note [Told once].
    """
    count = 0
    held: set[str] = set()
    try:
        for change in _due_changes(invoice_ids):
            if change.invoice_id in held:
                continue
            if _tell(change, waits=invoice_ids is not None):
                count += 1
            else:
                held.add(change.invoice_id)
    except (OperationalError, InterfaceError):
        # The database's own trouble: `recover` goes on from here.
        logger.warning("Changes were not announced yet.", exc_info=True)
        renew_connection()
    return count


def tell_again(ids: Sequence[int]) -> None:
    """Let failed changes be told again, with as many attempts as new ones."""
    failed = primary.rows(InvoiceChange).filter(
        pk__in=ids, announced_at=None, failed_at__isnull=False
    )
    failed.update(failed_at=None, attempts=0, next_attempt_at=None)


def _due_changes(invoice_ids: Sequence[str] | None) -> list[InvoiceChange]:
    """
    Return the changes to tell; one that follows a change that has to wait waits too.
    """
    untold = primary.rows(InvoiceChange).filter(announced_at=None)
    if invoice_ids is not None:
        untold = untold.filter(invoice_id__in=invoice_ids)
    waiting = untold.exclude(_is_due(waits=invoice_ids is not None))
    due = untold.exclude(invoice_id__in=waiting.order_by().values("invoice_id"))
    return list(due.order_by("pk")[:BATCH])


def _is_due(*, waits: bool) -> Q:
    """
    Match untold changes that may be told now.

    A caller that `waits` has a later change to tell, which a worker at the earlier one
    may not know of. So it also takes leased changes: their locks make it wait for that
    worker.
    """
    longest = timedelta(seconds=MAX_WAIT_SECONDS)
    is_due = Q(next_attempt_at=None) | has_come(
        "next_attempt_at", primary.now(), longest=longest
    )
    if waits:
        is_due |= Q(error="")
    # Only the release that knows a kind knows its signal.
    return is_due & Q(failed_at=None, kind__in=InvoiceChange.Kind.values)


def _tell(change: InvoiceChange, *, waits: bool) -> bool:
    """
    Try to tell a change. Return whether it has been told, here or by another worker.
    """
    untold = primary.rows(InvoiceChange).filter(pk=change.pk, announced_at=None)
    now = primary.now()
    if change.attempts >= MAX_ATTEMPTS:
        reason = "Its last attempt did not end: it took its worker along."
        over = untold.filter(_is_due(waits=False))
        over.update(failed_at=now, error=reason)
        return False
    claimed = untold.filter(_is_due(waits=waits)).update(
        attempts=F("attempts") + 1,
        next_attempt_at=now + timedelta(seconds=LEASE_SECONDS),
        error="",
    )
    if not claimed:
        return not untold.exists()
    try:
        run_in_transaction(partial(_announce, change))
    except BaseException as err:
        _note(untold, change, err)
        if ends_work(err):
            raise
        # It is told if only what the receivers do after the commit failed.
        return not untold.exists()
    return True


def _note(
    untold: QuerySet[InvoiceChange], change: InvoiceChange, err: BaseException
) -> None:
    """Record why a change was not told, and when to try again."""
    attempts = change.attempts + 1
    ids = {"orb_invoice_id": change.invoice_id, "orb_change_id": change.pk}
    logger.warning(
        "A change was not announced (attempt %s).", attempts, exc_info=err, extra=ids
    )
    trace = "".join(traceback.format_exception(type(err), err, err.__traceback__))
    try:
        renew_connection()
        now = primary.now()
        untold.update(
            error=storable_text(trace),
            next_attempt_at=now + _wait(attempts),
            failed_at=now if attempts >= MAX_ATTEMPTS else None,
        )
    except Error:
        logger.warning(
            "The change is tried again after its lease.", exc_info=True, extra=ids
        )


def _wait(attempts: int) -> timedelta:
    if attempts < 2:
        return timedelta()
    seconds = FIRST_WAIT_SECONDS * 2 ** (attempts - 2)
    return timedelta(seconds=min(seconds, MAX_WAIT_SECONDS))


def _announce(change: InvoiceChange) -> None:
    # The update waits for whoever does the same, and then finds nothing to do.
    mine = primary.rows(InvoiceChange).filter(pk=change.pk, announced_at=None)
    if not mine.update(announced_at=timezone.now(), error="", failed_at=None):
        return
    invoice = primary.rows(Invoice).filter(pk=change.invoice_id).first()
    if invoice is None:  # deleted by other code; nothing here does that
        return
    named = {
        "invoice": invoice,
        "change_id": change.change_id,
        "previous_status": change.previous_status,
        "status": change.status,
        "changed_fields": change.changed_fields,
        "origin": change.origin,
        "origin_id": change.origin_id,
    }
    if change.kind == InvoiceChange.Kind.OVERDUE:
        _announce_overdue(invoice, change)
        return
    is_new = change.kind == InvoiceChange.Kind.CREATED
    signal = invoice_created if is_new else invoice_updated
    call_receivers(signal, Invoice, **named)
    if change.previous_status != change.status:
        call_receivers(invoice_status_changed, Invoice, **named)


def may_be_behind() -> Q:
    """
    Match invoices of which Orb showed something that is not in the mirror, or may not be.

    An event waits or has failed, an answer has to be fetched again, or it could not be
    stored.
    """
    open_event = Q(state__in=WebhookEvent.OPEN, invoice_id=OuterRef("pk"))
    waits: list[tuple[type[Model], Q]] = [
        (WebhookEvent, open_event),
        (InvoiceRecheck, Q(pk=OuterRef("pk"))),
        (InvoiceFailure, Q(pk=OuterRef("pk"))),
    ]
    found = Q()
    for model, condition in waits:
        found |= Q(Exists(primary.rows(model).filter(condition)))
    return found


def _announce_overdue(invoice: Invoice, change: InvoiceChange) -> None:
    """
    Call the receivers, unless the invoice was paid or got another due date meanwhile, or
    may have.

    Then it may become overdue again, and be told of that.
    """
    days = change.days_overdue or 0
    overdue = overdue_at(primary.now(), days=days)
    late = primary.rows(Invoice).filter(overdue, pk=invoice.pk)
    if late.exclude(may_be_behind()).exists():
        named = {"invoice": invoice, "days": days, "change_id": change.change_id}
        call_receivers(invoice_overdue, Invoice, **named)
    else:
        primary.rows(OverdueNotice).filter(invoice=invoice, days=days).delete()
