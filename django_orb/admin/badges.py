"""Show states as badges: a shape and a word, so that colour is only a help."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from django_orb.formatting import short
from django_orb.models import (
    Invoice,
    InvoiceOperation,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)


class Look(NamedTuple):
    tone: str
    shape: str


INVOICE_LOOKS = {
    Invoice.Status.DRAFT.value: Look("quiet", "○"),
    Invoice.Status.ISSUED.value: Look("info", "●"),
    Invoice.Status.PAID.value: Look("good", "✓"),
    Invoice.Status.SYNCED.value: Look("good", "⇄"),
    Invoice.Status.VOID.value: Look("muted", "✕"),
}
OPERATION_LOOKS = {
    InvoiceOperation.State.PENDING.value: Look("warn", "…"),
    InvoiceOperation.State.SUCCEEDED.value: Look("good", "✓"),
    InvoiceOperation.State.REFUSED.value: Look("bad", "✕"),
    InvoiceOperation.State.NEEDS_ATTENTION.value: Look("bad", "!"),
    InvoiceOperation.State.CANCELLED.value: Look("muted", "■"),
}
RUN_LOOKS = {
    SyncRun.State.RUNNING.value: Look("info", "…"),
    SyncRun.State.SUCCEEDED.value: Look("good", "✓"),
    SyncRun.State.FAILED.value: Look("bad", "✕"),
    SyncRun.State.CANCELLED.value: Look("muted", "■"),
    SyncWindow.State.WAITING.value: Look("quiet", "○"),
    SyncWindow.State.PENDING.value: Look("info", "…"),
    SyncWindow.State.DONE.value: Look("good", "✓"),
}
EVENT_LOOKS = {
    WebhookEvent.State.RECEIVED.value: Look("info", "…"),
    WebhookEvent.State.PROCESSED.value: Look("good", "✓"),
    WebhookEvent.State.FAILED.value: Look("bad", "✕"),
    WebhookEvent.State.IGNORED.value: Look("muted", "○"),
}
# For a status that Orb adds, or a state that a newer release recorded.
UNKNOWN = Look("warn", "?")


def status_label(status: str) -> str:
    """
    Return a status in words; one that this release does not know, as Orb calls it.
    """
    return str(dict(Invoice.Status.choices).get(status, short(status)))


@lru_cache(maxsize=256)
def badge(look: Look, label: str) -> SafeString:
    return format_html(
        '<span class="orb-badge orb-{}"><span aria-hidden="true">{}</span> {}</span>',
        look.tone,
        look.shape,
        label,
    )


def invoice_badge(invoice: Invoice) -> SafeString:
    """Return a badge for the status; one that is not known is shown as Orb calls it."""
    look = INVOICE_LOOKS.get(invoice.status, UNKNOWN)
    return badge(look, short(invoice.get_status_display()))


def operation_badge(operation: InvoiceOperation) -> SafeString:
    look = OPERATION_LOOKS.get(operation.state, UNKNOWN)
    return badge(look, operation.get_state_display())


def run_badge(row: SyncRun | SyncWindow) -> SafeString:
    return badge(RUN_LOOKS.get(row.state, UNKNOWN), row.get_state_display())


def event_badge(event: WebhookEvent) -> SafeString:
    return badge(EVENT_LOOKS.get(event.state, UNKNOWN), event.get_state_display())


def missing_badge() -> SafeString:
    return badge(Look("bad", "!"), gettext("Deleted in Orb"))


def overdue_badge(days: int) -> SafeString:
    """Return a badge that says how late a payment is."""
    words = ngettext("%(days)s day overdue", "%(days)s days overdue", days)
    return badge(Look("bad", "!"), words % {"days": days})


def payment_badge(succeeded: bool) -> SafeString:
    return (
        badge(Look("good", "✓"), gettext("Paid"))
        if succeeded
        else badge(Look("bad", "✕"), gettext("Failed"))
    )
