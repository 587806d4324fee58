"""Never stale: orders of everything, by chance; see `every_path.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import transaction

from django_orb import mirror
from django_orb.mirror import ordering, page_writer
from django_orb.mirror.ordering import Known
from django_orb.models import InvoiceObservation
from tests.every_path import Rewritten, walk_by_chance
from tests.histories import Stale

pytestmark = pytest.mark.proof

SOME = 15
MANY = 300


def walk_all(seeds: Sequence[object], using: str) -> int:
    writes = 0
    for seed in seeds:
        with transaction.atomic(using=using):
            writes += walk_by_chance(seed, using)
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


def blank(invoice_ids: Sequence[str], *, using: str) -> None:
    rows = InvoiceObservation.objects.using(using).filter(pk__in=invoice_ids)
    rows.update(content_hash="", raw_digest="", started_at=None, ended_at=None)


def forget_failures(invoice_id: str, known: Known, *rest: Any) -> dict[str, Any]:
    row = ordering.touch(invoice_id, known, *rest)
    if rest[1] in ("take", "same"):
        row["failed_from"] = row["failed_until"] = None
    return row


def fill_as_own(invoice_id: str, known: Known, *rest: Any) -> dict[str, Any]:
    row = ordering.touch(invoice_id, known, *rest)
    return {**row, "mapper_version": 0} if rest[1] == "same" else row


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "what orders answers is blanked": lambda patch: patch.setattr(
        mirror, "write_again", blank
    ),
    "what was left out is not fetched": lambda patch: patch.setattr(
        page_writer.PageWriter, "_record_rechecks", lambda *_: None
    ),
    "a failure goes with an older answer": lambda patch: patch.setattr(
        page_writer, "touch", forget_failures
    ),
    "an older release writes again": lambda patch: patch.setattr(
        page_writer, "touch", fill_as_own
    ),
    "our own write is not waited for": lambda patch: patch.setattr(
        page_writer.PageWriter, "_find_late", lambda *_: None
    ),
}


@pytest.mark.long
@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[name](monkeypatch)

    with pytest.raises((Stale, Rewritten)):
        walk_all([f"fault {n}" for n in range(20 * SOME)], "default")
