"""Figures for those who close the books: receivables as of a day, and a month's end."""

from __future__ import annotations

from .ages import AGES
from .days import as_of, report_zone
from .owed import OWED
from .receivables import Ageing, Amount, read_receivables
from .statement import Account, Entry, Statement, read_statement

__all__ = [
    "AGES",
    "OWED",
    "Account",
    "Ageing",
    "Amount",
    "Entry",
    "Statement",
    "as_of",
    "read_receivables",
    "read_statement",
    "report_zone",
]
