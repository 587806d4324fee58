"""
Send what is recorded, once, and record what came of it.

# Note [Once without a key]
Orb reads idempotency keys on POST only. A DELETE names a line whose id is never
used again, so sending it again is harmless, and "no such line" then means that it
is gone. A PUT sent again could undo what somebody else edited meanwhile: before
it is repeated, the invoice is looked at (`recovery`).

# Note [Doubted refusals]
If an earlier request got no answer, it may have been obeyed, and the refusal of the
next may say just that ("is void"). So after doubt the invoice is looked at before a
refusal is believed, whatever was asked for. Orb's reads may lag behind its writes:
for a minute only what the invoice shows counts, not what it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_noop

from django_orb import exact_json, metrics, mirror
from django_orb.client import OrbClient
from django_orb.db import clock_of
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
from django_orb.mirror import claim_observations
from django_orb.models import InvoiceOperation
from django_orb.models.operation_type import UNCLEAR, Sight

from . import lookup

# At least; always longer than the client's time-outs and retries together.
LEASE_SECONDS = 300
# Orb's advice to come back comes without a time.
BUSY_SECONDS = 60
# No request takes that long: the key must be in use for something else.
CONFLICT_HOURS = 1

_STATE = InvoiceOperation.State

# What Orb says before it looks at the request itself: after an earlier try without
# an answer these tell nothing about that one.
_AT_THE_DOOR = (
    OrbAuthenticationError,
    OrbPermissionError,
    OrbURLNotFoundError,
    OrbTooLargeError,
    OrbRateLimitError,
)
_REFUSALS = (OrbBadRequestError, OrbNotFoundError, OrbInputError)


def send(
    operation: InvoiceOperation,
    *,
    client: OrbClient,
    using: str,
    is_taken_up: bool = False,
) -> None:
    """
    Send a recorded operation under its key, and record what Orb answered.

    What `is_taken_up` was recorded earlier: in a restored backup it may have been sent,
    although it does not look so.
    """
    was_sent = operation.first_sent_at is not None
    begun_at = _begin(operation, client, using=using)
    if begun_at is None:
        return
    try:
        answer = operation.type.call(client, operation)
    except _AT_THE_DOOR as err:
        is_in_doubt = was_sent or _follows_doubt(err)
        is_busy = isinstance(err, OrbRateLimitError) and bool(operation.batch)
        if is_busy:
            _wait(operation, using=using)
        elif is_in_doubt:
            note(operation, in_words(err), using=using)
        elif is_taken_up:
            doubt = _Doubt(err, False, begun_at)
            _doubt_refusal(operation, doubt, client=client, using=using)
        else:
            settle(operation, _STATE.REFUSED, in_words(err), using=using)
    except _REFUSALS as err:
        doubt = _Doubt(err, was_sent or _follows_doubt(err), begun_at)
        # What has no key Orb does not recognise: see Note [Once without a key].
        is_repetition = is_taken_up and not operation.type.has_key
        if doubt.is_doubtful or is_repetition or _may_be_gone(operation, err):
            _doubt_refusal(operation, doubt, client=client, using=using)
        else:
            settle(operation, _STATE.REFUSED, in_words(err), using=using)
    except OrbConflictError as err:
        _note_conflict(operation, err, client=client, using=using)
    except (OrbAPIError, OrbConnectionError, OrbResponseError) as err:
        note(operation, in_words(err), using=using)
    else:
        settle(operation, _STATE.SUCCEEDED, "", using=using, result=answer)


def lease_of(client: OrbClient) -> timedelta:
    """How long a sender may be silent before somebody else takes over."""
    return timedelta(seconds=max(LEASE_SECONDS, client.worst_case_seconds + 60))


def in_words(err: OrbError) -> str:
    """What Orb said, for a person: its own detail where it gave one."""
    if isinstance(err, OrbRateLimitError):
        return gettext_noop(
            "Orb is receiving too many requests and did not do it. "
            "Try again in a minute."
        )
    detail = getattr(err, "detail", "") or getattr(err, "title", "")
    errors = getattr(err, "validation_errors", [])
    return " ".join([detail, *map(str, errors)]).strip() or str(err)


def settle(
    operation: InvoiceOperation,
    state: str,
    detail: str,
    *,
    using: str,
    result: dict[str, Any] | None = None,
    expected: str = _STATE.PENDING.value,
) -> None:
    """End it, if it still is in the state that the caller expects."""
    invoice_id = operation.type.invoice_id(operation, result or {})
    if invoice_id != operation.invoice_id:
        # By it the mirror knows of an invoice that it does not have yet.
        claim_observations([invoice_id], using=using)
    _change(
        operation,
        using=using,
        expected=expected,
        state=state,
        detail=detail,
        invoice_id=invoice_id,
        # What happened is recorded, whatever else Orb's answer holds.
        result=exact_json.storable(result or {}),
        finished_at=clock_of(using).latest(),
    )


def note(operation: InvoiceOperation, detail: str, *, using: str) -> None:
    """Leave it pending, with why; `recovery` takes it up again."""
    _change(operation, using=using, detail=detail)


def _begin(
    operation: InvoiceOperation, client: OrbClient, *, using: str
) -> datetime | None:
    """Note that it is on its way, and when; not if it ended or was cancelled."""
    now = clock_of(using).latest()
    pending = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, state=_STATE.PENDING
    )
    begun = pending.update(
        attempts=F("attempts") + 1,
        first_sent_at=Coalesce("first_sent_at", Value(now)),
        lease_expires_at=now + lease_of(client),
    )
    operation.refresh_from_db(using=using)
    return now if begun else None


@dataclass(frozen=True)
class _Doubt:
    """A refusal that is looked at before it is believed, and the try that brought it."""

    err: OrbError
    # Whether an earlier request, in this try or before it, got no answer.
    is_doubtful: bool
    begun_at: datetime


def _doubt_refusal(
    operation: InvoiceOperation, doubt: _Doubt, *, client: OrbClient, using: str
) -> None:
    """Orb said no, which may mean that it has been done already."""
    refusal = in_words(doubt.err)
    try:
        finding = operation.type.look(client, operation)
    except OrbNotFoundError:
        if doubt.is_doubtful:
            detail = lookup.UNKNOWN_INVOICE
            settle(operation, _STATE.NEEDS_ATTENTION, detail, using=using)
        else:
            settle(operation, _STATE.REFUSED, refusal, using=using)
        return
    except OrbError as trouble:
        note(operation, in_words(trouble), using=using)
        return
    if finding.sight == Sight.ANOTHERS:
        settle(operation, _STATE.REFUSED, refusal, using=using)
    elif finding.sight != Sight.NOT_SHOWN and _may_tell(operation, doubt, using=using):
        # Orb's answer to this one's key, or to the other's, tells whose it was.
        note(operation, f"{refusal} It is looked at again.", using=using)
    elif finding.sight == Sight.SHOWN:
        gone_already = operation.type.gone_already
        detail = lookup.SHOWN if doubt.is_doubtful else gone_already
        result = finding.result
        settle(operation, _STATE.SUCCEEDED, detail, using=using, result=result)
    elif _may_lag(operation, doubt, using=using):
        note(operation, f"{refusal} It is looked at again.", using=using)
    elif finding.sight == Sight.UNCLEAR:
        detail = lookup.question(operation)
        settle(operation, _STATE.NEEDS_ATTENTION, detail, using=using)
    elif _may_be_gone(operation, doubt.err):
        note(operation, f"{refusal} Yet Orb still shows it.", using=using)
    else:
        settle(operation, _STATE.REFUSED, refusal, using=using)


def _may_tell(operation: InvoiceOperation, doubt: _Doubt, *, using: str) -> bool:
    """Whether Orb has yet to say whose doing it is that the invoice shows."""
    if operation.type.gone_already:
        return False  # whoever did it
    is_young = _age(operation, using=using) < timedelta(hours=CONFLICT_HOURS)
    is_open = is_young and lookup.has_open_rival(operation)
    return is_open or not doubt.is_doubtful


def _may_lag(operation: InvoiceOperation, doubt: _Doubt, *, using: str) -> bool:
    """Whether the request that got no answer is so young that Orb's reads may lag."""
    sent_at = operation.first_sent_at or doubt.begun_at
    if _follows_doubt(doubt.err):
        sent_at = max(sent_at, doubt.begun_at)
    return doubt.is_doubtful and clock_of(using).latest() - sent_at <= mirror.LAG


