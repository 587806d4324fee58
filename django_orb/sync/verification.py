"""
Walk over Orb's list and the stored invoices, and yield where the mirror differs.

Nothing that grows with the account is kept in memory: the ids that the list
showed go to a file, and differences are yielded as they are found.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeGuard

from django_orb import mirror
from django_orb.account import open_account
from django_orb.client import next_cursor
from django_orb.conf import get_settings
from django_orb.db import StatementLog, primary
from django_orb.exceptions import OrbInputError, OrbNotFoundError, OrbResponseError
from django_orb.mirror import erased, personal
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceLineTax,
    SyncRun,
)
from django_orb.operations import require_orb_id

from . import missing, planning, runs
from .comparison import (
    CHILD_COLUMNS,
    INVOICE_COLUMNS,
    LINE_COLUMNS,
    NOTHING,
    TAX_COLUMNS,
    TAXES,
    Difference,
    Kind,
    StoredInvoice,
    differences,
)

BATCH = 50
# More than elsewhere: a verification has no row in which it could wait for Orb.
RETRIES = 8
# Django stores decimals in SQLite as floating-point numbers.
SQLITE_DIGITS = 15
# An invoice that differs is compared again after these pauses, in seconds, since a
# change may not have arrived yet. PATIENCE_SECONDS bounds all pauses together.
PAUSES = (0.2, 0.5, 1.0)
PATIENCE_SECONDS = 10.0
MAX_ROUNDS = 5


def verify_invoices(
    *,
    fix: bool = False,
    since: datetime | None = None,
    invoice_ids: Sequence[str] | None = None,
    on_page: Callable[[Verification], None] = lambda verification: None,
) -> Verification:
    """
    Compare the mirror with Orb, value for value; Orb is not asked until you iterate.

    Orb's whole list is read in every status, or only invoices dated at or after
    `since`, or only `invoice_ids`. Stored invoices that the list does not show are
    fetched, and invoices that differ are fetched and compared again, so that one that
    changes meanwhile is not reported. `fix` fetches and writes again what differs, as
    a sync of chosen invoices does, and compares it once more. `on_page` is called
    after each page or batch. Do not call it inside a transaction, in which some
    databases do not show what others write.

    Raises:
        OrbInputError: the arguments exclude each other, or are not valid.
        OrbError: Orb did not answer, while iterating.
    """
    if invoice_ids is not None:
        if since is not None:
            raise OrbInputError("invoice_ids cannot be combined with since.")
        for invoice_id in invoice_ids:
            require_orb_id(invoice_id, "invoice_ids")
    if since is not None and since.tzinfo is None:
        raise OrbInputError("since needs a time zone.", field="since")
    return Verification(fix, since, invoice_ids, on_page)


class Verification(Iterator[Difference]):
    """An iterator of differences that counts what was compared so far."""

    def __init__(
        self,
        fix: bool,
        since: datetime | None,
        invoice_ids: Sequence[str] | None,
        on_page: Callable[[Verification], None],
    ) -> None:
        self.pages = 0
        self.invoices = 0
        self.differences = 0
        self.repaired = 0
        self._fix = fix
        self._since = since
        self._on_page = on_page
        self._erased: frozenset[str] = frozenset()
        self._log = StatementLog()
        self._patience = PATIENCE_SECONDS
        is_sqlite = primary.connection().vendor == "sqlite"
        self._exact_digits = SQLITE_DIGITS if is_sqlite else None
        self._found = self._run(invoice_ids)

    def __next__(self) -> Difference:
        difference = next(self._found)
        self.differences += 1
        self.repaired += bool(difference.is_repaired)
        return difference

    @property
    def is_right(self) -> bool:
        """True if no difference was found, or if all were repaired."""
        return self.differences == self.repaired

    def _run(self, invoice_ids: Sequence[str] | None) -> Iterator[Difference]:
        account = open_account(retries=RETRIES)
        with account as self._client, closing(_Notes()) as self._notes:
            if invoice_ids is None:
                yield from self._list()
                yield from self._unlisted()
            else:
                yield from self._chosen(invoice_ids)
            yield from self._mark_gone()
        self._end_page()

    def _end_page(self) -> None:
        self._log.forget()
        self._on_page(self)

    # Which invoices

    def _list(self) -> Iterator[Difference]:
        cursor: str | None = None
        while True:
            page = self._client.fetch_invoices_page(
                status=list(planning.STATUSES),
                invoice_date_gte=self._since,
                limit=get_settings().PAGE_SIZE,
                cursor=cursor,
            )
            self.pages += 1
            yield from self._compare_page(page["data"])
            self._end_page()
            cursor = next_cursor(page)
            if cursor is None:
                return
            if not self._notes.add("cursor", cursor):
                raise OrbResponseError(
                    "Orb gave the same cursor of its list twice: what comes after it "
                    "was not compared."
                )

    def _compare_page(self, payloads: Sequence[Any]) -> Iterator[Difference]:
        new: dict[str, dict[str, Any]] = {}
        for position, payload in enumerate(payloads):
            invoice_id = payload.get("id") if isinstance(payload, dict) else None
            if not _is_usable(invoice_id):
                self.invoices += 1
                yield _without_id(invoice_id, position)
            elif self._notes.add("invoice", invoice_id):
                new[invoice_id] = payload
        self._erased = erased.customers()
        stored = self._read(list(new))
        suspects = [
            invoice_id
            for invoice_id, payload in new.items()
            if self._compare(invoice_id, payload, stored.get(invoice_id))
        ]
        self.invoices += len(new)
        yield from self._examine_all(suspects)

    def _unlisted(self) -> Iterator[Difference]:
        """Examine what is here but was not in the list: Orb may no longer have it."""
        stored = primary.rows(Invoice).filter(missing_since=None)
        if self._since is not None:
            stored = stored.filter(invoice_date__gte=self._since)
        ids = stored.order_by("pk").values_list("pk", flat=True)
        last = ""
        while batch := list(ids.filter(pk__gt=last)[:BATCH]):
            last = batch[-1]
            unlisted = [pk for pk in batch if not self._notes.has("invoice", pk)]
            self.invoices += len(unlisted)
            yield from self._examine_all(unlisted)
            self._end_page()

    def _chosen(self, invoice_ids: Iterable[str]) -> Iterator[Difference]:
        for invoice_id in dict.fromkeys(invoice_ids):
            self.invoices += 1
            found = list(self._examine_all([invoice_id]))
            if not found and not self._read([invoice_id]):
                found = [Difference(invoice_id, "unknown", "", NOTHING, NOTHING)]
            yield from found
            self._end_page()

    # What differs

    def _examine_all(self, invoice_ids: Sequence[str]) -> Iterator[Difference]:
        broken: dict[str, list[Difference]] = {}
        for invoice_id in invoice_ids:
            found = self._examine(invoice_id)
            if not self._fix:
                yield from found
            elif any(difference.kind == "gone" for difference in found):
                self._notes.add("gone", invoice_id)
            elif found:
                broken[invoice_id] = found
        if broken:
            yield from self._repair(broken)

    def _examine(self, invoice_id: str) -> list[Difference]:
        """Return the differences that remain after a few pauses."""
        found = self._look(invoice_id)
        for seconds in PAUSES:
            if not found or self._patience < seconds:
                break
            self._patience -= seconds
            time.sleep(seconds)
            found = self._look(invoice_id)
        return found

    def _look(self, invoice_id: str) -> list[Difference]:
        """
        Compare one invoice once its row is the same before and after Orb's answer.

        Orb read its state at some moment in between, when the mirror held this row.
        """
        here = self._read([invoice_id]).get(invoice_id)
        for _ in range(MAX_ROUNDS):
            before = here
            payload = self._fetch(invoice_id)
            self._erased = erased.customers()
            here = self._read([invoice_id]).get(invoice_id)
            if here == before:
                return self._explain(self._compare(invoice_id, payload, here))
        return [Difference(invoice_id, "unstable", "", NOTHING, NOTHING)]

    def _compare(
        self,
        invoice_id: str,
        payload: dict[str, Any] | None,
        here: StoredInvoice | None,
    ) -> list[Difference]:
        if payload is None:
            is_known_gone = here is None or here.row["missing_since"] is not None
            return [] if is_known_gone else [_gone(invoice_id, here)]
        payload = personal.as_stored(payload, self._erased)
        number = str(payload.get("invoice_number") or "")
        found: Iterable[tuple[Kind, str, Any, Any]]
        if here is None:
            found = [("not_mirrored", "", payload.get("status"), NOTHING)]
        else:
            found = differences(payload, here, exact_digits=self._exact_digits)
        return [
            Difference(invoice_id, *finding, invoice_number=number) for finding in found
        ]

    def _explain(self, found: list[Difference]) -> list[Difference]:
        """Add why Orb's state could not be stored, if a run has recorded it."""
        if not found:
            return found
        failures = primary.rows(InvoiceFailure)
        failure = failures.filter(pk=found[0].invoice_id).first()
        return (
            [replace(difference, reason=failure.reason) for difference in found]
            if failure
            else found
        )

    def _fetch(self, invoice_id: str) -> dict[str, Any] | None:
        try:
            return self._client.fetch_invoice(invoice_id)
        except OrbNotFoundError:
            return None

    def _read(self, invoice_ids: Sequence[str]) -> dict[str, StoredInvoice]:
        rows = primary.rows(Invoice).filter(pk__in=invoice_ids)
        stored = {
            row["id"]: StoredInvoice(row, [], {})
            for row in rows.values(*INVOICE_COLUMNS)
        }
        lines = primary.rows(InvoiceLineItem)
        of_page = lines.filter(invoice_id__in=invoice_ids).order_by("position", "pk")
        for line in of_page.values(*LINE_COLUMNS):
            if line["invoice_id"] in stored:
                stored[line["invoice_id"]].lines.append(line)
        for name, invoice_id, child in self._read_children(invoice_ids):
            if invoice_id in stored:
                stored[invoice_id].children.setdefault(name, []).append(child)
        return stored

    def _read_children(
        self, invoice_ids: Sequence[str]
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for name, columns in CHILD_COLUMNS.items():
            children: Any = getattr(Invoice, name).rel.related_model
            rows = children.objects.using(primary.alias())
            of_page = rows.filter(invoice_id__in=invoice_ids).order_by("position", "pk")
            for child in of_page.values(*columns):
                yield name, child["invoice_id"], child
        taxes = primary.rows(InvoiceLineTax)
        of_page = taxes.filter(line_item__invoice__in=invoice_ids)
        names = (*TAX_COLUMNS, "line_item__orb_id", "line_item__invoice_id")
        for tax in of_page.order_by("position", "pk").values(*names):
            yield TAXES, tax["line_item__invoice_id"], tax

    # Repairs, through the ordinary writer

    def _repair(self, broken: dict[str, list[Difference]]) -> Iterator[Difference]:
        trouble = self._write_again(list(broken))
        for invoice_id, found in broken.items():
            left = self._look(invoice_id)
            reason = next((more.reason for more in left if more.reason), trouble)
            for difference in found:
                yield replace(
                    difference,
                    is_repaired=not left,
                    reason=reason if left else difference.reason,
                )

    def _write_again(self, invoice_ids: Sequence[str]) -> str:
        """Fetch and write invoices, even unchanged ones. Return why it failed."""
        # A fetched invoice that looks unchanged would be left as it is, whatever became
        # of its columns or lines.
        mirror.write_again(invoice_ids)
        kind = SyncRun.Kind.ONE.value
        run = runs.start_run(kind, invoice_ids=invoice_ids)
        runs.work_here(run, client=self._client)
        return "" if run.state == SyncRun.State.SUCCEEDED else run.error

    def _mark_gone(self) -> Iterator[Difference]:
        """
        Mark invoices that Orb no longer knows, at the end, when all are counted.

        This accepts no more of them than a full run does.
        """
        refusal = missing.refusal(self._notes.count("gone"))
        for batch in _batches(self._notes.all("gone")):
            stored = self._read(batch)
            found = {pk: [_gone(pk, stored.get(pk))] for pk in batch}
            if refusal:
                for gone in found.values():
                    yield replace(gone[0], is_repaired=False, reason=refusal)
            else:
                yield from self._repair(found)
            self._end_page()


class _Notes:
    """Names in a file that SQLite deletes, so that accounts may be of any size."""

    def __init__(self) -> None:
        # An empty name means a temporary file: https://www.sqlite.org/inmemorydb.html
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Nothing in it is needed after a crash.
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute(
            "CREATE TABLE note (kind, name, PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )

    def add(self, kind: str, name: str) -> bool:
        """Add a name. Return whether it is new."""
        insert = "INSERT OR IGNORE INTO note VALUES (?, ?)"
        return self._file.execute(insert, (kind, name)).rowcount == 1

    def has(self, kind: str, name: str) -> bool:
        query = "SELECT 1 FROM note WHERE kind = ? AND name = ?"
        return self._file.execute(query, (kind, name)).fetchone() is not None

    def count(self, kind: str) -> int:
        query = "SELECT count() FROM note WHERE kind = ?"
        return int(self._file.execute(query, (kind,)).fetchone()[0])

    def all(self, kind: str) -> Iterator[str]:
        query = "SELECT name FROM note WHERE kind = ? ORDER BY name"
        return (name for (name,) in self._file.execute(query, (kind,)))

    def close(self) -> None:
        self._file.close()


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(names, BATCH)):
        yield batch


def _gone(invoice_id: str, here: StoredInvoice | None) -> Difference:
    row = here.row if here else {}
    number, status = row.get("invoice_number", ""), row.get("status", NOTHING)
    return Difference(invoice_id, "gone", "", NOTHING, status, invoice_number=number)


def _without_id(invoice_id: Any, position: int) -> Difference:
    return Difference(
        f"(item {position} of a page)",
        "not_mirrored",
        "id",
        invoice_id,
        NOTHING,
        reason="The invoice has no id that can be stored.",
    )


def _is_usable(invoice_id: Any) -> TypeGuard[str]:
    """Tell whether databases and URLs can hold the id."""
    if not isinstance(invoice_id, str) or not invoice_id or "\0" in invoice_id:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in invoice_id)
