"""Figures for those who close the books: receivables as of a day, and a month's end."""

from __future__ import annotations

from .ages import AGES
from .days import as_of, report_zone
from .owed import OWED
from .receivables import Ageing, Amount, read_receivables

__all__ = [
    "AGES",
    "OWED",
    "Ageing",
    "Amount",
    "as_of",
    "read_receivables",
    "report_zone",
]
