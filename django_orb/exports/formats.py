"""Write rows as CSV or as an Excel workbook."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, BinaryIO, Protocol
from zoneinfo import ZoneInfo

from django_orb.exceptions import OrbExportError, OrbInputError
from django_orb.formatting import in_zone

from .columns import Column, Kind
from .texts import TOO_LARGE, TOO_MANY_ROWS, XLSX_MISSING

#: How many rows an Excel sheet has below its head.
# Source:
# https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3
MAX_XLSX_ROWS = 1_048_575
MAX_XLSX_TEXT = 32_767
# A larger file, unpacked, needs an extension of ZIP that not all programs read.
MAX_XLSX_BYTES = 2_000_000_000
# Excel counts days from 1900 on, and has a 29th of February in that year.
FIRST_XLSX_YEAR = 1901

# How many days and moments are kept as text.
KEPT = 8192

# Characters that a spreadsheet takes for the beginning of a formula, full-width too.
# Source: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001


@dataclass(frozen=True, kw_only=True)
class CsvStyle:
    """
    How a CSV file is written: by default as RFC 4180, in UTF-8.

    Excel needs `bom` to read names that are not plain ASCII. In countries that write
    1234,50 it expects `delimiter=";"` and `decimal_comma=True`.
    """

    delimiter: str = ","
    decimal_comma: bool = False
    bom: bool = False

    def __post_init__(self) -> None:
        if self.delimiter not in (",", ";"):
            raise OrbInputError(
                f'delimiter is "," or ";", not {self.delimiter!r}.', field="delimiter"
            )
        if self.decimal_comma and self.delimiter == ",":
            raise OrbInputError(
                "A decimal comma needs a semicolon between the columns.",
                field="decimal_comma",
            )


class Writer(Protocol):
    def write(self, rows: Sequence[Sequence[Any]]) -> None: ...

    def close(self) -> None:
        """Finish the file."""

    def abandon(self) -> None:
        """Let go of a file that is not finished, without closing the stream."""


class CsvWriter:
    """Writes a CSV file into a binary stream, which stays open."""

    def __init__(
        self,
        stream: BinaryIO,
        columns: Sequence[Column],
        zone: ZoneInfo,
        style: CsvStyle,
    ) -> None:
        if style.bom:
            stream.write(codecs.BOM_UTF8)
        self._csv = csv.writer(_Utf8(stream), delimiter=style.delimiter)
        written = _written_as(zone, style.decimal_comma)
        self._texts = [written[column.kind] for column in columns]
        self._csv.writerow(column.title(zone) for column in columns)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        # Column by column, since that takes less time than cell by cell.
        columns = zip(*rows, strict=True)
        texts = [
            [None if value is None else text(value) for value in column]
            for text, column in zip(self._texts, columns, strict=bool(rows))
        ]
        self._csv.writerows(zip(*texts, strict=True))

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Utf8:
    """A text stream over a binary one; `io.TextIOWrapper` would close it in the end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode())


