"""Send recorded operations once, and record their outcome."""

# Note [Once without a key]
# Orb reads idempotency keys on POST only. A DELETE names a line whose id is never used
# again, so sending it again is harmless, and "no such line" then means that it is
# gone. A PUT sent again could undo another user's edit: before it is repeated, the
# invoice is fetched (`recovery`).

# Note [Doubted refusals]
# If an earlier request got no answer, Orb may have obeyed it, and may refuse the next
# for that reason ("is void"). So the invoice is then fetched before a refusal is
# believed, whatever was asked for. Orb's reads may lag behind its writes: for a minute
# only what the invoice shows counts, not what it does not show.

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_noop

from django_orb import exact_json, metrics, mirror
from django_orb.client import OrbClient
from django_orb.db import primary, run_in_transaction
from django_orb.exceptions import (
    OrbAPIError,
    OrbAuthenticationError,
    OrbBadRequestError,
    OrbConflictError,
    OrbConnectionError,
    OrbError,
    OrbInputError,
    OrbNotFoundError,
    OrbPermissionError,
    OrbRateLimitError,
    OrbResponseError,
    OrbTooLargeError,
    OrbURLNotFoundError,
)
from django_orb.mirror import claim_observations, erased, personal
from django_orb.models import InvoiceOperation
from django_orb.models.operation_type import UNCLEAR, Sight

from . import lookup

# The shortest lease. Each is longer than the client's time-outs and retries together.
LEASE_SECONDS = 300
# Orb asks to come back, but does not say when.
BUSY_SECONDS = 60
# No request takes that long: the key must be in use for something else.
CONFLICT_HOURS = 1

_STATE = InvoiceOperation.State

# Errors that Orb gives before it reads the request itself: they tell nothing about an
# earlier try that got no answer.
_AT_THE_DOOR = (
    OrbAuthenticationError,
    OrbPermissionError,
    OrbURLNotFoundError,
    OrbTooLargeError,
    OrbRateLimitError,
)
_REFUSALS = (OrbBadRequestError, OrbNotFoundError, OrbInputError)


def send(
    operation: InvoiceOperation, *, client: OrbClient, is_recovered: bool = False
) -> None:
    """
    Send a recorded operation under its key, and record what Orb answered.

    If `is_recovered`, it was recorded earlier: in a restored backup it may have been
    sent, although it does not look so.

    Raises:
        OrbRateLimitError: Orb is too busy; the operation was queued, and is left for
            later.
    """
    begun_at = _begin(operation, client)
    if begun_at is None:
        return
    attempt = operation.attempts
    try:
        answer = operation.type.call(client, operation)
        answer = operation.type.read_answer(operation, answer)
    except _AT_THE_DOOR as err:
        is_in_doubt = _is_in_doubt(operation, err, begun_at, attempt)
        # After a 429 Orb has done nothing. A user waits for a single operation, and can
        # try again; what was queued has time.
        is_busy = isinstance(err, OrbRateLimitError) and bool(operation.batch)
        if is_busy:
            _wait(operation, attempt, was_sent=is_in_doubt)
            raise
        if is_in_doubt:
            leave_pending(operation, in_words(err))
        elif is_recovered:
            doubt = _Doubt(err, False, begun_at)
            _doubt_refusal(operation, doubt, client=client)
        else:
            finish(operation, _STATE.REFUSED, in_words(err))
    except _REFUSALS as err:
        is_in_doubt = _is_in_doubt(operation, err, begun_at, attempt)
        doubt = _Doubt(err, is_in_doubt, begun_at)
        # Without a key Orb does not recognise it: see Note [Once without a key].
        is_repetition = is_recovered and not operation.type.has_key
        if doubt.is_doubtful or is_repetition or _may_be_gone(operation, err):
            _doubt_refusal(operation, doubt, client=client)
        else:
            finish(operation, _STATE.REFUSED, in_words(err))
    except OrbConflictError as err:
        _note_conflict(operation, err, client=client)
    except (OrbAPIError, OrbConnectionError, OrbResponseError) as err:
        leave_pending(operation, in_words(err))
    else:
        finish(operation, _STATE.SUCCEEDED, "", result=answer)


def lease_of(client: OrbClient) -> timedelta:
    """Return how long a sender may be silent before another worker takes over."""
    return timedelta(seconds=max(LEASE_SECONDS, client.worst_case_seconds + 60))


