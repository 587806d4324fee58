"""
Calls that change something in Orb: recorded, sent once, settled.

# Note [Exactly once]
The record is committed before the request leaves, with the idempotency key that
the request carries. Whatever dies in between, the same request can be sent again
under the same key: Orb answers a repeated key with the first answer, for 48 hours.
An answer settles the operation only; the mirror is updated by a fetch that began
after it.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, models, transaction
from django.db.models import F

from .client import OrbClient
from .clock import clock_of
from .conf import get_settings
from .exceptions import (
    OrbAPIError,
    OrbAuthenticationError,
    OrbBadRequestError,
    OrbConnectionError,
    OrbError,
    OrbInputError,
    OrbNotFoundError,
    OrbOutcomeUnknownError,
    OrbPermissionError,
    OrbRateLimitError,
    OrbReadOnlyError,
    OrbRefusedError,
    OrbResponseError,
    OrbTooLargeError,
    OrbTransactionError,
)
from .models import InvoiceOperation
from .observations import claim_observations

# Longer than the client's time-outs and retries together.
LEASE_SECONDS = 300
# Orb keeps a key for 48 hours; after that sending again would do it again.
RESEND_HOURS = 47
WAIT_SECONDS = 10

_OUTCOMES = (
    OrbBadRequestError,
    OrbAuthenticationError,
    OrbPermissionError,
    OrbNotFoundError,
    OrbTooLargeError,
    OrbRateLimitError,
)


@dataclass(frozen=True)
class Request:
    """What is to be done, by whom, and the key that makes it happen once."""

    kind: str
    invoice_id: str
    body: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    actor: AbstractBaseUser | None = None
    origin: str = InvoiceOperation.Origin.SERVICE.value


def new_idempotency_key() -> str:
    """A key for one intention, such as one rendered form; 44 characters of 64."""
    return f"django-orb-{uuid.uuid4().hex}"


def perform(
    request: Request, *, client: OrbClient, using: str
) -> tuple[InvoiceOperation, dict[str, Any]]:
    """
    Record, send and settle one operation; the operation and Orb's answer.

    The same key again gives the first outcome and sends nothing.

    Raises:
        OrbReadOnlyError: `READ_ONLY` is on.
        OrbTransactionError: called inside a transaction.
        OrbInputError: the key belongs to another operation.
        OrbRefusedError: Orb said no; nothing happened.
        OrbOutcomeUnknownError: it may have happened; `recover` will find out.
    """
    if get_settings().READ_ONLY:
        raise OrbReadOnlyError(
            'This installation only reads from Orb (DJANGO_ORB["READ_ONLY"] is on); '
            "nothing was sent."
        )
    operation, is_new = _record(request, using=using)
    if is_new:
        send(operation, client=client, using=using)
    return operation, _outcome(operation)


def stuck_operations(*, using: str) -> models.QuerySet[InvoiceOperation]:
    """Those whose sender has been silent for longer than sending takes."""
    return InvoiceOperation.objects.using(using).filter(
        state=InvoiceOperation.State.PENDING,
        lease_expires_at__lt=clock_of(using).latest(),
    )


def recover_operations(*, client: OrbClient, using: str) -> list[InvoiceOperation]:
    """Settle operations whose sender died or got no answer; those that were tried."""
    now = clock_of(using).latest()
    tried = []
    for operation in stuck_operations(using=using).order_by("pk"):
        if _take_lease(operation, now, using=using):
            if _is_resendable(operation, now):
                send(operation, client=client, using=using)
            else:
                _settle(
                    operation,
                    InvoiceOperation.State.NEEDS_ATTENTION,
                    "No answer for two days. Look in Orb whether it happened.",
                    using=using,
                )
            tried.append(operation)
    return tried


def send(operation: InvoiceOperation, *, client: OrbClient, using: str) -> None:
    """Send a recorded operation under its key, and record what Orb answered."""
    now = clock_of(using).latest()
    mine = InvoiceOperation.objects.using(using).filter(pk=operation.pk)
    mine.update(attempts=F("attempts") + 1)
    if operation.first_sent_at is None:
        mine.update(first_sent_at=now)
    state = InvoiceOperation.State
    try:
        answer = _call(operation, client)
    except _OUTCOMES as err:
        _settle(operation, state.REFUSED, in_words(err), using=using)
    except (OrbAPIError, OrbConnectionError, OrbResponseError) as err:
        _note(operation, in_words(err), using=using)
    else:
        _settle(operation, state.SUCCEEDED, "", using=using, result=answer)


def in_words(err: OrbError) -> str:
    """What Orb said, for a person: its own detail where it gave one."""
    if isinstance(err, OrbRateLimitError):
        return (
            "Orb is receiving too many requests and did not do it. "
            "Try again in a minute."
        )
    detail = getattr(err, "detail", "") or getattr(err, "title", "")
    errors = getattr(err, "validation_errors", [])
    return " ".join([detail, *map(str, errors)]).strip() or str(err)


def _record(request: Request, *, using: str) -> tuple[InvoiceOperation, bool]:
    _require_no_transaction(using)
    now = clock_of(using).latest()
    key = request.idempotency_key or new_idempotency_key()
    try:
        with transaction.atomic(using=using, durable=True):
            operation = InvoiceOperation.objects.using(using).create(
                kind=request.kind,
                invoice_id=request.invoice_id,
                body=request.body,
                idempotency_key=key,
                actor_id=request.actor.pk if request.actor else None,
                origin=request.origin,
                created_at=now,
                lease_expires_at=now + timedelta(seconds=LEASE_SECONDS),
            )
            # By it the mirror knows, also of an invoice that it does not have yet.
            claim_observations([request.invoice_id], using=using)
    except IntegrityError:
        existing = InvoiceOperation.objects.using(using).get(idempotency_key=key)
        _require_same(existing, request)
        _wait_for(existing, using=using)
        return existing, False
    return operation, True


def _require_no_transaction(using: str) -> None:
    try:
        with transaction.atomic(using=using, durable=True):
            pass
    except RuntimeError as err:
        raise OrbTransactionError(
            "Calls that change something in Orb cannot be made inside a database "
            "transaction: their record must be committed before the request leaves. "
            "Call it after the block, from transaction.on_commit or a Celery task."
        ) from err


def _require_same(existing: InvoiceOperation, request: Request) -> None:
    same = (existing.kind, existing.invoice_id, existing.body) == (
        request.kind,
        request.invoice_id,
        request.body,
    )
    if not same:
        raise OrbInputError(
            f"The idempotency key was used before, for another operation ({existing}). "
            "Use a new key for a new intention.",
            field="idempotency_key",
        )


def _wait_for(operation: InvoiceOperation, *, using: str) -> None:
    """The first of two clicks is on its way: give it a moment to end."""
    deadline = time.monotonic() + WAIT_SECONDS
    while operation.state == InvoiceOperation.State.PENDING:
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
        operation.refresh_from_db(using=using)


def _call(operation: InvoiceOperation, client: OrbClient) -> dict[str, Any]:
    key = operation.idempotency_key
    if operation.kind == InvoiceOperation.Kind.VOID:
        return client.void_invoice(operation.invoice_id, idempotency_key=key)
    return client.create_invoice_line_item(
        invoice_id=operation.invoice_id, idempotency_key=key, **operation.body
    )


def _outcome(operation: InvoiceOperation) -> dict[str, Any]:
    state = InvoiceOperation.State
    if operation.state == state.SUCCEEDED:
        answer: dict[str, Any] = operation.result
        return answer
    if operation.state == state.REFUSED:
        raise OrbRefusedError(operation, operation.detail)
    raise OrbOutcomeUnknownError(operation)


def _take_lease(operation: InvoiceOperation, now: datetime, *, using: str) -> bool:
    expected = operation.lease_expires_at
    operation.lease_expires_at = now + timedelta(seconds=LEASE_SECONDS)
    mine = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, lease_expires_at=expected
    )
    return bool(mine.update(lease_expires_at=operation.lease_expires_at))


def _is_resendable(operation: InvoiceOperation, now: datetime) -> bool:
    first = operation.first_sent_at
    return first is None or now - first < timedelta(hours=RESEND_HOURS)


def _settle(
    operation: InvoiceOperation,
    state: str,
    detail: str,
    *,
    using: str,
    result: dict[str, Any] | None = None,
) -> None:
    _change(
        operation,
        using=using,
        state=state,
        detail=detail,
        result=result or {},
        finished_at=clock_of(using).latest(),
    )


def _note(operation: InvoiceOperation, detail: str, *, using: str) -> None:
    """Leave it pending, with why; `recover` sends it again under the same key."""
    _change(operation, using=using, detail=detail)


def _change(operation: InvoiceOperation, *, using: str, **changes: Any) -> None:
    """Write only while it is pending: an outcome never changes again."""
    pending = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, state=InvoiceOperation.State.PENDING
    )
    pending.update(**changes)
    operation.refresh_from_db(using=using)