def harmless(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def exact(value: Decimal, places: int = 0) -> str:
    """Write a number with all its decimal places, at least so many."""
    if not value:
        return f"0.{'0' * places}" if places else "0"
    whole, _, part = f"{value:f}".partition(".")
    part = part.rstrip("0")
    if len(part) >= places:
        return f"{whole}.{part}" if part else whole
    return f"{whole}.{part:0<{places}}"


def with_comma(value: Decimal, places: int = 0) -> str:
    return exact(value, places).replace(".", ",")


def _written_as(
    zone: ZoneInfo, decimal_comma: bool
) -> dict[Kind, Callable[[Any], str]]:
    number = with_comma if decimal_comma else exact
    return {
        Kind.TEXT: harmless,
        Kind.QUANTITY: number,
        Kind.MONEY: lambda value: number(value, 2),
        # Cached, since many rows have the same day, above all an invoice's line items.
        Kind.DAY: lru_cache(KEPT)(lambda value: f"{in_zone(value, zone).date()}"),
        Kind.MOMENT: lru_cache(KEPT)(lambda value: _moment(value, zone)),
    }


def _moment(value: datetime, zone: ZoneInfo) -> str:
    # Without an offset, which spreadsheets cannot read: the title has the zone.
    local = in_zone(value, zone).replace(tzinfo=None)
    return local.isoformat(sep=" ", timespec="seconds")


class XlsxWriter:
    """
    Writes an Excel workbook into a binary stream, row by row.

    Amounts are numbers and dates are dates, which Excel can add up and sort. A number
    there has about 15 digits; a CSV file has all of them.
    """

    def __init__(
        self,
        stream: BinaryIO,
        columns: Sequence[Column],
        zone: ZoneInfo,
        sheet: str,
        folder: str,
    ) -> None:
        try:
            # Here, since few processes that have the admin ever write a workbook.
            import xlsxwriter
        except ImportError as err:
            raise OrbExportError(XLSX_MISSING) from err
        # Rows wait in a file in `folder`, which the caller removes.
        options = {"constant_memory": True, "tmpdir": folder}
        self._book = xlsxwriter.Workbook(stream, options)
        self._sheet = self._book.add_worksheet(sheet)
        self._columns = columns
        self._zone = zone
        self._rows = 0
        self._looks = {
            # As many places as a column of the database has, of which two are always
            # shown.
            Kind.MONEY: self._book.add_format({"num_format": f"#,##0.00{'#' * 16}"}),
            Kind.DAY: self._book.add_format({"num_format": "yyyy-mm-dd"}),
            Kind.MOMENT: self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        head = self._book.add_format({"bold": True})
        self._sheet.freeze_panes(1, 0)
        for place, column in enumerate(columns):
            title = column.title(zone)
            self._sheet.set_column(place, place, max(12, len(title) + 2))
            self._sheet.write_string(0, place, title, head)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self._rows += 1
            if self._rows > MAX_XLSX_ROWS:
                raise OrbExportError(TOO_MANY_ROWS)
            for place, (column, value) in enumerate(
                zip(self._columns, row, strict=True)
            ):
                if value is not None and value != "":
                    self._write(place, column.kind, value)
        self._require_room()

    def _require_room(self) -> None:
        """Raise an error before more is written than a file can hold."""
        waiting = self._sheet.row_data_fh
        if waiting is not None and waiting.tell() > MAX_XLSX_BYTES:
            raise OrbExportError(TOO_LARGE)

    def _write(self, place: int, kind: Kind, value: Any) -> None:
        sheet, row = self._sheet, self._rows
        if kind in (Kind.MONEY, Kind.QUANTITY):
            sheet.write_number(row, place, value, self._looks.get(kind))
        elif kind is Kind.TEXT:
            # As text even if it begins as a formula does.
            sheet.write_string(row, place, _fitting(value))
        else:
            # Excel knows no time zones, and the library refuses a time with one.
            local = in_zone(value, self._zone).replace(tzinfo=None)
            if kind is Kind.DAY:
                # A time of day would not be shown, but would count in comparisons.
                local = local.replace(hour=0, minute=0, second=0, microsecond=0)
            if local.year < FIRST_XLSX_YEAR:
                sheet.write_string(row, place, local.isoformat(sep=" "))
            else:
                sheet.write_datetime(row, place, local, self._looks[kind])

    def close(self) -> None:
        # Only now is it known how many rows it covers.
        self._sheet.autofilter(0, 0, self._rows, len(self._columns) - 1)
        self._book.close()

    def abandon(self) -> None:
        # The library itself does this only after it has written the whole file.
        self._sheet._opt_close()


def _fitting(text: str) -> str:
    """Return the text, cut to what a cell holds, which Excel counts in UTF-16."""
    if 2 * len(text) <= MAX_XLSX_TEXT:
        return text
    encoded = text.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * MAX_XLSX_TEXT:
        return text
    # Half of a character at the end is left out.
    return f"{encoded[: 2 * (MAX_XLSX_TEXT - 1)].decode('utf-16-le', 'ignore')}…"
