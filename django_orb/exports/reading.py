"""Read what is exported page by page, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet

from django_orb.customer_labels import Customer, ask_for_labels
from django_orb.db import StatementLog, primary
from django_orb.exceptions import OrbExportError
from django_orb.formatting import joined
from django_orb.models import (
    Invoice,
    InvoiceCreditNote,
    InvoiceFailureReason,
    InvoiceLineItem,
    InvoiceLineTax,
)
from django_orb.parsing import exact_sum

from .columns import CREDITED, NAME, NET, TAX, WHY, Column
from .texts import NAMES_FAILED

Rows = QuerySet[Any, Any]
Row = tuple[Any, ...]
Cells = list[Any]
Amounts = dict[Any, Decimal | None]

INVOICES_AT_ONCE = 1000
# An invoice has a few lines; some have hundreds.
INVOICES_WITH_LINES_AT_ONCE = 500
LINES_AT_ONCE = 1000
# How many customers' names are kept for the next pages.
MAX_KEPT_NAMES = 5000
ZERO = Decimal(0)
INVOICE = "invoice__"


def read_cells(
    rows: Rows, columns: Sequence[Column], *, lines: bool
) -> Iterator[list[Cells]]:
    """
    Yield pages of rows, each a list of values in the order of the columns.

    Invoices come newest first; so do line items of invoices, in the invoice's order.
    A query of line items comes in the order of their list in the admin.
    """
    reader = (LineReader if lines else InvoiceReader)(columns)
    is_of_invoices = rows.model is Invoice
    if not lines:
        pages = pages_of_invoices(rows, reader.paths, INVOICES_AT_ONCE)
    elif is_of_invoices:
        pages = _lines_of_invoices(rows, reader.paths)
    else:
        pages = _pages_of_lines(rows, reader.paths)
    # While DEBUG is on, Django keeps the text of each statement.
    log = StatementLog()
    for page in pages:
        yield reader.cells(page)
        log.forget()


def count_up_to(rows: Rows, most: int, *, lines: bool) -> int:
    """Count the rows of an export, up to `most`."""
    if lines and rows.model is Invoice:
        rows = primary.rows(InvoiceLineItem).filter(invoice__in=rows.order_by())
    return rows.order_by()[:most].count()


class InvoiceReader:
    """Reads the values of one page of invoices at once."""

    #: The paths that each row begins with.
    heads: Sequence[str] = ("id", "invoice_date")
    prefix = ""
    #: By which column taxes are added up, and where a row has the id of its invoice.
    taxed, invoice_place = "line_item__invoice_id", 0
    #: The paths that `computed` needs besides the columns.
    more_paths: Sequence[str] = ()

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        needed = [*self.heads, *(one.path for one in columns if one.path)]
        names = {one.name for one in columns}
        if NAME in names:
            needed += [self._path("customer_id"), self._path("external_customer_id")]
        if NET in names:
            needed.append("total")
        needed += self.more_paths
        # A line item's own columns come before those of its invoice.
        needed.sort(key=lambda path: path.startswith(INVOICE))
        self.paths = list(dict.fromkeys(needed))
        self._place = {path: place for place, path in enumerate(self.paths)}
        self._names: dict[Customer, str] = {}

    def place(self, path: str) -> int:
        """Return the index of a path's value in a row."""
        return self._place[path]

    def _path(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def cells(self, page: list[Row]) -> list[Cells]:
        # A column without a path holds the row's key until it is computed below.
        places = [self._place[one.path] if one.path else 0 for one in self._columns]
        cells = [[row[place] for place in places] for row in page]
        computed = self.computed(page)
        for column, one in enumerate(self._columns):
            if not one.path:
                find = computed[one.name]
                for filled, row in zip(cells, page, strict=True):
                    filled[column] = find(row)
        return cells

    def computed(self, page: list[Row]) -> dict[str, Callable[[Row], Any]]:
        """Return functions that give a row's values of the columns without a path."""
        wanted = {one.name for one in self._columns if not one.path}
        keys = list({row[self.invoice_place] for row in page})
        found: dict[str, Callable[[Row], Any]] = {}
        if NAME in wanted:
            found[NAME] = self._name_finder(page)
        if TAX in wanted:
            taxes = read_taxes(self.taxed, keys)
            found[TAX] = lambda row: taxes.get(row[0], ZERO)
        if wanted & {CREDITED, NET}:
            credited = read_credited(keys)
            total = self._place.get("total", 0)
            found[CREDITED] = lambda row: credited.get(row[0], ZERO)

            def net(row: Row) -> Decimal | None:
                less = credited.get(row[0], ZERO)
                return None if less is None else exact_sum([row[total], -less])

            found[NET] = net
        if WHY in wanted:
            reasons = read_reasons(keys)
            found[WHY] = lambda row: reasons.get(row[self.invoice_place], "")
        return found

    def _name_finder(self, page: list[Row]) -> Callable[[Row], str]:
        ours = self._place[self._path("customer_id")]
        theirs = self._place[self._path("external_customer_id")]
        names = self._names
        if len(names) > MAX_KEPT_NAMES:
            names.clear()
        unknown = {Customer(row[ours], row[theirs]) for row in page} - names.keys()
        names |= read_names(unknown)
        return lambda row: names[Customer(row[ours], row[theirs])]


class LineReader(InvoiceReader):
    heads = ("id", "invoice_id", "position")
    prefix = INVOICE
    taxed, invoice_place = "line_item_id", 1


def read_names(customers: Iterable[Customer]) -> dict[Customer, str]:
    """
    Return the project's names for these customers; "" for one without a name.

    Raises:
        OrbExportError: the project's function failed.
    """
    wanted = set(customers)
    try:
        labels = ask_for_labels(wanted) if wanted else {}
    except Exception as err:
        raise OrbExportError(NAMES_FAILED, detail=repr(err)) from err
    found = {customer: labels.get(customer) for customer in wanted}
    return {customer: label.name if label else "" for customer, label in found.items()}


def read_taxes(owner: str, invoice_ids: Sequence[str]) -> Amounts:
    """
    Return the sums of invoices' taxes by line item or by invoice, as `owner` says.

    A sum is None if one of its taxes cannot be read. Rows without taxes are left out; a
    tax whose amount Orb left empty counts as 0.
    """
    taxes = primary.rows(InvoiceLineTax).filter(line_item__invoice_id__in=invoice_ids)
    # Added up here, because SQLite's SUM is a float.
    rows: list[tuple[Any, Decimal | None]] = list(
        taxes.order_by().values_list(owner, "amount")
    )
    unreadable: set[Any] = set()
    if any(amount is None for _, amount in rows):
        empty = taxes.filter(amount=None).order_by()
        unreadable = {
            key
            for key, rounded in empty.values_list(owner, "rounded_fields")
            if rounded
        }
    sums: Amounts = dict(_summed((key, amount or ZERO) for key, amount in rows))
    return {**sums, **dict.fromkeys(unreadable)}


def read_credited(invoice_ids: Sequence[str]) -> Amounts:
    """
    Return the sum of credit notes by invoice; None if a total is not known.

    As `InvoiceQuerySet.net_of_credit_notes`, and exact on SQLite too.
    """
    notes = primary.rows(InvoiceCreditNote).filter(
        invoice_id__in=invoice_ids, voided_at=None
    )
    rows: list[tuple[str, Decimal | None]] = list(
        notes.order_by().values_list("invoice_id", "total")
    )
    sums: Amounts = dict(_summed((key, total or ZERO) for key, total in rows))
    unknown = (key for key, total in rows if total is None)
    return {**sums, **dict.fromkeys(unknown)}


def read_reasons(invoice_ids: Sequence[str]) -> dict[str, str]:
    """Return why invoices fail now, for those that do: "payment: Card declined"."""
    every = InvoiceFailureReason.objects.using(primary.alias())
    current = every.current().filter(invoice_id__in=invoice_ids)
    found: dict[str, list[str]] = {}
    for one in current.order_by("kind", "connection_type"):
        what = joined(" ", one.kind, one.connection_type)
        why = one.reason or one.provider
        found.setdefault(one.invoice_id, []).append(joined(": ", what, why))
    return {invoice_id: "; ".join(texts) for invoice_id, texts in found.items()}


def _summed(amounts: Iterable[tuple[Any, Decimal]]) -> dict[Any, Decimal]:
    found: dict[Any, list[Decimal]] = {}
    for owner, amount in amounts:
        found.setdefault(owner, []).append(amount)
    return {
        owner: parts[0] if len(parts) == 1 else exact_sum(parts)
        for owner, parts in found.items()
    }


def pages_of_invoices(
    invoices: Rows, paths: Sequence[str], size: int
) -> Iterator[list[Row]]:
    """
    Yield rows of `paths`, which begin with the id and the invoice date.

    Each page begins after the last row of the one before, in an order that indexes
    have together with the usual filters. A cursor over all of them would be kept in
    the client's memory on MariaDB, and would block writers on SQLite.
    """
    ordered = invoices.order_by("-invoice_date", "-id")
    page = list(ordered.values_list(*paths)[:size])
    while page:
        yield page
        if len(page) < size:
            return
        pk, date = page[-1][:2]
        # That is (invoice_date, id) < (date, pk), and the bound of the date beside it
        # says where in an index to begin.
        later = Q(invoice_date__lt=date) | Q(id__lt=pk)
        rest = ordered.filter(later, invoice_date__lte=date)
        page = list(rest.values_list(*paths)[:size])


def _pages_of_lines(lines: Rows, paths: Sequence[str]) -> Iterator[list[Row]]:
    ordered = lines.order_by("-pk")
    page = list(ordered.values_list(*paths)[:LINES_AT_ONCE])
    while page:
        yield page
        if len(page) < LINES_AT_ONCE:
            return
        rest = ordered.filter(pk__lt=page[-1][0])
        page = list(rest.values_list(*paths)[:LINES_AT_ONCE])


def _lines_of_invoices(invoices: Rows, paths: Sequence[str]) -> Iterator[list[Row]]:
    """Yield line items of invoices; the columns of each invoice are read only once."""
    own = [path for path in paths if not path.startswith(INVOICE)]
    heads = list(InvoiceReader.heads)
    of_invoice = [path.removeprefix(INVOICE) for path in paths[len(own) :]]
    every = primary.rows(InvoiceLineItem).order_by()
    read = list(dict.fromkeys([*heads, *of_invoice]))
    places = [read.index(path) for path in of_invoice]
    for page in pages_of_invoices(invoices, read, INVOICES_WITH_LINES_AT_ONCE):
        tails = [tuple(row[place] for place in places) for row in page]
        rank = {row[0]: place for place, row in enumerate(page)}
        # A join would read the columns of an invoice again for each of its lines.
        found = every.filter(invoice_id__in=list(rank)).values_list(*own)
        lines = sorted(found, key=lambda line: (rank[line[1]], line[2]))
        if lines:
            yield [line + tails[rank[line[1]]] for line in lines]
