"""What people and programs asked Orb to do with invoices, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.safestring import SafeString

from django_orb.models import InvoiceOperation

from .badges import operation_badge
from .formats import ago, as_map, as_text, local_moment, money, short, to_decimal

RECENT = timedelta(days=1)
SHOWN = 50


@dataclass(frozen=True)
class Deed:
    """An operation as pages show it."""

    pk: int
    invoice_id: str
    text: str
    detail: str
    ago: str
    moment: str
    badge: SafeString


def who(operation: InvoiceOperation) -> str:
    """Whoever asked: a person where one is known."""
    actor = operation.actor
    if actor is None:
        return "Somebody" if operation.origin == "admin" else "A program"
    full_name = getattr(actor, "get_full_name", str)() or ""
    return short(full_name or actor.get_username())


def line_in_words(operation: InvoiceOperation, currency: str = "") -> str:
    body = as_map(operation.body)
    name = as_text(body.get("name")) or f"item {as_text(body.get('item_id'))}"
    return f"“{short(name)}” {money(to_decimal(body.get('amount')), currency)}".strip()


def tell(operation: InvoiceOperation, currency: str = "") -> str:
    """For instance: Ada added “Support” 12.00 USD."""
    is_done = operation.state == InvoiceOperation.State.SUCCEEDED
    if operation.kind == InvoiceOperation.Kind.VOID:
        return f"{who(operation)} {'voided it' if is_done else 'asked to void it'}"
    if operation.kind == InvoiceOperation.Kind.CREATE_LINE_ITEM:
        verb = "added" if is_done else "asked to add"
        return f"{who(operation)} {verb} {line_in_words(operation, currency)}"
    return f"{who(operation)}: {operation.get_kind_display()}"


def read_deed(operation: InvoiceOperation, currency: str = "") -> Deed:
    return Deed(
        pk=operation.pk,
        invoice_id=operation.invoice_id,
        text=tell(operation, currency),
        detail=operation.detail,
        ago=ago(operation.created_at),
        moment=local_moment(operation.created_at),
        badge=operation_badge(operation),
    )


def operations_of(
    invoice_ids: Collection[str], *, recent: bool = False
) -> list[InvoiceOperation]:
    """Newest first; one query."""
    found = InvoiceOperation.objects.filter(invoice_id__in=invoice_ids)
    if recent:
        found = found.filter(created_at__gte=timezone.now() - RECENT)
    return list(found.select_related("actor")[:SHOWN])


def newest(operations: Sequence[InvoiceOperation]) -> int:
    return max((operation.pk for operation in operations), default=0)
