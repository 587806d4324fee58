from __future__ import annotations

from .accounts import MirroredAccount, RequestBudget
from .changes import InvoiceChange
from .invoices import Invoice, InvoiceLineItem, InvoiceQuerySet, Overview
from .observations import InvoiceFailure, InvoiceObservation, InvoiceRecheck
from .operations import InvoiceOperation
from .runs import SyncAbsence, SyncRun, SyncWindow
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
    "MirroredAccount",
    "Overview",
    "RequestBudget",
    "SyncAbsence",
    "SyncRun",
    "SyncWindow",
    "WebhookEvent",
    "WebhookFeed",
]
