"""Remove personal data from events and operations."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Q, QuerySet

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
    events.update(body=blank, error=blanking.ERASED if event.error else "")


def blank_operations(operations: QuerySet[InvoiceOperation]) -> None:
    """
    Remove personal data from operations that are over.

    Until then, what is still to be sent or to be compared with Orb has to stay.
    """
    now = primary.now()
    is_over = (
        Q(state__in=[_STATE.REFUSED, _STATE.CANCELLED])
        | Q(state=_STATE.SUCCEEDED, mirrored_at__isnull=False)
        | Q(state=_STATE.SUCCEEDED, finished_at__lt=now - _SHOWN_WITHIN)
    )
    over = operations.filter(is_over, erased_at=None)
    for operation in list(over.order_by("pk")):
        rows = primary.rows(InvoiceOperation)
        rows.filter(pk=operation.pk, state=operation.state).update(
            body=personal.blank_request(operation.body),
            before=personal.blank_request(operation.before),
            result=personal.blank_result(operation.result),
            note="",
            detail="",
            erased_at=now,
        )
