"""The buttons of the admin: the form, the confirmation, the call and its outcome."""

from __future__ import annotations

from . import (
    action_definitions,
    add_line_item,
    confirmed_actions,
    delete_line_item,
    edit_invoice,
    fetch_again,
    open_document,
    resolve_operation,
)
from .action_context import (
    Call,
    change_url,
    invoice_url,
)
from .outcomes import (
    explain,
)
from .selection import (
    why_no_edit,
    why_no_line_item,
)

__all__ = [
    "Call",
    "action_definitions",
    "add_line_item",
    "change_url",
    "confirmed_actions",
    "delete_line_item",
    "edit_invoice",
    "explain",
    "fetch_again",
    "invoice_url",
    "open_document",
    "resolve_operation",
    "why_no_edit",
    "why_no_line_item",
]
