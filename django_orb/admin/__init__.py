"""The mirror in Django's admin: to look at, and to act on through Orb."""

from __future__ import annotations

from .failures import InvoiceFailureAdmin
from .invoices import InvoiceAdmin
from .line_items import InvoiceLineItemAdmin
from .operations import InvoiceOperationAdmin
from .runs import SyncRunAdmin

__all__ = [
    "InvoiceAdmin",
    "InvoiceFailureAdmin",
    "InvoiceLineItemAdmin",
    "InvoiceOperationAdmin",
    "SyncRunAdmin",
]
