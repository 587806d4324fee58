"""Show the mirror in Django's admin, and act through Orb."""

from __future__ import annotations

from .changes import InvoiceChangeAdmin
from .credit_notes import InvoiceCreditNoteAdmin
from .failures import InvoiceFailureAdmin
from .invoices import InvoiceAdmin
from .line_items import InvoiceLineItemAdmin
from .month_end import MonthEndAdmin
from .operations import InvoiceOperationAdmin
from .overview import OverviewAdmin
from .payment_attempts import InvoicePaymentAttemptAdmin
from .receivables import ReceivablesAdmin
from .runs import SyncRunAdmin
from .status import StatusAdmin
from .webhooks import WebhookEventAdmin

__all__ = [
    "InvoiceAdmin",
    "InvoiceChangeAdmin",
    "InvoiceCreditNoteAdmin",
    "InvoiceFailureAdmin",
    "InvoiceLineItemAdmin",
    "InvoiceOperationAdmin",
    "InvoicePaymentAttemptAdmin",
    "MonthEndAdmin",
    "OverviewAdmin",
    "ReceivablesAdmin",
    "StatusAdmin",
    "SyncRunAdmin",
    "WebhookEventAdmin",
]
