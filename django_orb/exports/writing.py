"""Export rows: each page that is read goes straight into the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal

from django.conf import settings
from django.db.models import QuerySet

from django_orb.db import primary, snapshot
from django_orb.exceptions import OrbExportError, OrbInputError
from django_orb.formatting import report_zone
from django_orb.models import Invoice, InvoiceLineItem

from .columns import Column, choose_columns
from .files import whole_file
from .formats import MAX_XLSX_ROWS, CsvStyle, CsvWriter, Writer, XlsxWriter
from .reading import Cells, count_up_to, read_cells
from .texts import CANNOT_WRITE, NOTHING, TOO_MANY_ROWS

logger = logging.getLogger(__name__)

FileFormat = Literal["csv", "xlsx"]
FORMATS: tuple[FileFormat, ...] = ("csv", "xlsx")


def export_rows(
    rows: QuerySet[Any, Any],
    *,
    output: str | os.PathLike[str] | BinaryIO,
    lines: bool = False,
    file_format: FileFormat = "csv",
    columns: Sequence[str] | None = None,
    style: CsvStyle | None = None,
) -> int:
    """
    Write invoices or line items of the mirror to a file. Return how many rows.

    `rows` is a query of either; with `lines`, the line items of a query of invoices are
    written. It is read from the mirror's own database, even if other queries go to a
    replica. `output` is a path, whose file is written whole or not at all, or a binary
    stream. Amounts have all their digits. Days and times are in `REPORT_TIME_ZONE`. All
    rows show one instant, except on SQLite and inside a transaction that was already
    open. In a CSV file, a text that a spreadsheet would run as a formula has an
    apostrophe before it.

    Raises:
        OrbInputError: an argument cannot be right, such as an unknown column.
        OrbExportError: there is nothing to export, or the file cannot be written.
    """
    lines = _is_of_lines(rows, lines)
    rows = rows.using(primary.alias())
    chosen = choose_columns(columns, lines=lines)

    # Begins once the first page is asked for, so what is counted is the snapshot that
    # is then read.
    def read() -> Iterator[list[Cells]]:
        if file_format == "xlsx":
            _require_room(rows, lines)
        yield from read_cells(rows, chosen, lines=lines)

    return write_file(
        read(),
        chosen,
        what="Line items" if lines else "Invoices",
        output=output,
        file_format=file_format,
        style=style,
    )


def write_file(
    pages: Iterator[list[Cells]],
    columns: Sequence[Column],
    *,
    what: str,
    output: str | os.PathLike[str] | BinaryIO,
    file_format: FileFormat = "csv",
    style: CsvStyle | None = None,
) -> int:
    """
    Write pages of rows to a file while they are read. Return how many rows.

    `what` names the rows. The other arguments are those of `export_rows`.
    """
    if file_format not in FORMATS:
        raise OrbInputError(
            f'file_format is "csv" or "xlsx", not {file_format!r}.', field="file_format"
        )
    target: AbstractContextManager[BinaryIO] = (
        whole_file(output)
        if isinstance(output, (str, os.PathLike))
        else nullcontext(output)
    )
    try:
        with target as stream:
            count = _write(pages, stream, columns, what, file_format, style)
    except OSError as err:
        raise OrbExportError(CANNOT_WRITE, detail=str(err)) from err
    logger.info("Exported %s %s as %s.", count, what.lower(), file_format)
    return count


def _is_of_lines(rows: QuerySet[Any, Any], lines: bool) -> bool:
    if rows.model not in (Invoice, InvoiceLineItem):
        raise OrbInputError(
            f"Invoices and line items can be exported, not {rows.model.__name__}.",
            field="rows",
        )
    if rows.query.is_sliced:
        raise OrbInputError("Give a query that is not sliced.", field="rows")
    return lines or rows.model is InvoiceLineItem


def _write(
    pages: Iterator[list[Cells]],
    stream: BinaryIO,
    columns: Sequence[Column],
    what: str,
    file_format: FileFormat,
    style: CsvStyle | None,
) -> int:
    zone = report_zone()
    count = 0
    # A workbook's rows wait where the project has room for large files.
    with TemporaryDirectory(dir=settings.FILE_UPLOAD_TEMP_DIR) as folder, snapshot():
        writer: Writer
        if file_format == "csv":
            writer = CsvWriter(stream, columns, zone, style or CsvStyle())
        else:
            writer = XlsxWriter(stream, columns, zone, what, folder)
        try:
            for page in pages:
                writer.write(page)
                count += len(page)
            if not count:
                raise OrbExportError(NOTHING)
            writer.close()
        except BaseException:
            writer.abandon()
            raise
    return count


def _require_room(rows: QuerySet[Any, Any], lines: bool) -> None:
    """Raise an error before minutes are spent on more rows than a workbook has."""
    if count_up_to(rows, MAX_XLSX_ROWS + 1, lines=lines) > MAX_XLSX_ROWS:
        raise OrbExportError(TOO_MANY_ROWS)
