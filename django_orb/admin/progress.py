"""Show the progress of operations that were queued together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_orb.customer_labels import label_customers
from django_orb.db import primary
from django_orb.formatting import money, recorded
from django_orb.models import Invoice, InvoiceOperation

from .badges import operation_badge

# As many as one form may queue.
SHOWN = 500


@dataclass(frozen=True)
class Step:
    """One operation of a batch, as its page shows it."""

    pk: int
    invoice_id: str
    number: str
    customer: str
    total: str
    badge: SafeString
    detail: str


@dataclass(frozen=True)
class Progress:
    title: str
    total: int
    ended: int
    waiting: int
    """Operations that no worker has begun to send."""

    words: str
    steps: list[Step]

    @property
    def is_over(self) -> bool:
        return self.ended == self.total


def read_progress(batch: str) -> Progress:
    """Return a batch's progress, in the order of sending. Two queries."""
    found = primary.rows(InvoiceOperation).filter(batch=batch).order_by("pk")
    # What was never queued has an empty batch.
    operations = list(found.defer("result")[:SHOWN]) if batch else []
    ids = {one.invoice_id for one in operations}
    columns = ("invoice_number", "customer_id", "external_customer_id", "total")
    # Without the payloads, of which there may be hundreds.
    stored = primary.rows(Invoice).only(*columns, "currency")
    invoices = stored.in_bulk(ids)
    label_customers(invoices.values())
    states = Counter(one.state for one in operations)
    pending = states[InvoiceOperation.State.PENDING.value]
    return Progress(
        title=read_title(operations),
        total=len(operations),
        ended=len(operations) - pending,
        waiting=sum(is_waiting(one) for one in operations),
        words=read_words(states),
        steps=[read_step(one, invoices.get(one.invoice_id)) for one in operations],
    )


def read_step(operation: InvoiceOperation, invoice: Invoice | None) -> Step:
    return Step(
        pk=operation.pk,
        invoice_id=operation.invoice_id,
        number=str(invoice or operation.invoice_id),
        customer=invoice.customer_label.name if invoice else "",
        total=money(invoice.total, invoice.currency) if invoice else "",
        badge=operation_badge(operation),
        detail=recorded(operation.detail),
    )


def is_waiting(operation: InvoiceOperation) -> bool:
    is_pending = operation.state == InvoiceOperation.State.PENDING
    return is_pending and operation.first_sent_at is None


def read_title(operations: list[InvoiceOperation]) -> str:
    if not operations:
        return ""
    return gettext("%(kind)s: %(count)s invoices") % {
        "kind": operations[0].get_kind_display(),
        "count": len(operations),
    }


def read_words(states: Counter[str]) -> str:
    """Say how many are in which state, for instance: 12 succeeded, 1 refused."""
    labels = dict(InvoiceOperation.State.choices)
    parts = [
        f"{states[state]} {str(label).lower()}"
        for state, label in labels.items()
        if states[state]
    ]
    return ", ".join(parts)
