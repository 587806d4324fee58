"""Record operations, send each once, and return its outcome."""

# Note [Exactly once]
# The record is committed before the request leaves, with the idempotency key that
# the request carries. If a process dies in between, the same request can be sent
# again under the same key: Orb answers a repeated key with the first answer, for 48
# hours. An answer finishes the operation only; the mirror is updated by a fetch
# that began after it.

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError

from django_orb.client import OrbClient
from django_orb.conf import get_settings
from django_orb.db import (
    claim,
    primary,
    require_outside_transaction,
    run_in_transaction,
)
from django_orb.exceptions import (
    OrbInputError,
    OrbOutcomeUnknownError,
    OrbReadOnlyError,
    OrbRefusedError,
    in_english,
)
from django_orb.mirror import claim_observations
from django_orb.models import InvoiceOperation
from django_orb.models.operations import describe_actor

from .arguments import require_note
from .lookup import RESEND_HOURS
from .sending import lease_of, send

WAIT_SECONDS = 10

_STATE = InvoiceOperation.State


@dataclass(frozen=True)
class Request:
    """An operation to record, the user who asks, and the key that makes it unique."""

    kind: str
    invoice_id: str
    body: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    actor: AbstractBaseUser | None = None
    origin: str = InvoiceOperation.Origin.SERVICE.value
    note: str | None = None


def new_idempotency_key() -> str:
    """Return a key for one intention, such as one rendered form; 44 of 64 characters."""
    return f"django-orb-{uuid.uuid4().hex}"


def perform(
    request: Request, *, client: OrbClient
) -> tuple[InvoiceOperation, dict[str, Any]]:
    """
    Record, send and finish one operation. Return it and Orb's answer.

    The same key again gives the first outcome and sends nothing. The note is not part of
    what makes it the same: the first one stays.

    Raises:
        OrbReadOnlyError: `READ_ONLY` is on.
        OrbTransactionError: called inside a transaction.
        OrbInputError: the key belongs to another operation, or the note cannot be.
        OrbRefusedError: Orb said no; nothing happened.
        OrbOutcomeUnknownError: it may have happened; `recover` will find out.
    """
    require_writable()
    operation, is_new = _record(request, client=client)
    if is_new:
        send(operation, client=client)
    return operation, _outcome(operation)


def queue(requests: Sequence[Request], *, batch: str) -> None:
    """
    Record operations that `recovery` sends when it runs next.

    Each needs a key; an operation that is recorded already is left as it is. Either all
    are recorded or none.

    Raises:
        OrbReadOnlyError: `READ_ONLY` is on.
        OrbTransactionError: called inside a transaction.
        OrbInputError: a key belongs to another operation.
    """
    require_writable()
    require_no_transaction()
    now = primary.now()
    rows = [_row(request, now, batch=batch) for request in requests]
    keys = [row.idempotency_key for row in rows]

    # The rows were made before it: on SQLite a transaction that reads first, and writes
    # after another process has written, fails with "database is locked".
    def record() -> None:
        # Conflicts are the keys of a batch that is confirmed again.
        claim(InvoiceOperation, [_columns_of(row) for row in rows])
        recorded = primary.rows(InvoiceOperation).in_bulk(
            keys, field_name="idempotency_key"
        )
        for key, request in zip(keys, requests, strict=True):
            _require_same(recorded[key], request)
        claim_observations([asked.invoice_id for asked in requests if asked.invoice_id])

    run_in_transaction(record)


def cancel(batch: str, *, detail: str) -> int:
    """
    Cancel the operations of a batch that no worker has begun to send. Return how many.

    Those older than a key's life are left: in a restored backup they may have been sent.
    """
    now = primary.now()
    waiting = primary.rows(InvoiceOperation).filter(
        batch=batch,
        state=_STATE.PENDING,
        first_sent_at=None,
        created_at__gt=now - timedelta(hours=RESEND_HOURS),
    )
    # Leases do not matter: a worker that has just taken one up begins with an update of
    # pending rows only, and so does not send what is cancelled here.
    return waiting.update(state=_STATE.CANCELLED, detail=detail, finished_at=now)


def require_writable() -> None:
    """
    Make sure that this installation may change something in Orb.

    Raises:
        OrbReadOnlyError: `READ_ONLY` is on.
    """
    if get_settings().READ_ONLY:
        raise OrbReadOnlyError(
            'This installation only reads from Orb (DJANGO_ORB["READ_ONLY"] is on); '
            "nothing was sent."
        )


def require_no_transaction() -> None:
    """
    Make sure that what is recorded now is committed at once.

    Raises:
        OrbTransactionError: a transaction is open.
    """
    require_outside_transaction(
        "Calls that change something in Orb cannot be made inside a database "
        "transaction: their record must be committed before the request leaves. "
        "Call it after the block, from transaction.on_commit or a Celery task."
    )


def _record(request: Request, *, client: OrbClient) -> tuple[InvoiceOperation, bool]:
    require_no_transaction()
    now = primary.now()
    operation = _row(request, now, lease_expires_at=now + lease_of(client))

    def record() -> None:
        operation.pk = None  # an attempt that was rolled back has set it
        operation.save(using=primary.alias(), force_insert=True)
        # This tells the mirror, even of an invoice that it does not have yet.
        if request.invoice_id:
            claim_observations([request.invoice_id])

    try:
        run_in_transaction(record)
    except IntegrityError:
        # The unique key decides, not a look before the insert: of two clicks at the
        # same moment both would have found nothing.
        existing = primary.rows(InvoiceOperation).get(
            idempotency_key=operation.idempotency_key
        )
        _require_same(existing, request)
        _wait_for(existing)
        return existing, False
    return operation, True


def _row(request: Request, now: datetime, **more: Any) -> InvoiceOperation:
    return InvoiceOperation(
        kind=request.kind,
        invoice_id=request.invoice_id,
        body=request.body,
        before=request.before,
        idempotency_key=request.idempotency_key or new_idempotency_key(),
        **describe_actor(request.actor),
        origin=request.origin,
        note=require_note(request.kind, request.note),
        created_at=now,
        **more,
    )


def _columns_of(operation: InvoiceOperation) -> dict[str, Any]:
    fields = operation._meta.concrete_fields
    return {
        field.name: getattr(operation, field.attname)
        for field in fields
        if not field.primary_key
    }


def _require_same(existing: InvoiceOperation, request: Request) -> None:
    same = (existing.kind, existing.body) == (request.kind, request.body)
    # An invoice that is to be created has no id when it is asked for.
    if not same or request.invoice_id not in ("", existing.invoice_id):
        raise OrbInputError(
            "The idempotency key was used before, for another operation "
            f"({in_english(existing)}). Use a new key for a new intention.",
            field="idempotency_key",
        )


def _wait_for(operation: InvoiceOperation) -> None:
    """Give the first of two clicks a moment to finish."""
    deadline = time.monotonic() + WAIT_SECONDS
    while operation.state == _STATE.PENDING:
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
        operation.refresh_from_db(using=primary.alias())


def _outcome(operation: InvoiceOperation) -> dict[str, Any]:
    if operation.state == _STATE.SUCCEEDED:
        answer: dict[str, Any] = operation.result
        return answer
    if operation.state in (_STATE.REFUSED, _STATE.CANCELLED):
        raise OrbRefusedError(operation, operation.detail)
    raise OrbOutcomeUnknownError(operation)
