"""Export operations: who asked Orb for what, when, why, and what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from django_orb.db import StatementLog, primary
from django_orb.exact_json import ExactJSONEncoder
from django_orb.exceptions import OrbExportError, OrbInputError
from django_orb.models import Invoice, InvoiceOperation

from .columns import Column, Kind, pick_columns
from .formats import MAX_XLSX_ROWS, CsvStyle
from .reading import Cells
from .texts import TOO_MANY_ROWS
from .writing import FileFormat, write_file

AT_ONCE = 1000
NUMBER = "invoice_number"
_BODY = "body"

OPERATION_COLUMNS = [
    Column("operation_id", _("Operation ID"), "id"),
    Column("created_at", _("Asked at"), "created_at", Kind.MOMENT),
    Column("kind", _("Kind"), "kind"),
    Column("invoice_id", _("Invoice ID"), "invoice_id"),
    Column(NUMBER, _("Invoice number")),
    Column("asked_by", _("Asked by"), "actor_name"),
    Column("username", _("Username"), "actor_username"),
    Column("origin", _("Origin"), "origin"),
    Column("note", _("Note"), "note"),
    Column("outcome", _("Outcome"), "state"),
    Column("detail", _("Detail"), "detail"),
    Column("finished_at", _("Ended at"), "finished_at", Kind.MOMENT),
    Column("sent", _("Sent to Orb"), _BODY),
    Column("first_sent_at", _("First sent at"), "first_sent_at", Kind.MOMENT, False),
    Column("attempts", _("Attempts"), "attempts", Kind.QUANTITY, False),
    Column(
        "idempotency_key", _("Idempotency key"), "idempotency_key", Kind.TEXT, False
    ),
    Column("batch", _("Batch"), "batch", Kind.TEXT, False),
]


def export_operations(
    rows: QuerySet[InvoiceOperation, Any],
    *,
    output: str | os.PathLike[str] | BinaryIO,
    file_format: FileFormat = "csv",
    columns: Sequence[str] | None = None,
    style: CsvStyle | None = None,
) -> int:
    """
    Write operations to a file, newest first. Return how many.

    What was sent is Orb's JSON; kinds and outcomes have their names in the database.
    The other arguments are those of `export_rows`.

    Raises:
        OrbInputError: an argument cannot be right, such as an unknown column.
        OrbExportError: there is nothing to export, or the file cannot be written.
    """
    if rows.model is not InvoiceOperation or rows.query.is_sliced:
        raise OrbInputError(
            "Give a query of operations that is not sliced.", field="rows"
        )
    chosen = pick_columns(columns, OPERATION_COLUMNS)
    newest = rows.using(primary.alias()).order_by("-pk")

    def read() -> Iterator[list[Cells]]:
        # Before minutes are spent: is there one row more than a workbook has room for?
        if file_format == "xlsx" and newest[MAX_XLSX_ROWS : MAX_XLSX_ROWS + 1].exists():
            raise OrbExportError(TOO_MANY_ROWS)
        log = StatementLog()
        for page in _pages(newest):
            yield _cells(page, chosen)
            log.forget()

    return write_file(
        read(),
        chosen,
        what="Operations",
        output=output,
        file_format=file_format,
        style=style,
    )


def _pages(newest: Any) -> Iterator[list[InvoiceOperation]]:
    # Answers of Orb may be whole invoices, and no column shows them.
    page = list(newest.defer("result", "before")[:AT_ONCE])
    while page:
        yield page
        if len(page) < AT_ONCE:
            return
        rest = newest.filter(pk__lt=page[-1].pk)
        page = list(rest.defer("result", "before")[:AT_ONCE])


def _cells(page: list[InvoiceOperation], columns: Sequence[Column]) -> list[Cells]:
    numbers: dict[str, str] = {}
    if any(one.name == NUMBER for one in columns):
        ids = {one.invoice_id for one in page}
        invoices = primary.rows(Invoice).filter(pk__in=ids).order_by()
        numbers = dict(invoices.values_list("pk", "invoice_number"))

    def value(operation: InvoiceOperation, column: Column) -> Any:
        if column.name == NUMBER:
            return numbers.get(operation.invoice_id, "")
        found: Any = getattr(operation, column.path)
        if column.path == _BODY:
            # With the digits that were sent.
            text = json.dumps(found, cls=ExactJSONEncoder, ensure_ascii=False)
            return text if found else ""
        if column.kind is Kind.QUANTITY:
            return Decimal(found)
        return str(found) if column.kind is Kind.TEXT else found

    return [[value(operation, column) for column in columns] for operation in page]
