from __future__ import annotations

from .accounts import MirroredAccount, RequestBudget
from .changes import InvoiceChange
from .invoices import Invoice, InvoiceLineItem, InvoiceQuerySet, Overview
from .observations import InvoiceFailure, InvoiceObservation, InvoiceRecheck
from .occurrences import LastOccurrence
from .operations import InvoiceOperation
from .runs import Status, SyncAbsence, SyncRun, SyncWindow
from .webhooks import WebhookEvent, WebhookFeed

__all__ = [
    "Invoice",
    "InvoiceChange",
    "InvoiceFailure",
    "InvoiceLineItem",
    "InvoiceObservation",
    "InvoiceOperation",
    "InvoiceQuerySet",
    "InvoiceRecheck",
    "LastOccurrence",
    "MirroredAccount",
    "Overview",
    "RequestBudget",
    "Status",
    "SyncAbsence",
    "SyncRun",
    "SyncWindow",
    "WebhookEvent",
    "WebhookFeed",
]
