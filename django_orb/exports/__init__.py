"""Export invoices, their line items, and operations, as CSV and as Excel workbooks."""

from __future__ import annotations

from .columns import INVOICE_COLUMNS, NAME, Column, Kind, columns_of, default_columns
from .formats import CsvStyle
from .operations import OPERATION_COLUMNS, export_operations
from .reading import INVOICES_AT_ONCE, InvoiceReader, pages_of_invoices, read_names
from .texts import CANNOT_WRITE
from .writing import FORMATS, FileFormat, export_rows, write_file

__all__ = [
    "CANNOT_WRITE",
    "FORMATS",
    "INVOICES_AT_ONCE",
    "INVOICE_COLUMNS",
    "NAME",
    "OPERATION_COLUMNS",
    "Column",
    "CsvStyle",
    "FileFormat",
    "InvoiceReader",
    "Kind",
    "columns_of",
    "default_columns",
    "export_operations",
    "export_rows",
    "pages_of_invoices",
    "read_names",
    "write_file",
]
