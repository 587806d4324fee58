"""The admin's actions: their forms and confirmations, their calls and the outcomes."""

from __future__ import annotations

from . import create_invoice, fetch_again, open_document, resolve_operation
from .action_context import ActionContext, change_url, invoice_url, obstacle
from .action_definitions import ACTIONS, ACTIONS_BY_PAGE, InvoiceAction
from .outcomes import explain

__all__ = [
    "ACTIONS",
    "ACTIONS_BY_PAGE",
    "ActionContext",
    "InvoiceAction",
    "change_url",
    "create_invoice",
    "explain",
    "fetch_again",
    "invoice_url",
    "obstacle",
    "open_document",
    "resolve_operation",
]
