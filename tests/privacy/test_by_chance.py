"""In any order of what comes and what is asked, nothing personal of the erased is there."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_orb import exact_json, maintenance, mirror, services
from django_orb.db import primary, run_in_transaction, uses_copy
from django_orb.db.clock import Interval
from django_orb.mirror import erased, ordering
from django_orb.mirror.page_writer import PageWriter
from django_orb.models import CustomerErasure, Invoice
from django_orb.operations import sending
from django_orb.webhooks import inbox
from django_orb.webhooks.payload import parse_event
from tests.put_back import put_back

from .poison import CUSTOMER, WORD, event, observed, operated, personal, places

pytestmark = pytest.mark.proof

START = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)
IDS = ("inv1", "inv2", "inv3")
SOME, MANY, STEPS = 4, 100, 25


class Walk:
    """Pages that are prepared, then something else, then written; and all the rest."""

    def __init__(self, seed: object, using: str) -> None:
        self.chance = random.Random(str(seed))
        self.using = using
        self.now = START
        self.prepared: list[PageWriter] = []
        self.path: list[str] = []

    def step(self) -> None:
        actions: list[Callable[[], None]] = [
            *(self.ask, self.ask, self.write, self.write, self.deliver),
            *(self.answer, self.erase, self.undo, self.recover),
        ]
        action = self.chance.choice(actions)
        self.path.append(action.__name__)
        action()
        if CustomerErasure.objects.exclude(active_customer_id=None).exists():
            assert places() == [], self.path

    def payload(self) -> dict[str, Any]:
        changes: dict[str, Any] = {"total": f"{self.chance.randrange(3)}.00"}
        luck = self.chance.random()
        if luck < 0.1:
            changes["total"] = "?"
        if luck > 0.9:
            changes["customer"] = None
        return personal(self.chance.choice(IDS), **changes)

    def ask(self) -> None:
        """A page comes, and is mapped ahead, perhaps; it is written later."""
        self.now += timedelta(seconds=10)
        interval = Interval(self.now, self.now + timedelta(seconds=1))
        as_text = self.chance.random() < 0.7
        seen = {
            one.invoice_id: one
            for one in (
                observed(self.payload(), interval, as_text=as_text) for _ in IDS
            )
        }
        if as_text and self.chance.random() < 0.5:
            for one in seen.values():
                digits = mirror.digits_kept()
                ordering.map_ahead(one.payload, digits, to_copy=uses_copy())
        writer = PageWriter(list(seen.values()))
        if writer.is_mapped_ahead or run_in_transaction(writer.see_again) is None:
            writer.prepare()
            self.prepared.append(writer)

    def write(self) -> None:
        if self.prepared:
            index = self.chance.randrange(len(self.prepared))
            run_in_transaction(self.prepared.pop(index).write)

    def deliver(self) -> None:
        sent = self.payload()
        if not Invoice.objects.filter(pk=sent["id"]).exists():
            # Otherwise nothing would tell whose it is.
            sent["customer"] = personal()["customer"]
        body = exact_json.dumps(event(sent))
        inbox.store(parse_event(body.encode()), body)

    def answer(self) -> None:
        """Orb answers to an operation of one of them, which the mirror shows then."""
        quiet: dict[str, Any] = {"body": {}, "before": {}, "note": "", "detail": ""}
        quiet |= {"state": "pending", "result": {}, "finished_at": None}
        operation = operated(self.chance.choice(IDS), **quiet)
        whole = personal(operation.invoice_id)
        sending.finish(operation, "succeeded", "", result=whole)

    def erase(self) -> None:
        if Invoice.objects.exists():
            services.erase_customer(CUSTOMER)

    def undo(self) -> None:
        if CustomerErasure.objects.exclude(active_customer_id=None).exists():
            services.undo_erasure(CUSTOMER)

    def recover(self) -> None:
        maintenance.finish_operations()

    def end(self) -> None:
        """Once it is undone, what Orb shows next is there, whole."""
        self.undo()
        for invoice_id in IDS:
            later = primary.now() + timedelta(hours=1)
            whole = personal(invoice_id)
            mirror.write([observed(whole, Interval(later, later))])
            assert Invoice.objects.get(pk=invoice_id).payload == whole, self.path
            assert Invoice.objects.get(pk=invoice_id).memo == WORD


def walk(seed: object, using: str) -> None:
    way = Walk(seed, using)
    for _ in range(STEPS):
        way.step()
    way.end()
    for model in (Invoice, CustomerErasure):
        model.objects.all().delete()


@pytest.mark.parametrize("number", range(SOME))
def test_nothing_personal_of_the_erased_is_there(
    any_database: str, number: int
) -> None:
    walk(f"{any_database} {number}", any_database)


@pytest.mark.long
@pytest.mark.parametrize("number", range(MANY))
def test_nothing_personal_of_the_erased_is_there_in_many(
    any_database: str, number: int
) -> None:
    walk(f"long {any_database} {number}", any_database)


def walk_some(numbers: range) -> None:
    for number in numbers:
        walk(f"fault {number}", "default")


@pytest.mark.django_db(databases=["default"])
def test_the_walk_finds_out_who_asks_no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back(monkeypatch, erased, "customers", lambda **_: erased.probably())

    with pytest.raises(AssertionError):
        walk_some(range(20))