def _may_be_gone(operation: InvoiceOperation, err: OrbError) -> bool:
    return bool(operation.type.gone_already) and isinstance(err, OrbNotFoundError)


def _follows_doubt(err: OrbError) -> bool:
    return bool(getattr(err, "follows_doubt", False))


def _age(operation: InvoiceOperation, *, using: str) -> timedelta:
    """How long ago it was first sent."""
    now = clock_of(using).latest()
    first: datetime = operation.first_sent_at or now
    return now - first


def _note_conflict(
    operation: InvoiceOperation,
    err: OrbConflictError,
    *,
    client: OrbClient,
    using: str,
) -> None:
    """The key is in use: for this very request, unless that goes on for too long."""
    if _age(operation, using=using) < timedelta(hours=CONFLICT_HOURS):
        note(operation, in_words(err), using=using)
        return
    try:
        finding = operation.type.look(client, operation)
    except OrbNotFoundError:
        finding = UNCLEAR
    except OrbError as trouble:
        note(operation, in_words(trouble), using=using)
        return
    if finding.sight == Sight.SHOWN:
        result = finding.result
        settle(operation, _STATE.SUCCEEDED, lookup.SHOWN, using=using, result=result)
        return
    detail = (
        "Orb says that this idempotency key belongs to another request. Look in Orb "
        f"whether it happened. ({in_words(err)})"
    )
    settle(operation, _STATE.NEEDS_ATTENTION, detail, using=using)


def _wait(operation: InvoiceOperation, *, using: str) -> None:
    """What was queued is not in a hurry, and Orb did not do it."""
    again = clock_of(using).latest() + timedelta(seconds=BUSY_SECONDS)
    detail = gettext_noop(
        "Orb is receiving too many requests; it is tried again by itself."
    )
    _change(operation, using=using, detail=detail, lease_expires_at=again)


def _change(
    operation: InvoiceOperation,
    *,
    using: str,
    expected: str = _STATE.PENDING.value,
    **changes: Any,
) -> None:
    """Write only if nothing ended it meanwhile: an outcome never changes again."""
    unchanged = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, state=expected
    )
    is_mine = unchanged.update(**changes)
    operation.refresh_from_db(using=using)
    if is_mine and "finished_at" in changes:
        metrics.operation_ended(operation.kind, operation.state)
