"""
What changed in the mirror: recorded with it, and told to whoever listens.

# Note [Told once]
A change is a row of the transaction that wrote the invoice. Its receivers are called
after that, inside a transaction that first marks the row as announced: whoever marks
it first holds its lock until the receivers are done, and what they wrote to this
database is committed with the mark or not at all. The changes of one invoice are
marked in the order of their keys, which is the order in which they were made, since
writers of an invoice wait for each other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import OperationalError, transaction
from django.utils import timezone

from .database import run_in_transaction
from .hashing import content_hash
from .models import Invoice, InvoiceChange, SyncRun
from .receivers import call_receivers
from .signals import invoice_created, invoice_status_changed, invoice_updated
from .tables import insert

logger = logging.getLogger(__name__)

BATCH = 1000
MISSING = "missing_since"


@dataclass(frozen=True)
class Origin:
    """Where a change came from; see `InvoiceChange.Origin`."""

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
    """What a change is told against."""

    status: str
    missing_since: datetime | None
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class After:
    status: str
    payload: Mapping[str, Any]


def read_before(invoice_ids: Sequence[str], *, using: str) -> dict[str, Before]:
    """What is stored of invoices that are about to change; one statement, or none."""
    if not invoice_ids:
        return {}
    rows = Invoice.objects.using(using).filter(pk__in=invoice_ids)
    columns = rows.values_list("pk", "status", "missing_since", "payload")
    return {pk: Before(*values) for pk, *values in columns}


def record(
    before: Mapping[str, Before],
    after: Mapping[str, After],
    missing: Sequence[str],
    *,
    origin: Origin,
    using: str,
) -> None:
    """Note what changed, in the transaction that changed it; one statement, or none."""
    now = timezone.now()
    common = {
        "origin": origin.kind,
        "origin_id": origin.id,
        "created_at": now,
        "announced_at": None if _has_listeners() else now,
    }
    rows = []
    for invoice_id, new in after.items():
        row = _row(invoice_id, before.get(invoice_id), new)
        is_new = row["kind"] == InvoiceChange.Kind.CREATED
        if origin.tells_new if is_new else row["changed_fields"]:
            rows.append({**row, **common})
    for invoice_id in missing:
        old = before.get(invoice_id)
        if old and old.missing_since is None:
            row = _row(invoice_id, old, After(old.status, old.payload))
            rows.append({**row, "changed_fields": [MISSING], **common})
    insert(InvoiceChange, rows, using=using)


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
    """The keys of Orb's JSON whose values differ; signatures of links do not count."""
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


def announce_on_commit(invoice_ids: Sequence[str], *, using: str) -> None:
    """Tell the changes of these invoices once they are committed, here."""
    if invoice_ids and _has_listeners():
        call = partial(announce, invoice_ids=invoice_ids, using=using)
        transaction.on_commit(call, using=using, robust=True)


def announce(*, using: str, invoice_ids: Sequence[str] | None = None) -> int:
    """
    Tell what nobody has told yet, oldest first; how many changes that were.

    All of these invoices', or of the oldest changes of any. See Note [Told once].
    """
    waiting = InvoiceChange.objects.using(using).filter(announced_at=None)
    if invoice_ids is not None:
        waiting = waiting.filter(invoice_id__in=invoice_ids)
    changes = list(waiting.order_by("pk")[:BATCH])
    for number, change in enumerate(changes):
        try:
            run_in_transaction(partial(_announce, change, using=using), using=using)
        except OperationalError:
            # In their order or not at all: `recover` goes on from here.
            logger.warning("%s was not announced yet.", change, exc_info=True)
            return number
    return len(changes)


def _announce(change: InvoiceChange, *, using: str) -> None:
    # The update waits for whoever does the same, and then finds nothing to do.
    mine = InvoiceChange.objects.using(using).filter(pk=change.pk, announced_at=None)
    if not mine.update(announced_at=timezone.now()):
        return
    invoice = Invoice.objects.using(using).filter(pk=change.invoice_id).first()
    if invoice is None:  # deleted by somebody, which nothing here does
        return
    named = {
        "invoice": invoice,
        "change_id": change.pk,
        "previous_status": change.previous_status,
        "status": change.status,
        "changed_fields": change.changed_fields,
        "origin": change.origin,
        "origin_id": change.origin_id,
    }
    is_new = change.kind == InvoiceChange.Kind.CREATED
    signal = invoice_created if is_new else invoice_updated
    call_receivers(signal, Invoice, using=using, **named)
    if change.previous_status != change.status:
        call_receivers(invoice_status_changed, Invoice, using=using, **named)
