"""Exports of invoices and their line items, as CSV and as Excel workbooks."""

from __future__ import annotations

from .columns import (
    columns_of,
    default_columns,
)
from .formats import (
    CsvStyle,
)
from .texts import (
    CANNOT_WRITE,
)
from .writing import (
    FORMATS,
    export_rows,
)

__all__ = [
    "CANNOT_WRITE",
    "FORMATS",
    "CsvStyle",
    "columns_of",
    "default_columns",
    "export_rows",
]
