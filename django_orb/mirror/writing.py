"""Write observations into the mirror."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from django.db import DataError, IntegrityError
from django.db.models import F

from django_orb import metrics
from django_orb.db import primary, run_in_transaction, upsert
from django_orb.models import InvoiceObservation, InvoiceRecheck

from . import change_log
from .change_log import FETCHED, Origin
from .ordering import ABSENT, NO_ID, Observation, read_page
from .page_writer import LAG, PageWriter, WriteResult

__all__ = [
    "ABSENT",
    "LAG",
    "NO_ID",
    "Observation",
    "WriteResult",
    "fetch_later",
    "read_page",
    "versions",
    "write",
    "write_again",
]

# None: nothing was written, because it takes more than that.
Written = TypeVar("Written", "WriteResult", "WriteResult | None")


def versions(invoice_ids: Sequence[str]) -> dict[str, int]:
    """Return the committed versions of observations, for `Observation.supersedes`."""
    rows = primary.rows(InvoiceObservation).filter(pk__in=invoice_ids)
    return dict(rows.values_list("pk", "version"))


def write_again(invoice_ids: Sequence[str]) -> None:
    """Let the next answer write the rows of these invoices, even if it is unchanged."""
    rows = primary.rows(InvoiceObservation).filter(pk__in=invoice_ids)
    # With the version no request that began before is taken for a later one.
    rows.update(rewrite_at=primary.now(), version=F("version") + 1)


def fetch_later(invoice_ids: Sequence[str]) -> None:
    """
    Let `recover` fetch these invoices, because the answers so far decided nothing.

    Another worker may be fetching one already: its answer may be one of those.
    """
    now = primary.now()
    rows = [
        {"invoice_id": pk, "due_at": now, "attempts": 0}
        for pk in sorted({*invoice_ids})
    ]
    run_in_transaction(partial(upsert, InvoiceRecheck, rows, key=["invoice_id"]))


def write(
    observations: Sequence[Observation],
    *,
    run_id: int | None = None,
    origin: Origin = FETCHED,
    also: Callable[[WriteResult], None] | None = None,
) -> WriteResult:
    """
    Write observations into the mirror, in one transaction.

    `also` is called inside it with the result; if it raises, nothing is written. An
    invoice that cannot be stored fails alone and is recorded. Ids in `doubtful` were
    not written: fetch them again (see Note [Never stale]).
    """
    writer = PageWriter(observations, run_id=run_id, origin=origin)

    def completed(write: Callable[[], Written]) -> Callable[[], Written]:
        def body() -> Written:
            result = write()
            if also is not None and result is not None:
                also(result)
            return result

        return body

    if not writer.is_mapped_ahead:
        unchanged = run_in_transaction(completed(writer.see_again))
        if unchanged is not None:
            metrics.written(origin.kind, unchanged)
            return unchanged
    writer.prepare()
    try:
        result = run_in_transaction(completed(writer.write))
    except (DataError, IntegrityError):
        # The database refuses the whole page because of one invoice, and does not say which.
        writer.distrust()
        result = run_in_transaction(completed(writer.write))
    metrics.written(origin.kind, result)
    changed = [*result.created, *result.updated, *result.missing]
    change_log.announce_on_commit(changed)
    return result
