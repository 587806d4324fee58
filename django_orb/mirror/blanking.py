"""Remove personal data from the mirror's rows; see `personal` and `erased`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F
from django.utils import timezone

from django_orb import exact_json
from django_orb.db import is_text_taken, primary, upsert
from django_orb.exceptions import OrbPayloadError
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceFailureReason,
    InvoiceLineItem,
    InvoiceObservation,
)

from . import erased, personal
from .children import write_children
from .hashing import content_hash
from .mapping import digits_kept, map_invoice
from .observation_sql import begin_writing, lock_known
from .ordering import ABSENT

ERASED = "The reason was erased with the customer's personal data."


def blank_invoices(invoice_ids: Sequence[str], *, customer_id: str) -> list[str]:
    """
    Remove personal data from stored invoices and from the rows that they carry.

    Call it in a transaction: it locks the invoices as writers do. If the customer is no
    longer erased, it does nothing: an answer may have filled the invoices again. Return
    the ids of those that could not be mapped, which are left as they are.
    """
    ids = sorted(invoice_ids)
    if primary.connection().vendor == "sqlite":
        begin_writing(primary.connection())
    known, _ = lock_known(ids, written_since=primary.now())
    if customer_id not in erased.customers():
        return []
    rows = primary.rows(Invoice).filter(pk__in=ids).order_by("pk")
    taken, unmapped = [], []
    invoices: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    now, digits = timezone.now(), digits_kept()
    for pk, payload, missing_since in rows.values_list(
        "pk", "payload", "missing_since"
    ):
        try:
            mapped = map_invoice(personal.blank_invoice(payload), exact_digits=digits)
        except OrbPayloadError:
            unmapped.append(pk)
            continue
        taken.append(mapped)
        times = {"missing_since": missing_since, "mirrored_at": now}
        invoices.append({**mapped.columns, **times})
        lines += mapped.lines
    upsert(Invoice, invoices, key=["id"])
    upsert(InvoiceLineItem, lines, key=["invoice", "orb_id"])
    blank = {mapped.id: mapped.columns["payload"] for mapped in taken}
    write_children(taken, {}, blank, unsure=list(blank))
    for pk, payload in blank.items():
        # A new version, so that whoever read it before reads it again.
        changes: dict[str, Any] = {"version": F("version") + 1}
        if pk in known and known[pk].content_hash != ABSENT:
            changes["content_hash"] = content_hash(payload)
        primary.rows(InvoiceObservation).filter(pk=pk).update(**changes)
    primary.rows(InvoiceFailureReason).filter(invoice__in=ids).update(reason="")
    primary.rows(InvoiceChange).filter(invoice__in=ids).exclude(error="").update(
        error=ERASED
    )
    for failure in primary.rows(InvoiceFailure).filter(pk__in=ids):
        blank_failure(failure)
    return unmapped


def blank_failure(failure: InvoiceFailure) -> None:
    """Remove personal data from invoices that could not be stored, and from the reasons."""
    try:
        sent = exact_json.loads(failure.payload_text)
        text = exact_json.dumps(exact_json.storable(personal.blank_invoice(sent)))
    except (ValueError, RecursionError):
        text = ""
    failure.payload_text = text if text.isascii() and is_text_taken(text) else ""
    failure.reason = ERASED
    failure.save(using=primary.alias(), update_fields=["payload_text", "reason"])
