"""
Read what an event says, and whether it shows its invoice whole.

Source: https://docs.withorb.com/guides/integrations-and-exports/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dateutil.parser import isoparse

from django_orb import exact_json
from django_orb.exceptions import OrbPayloadError

ID_LENGTH = 128
TYPE_LENGTH = 255


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The keys that every expanded invoice has. Reduced invoices lack some of them (line
# items and subtotal, for instance), and so do older ones.
FULL_KEYS = _names(
    "amount_due auto_collection billing_address created_at credit_notes currency "
    "customer customer_balance_transactions customer_tax_id discounts due_date "
    "eligible_to_issue_at hidden_line_item_count hosted_invoice_url id invoice_date "
    "invoice_number invoice_pdf invoice_source issue_failed_at issued_at line_items "
    "maximum memo metadata minimum paid_at payment_attempts payment_failed_at "
    "payment_received_at payment_started_at scheduled_issue_at shipping_address status "
    "subscription subtotal sync_failed_at total voided_at will_auto_issue"
)
FULL_LINE_KEYS = _names(
    "adjusted_subtotal adjustments amount credits_applied id name "
    "partially_invoiced_amount price quantity sub_line_items subtotal tax_amounts"
)
# Types whose invoice is whole if the endpoint gets expanded payloads. Of other types
# that begin with "invoice.", only the id of the invoice is believed.
FULL_TYPES = _names(
    "invoice.accounting_sync_failed invoice.accounting_sync_succeeded "
    "invoice.dunning_schedule_created invoice.dunning_schedule_ended "
    "invoice.dunning_schedule_reset invoice.dunning_schedule_step_executed "
    "invoice.edited invoice.issue_failed invoice.issued "
    "invoice.manually_marked_as_paid invoice.manually_marked_as_void "
    "invoice.payment_failed invoice.payment_processing invoice.payment_succeeded "
    "invoice.sync_failed invoice.sync_succeeded invoice.undo_mark_as_paid"
)


@dataclass(frozen=True)
class OrbEvent:
    """
    The content of one webhook.

    `invoice_id` is the invoice that it is about, or "". `invoice` is that invoice as
    JSON if the event shows it whole; otherwise it is None, and the invoice has to be
    fetched. `created_at` is aware, by Orb's clock, and None if it is unreadable.
    """

    id: str
    type: str
    created_at: datetime | None
    invoice_id: str = ""
    invoice: dict[str, Any] | None = None


def parse_event(body: bytes) -> OrbEvent:
    """
    Read a webhook whose signature was verified.

    Raises:
        OrbPayloadError: it is not an event that can be stored under its id.
    """
    try:
        payload = exact_json.loads(body.decode())
    except ValueError as err:
        raise OrbPayloadError(f"The webhook is not JSON: {err}") from err
    if not isinstance(payload, dict):
        raise OrbPayloadError("The webhook is not a JSON object.")
    kind = _text(payload, "type", TYPE_LENGTH)
    found = _find_invoice(kind, payload)
    return OrbEvent(
        id=_text(payload, "id", ID_LENGTH),
        type=kind,
        created_at=read_time(payload.get("created_at")),
        invoice_id=found["id"] if found else "",
        invoice=found if found and _is_whole(kind, payload, found) else None,
    )


def _text(payload: Mapping[str, Any], name: str, max_length: int) -> str:
    value = payload.get(name)
    if not _is_storable(value, max_length):
        raise OrbPayloadError(f"The webhook has no usable {name}.")
    return str(value)


def _is_storable(value: object, max_length: int) -> bool:
    """Tell whether it is a text that every database can store, and not empty."""
    if not isinstance(value, str) or not 0 < len(value) <= max_length:
        return False
    # PostgreSQL holds no NUL, and UTF-8 no half of a surrogate pair.
    return "\0" not in value and value.encode("utf-8", "replace").decode() == value


def _find_invoice(kind: str, payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the event shows of its invoice, the id at least, or None."""
    if kind.startswith("credit_note."):
        # A credit note changes what is due on its invoice.
        note = payload.get("credit_note")
        invoice = note.get("invoice_id") if isinstance(note, dict) else None
    elif kind == "customer.balance_transaction_created":
        # It names the invoice that used the customer's balance, or added to it.
        named = payload
        for name in ("properties", "balance_transaction", "invoice"):
            found = named.get(name)
            named = found if isinstance(found, dict) else {}
        invoice = named.get("id")
    elif kind.startswith(("invoice.", "invoice_")):
        # With "_" it is `invoice_due_date_recalculation.completed`, for instance.
        invoice = payload.get("invoice")
    else:
        return None
    # A credit note, and `invoice.cost_data_exported`, have only the invoice's id.
    if not isinstance(invoice, dict):
        invoice = {"id": invoice}
    return invoice if _is_storable(invoice.get("id"), ID_LENGTH) else None


def _is_whole(
    kind: str, payload: Mapping[str, Any], invoice: Mapping[str, Any]
) -> bool:
    lines = invoice.get("line_items")
    return (
        kind in FULL_TYPES
        # Events from before Orb had styles do not name one.
        and payload.get("payload_style", "expanded") == "expanded"
        and invoice.keys() >= FULL_KEYS
        and isinstance(lines, list)
        and all(
            isinstance(line, dict) and line.keys() >= FULL_LINE_KEYS for line in lines
        )
    )


def read_time(text: object) -> datetime | None:
    """Return a time in UTC, taking a naive one as such; None if it is not plausible."""
    if not isinstance(text, str):
        return None
    try:
        moment = isoparse(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        moment = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return moment if 2000 <= moment.year < 2200 else None
