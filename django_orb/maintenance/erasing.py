"""Erase a customer's personal data, and undo that."""

# Note [Erased in stages]
# First the erasure is committed. From then on no personal data of the customer is
# written; see Note [No way past an erasure] in `mirror/erased.py`. Then a walk covers
# what is stored, in batches: each is a short transaction that locks the rows which
# writers lock, and moves the cursor in the erasure's row. If the process is killed, the
# walk goes on from there, when it is called again or by `recover`. Doing a step twice
# does no harm.
#
# The order of the stages matters, since each uses what a later one removes: the
# project's own ids of the customer, by which exports and operations are found, are in
# the invoices until these are blanked.
#
# Undoing an erasure brings nothing back. It lets Orb's next answers write the
# customer's invoices whole, and flags these to be written even if they are unchanged.

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Q, QuerySet

from django_orb import mirror
from django_orb.db import (
    is_free,
    primary,
    require_outside_transaction,
    run_in_transaction,
    take,
)
from django_orb.exact_json import why_not_text
from django_orb.exceptions import OrbInputError
from django_orb.mirror import blanking, erased
from django_orb.models import (
    CustomerErasure,
    Invoice,
    InvoiceFailure,
    InvoiceOperation,
    WebhookEvent,
)
from django_orb.models.operations import describe_actor

from . import admin_history
from .record_blanking import blank_event, blank_operations

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
# How many rows are locked at a time, and how many ids are read ahead for that.
BATCH = 50
IDS_AT_ONCE = 2000
EVENTS_AT_ONCE = 500

TEXTS, INVOICES, EVENTS, FAILURES, REFILL = (
    "texts",
    "invoices",
    "events",
    "failures",
    "refill",
)
_NEXT = {TEXTS: INVOICES, INVOICES: EVENTS, EVENTS: FAILURES, FAILURES: "", REFILL: ""}

_IN_TRANSACTION = (
    "A customer cannot be erased inside a database transaction: that would make all "
    "writers wait until it ends. Call it after the block."
)

OnStep = Callable[[CustomerErasure], None]


def erase_customer(
    customer_id: str,
    *,
    actor: AbstractBaseUser | None = None,
    origin: str = CustomerErasure.Origin.CODE.value,
    seconds: float = float("inf"),
    on_step: OnStep = lambda erasure: None,
) -> CustomerErasure:
    """
    Erase a customer's personal data, and return the record of it.

    If the customer is already erased, the walk covers everything once more. `error` in
    the record says what could not be erased. After `seconds` the rest is left to
    `recover`, and `stage` in the record is not empty.

    Raises:
        OrbInputError: nothing that is stored here belongs to such a customer.
        OrbTransactionError: called inside a transaction.
    """
    require_outside_transaction(_IN_TRANSACTION)
    _require_known(customer_id)
    begin = partial(_begin, customer_id, _username(actor), origin)
    deadline = time.monotonic() + seconds
    erasure = run_in_transaction(begin)
    _walk(erasure, deadline=deadline, on_step=on_step)
    return erasure


def undo_erasure(
    customer_id: str,
    *,
    actor: AbstractBaseUser | None = None,
    seconds: float = float("inf"),
) -> CustomerErasure:
    """
    Let the next sync fill a customer's invoices again, and return the record.

    Raises:
        OrbInputError: the customer is not erased.
        OrbTransactionError: called inside a transaction.
    """
    require_outside_transaction(_IN_TRANSACTION)
    deadline = time.monotonic() + seconds
    erasure = run_in_transaction(partial(_end, customer_id, _username(actor)))
    _walk(erasure, deadline=deadline)
    return erasure


def resume_all(*, seconds: float = float("inf")) -> None:
    """Resume interrupted erasures, and blank operations that have ended since."""
    deadline = time.monotonic() + seconds
    free = is_free(primary.now(), longest=2 * LEASE)
    waiting = primary.rows(CustomerErasure).exclude(stage="").filter(free)
    for erasure in waiting.order_by("pk"):
        if take(erasure, until=primary.now() + LEASE):
            _walk(erasure, deadline=deadline)
    active = primary.rows(CustomerErasure).exclude(active_customer_id=None)
    erased_ids = list(active.values_list("active_customer_id", flat=True))
    if erased_ids:
        operations = primary.rows(InvoiceOperation)
        theirs = primary.rows(Invoice).filter(customer_id__in=erased_ids)
        blank_operations(operations.filter(invoice_id__in=theirs.values("pk")))
        # Those about an invoice that the mirror does not have.
        state = InvoiceOperation.State.SUCCEEDED
        blank_operations(
            operations.filter(
                Q(invoice_id="") | Q(state=state, mirrored_at=None),
                Q(body__customer_id__in=erased_ids)
                | Q(before__customer_id__in=erased_ids)
                | Q(result__customer__id__in=erased_ids),
            )
        )


