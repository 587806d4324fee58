"""
Read from events why Orb failed at an invoice, and that it no longer does.

Orb's SDK types the reason as `failure_reason` for the sync to accounting and as `reason`
for issuing; for payments and the sync to a provider it has the provider's names only, so
either word is read there too.

Source: https://docs.withorb.com/guides/integrations-and-exports/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django_orb import exact_json, mirror
from django_orb.db import primary
from django_orb.mirror import Told
from django_orb.models import InvoiceFailureReason, WebhookEvent

Kind = InvoiceFailureReason.Kind

FAILED = {
    "invoice.issue_failed": Kind.ISSUE,
    "invoice.payment_failed": Kind.PAYMENT,
    "invoice.sync_failed": Kind.SYNC,
    "invoice.accounting_sync_failed": Kind.ACCOUNTING_SYNC,
}
# A draft that was issued needs no event: its status shows it, and never goes back.
SUCCEEDED = {
    "invoice.payment_succeeded": Kind.PAYMENT,
    "invoice.manually_marked_as_paid": Kind.PAYMENT,
    "invoice.sync_succeeded": Kind.SYNC,
    "invoice.accounting_sync_succeeded": Kind.ACCOUNTING_SYNC,
}
CONNECTION_LENGTH = 64


def keep_reasons(events: Sequence[WebhookEvent], *, skew: timedelta) -> None:
    """
    Keep the reasons that these events of one invoice give. The mirror has the invoice.

    An event without a readable time cannot be ordered, and is left out. One that claims
    to be created after it was received, beyond the skew of clocks, counts as of then.
    """
    telling = [
        event.pk
        for event in events
        if event.type in (*FAILED, *SUCCEEDED) and event.created_at is not None
    ]
    if not telling:
        return
    told = []
    for event_id in telling:
        # One body at a time: each may hold a whole invoice.
        event = primary.rows(WebhookEvent).filter(pk=event_id).first()
        if event is not None:
            told.append(_read(event, skew))
    mirror.failure_reasons.keep(events[0].invoice_id, told)


def _read(event: WebhookEvent, skew: timedelta) -> Told:
    assert event.created_at is not None  # noqa: S101  the caller asks for it
    created_at = min(event.created_at, event.received_at + skew)
    body = exact_json.loads(event.body)
    found = body.get("properties") if isinstance(body, dict) else None
    properties: Mapping[str, Any] = found if isinstance(found, dict) else {}
    has_failed = event.type in FAILED
    kind = FAILED[event.type] if has_failed else SUCCEEDED[event.type]
    is_accounting = kind == Kind.ACCOUNTING_SYNC
    reference = "payment_provider_transaction_id", "payment_provider_id"
    provider = [
        _text(properties.get("payment_provider")),
        next(filter(None, (_text(properties.get(name)) for name in reference)), ""),
    ]
    reason = _text(properties.get("failure_reason") or properties.get("reason"))
    connection_type = _text(properties.get("connection_type"))[:CONNECTION_LENGTH]
    return Told(
        kind=kind,
        created_at=created_at,
        event_id=event.pk,
        reason=reason if has_failed else None,
        provider=" ".join(filter(None, provider)),
        connection_type=connection_type if is_accounting else "",
    )


def _text(value: Any) -> str:
    """A text as it came, and anything else as JSON; without what cannot be stored."""
    if value is None:
        return ""
    storable = exact_json.storable(value)
    text = storable if isinstance(storable, str) else exact_json.dumps(storable)
    return text.strip()
