from __future__ import annotations

from .accounts import MirroredAccount, RequestBudget
from .invoices import Invoice, InvoiceLineItem, InvoiceQuerySet
from .observations import InvoiceFailure, InvoiceObservation
from .operations import InvoiceOperation
from .runs import SyncAbsence, SyncRun, SyncWindow

__all__ = [
    "Invoice",
    "InvoiceFailure",
    "InvoiceLineItem",
    "InvoiceObservation",
    "InvoiceOperation",
    "InvoiceQuerySet",
    "MirroredAccount",
    "RequestBudget",
    "SyncAbsence",
    "SyncRun",
    "SyncWindow",
]
