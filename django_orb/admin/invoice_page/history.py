"""Describe what users and programs asked Orb to do with invoices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_orb.admin.badges import operation_badge
from django_orb.db import primary
from django_orb.formatting import (
    ago,
    as_map,
    as_text,
    local_moment,
    money,
    recorded,
    short,
    to_decimal,
)
from django_orb.models import InvoiceOperation
from django_orb.models.operation_type import Topic

RECENT = timedelta(days=1)
SHOWN = 50


@dataclass(frozen=True)
class OperationView:
    """An operation as pages show it."""

    pk: int
    invoice_id: str
    text: str
    detail: str
    note: str
    ago: str
    moment: str
    badge: SafeString


def who(operation: InvoiceOperation) -> str:
    """Return the name of the user who asked, as it was then."""
    if operation.actor_name:
        return short(operation.actor_name)
    return gettext("A user") if operation.origin == "admin" else gettext("A program")


def who_in_full(operation: InvoiceOperation) -> str:
    """Return the name with the username, which tells two users of one name apart."""
    name, username = who(operation), operation.actor_username
    is_told = username in ("", operation.actor_name)
    return name if is_told else f"{name} ({short(username)})"


def edited_in_words(body: Any) -> str:
    """Name what was edited, for instance: metadata (po_number), net terms."""
    given = as_map(body)
    keys = ", ".join(as_map(given.get("metadata")))
    words = {
        "metadata": gettext("metadata (%(keys)s)") % {"keys": short(keys)}
        if keys
        else gettext("metadata"),
        "net_terms": gettext("net terms"),
        "due_date": gettext("due date"),
    }
    return ", ".join(words[name] for name in words if name in given) or gettext(
        "details"
    )


def line_in_words(line: Any, currency: str = "") -> str:
    body = as_map(line)
    name = as_text(body.get("name")) or (
        gettext("item %(item_id)s") % {"item_id": as_text(body.get("item_id"))}
    )
    return f"“{short(name)}” {money(to_decimal(body.get('amount')), currency)}".strip()


def tell(operation: InvoiceOperation, currency: str = "") -> str:
    """Describe an operation, for instance: Ada added “Support” 12.00 USD."""
    is_done = operation.state == InvoiceOperation.State.SUCCEEDED
    words = str(operation.type.done if is_done else operation.type.asked)
    # A kind that a newer release recorded has no words here.
    if not words:
        return f"{who(operation)}: {operation.get_kind_display()}"
    return words % {
        "who": who(operation),
        "what": subject_in_words(operation, currency),
    }


def subject_in_words(operation: InvoiceOperation, currency: str) -> str:
    """Name the part of the invoice that it is about, if it is not the whole."""
    topic = operation.type.topic
    if topic == Topic.LINE:
        return line_in_words(operation.type.line(operation), currency)
    if topic == Topic.CUSTOMER:
        body = as_map(operation.body)
        return short(
            as_text(body.get("external_customer_id") or body.get("customer_id"))
        )
    if topic == Topic.EDIT:
        return edited_in_words(operation.body)
    return ""


def read_operation_view(
    operation: InvoiceOperation, currency: str = ""
) -> OperationView:
    return OperationView(
        pk=operation.pk,
        invoice_id=operation.invoice_id,
        text=tell(operation, currency),
        detail=recorded(operation.detail),
        note=operation.note,
        ago=ago(operation.created_at),
        moment=local_moment(operation.created_at),
        badge=operation_badge(operation),
    )


def operations_of(
    invoice_ids: Collection[str], *, recent: bool = False
) -> list[InvoiceOperation]:
    """Return an invoice's operations, the newest first. One query."""
    # A replica that lags would hide what another user has just asked for, of which this
    # warns.
    stored = primary.rows(InvoiceOperation)
    found = stored.filter(invoice_id__in=invoice_ids)
    if recent:
        found = found.filter(created_at__gte=timezone.now() - RECENT)
    return list(found[:SHOWN])


def newest(operations: Sequence[InvoiceOperation]) -> int:
    return max((operation.pk for operation in operations), default=0)