def in_words(err: OrbError) -> str:
    """Return an error in words for a person: Orb's own detail if it gave one."""
    if isinstance(err, OrbRateLimitError):
        return gettext_noop(
            "Orb is receiving too many requests and did not do it. "
            "Try again in a minute."
        )
    detail = getattr(err, "detail", "") or getattr(err, "title", "")
    errors = getattr(err, "validation_errors", [])
    return " ".join([detail, *map(str, errors)]).strip() or str(err)


def finish(
    operation: InvoiceOperation,
    state: str,
    detail: str,
    *,
    result: dict[str, Any] | None = None,
    expected: str = _STATE.PENDING.value,
) -> None:
    """Finish an operation, if it is still in the state that the caller expects."""
    invoice_id = operation.type.invoice_id(operation, result or {})
    if invoice_id != operation.invoice_id:
        # This tells the mirror of an invoice that it does not have yet.
        claim_observations([invoice_id])
    # The outcome is recorded, whatever is in Orb's answer.
    answer = exact_json.storable(result or {})

    def record() -> None:
        # In one transaction with the gate of erasures, which is locked
        # first: an erasure that begins meanwhile waits for this row, and
        # finds Orb's answer in it.
        _change(
            operation,
            expected=expected,
            state=state,
            detail=detail,
            invoice_id=invoice_id,
            result=_kept(answer, invoice_id),
            finished_at=primary.now(),
        )

    run_in_transaction(record)


def _kept(answer: dict[str, Any], invoice_id: str) -> dict[str, Any]:
    """Return the parts of Orb's answer that may be kept; see `mirror.erased`."""
    gone = erased.customers(is_first=True)
    # The answer itself is asked too, since the mirror may not have the invoice yet.
    is_theirs = personal.customer_of(answer) in gone or erased.is_of(invoice_id, gone)
    return personal.blank_result(answer) if is_theirs else answer


def leave_pending(operation: InvoiceOperation, detail: str) -> None:
    """Leave an operation pending, and record why; `recovery` resumes it."""
    _change(operation, detail=detail)


def _begin(operation: InvoiceOperation, client: OrbClient) -> datetime | None:
    """Record that an operation is being sent. Return when, or None if it has ended."""
    now = primary.now()
    pending = primary.rows(InvoiceOperation).filter(
        pk=operation.pk, state=_STATE.PENDING
    )
    # Committed before the request leaves: if the process dies during it, the row says
    # that Orb may have it. `first_sent_at` never moves, since Orb counts the 48 hours
    # of a key from the first request.
    begun = pending.update(
        attempts=F("attempts") + 1,
        first_sent_at=Coalesce("first_sent_at", Value(now)),
        lease_expires_at=now + lease_of(client),
    )
    operation.refresh_from_db(using=primary.alias())
    return now if begun else None


@dataclass(frozen=True)
class _Doubt:
    """A refusal that is checked before it is believed, and the try that brought it."""

    err: OrbError
    # True if an earlier request, in this try or before it, got no answer.
    is_doubtful: bool
    begun_at: datetime


def _doubt_refusal(
    operation: InvoiceOperation, doubt: _Doubt, *, client: OrbClient
) -> None:
    """Fetch the invoice before a refusal is believed: it may have been done already."""
    refusal = in_words(doubt.err)
    try:
        finding = operation.type.look(client, operation)
    except OrbNotFoundError:
        if doubt.is_doubtful:
            detail = lookup.UNKNOWN_INVOICE
            finish(operation, _STATE.NEEDS_ATTENTION, detail)
        else:
            finish(operation, _STATE.REFUSED, refusal)
        return
    except OrbError as trouble:
        leave_pending(operation, in_words(trouble))
        return
    is_shown = finding.sight == Sight.SHOWN
    is_anothers = is_shown and doubt.is_doubtful and lookup.was_seen_before(operation)
    if finding.sight == Sight.ANOTHERS or is_anothers:
        finish(operation, _STATE.REFUSED, refusal)
    elif finding.sight != Sight.NOT_SHOWN and _may_tell(operation, doubt):
        # Orb's answer to this operation's key, or to the other's, tells which did it.
        leave_pending(operation, f"{refusal} Orb will be asked again.")
    elif finding.sight == Sight.SHOWN:
        gone_already = operation.type.gone_already
        detail = lookup.SHOWN if doubt.is_doubtful else gone_already
        result = finding.result
        finish(operation, _STATE.SUCCEEDED, detail, result=result)
    elif _may_lag(operation, doubt):
        leave_pending(operation, f"{refusal} Orb will be asked again.")
    elif finding.sight == Sight.UNCLEAR:
        detail = lookup.question(operation)
        finish(operation, _STATE.NEEDS_ATTENTION, detail)
    elif _may_be_gone(operation, doubt.err):
        leave_pending(operation, f"{refusal} But Orb still shows it.")
    else:
        finish(operation, _STATE.REFUSED, refusal)