def _username(actor: AbstractBaseUser | None) -> str:
    return describe_actor(actor).get("actor_username", "")


def _require_known(customer_id: str) -> None:
    """Refuse a mistyped id: it would look as if something had been erased."""
    if not customer_id or why_not_text(customer_id):
        raise OrbInputError(
            "A customer's id is a string that is not empty, and that can be stored.",
            field="customer_id",
        )
    sources: list[QuerySet[Any]] = [
        primary.rows(Invoice).filter(customer_id=customer_id),
        primary.rows(CustomerErasure).filter(active_customer_id=customer_id),
        primary.rows(InvoiceFailure).filter(payload_text__contains=customer_id),
        primary.rows(WebhookEvent).filter(body__contains=f'"{customer_id}"'),
    ]
    if not any(source.exists() for source in sources):
        raise OrbInputError(
            f"Nothing that is stored here belongs to a customer {customer_id!r} in Orb. "
            "Nothing was erased.",
            field="customer_id",
        )


def _begin(customer_id: str, username: str, origin: str) -> CustomerErasure:
    # First, because it waits for all who write now; what they wrote
    # is then walked over.
    erased.close_gate()
    now = primary.now()
    rows = primary.rows(CustomerErasure)
    erasure = rows.filter(active_customer_id=customer_id).first()
    if erasure is None:
        erasure = CustomerErasure(
            customer_id=customer_id,
            active_customer_id=customer_id,
            erased_at=now,
            erased_by=username,
            origin=origin,
        )
    if not erasure.stage:
        erasure.stage, erasure.cursor, erasure.invoices = TEXTS, "", 0
    erasure.error = ""
    erasure.lease_expires_at = now + LEASE
    erasure.save(using=primary.alias())
    return erasure


def _end(customer_id: str, username: str) -> CustomerErasure:
    erased.close_gate()
    rows = primary.rows(CustomerErasure)
    erasure = rows.filter(active_customer_id=customer_id).first()
    if erasure is None:
        raise OrbInputError(
            f"Customer {customer_id!r} is not erased. Nothing was changed.",
            field="customer_id",
        )
    now = primary.now()
    erasure.active_customer_id = None
    erasure.undone_at, erasure.undone_by = now, username
    erasure.stage, erasure.cursor, erasure.error = REFILL, "", ""
    erasure.lease_expires_at = now + LEASE
    erasure.save(using=primary.alias())
    return erasure


def _walk(
    erasure: CustomerErasure,
    *,
    deadline: float = float("inf"),
    on_step: OnStep = lambda erasure: None,
) -> None:
    steps = {
        TEXTS: _texts,
        INVOICES: _invoices,
        EVENTS: _events,
        FAILURES: _failures,
        REFILL: _refill,
    }
    while erasure.stage:
        for cursor in steps[erasure.stage](erasure):
            if not _note(erasure, cursor=cursor):
                return
            on_step(erasure)
            if time.monotonic() > deadline:
                # Released, so that `recover` goes on with its next turn.
                _note(erasure, lease_expires_at=None)
                return
        following = _NEXT[erasure.stage]
        changes: dict[str, Any] = {"stage": following, "cursor": ""}
        if not following:
            changes["lease_expires_at"] = None
            if erasure.active_customer_id and not erasure.error:
                changes["finished_at"] = primary.now()
        if not _note(erasure, **changes):
            return


def _note(erasure: CustomerErasure, **changes: Any) -> bool:
    """
    Record how far the walk has come. Return False if another process goes on with it,
    because it was undone meanwhile, or because two walk and the other is ahead.
    """
    changes = {"lease_expires_at": primary.now() + LEASE, **changes}
    names = ("invoices", "error")
    changes |= {name: getattr(erasure, name) for name in names}
    mine = primary.rows(CustomerErasure).filter(
        pk=erasure.pk, stage=erasure.stage, undone_at=erasure.undone_at
    )
    if mine.update(**changes):
        for name, value in changes.items():
            setattr(erasure, name, value)
        return True
    erasure.refresh_from_db(using=primary.alias())
    return False


