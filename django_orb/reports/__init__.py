"""Report what accountants need to close a period: receivables, statements, month ends."""

from __future__ import annotations

from .ages import AGES, days_late
from .days import FIRST_DAY, AsOf, as_of, report_zone
from .exporting import choose, export_receivables
from .owed import OWED, owed
from .receivables import (
    Ageing,
    Amount,
    customers_owing,
    read_by_customer,
    read_customers,
    read_receivables,
)
from .statement import Account, Entry, Statement, read_statement

__all__ = [
    "AGES",
    "FIRST_DAY",
    "OWED",
    "Account",
    "Ageing",
    "Amount",
    "AsOf",
    "Entry",
    "Statement",
    "as_of",
    "choose",
    "customers_owing",
    "days_late",
    "export_receivables",
    "owed",
    "read_by_customer",
    "read_customers",
    "read_receivables",
    "read_statement",
    "report_zone",
]