def _may_tell(operation: InvoiceOperation, doubt: _Doubt) -> bool:
    """Tell whether Orb may still say which operation made the change that it shows."""
    if operation.type.gone_already:
        return False  # it does not matter which did it
    is_young = _age(operation) < timedelta(hours=CONFLICT_HOURS)
    is_open = is_young and lookup.has_open_rival(operation)
    return is_open or not doubt.is_doubtful


def _may_lag(operation: InvoiceOperation, doubt: _Doubt) -> bool:
    """Tell whether the request without an answer is so recent that reads may lag."""
    sent_at = operation.first_sent_at or doubt.begun_at
    # Within one call the client tries again, and an earlier try may have been obeyed.
    if _follows_doubt(doubt.err):
        sent_at = max(sent_at, doubt.begun_at)
    return doubt.is_doubtful and primary.now() - sent_at <= mirror.LAG


def _may_be_gone(operation: InvoiceOperation, err: OrbError) -> bool:
    return bool(operation.type.gone_already) and isinstance(err, OrbNotFoundError)


def _is_in_doubt(
    operation: InvoiceOperation, err: OrbError, begun_at: datetime, attempt: int
) -> bool:
    """
    Tell whether another request than the one that was refused may have been obeyed.

    It may have come earlier, also within this call, or from a worker that took this one
    for dead.
    """
    operation.refresh_from_db(using=primary.alias())
    was_sent = operation.first_sent_at != begun_at
    return was_sent or operation.attempts != attempt or _follows_doubt(err)


def _follows_doubt(err: OrbError) -> bool:
    return bool(getattr(err, "follows_doubt", False))


def _age(operation: InvoiceOperation) -> timedelta:
    """Return how long ago the operation was first sent."""
    now = primary.now()
    first: datetime = operation.first_sent_at or now
    return now - first


def _note_conflict(
    operation: InvoiceOperation, err: OrbConflictError, *, client: OrbClient
) -> None:
    """Wait while the key is in use; after an hour it belongs to another request."""
    # Orb answers 409 both while a request with this key is under way and if the key was
    # used with another body: https://docs.withorb.com/reference/idempotency
    if _age(operation) < timedelta(hours=CONFLICT_HOURS):
        leave_pending(operation, in_words(err))
        return
    try:
        finding = operation.type.look(client, operation)
    except OrbNotFoundError:
        finding = UNCLEAR
    except OrbError as trouble:
        leave_pending(operation, in_words(trouble))
        return
    if finding.sight == Sight.SHOWN:
        result = finding.result
        finish(operation, _STATE.SUCCEEDED, lookup.SHOWN, result=result)
        return
    detail = (
        "Orb says that this idempotency key belongs to another request. Check in Orb "
        f"whether it happened. ({in_words(err)})"
    )
    finish(operation, _STATE.NEEDS_ATTENTION, detail)


def _wait(operation: InvoiceOperation, attempt: int, *, was_sent: bool) -> None:
    """Leave a queued operation for later; Orb did not do it."""
    again = primary.now() + timedelta(seconds=BUSY_SECONDS)
    detail = gettext_noop(
        "Orb is receiving too many requests. This will be sent again automatically."
    )
    _change(operation, detail=detail, lease_expires_at=again)
    if not was_sent:
        # So that it can still be cancelled, unless another worker is sending it.
        mine = primary.rows(InvoiceOperation).filter(
            pk=operation.pk, state=_STATE.PENDING, attempts=attempt
        )
        mine.update(first_sent_at=None)
        operation.refresh_from_db(using=primary.alias())


def _change(
    operation: InvoiceOperation, *, expected: str = _STATE.PENDING.value, **changes: Any
) -> None:
    """Write changes unless it was finished meanwhile: an outcome never changes again."""
    unchanged = primary.rows(InvoiceOperation).filter(pk=operation.pk, state=expected)
    if "detail" in changes:
        changes["detail"] = exact_json.storable_text(changes["detail"])
    is_mine = unchanged.update(**changes)
    operation.refresh_from_db(using=primary.alias())
    if is_mine and "finished_at" in changes:
        metrics.operation_ended(operation.kind, operation.state)
