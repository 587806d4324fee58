"""Remove personal data from events and operations."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from django_orb import exact_json
from django_orb.db import primary
from django_orb.mirror import blanking, personal
from django_orb.models import InvoiceOperation, WebhookEvent

# How long Orb may take to show an operation; see `operations.confirmation`.
_SHOWN_WITHIN = timedelta(hours=6)
_STATE = InvoiceOperation.State


def blank_event(event_id: str, *, customer_id: str | None = None) -> None:
    """
    Remove personal data from an event; with `customer_id`, only if it names that one.

    An event that is not processed yet becomes a hint, so that its invoice is fetched.
    """
    events = primary.rows(WebhookEvent).filter(pk=event_id)
    event = events.first()
    if event is None:
        return
    body = exact_json.loads(event.body)
    if customer_id and customer_id not in personal.customers_in(body):
        return
    state = WebhookEvent.State
    is_hint = event.state in (state.RECEIVED, state.FAILED)
    blank = exact_json.dumps(personal.blank_event(body, is_hint=is_hint))
    error = blanking.ERASED if event.error else ""
    if (blank, error) != (event.body, event.error):
        events.update(body=blank, error=error)


def blank_operations(operations: QuerySet[InvoiceOperation]) -> None:
    """
    Remove personal data from operations.

    What is still to be sent, or to be compared with Orb, stays until they are over.
    """
    now = primary.now()
    for operation in list(operations.filter(erased_at=None).order_by("pk")):
        changes: dict[str, Any] = {
            "result": personal.blank_result(operation.result),
            "note": "",
        }
        if _is_over(operation, now):
            changes |= {
                "body": personal.blank_request(operation.body),
                "before": personal.blank_request(operation.before),
                "detail": "",
                "erased_at": now,
            }
        # If it was finished meanwhile, it is left for the next time: this
        # body may be wanted.
        rows = primary.rows(InvoiceOperation).filter(
            pk=operation.pk, state=operation.state, finished_at=operation.finished_at
        )
        if any(value != getattr(operation, name) for name, value in changes.items()):
            rows.update(**changes)


def _is_over(operation: InvoiceOperation, now: datetime) -> bool:
    if operation.state in (_STATE.REFUSED, _STATE.CANCELLED):
        return True
    finished_at = operation.finished_at
    if operation.state != _STATE.SUCCEEDED or finished_at is None:
        return False
    return operation.mirrored_at is not None or finished_at < now - _SHOWN_WITHIN
