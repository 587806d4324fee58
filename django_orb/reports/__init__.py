"""Report what accountants need to close a period: receivables, statements, month ends."""

from __future__ import annotations

from .ages import AGES
from .days import FIRST_DAY, AsOf, as_of, begin_of
from .exporting import choose, export_receivables
from .month import (
    CHANGES,
    CREDIT_NOTES,
    DRAFTS,
    FAILURES,
    Item,
    Month,
    Totals,
    items_of,
    month_of,
    read_totals,
    rows_of,
)
from .month_file import export_month
from .owed import owed
from .receivables import (
    Ageing,
    Amount,
    Credited,
    customers_owing,
    read_by_customer,
    read_customers,
    read_receivables,
)
from .statement import Account, Entry, Statement, read_statement

__all__ = [
    "AGES",
    "CHANGES",
    "CREDIT_NOTES",
    "DRAFTS",
    "FAILURES",
    "FIRST_DAY",
    "Account",
    "Ageing",
    "Amount",
    "AsOf",
    "Credited",
    "Entry",
    "Item",
    "Month",
    "Statement",
    "Totals",
    "as_of",
    "begin_of",
    "choose",
    "customers_owing",
    "export_month",
    "export_receivables",
    "items_of",
    "month_of",
    "owed",
    "read_by_customer",
    "read_customers",
    "read_receivables",
    "read_statement",
    "read_totals",
    "rows_of",
]