# Each stage yields its cursor after each batch.


def _texts(erasure: CustomerErasure) -> Iterator[str]:
    """Erase texts that name the customer only by the project's own ids."""
    customer_id = erasure.customer_id
    invoices = primary.rows(Invoice).filter(customer_id=customer_id)
    known = invoices.exclude(external_customer_id="").order_by()
    own_ids = list(known.values_list("external_customer_id", flat=True).distinct())
    admin_history.blank_named(customer_id, own_ids)
    # Including those about an invoice that the mirror does not have yet.
    named = Q(result__customer__id=customer_id) | Q(body__customer_id=customer_id)
    by_own_id = Q(body__external_customer_id__in=own_ids)
    operations = primary.rows(InvoiceOperation)
    admin_history.blank_entries(InvoiceOperation, operations.filter(named | by_own_id))
    blank_operations(operations.filter(named | by_own_id))
    # Those that are not over are found by Orb's id later, when no invoice tells the
    # project's own.
    for operation in operations.filter(by_own_id, erased_at=None):
        before = {**operation.before, "customer_id": customer_id}
        operations.filter(pk=operation.pk).update(before=before)
    yield ""


def _invoices(erasure: CustomerErasure) -> Iterator[str]:
    invoices = primary.rows(Invoice).filter(customer_id=erasure.customer_id)
    for ids in _batches(invoices, erasure.cursor, BATCH):
        operations = primary.rows(InvoiceOperation).filter(invoice_id__in=ids)
        # First, since they may be in another database.
        admin_history.blank_entries(Invoice, invoices.filter(pk__in=ids))
        admin_history.blank_entries(InvoiceOperation, operations)
        blank = partial(blanking.blank_invoices, ids, customer_id=erasure.customer_id)
        unmapped = run_in_transaction(blank)
        events = primary.rows(WebhookEvent).filter(invoice_id__in=ids)
        for event_id in list(events.order_by("pk").values_list("pk", flat=True)):
            blank_event(event_id)
        blank_operations(operations)
        erasure.invoices += len(ids) - len(unmapped)
        if unmapped:
            erasure.error += (
                f"These invoices could not be mapped: {', '.join(unmapped)}. "
            )
        yield ids[-1]


def _events(erasure: CustomerErasure) -> Iterator[str]:
    """Erase events of any kind; only their bodies say which customer they name."""
    events = primary.rows(WebhookEvent)
    for ids in _batches(events, erasure.cursor, EVENTS_AT_ONCE):
        # Only a sieve: the id may be a part of a longer word, and SQLite takes capitals
        # for small letters. Each event found is parsed to see whom it names.
        named = events.filter(pk__in=ids, body__contains=erasure.customer_id)
        for event_id in list(named.values_list("pk", flat=True)):
            blank_event(event_id, customer_id=erasure.customer_id)
        yield ids[-1]


def _failures(erasure: CustomerErasure) -> Iterator[str]:
    failures = primary.rows(InvoiceFailure)
    # Without the text, which was too long, the reason may quote any customer's data.
    named = failures.filter(
        Q(payload_text__contains=erasure.customer_id) | Q(payload_text="")
    )
    for ids in _batches(named, erasure.cursor, BATCH):
        for failure in failures.filter(pk__in=ids):
            blanking.blank_failure(failure)
        yield ids[-1]


def _refill(erasure: CustomerErasure) -> Iterator[str]:
    invoices = primary.rows(Invoice).filter(customer_id=erasure.customer_id)
    for ids in _batches(invoices, erasure.cursor, EVENTS_AT_ONCE):
        mirror.write_again(ids)
        yield ids[-1]


def _batches(rows: QuerySet[Any], last: str, size: int) -> Iterator[list[str]]:
    """Yield keys in their order, starting after the last one."""
    keys = rows.order_by("pk").values_list("pk", flat=True)
    while found := list(keys.filter(pk__gt=last)[:IDS_AT_ONCE]):
        last = found[-1]
        some = iter(found)
        while batch := list(islice(some, size)):
            yield batch
