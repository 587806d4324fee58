"""Write receivables to a file: what was owed by each customer, or on each invoice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO

from django.utils.translation import gettext_lazy as _

from django_orb.conf import get_settings
from django_orb.customer_labels import Customer
from django_orb.db import primary
from django_orb.exceptions import OrbInputError, in_english
from django_orb.exports import (
    INVOICE_COLUMNS,
    INVOICES_AT_ONCE,
    NAME,
    Column,
    CsvStyle,
    FileFormat,
    InvoiceReader,
    Kind,
    pages_of_invoices,
    read_names,
    write_file,
)
from django_orb.models import Invoice
from django_orb.models.invoice_status import days_late

from .ages import AGES, age_of
from .days import AsOf, as_of
from .owed import Invoices, owed
from .receivables import Ageing, read_by_customer

Cells = list[Any]

OWED_COLUMN = "owed"
LATE, AGE = "days_late", "age"

_OF_INVOICES = {one.name: one for one in INVOICE_COLUMNS}
_CUSTOMER = ["external_customer_id", "customer_id", NAME]
_BEFORE = ["invoice_id", "invoice_number", *_CUSTOMER, "invoice_date", "due_date"]
_AFTER = ["currency", "total", "status", "paid_at", "subscription_id"]


def receivables_columns(*, invoices: bool) -> list[Column]:
    """Return the columns of the file; customers' names only if the project has them."""
    found = _invoice_columns() if invoices else _customer_columns()
    has_names = bool(get_settings().CUSTOMER_LABELS)
    return [one for one in found if has_names or one.name != NAME]


def _customer_columns() -> list[Column]:
    return [
        *(_OF_INVOICES[name] for name in _CUSTOMER),
        _OF_INVOICES["currency"],
        *(Column(age.name, age.title, kind=Kind.MONEY) for age in AGES),
        Column("owed", _("Owed"), kind=Kind.MONEY),
        Column("invoices", _("Invoices"), kind=Kind.QUANTITY),
    ]


def _invoice_columns() -> list[Column]:
    return [
        *(_OF_INVOICES[name] for name in _BEFORE),
        Column(LATE, _("Days late"), kind=Kind.QUANTITY),
        Column(AGE, _("Age")),
        Column(OWED_COLUMN, _("Owed"), OWED_COLUMN, Kind.MONEY),
        *(_OF_INVOICES[name] for name in _AFTER),
    ]


def export_receivables(
    day: date | str | None = None,
    *,
    output: str | os.PathLike[str] | BinaryIO,
    invoices: bool = False,
    currency: str | None = None,
    customer_id: str | None = None,
    age: str | None = None,
    file_format: FileFormat = "csv",
    style: CsvStyle | None = None,
) -> int:
    """
    Write what was owed at the end of a day to a file. Return how many rows.

    There is a row for each customer and currency, or with `invoices` for each invoice.
    `day` is today by default. `age` is the name of one of `AGES`. The other arguments
    are those of `export_rows`.

    Raises:
        OrbInputError: an argument cannot be right, such as a day in the future.
        OrbExportError: nothing was owed, or the file cannot be written.
    """
    at = as_of(day)
    which = choose(
        primary.rows(Invoice), at, currency=currency, customer_id=customer_id, age=age
    )
    columns = receivables_columns(invoices=invoices)
    pages = _invoices(which, at, columns) if invoices else _customers(which, at)
    return write_file(
        pages,
        columns,
        what="Invoices" if invoices else "Customers",
        output=output,
        file_format=file_format,
        style=style,
    )


def choose(
    invoices: Invoices,
    at: AsOf,
    *,
    currency: str | None = None,
    customer_id: str | None = None,
    age: str | None = None,
) -> Invoices:
    """
    Return only the invoices of a currency, of a customer, or of an age on that day.

    Raises:
        OrbInputError: there is no such age.
    """
    if currency:
        invoices = invoices.filter(currency=currency)
    if customer_id:
        invoices = invoices.filter(customer_id=customer_id)
    if age:
        known = {one.name: one for one in AGES}
        if age not in known:
            raise OrbInputError(
                f"age is one of {', '.join(known)}, not {age[:40]!r}.", field="age"
            )
        invoices = invoices.filter(known[age].condition(at.moment))
    return invoices


class _Reader(InvoiceReader):
    # The days late are counted from it, whether or not its own column is chosen.
    more_paths = ("due_date",)

    def __init__(self, columns: list[Column], at: AsOf) -> None:
        super().__init__(columns)
        self._moment = at.moment

    def computed(self, page: list[Any]) -> dict[str, Callable[[Any], Any]]:
        due = self.place("due_date")

        def late(row: Any) -> Decimal | None:
            if row[due] is None:
                return None
            return Decimal(days_late(row[due], self._moment))

        return {
            **super().computed(page),
            LATE: late,
            AGE: lambda row: in_english(age_of(row[due], self._moment).title),
        }


def _invoices(
    invoices: Invoices, at: AsOf, columns: list[Column]
) -> Iterator[list[Cells]]:
    reader = _Reader(columns, at)
    pages = pages_of_invoices(owed(invoices, at), reader.paths, INVOICES_AT_ONCE)
    for page in pages:
        yield reader.cells(page)


def _customers(invoices: Invoices, at: AsOf) -> Iterator[list[Cells]]:
    has_names = bool(get_settings().CUSTOMER_LABELS)
    every = read_by_customer(invoices, at)
    while page := list(islice(every, INVOICES_AT_ONCE)):
        # One call of the project's function for each page.
        names = read_names(one.customer for one in page if one.customer)
        yield [_cells(one, names if has_names else None) for one in page]


def _cells(one: Ageing, names: dict[Customer, str] | None) -> Cells:
    customer = one.customer or Customer("", "")
    return [
        customer.external_customer_id,
        customer.customer_id,
        *([] if names is None else [names[customer]]),
        one.currency,
        *(amount.total for amount in one.by_age),
        one.all.total,
        Decimal(one.all.count),
    ]
