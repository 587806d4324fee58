"""Resume operations whose sender died, got no answer, or left them in the queue."""

# Note [Defined ends]
# The same request is sent again under the same key until 47 hours after it was
# recorded. After that, and always for an edit that the invoice would show, the invoice
# is fetched to see whether it does. If that does not tell, or if for another day no
# answer can be read, a person is asked. This holds even if an operation looks as if it had never been sent: its row may come from a
# restored backup, and so its refusal, too, is checked against the invoice before it is
# believed. An installation that only reads, such as a copy of production, sends
# nothing.

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Coalesce

from django_orb.client import OrbClient, longest_request_seconds
from django_orb.conf import get_settings
from django_orb.db import is_free, is_passing, primary, take
from django_orb.exceptions import OrbError, OrbNotFoundError, OrbRateLimitError
from django_orb.mirror import fetch_later
from django_orb.models import InvoiceOperation
from django_orb.models.operation_type import Sight
from django_orb.models.operation_types import OPERATION_TYPES

from . import lookup
from .sending import finish, in_words, lease_of, leave_pending, send

LONGEST_LEASE = timedelta(hours=1)
# Some invoices may get no answer for days while Orb answers for the others. If so many
# operations in a row got none, Orb is away for all.
MAX_UNANSWERED = 3

logger = logging.getLogger(__name__)

_STATE = InvoiceOperation.State


def stuck_operations() -> QuerySet[InvoiceOperation]:
    """
    Return pending operations that no worker holds, or none if we may not write.

    Those of a kind that a newer release recorded are left to that release.
    """
    pending = primary.rows(InvoiceOperation).filter(
        is_free(primary.now(), longest=_longest_lease()),
        state=_STATE.PENDING,
        kind__in=list(OPERATION_TYPES),
    )
    return pending.none() if get_settings().READ_ONLY else pending


def _longest_lease() -> timedelta:
    """Return how far ahead a lease may end; a sender usually needs minutes."""
    request = longest_request_seconds(retries=2)
    return max(LONGEST_LEASE, timedelta(seconds=2 * request))


def recover_operations(
    *, client: OrbClient, seconds: float = float("inf")
) -> Iterator[InvoiceOperation]:
    """
    Resume stuck operations and yield each that was tried.

    The first is the one that has waited longest since it was recorded or last tried, so
    that none keeps the others from their turn. Ends after `seconds`, or if Orb is too
    busy, or if it answers nothing for several operations in a row.
    """
    deadline = time.monotonic() + seconds
    unanswered = 0
    waiting = stuck_operations().order_by(
        Coalesce("lease_expires_at", "created_at"), "pk"
    )
    # Each is read again when its turn comes, as the one before may have taken minutes,
    # in which another worker finished this one.
    for pk in list(waiting.values_list("pk", flat=True)):
        operation = stuck_operations().filter(pk=pk).first()
        until = primary.now() + lease_of(client)
        if operation and take(operation, until=until, state=_STATE.PENDING):
            is_busy = _recover_whatever_happens(operation, client=client)
            yield operation
            is_unanswered = operation.state == _STATE.PENDING
            unanswered = unanswered + 1 if is_unanswered else 0
            if is_busy or unanswered == MAX_UNANSWERED:
                return
        # Only now: a run that tried nothing would start the next one for ever.
        if time.monotonic() > deadline:
            return


def _recover_whatever_happens(
    operation: InvoiceOperation, *, client: OrbClient
) -> bool:
    """
    Write an unexpected error into the operation's row, so that others go on.

    Return whether Orb is too busy for any of them.
    """
    try:
        recover_one(operation, client=client)
    except OrbRateLimitError:
        return True
    except Exception as err:
        if is_passing(err):
            raise
        logger.exception("%s could not be resumed.", operation)
        reason = f"It could not be resumed. {type(err).__name__}: {err}"
        _leave_or_give_up(operation, reason)
    return False


