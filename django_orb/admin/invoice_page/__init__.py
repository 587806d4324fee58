"""The page of one invoice, as sections that are read from its payload."""

from __future__ import annotations

from .amounts import Row, balance_applied, read_sums
from .history import (
    RECENT,
    edited_in_words,
    newest,
    operations_of,
    read_operation_view,
    tell,
    who_in_full,
)
from .lines import ZERO, LineView, read_lines
from .sections import Fact, pretty, read_address, read_failures, read_invoice_view

__all__ = [
    "RECENT",
    "ZERO",
    "Fact",
    "LineView",
    "Row",
    "balance_applied",
    "edited_in_words",
    "newest",
    "operations_of",
    "pretty",
    "read_address",
    "read_failures",
    "read_invoice_view",
    "read_lines",
    "read_operation_view",
    "read_sums",
    "tell",
    "who_in_full",
]
