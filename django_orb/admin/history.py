"""What people and programs asked Orb to do with invoices, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy

from django_orb.formats import (
    ago,
    as_map,
    as_text,
    local_moment,
    money,
    short,
    to_decimal,
)
from django_orb.models import InvoiceOperation

from .badges import operation_badge

DONE_AND_ASKED = {
    InvoiceOperation.Kind.VOID.value: (
        gettext_lazy("voided it"),
        gettext_lazy("asked to void it"),
    ),
    InvoiceOperation.Kind.ISSUE.value: (
        gettext_lazy("issued it"),
        gettext_lazy("asked to issue it"),
    ),
    InvoiceOperation.Kind.MARK_PAID.value: (
        gettext_lazy("marked it as paid"),
        gettext_lazy("asked to mark it as paid"),
    ),
    InvoiceOperation.Kind.PAY.value: (
        gettext_lazy("had its payment collected"),
        gettext_lazy("asked to collect its payment"),
    ),
    InvoiceOperation.Kind.REGENERATE_PDF.value: (
        gettext_lazy("had its PDF made anew"),
        gettext_lazy("asked for a new PDF"),
    ),
}
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
        return gettext("Somebody") if operation.origin == "admin" else "A program"
    full_name = getattr(actor, "get_full_name", str)() or ""
    return short(full_name or actor.get_username())


def edited_in_words(body: Any) -> str:
    """For instance: metadata (po_number), net terms."""
    given = as_map(body)
    keys = ", ".join(as_map(given.get("metadata")))
    words = {
        "metadata": (gettext("metadata (%(keys)s)") % {"keys": short(keys)})
        if keys
        else "metadata",
        "net_terms": gettext("net terms"),
        "due_date": gettext("due date"),
    }
    return ", ".join(words[name] for name in words if name in given) or "details"


def line_in_words(line: Any, currency: str = "") -> str:
    body = as_map(line)
    name = as_text(body.get("name")) or (
        gettext("item %(item_id)s") % {"item_id": as_text(body.get("item_id"))}
    )
    return f"“{short(name)}” {money(to_decimal(body.get('amount')), currency)}".strip()


def tell(operation: InvoiceOperation, currency: str = "") -> str:
    """For instance: Ada added “Support” 12.00 USD."""
    is_done = operation.state == InvoiceOperation.State.SUCCEEDED
    kind = operation.kind
    if kind == InvoiceOperation.Kind.CREATE_LINE_ITEM:
        verb = "added" if is_done else gettext("asked to add")
        return f"{who(operation)} {verb} {line_in_words(operation.body, currency)}"
    if kind == InvoiceOperation.Kind.DELETE_LINE_ITEM:
        verb = "deleted" if is_done else gettext("asked to delete")
        line = operation.before or {"item_id": operation.line_item_id}
        return f"{who(operation)} {verb} {line_in_words(line, currency)}"
    if kind == InvoiceOperation.Kind.UPDATE:
        verb = "edited" if is_done else gettext("asked to edit")
        return gettext("%(who)s %(verb)s its %(what)s") % {
            "who": who(operation),
            "verb": verb,
            "what": edited_in_words(operation.body),
        }
    if kind in DONE_AND_ASKED:
        return f"{who(operation)} {DONE_AND_ASKED[kind][not is_done]}"
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
