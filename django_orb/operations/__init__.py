"""Change something in Orb: record an operation, send it exactly once, confirm it."""

from __future__ import annotations

from . import confirmation, recovery
from .api import (
    create_invoice,
    create_invoice_line_item,
    delete_invoice_line_item,
    issue_invoice,
    mark_invoice_paid,
    pay_invoice,
    regenerate_invoice_pdf,
    update_invoice,
    void_invoice,
)
from .arguments import (
    MAX_TERMS,
    UNCHANGED,
    NewLineItem,
    exact_number,
    invoice_body,
    line_item_body,
    payment_body,
    read_note,
    require_orb_id,
    require_text,
    update_body,
)
from .ledger import Request, cancel, new_idempotency_key, queue, require_writable
from .sending import in_words

__all__ = [
    "MAX_TERMS",
    "UNCHANGED",
    "NewLineItem",
    "Request",
    "cancel",
    "confirmation",
    "create_invoice",
    "create_invoice_line_item",
    "delete_invoice_line_item",
    "exact_number",
    "in_words",
    "invoice_body",
    "issue_invoice",
    "line_item_body",
    "mark_invoice_paid",
    "new_idempotency_key",
    "pay_invoice",
    "payment_body",
    "queue",
    "read_note",
    "recovery",
    "regenerate_invoice_pdf",
    "require_orb_id",
    "require_text",
    "require_writable",
    "update_body",
    "update_invoice",
    "void_invoice",
]
