"""Write the end of a month to a file: a row for each sum, and for each thing to check."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, BinaryIO

from django.utils.translation import gettext_lazy as _

from django_orb.db import primary
from django_orb.exports import Column, CsvStyle, FileFormat, Kind, write_file
from django_orb.models import Invoice

from .month import (
    CHANGES,
    CREDIT_NOTES,
    DRAFTS,
    FAILURES,
    Item,
    Month,
    Totals,
    month_of,
    read_items,
    read_totals,
)
from .receivables import Amount, Credited

Cells = list[Any]

COLUMNS = [
    Column("kind", _("Kind")),
    Column("currency", _("Currency")),
    Column("amount", _("Amount"), kind=Kind.MONEY),
    Column("count", _("Count"), kind=Kind.QUANTITY),
    Column("invoice_id", _("Invoice ID")),
    Column("invoice_number", _("Invoice number")),
    Column("customer_id", _("Customer ID")),
    Column("external_customer_id", _("External customer ID")),
    Column("invoice_date", _("Invoice date"), kind=Kind.DAY),
    Column("status", _("Invoice status")),
    Column("when", _("When"), kind=Kind.MOMENT),
    Column("from", _("From")),
    Column("to", _("To")),
    Column("fields", _("Changed fields")),
    Column("by", _("By")),
    Column("note", _("Note")),
]


def export_month(
    month: str | None = None,
    *,
    output: str | os.PathLike[str] | BinaryIO,
    closed_on: date | str | None = None,
    file_format: FileFormat = "csv",
    style: CsvStyle | None = None,
) -> int:
    """
    Write a month's end to a file. Return how many rows.

    `month` is given as "2026-01", and is by default the last one that is over. Changes
    after the day `closed_on`, by default the month's last one, are included. The other
    arguments are those of `export_rows`.

    Raises:
        OrbInputError: an argument cannot be right, such as a month that has not begun.
        OrbExportError: there is nothing in it, or the file cannot be written.
    """
    return write_file(
        _pages(month_of(month, closed_on=closed_on)),
        COLUMNS,
        what="Month",
        output=output,
        file_format=file_format,
        style=style,
    )


def _pages(month: Month) -> Iterator[list[Cells]]:
    invoices = primary.rows(Invoice)
    sums = [cells for one in read_totals(invoices, month) for cells in _sums(one)]
    if sums:
        yield sums
    for kind in (DRAFTS, FAILURES, CHANGES, CREDIT_NOTES):
        for page in read_items(kind, invoices, month):
            yield [_cells(item) for item in page]


def _sums(one: Totals) -> Iterator[Cells]:
    amounts: dict[str, Amount | Credited] = {
        "Invoiced": one.invoiced,
        "Credited": one.credited,
        "Paid": one.paid,
        "Outstanding": one.outstanding,
    }
    if one.undated.count:
        amounts["Credit notes without a date"] = one.undated
    for name, amount in amounts.items():
        head: Cells = [name, one.currency, amount.total, Decimal(amount.count)]
        yield [*head, *[None] * (len(COLUMNS) - len(head))]


def _cells(item: Item) -> Cells:
    invoice = item.invoice
    return [
        item.kind,
        invoice.currency,
        item.amount,
        None,
        invoice.pk,
        invoice.invoice_number,
        invoice.customer_id,
        invoice.external_customer_id,
        invoice.invoice_date,
        invoice.status,
        item.moment,
        item.before,
        item.after,
        ", ".join(item.fields),
        item.who,
        f"{item.note} (voided)" if item.is_void else item.note,
    ]