def recover_one(operation: InvoiceOperation, *, client: OrbClient) -> None:
    """
    Send an operation again if that is safe. Otherwise fetch what Orb shows of it.

    Raises:
        OrbRateLimitError: Orb is too busy; the operation is left for later.
    """
    # It is safe if Orb obeys the key, or if it was never sent, unless it edits metadata,
    # of which the invoice can tell.
    is_unseen = operation.first_sent_at is None and "metadata" not in operation.body
    may_send = operation.type.is_repeatable or is_unseen
    if may_send and lookup.is_remembered(operation, primary.now()):
        send(operation, client=client, is_recovered=True)
    else:
        look(operation, client=client)


def look_again(operation: InvoiceOperation, *, client: OrbClient) -> str:
    """
    Fetch for a person what Orb shows of an operation by now, and send nothing.

    The operation still needs attention unless Orb shows it, or shows for sure that it
    never happened. Return why Orb could not be asked, or "".
    """
    operation.refresh_from_db(using=primary.alias())
    if operation.state != _STATE.NEEDS_ATTENTION:
        return ""
    try:
        state, detail, result, _ = _see(operation, client, decides=True)
    except OrbError as err:
        return in_words(err)
    finish(operation, state, detail, result=result, expected=_STATE.NEEDS_ATTENTION)
    return ""


def close(operation: InvoiceOperation, *, was_done: bool, detail: str) -> bool:
    """Finish an operation as a person found it. Return whether it needed attention."""
    asked = primary.rows(InvoiceOperation).filter(
        pk=operation.pk, state=_STATE.NEEDS_ATTENTION
    )
    if was_done and operation.invoice_id:
        # Before, so that a process which dies in between leaves a fetch too many. Which
        # change the person saw is not known, so none is waited for.
        fetch_later([operation.invoice_id])
    # `finished_at` stays: the mirror waits to see only what has just been done.
    closed = asked.update(
        state=_STATE.SUCCEEDED if was_done else _STATE.REFUSED,
        detail=detail,
        mirrored_at=primary.now() if was_done else None,
    )
    operation.refresh_from_db(using=primary.alias())
    return bool(closed)


def look(operation: InvoiceOperation, *, client: OrbClient) -> None:
    """
    Finish an operation by what Orb shows. Send it again only if that is safe.

    Raises:
        OrbRateLimitError: Orb is too busy; the operation is left for later.
    """
    try:
        state, detail, result, may_send = _see(operation, client)
    except OrbError as err:
        _leave_or_give_up(operation, in_words(err))
        return
    if may_send:
        send(operation, client=client, is_recovered=True)
    else:
        finish(operation, state, detail, result=result)


def _leave_or_give_up(operation: InvoiceOperation, reason: str) -> None:
    """Leave it pending if Orb could not be asked, unless that goes on for too long."""
    if lookup.is_given_up(operation, primary.now()):
        logger.error("%s is given up: %s", operation, reason)
        finish(operation, _STATE.NEEDS_ATTENTION, lookup.NOT_SEEN)
    else:
        leave_pending(operation, reason)


def _see(
    operation: InvoiceOperation, client: OrbClient, *, decides: bool = False
) -> tuple[str, str, dict[str, Any], bool]:
    """
    Return the state, detail and result that Orb shows, and whether it may be sent.

    Only an edit may, if it would still replace what it was meant to replace. Even what
    certainly never happened needs attention, unless it is a person who `decides`.
    """
    attention = _STATE.NEEDS_ATTENTION.value
    try:
        finding = operation.type.look(client, operation)
    except OrbNotFoundError:
        # It may have happened before the invoice was deleted.
        return attention, lookup.UNKNOWN_INVOICE, {}, False
    if finding.sight == Sight.SHOWN:
        return _STATE.SUCCEEDED.value, lookup.SHOWN, finding.result, False
    if finding.sight == Sight.ANOTHERS:
        return _STATE.REFUSED.value, lookup.ANOTHERS, {}, False
    is_absent = finding.sight == Sight.NOT_SHOWN and operation.type.is_lasting
    # Its last sender may still be sending it until the lease ends.
    now, lease = primary.now(), operation.lease_expires_at
    if decides and is_absent and (lease is None or lease <= now):
        return _STATE.REFUSED.value, lookup.NOT_DONE, {}, False
    may_send = (
        finding.sight == Sight.NOT_SHOWN
        and not operation.type.is_repeatable
        and lookup.is_remembered(operation, now)
    )
    return attention, lookup.question(operation), {}, may_send
