"""
Tell by an invoice, as Orb shows it, whether an operation has happened.

Nothing here sends or records. Where an invoice cannot tell, it says so: the caller
asks a person then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.utils.translation import gettext_noop

from django_orb.db import SLACK
from django_orb.mirror import parse_datetime, parse_decimal
from django_orb.models import Invoice, InvoiceOperation

# Orb keeps a key for 48 hours; after that sending again would do it again.
RESEND_HOURS = 47
DAY = timedelta(days=1)

_STATE = InvoiceOperation.State
_KIND = InvoiceOperation.Kind

SHOWN = gettext_noop("Orb gave no answer, but shows that it happened.")
UNKNOWN_INVOICE = gettext_noop("Orb no longer knows the invoice.")


class Sight(Enum):
    """Whether an invoice shows what an operation was to do."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Finding:
    """An invoice's testimony; `result` stands for Orb's answer if it is shown."""

    sight: Sight
    result: dict[str, Any] = field(default_factory=dict)


_SHOWN, _NOT_SHOWN = Finding(Sight.SHOWN), Finding(Sight.NOT_SHOWN)
_UNCLEAR = Finding(Sight.UNCLEAR)


def is_remembered(operation: InvoiceOperation, now: datetime) -> bool:
    """
    Whether Orb still knows the operation's key, if it ever got it.

    The row's own age counts too: a row in a restored backup looks as if it had never
    been sent, or had been sent for the first time just now.
    """
    moments = [operation.created_at, operation.first_sent_at]
    # In the future: the clock was set back, and nothing tells how long ago it was.
    return all(
        -SLACK < now - moment < timedelta(hours=RESEND_HOURS)
        for moment in moments
        if moment is not None
    )


def find(
    operation: InvoiceOperation, payload: Mapping[str, Any], *, using: str
) -> Finding:
    """Look for an operation's effect in the invoice that it was for."""
    kind = operation.kind
    if kind == _KIND.CREATE_LINE_ITEM:
        return _find_line(operation, payload, using=using)
    if kind == _KIND.PAY:
        return _find_payment(payload)
    if kind == _KIND.UPDATE:
        return _find_edit(operation, payload)
    if kind == _KIND.REGENERATE_PDF:
        return _UNCLEAR
    if kind == _KIND.MARK_PAID and payload.get("status") == Invoice.Status.VOID:
        return _NOT_SHOWN
    return _SHOWN if operation.is_shown_in(payload) else _NOT_SHOWN


def shows_before(operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
    """Whether an edit would still replace what it was meant to replace."""
    before = operation.before.get("metadata")
    if "metadata" not in operation.body or before is None:
        return False
    shown, wanted = payload.get("metadata") or {}, operation.body["metadata"]
    if wanted is None:
        return bool(shown == before)
    return all(shown.get(key) == before.get(key) for key in wanted)


def question(operation: InvoiceOperation) -> str:
    """Return what a person is asked if looking does not tell."""
    if operation.first_sent_at is None:
        return gettext_noop(
            "It waited for two days, and the invoice does not show it for sure. It may "
            "have been sent all the same if a backup was restored. Look in Orb whether "
            "it happened."
        )
    if operation.kind == _KIND.UPDATE:
        return gettext_noop(
            "No answer came, and what Orb shows is neither what was asked for nor what "
            "was there before, or cannot be seen on the invoice. Look in Orb, and edit "
            "again if it is still wanted."
        )
    if operation.kind == _KIND.CREATE_LINE_ITEM:
        return gettext_noop(
            "No answer came, and the invoice does not show exactly one such line that "
            "nothing else added. Look in Orb whether it happened."
        )
    return gettext_noop(
        "No answer came, and the invoice does not show it for sure. Look in Orb "
        "whether it happened."
    )


def _find_line(
    operation: InvoiceOperation, payload: Mapping[str, Any], *, using: str
) -> Finding:
    """The line that is as asked for, if it can only be this operation's."""
    others = InvoiceOperation.objects.using(using).filter(
        invoice_id=operation.invoice_id, kind=_KIND.CREATE_LINE_ITEM
    )
    others = others.exclude(pk=operation.pk).exclude(
        state__in=[_STATE.REFUSED, _STATE.CANCELLED]
    )
    taken = {other.line_item_id for other in others}
    lines: list[dict[str, Any]] = payload.get("line_items") or []
    found = [
        line
        for line in lines
        if line.get("id") not in taken and _is_as_asked(line, operation.body)
    ]
    if not found:
        return _NOT_SHOWN
    # Another one that asked for the same, and whose line is not known, may be its maker.
    has_rival = any(
        not other.line_item_id and other.body == operation.body for other in others
    )
    if len(found) > 1 or has_rival:
        return _UNCLEAR
    return Finding(Sight.SHOWN, found[0])


def _is_as_asked(line: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    item = ((line.get("price") or {}).get("item") or {}).get("id")
    if "name" in body and line.get("name") != body["name"]:
        return False
    if "item_id" in body and item != body["item_id"]:
        return False
    try:
        numbers = all(
            parse_decimal(line.get(name)) == parse_decimal(body.get(name))
            for name in ("quantity", "amount")
        )
        days = all(
            _is_near(line.get(name), body.get(name))
            for name in ("start_date", "end_date")
        )
    except (ValueError, ArithmeticError):
        return False
    return numbers and days


def _is_near(shown: Any, asked: Any) -> bool:
    """Orb shows the asked day as the customer's midnight, in UTC."""
    moment, day = parse_datetime(shown), parse_datetime(f"{asked}T00:00:00+00:00")
    return abs(moment - day) <= DAY


def _find_payment(payload: Mapping[str, Any]) -> Finding:
    """A payment is shown if it succeeded; one that was tried may be this one's."""
    attempts = payload.get("payment_attempts") or []
    if payload.get("status") == Invoice.Status.PAID:
        return _SHOWN if any(one.get("succeeded") for one in attempts) else _UNCLEAR
    return _UNCLEAR if attempts else _NOT_SHOWN


def _find_edit(operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
    if "metadata" not in operation.body:
        return _UNCLEAR
    if operation.is_shown_in(payload):
        return _SHOWN
    return _NOT_SHOWN if shows_before(operation, payload) else _UNCLEAR
