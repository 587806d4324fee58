"""Never stale: orders of everything, by chance; see `every_path.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from django.db import transaction

from django_orb import mirror
from django_orb.client import OrbClient
from django_orb.db import claim, primary
from django_orb.mirror import (
    Observation,
    WriteResult,
    failure_reasons,
    fetching,
    ordering,
    page_writer,
    writing,
)
from django_orb.mirror.ordering import Known
from django_orb.mirror.page_writer import PageWriter
from django_orb.models import InvoiceObservation, InvoiceRecheck
from tests.every_path import Rewritten, walk_by_chance
from tests.histories import Stale
from tests.put_back import put_back

pytestmark = pytest.mark.proof

SOME = 8
MANY = 300


def walk_all(seeds: Sequence[object], using: str, **options: Any) -> int:
    writes = 0
    for seed in seeds:
        with transaction.atomic(using=using):
            writes += walk_by_chance(seed, using, **options)
            transaction.set_rollback(True, using=using)
    return writes


def test_newest_state_wins_on_every_path(any_database: str) -> None:
    assert walk_all([f"{any_database} {n}" for n in range(SOME)], any_database)


@pytest.mark.long
def test_newest_state_wins_on_every_path_of_many(any_database: str) -> None:
    writes = walk_all([f"long {any_database} {n}" for n in range(MANY)], any_database)

    print(any_database, MANY, "walks", writes, "writes")
    assert writes


# The proof can fail: what was wrong once is found out


def blank(invoice_ids: Sequence[str]) -> None:
    rows = primary.rows(InvoiceObservation).filter(pk__in=invoice_ids)
    rows.update(content_hash="", raw_digest="", started_at=None, ended_at=None)


def forget_failures(invoice_id: str, known: Known, *rest: Any) -> dict[str, Any]:
    row = ordering.touch(invoice_id, known, *rest)
    if rest[1] in ("take", "same"):
        row["failed_from"] = row["failed_until"] = None
    return row


def fill_as_own(invoice_id: str, known: Known, *rest: Any) -> dict[str, Any]:
    row = ordering.touch(invoice_id, known, *rest)
    return {**row, "mapper_version": 0} if rest[1] == "same" else row


_find_late = PageWriter._find_late


def find_late_if_looked_at(self: PageWriter, stored: dict[str, Known]) -> None:
    """A page that was mapped ahead is not looked at before it is locked."""
    _find_late(self, self._known)


def fetch_later_at_most_once(invoice_ids: Sequence[str]) -> None:
    rows = [{"invoice_id": pk, "due_at": primary.now()} for pk in invoice_ids]
    claim(InvoiceRecheck, [{**row, "attempts": 0} for row in rows])


def forget_doubts_at_an_error(
    client: OrbClient,
    doubtful: Sequence[str],
    *,
    write: Callable[[Sequence[Observation]], WriteResult],
) -> dict[str, str]:
    while doubtful:
        doubtful = write(fetching.observe_invoices(client, doubtful)).doubtful
    return {}


class Fault(NamedTuple):
    """How it is put back, and the steps and the seed of a walk that comes across it."""

    module: Any
    name: str
    wrong: Callable[..., Any]
    only: tuple[str, ...]
    seed: int


WAY = ("change", "wait", "ask", "answer", "answer")
OWN = (*WAY, "write_to_orb", "recover")
OWN_PAGES = (
    "change",
    "wait",
    "ask_page",
    "answer",
    "answer",
    "write_to_orb",
    "recover",
)
UNANSWERED = ("pay_unanswered", "deliver", "wait", "ask", "answer", "ask")
RUSHED = ("change", "deliver", "wait", "rush", "ask", "answer")
PAYING = ("fail", "pay", "undo", "deliver", "ask", "answer")
FAULTS = {
    "a failure that is over comes back": Fault(
        failure_reasons, "end", lambda *_: None, PAYING, 299
    ),
    "what orders answers is blanked": Fault(
        mirror, "write_again", blank, (*WAY, "repair"), 7
    ),
    "what was left out is not fetched": Fault(
        PageWriter, "_record_rechecks", lambda *_: None, OWN, 62
    ),
    "a doubt that outlives its recheck is forgotten": Fault(
        writing, "fetch_later", fetch_later_at_most_once, RUSHED, 1
    ),
    "a doubt is forgotten if Orb goes away": Fault(
        fetching,
        "fetch_until_ordered",
        forget_doubts_at_an_error,
        (*WAY, "deliver", "ask_page", "turn", "recover"),
        246,
    ),
    "a failure goes with an older answer": Fault(
        page_writer, "touch", forget_failures, WAY, 89
    ),
    "an older release writes again": Fault(page_writer, "touch", fill_as_own, WAY, 8),
    "our own write is not waited for": Fault(
        PageWriter, "_find_late", lambda *_: None, OWN, 10
    ),
    "a write without an answer is not waited for": Fault(
        Known, "shows", lambda *_: False, UNANSWERED, 1
    ),
    "our own write is not waited for by a page mapped ahead": Fault(
        PageWriter, "_find_late", find_late_if_looked_at, OWN_PAGES, 10
    ),
}


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    # Others follow, in case that the walk of this seed leads elsewhere by now.
    seeds = [f"fault {n}" for n in range(fault.seed, fault.seed + MANY)]
    put_back(monkeypatch, fault.module, fault.name, fault.wrong)

    with pytest.raises((Stale, Rewritten)):
        walk_all(seeds, "default", steps=15, only=fault.only)


@pytest.mark.long
@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("name", FAULTS)
def test_walks_that_find_a_fault_find_nothing_without_it(name: str) -> None:
    seeds = [f"fault {n}" for n in range(MANY)]

    assert walk_all(seeds, "default", steps=15, only=FAULTS[name].only)
