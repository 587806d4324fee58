from __future__ import annotations

from .accounts import MirroredAccount, RequestBudget
from .changes import InvoiceChange
from .children import (
    InvoiceBalanceTransaction,
    InvoiceCreditNote,
    InvoiceLineTax,
    InvoicePaymentAttempt,
)
from .erasures import CustomerErasure, ErasureGate
from .failure_reasons import InvoiceFailureReason
from .invoices import (
    Invoice,
    InvoiceLineItem,
    InvoiceQuerySet,
    MonthEnd,
    Overview,
    Receivables,
)
from .observations import InvoiceFailure, InvoiceObservation, InvoiceRecheck
from .occurrences import LastOccurrence
from .operations import InvoiceOperation
from .overdue import OverdueNotice, OverdueThreshold
from .runs import Status, SyncAbsence, SyncRun, SyncWindow
from .webhooks import WebhookEvent, WebhookFeed

__all__ = [
    "CustomerErasure",
    "ErasureGate",
    "Invoice",
    "InvoiceBalanceTransaction",
    "InvoiceChange",
    "InvoiceCreditNote",
    "InvoiceFailure",
    "InvoiceFailureReason",
    "InvoiceLineItem",
    "InvoiceLineTax",
    "InvoiceObservation",
    "InvoiceOperation",
    "InvoicePaymentAttempt",
    "InvoiceQuerySet",
    "InvoiceRecheck",
    "LastOccurrence",
    "MirroredAccount",
    "MonthEnd",
    "OverdueNotice",
    "OverdueThreshold",
    "Overview",
    "Receivables",
    "RequestBudget",
    "Status",
    "SyncAbsence",
    "SyncRun",
    "SyncWindow",
    "WebhookEvent",
    "WebhookFeed",
]
