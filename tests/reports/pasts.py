"""Random histories of an account, mirrored as they go, and what was true on each day."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from django_orb import mirror
from django_orb.db import primary
from django_orb.mirror import Observation
from django_orb.models import Invoice, InvoiceChange, InvoiceCreditNote
from django_orb.reports import Ageing, as_of, read_receivables
from django_orb.reports.days import begin_of
from django_orb.testing.account import Account, Clock, MadeUpOrb

CUSTOMERS = ("alpha", "beta")
#: What can happen to an invoice of each status; the more often, the likelier.
POSSIBLE = {
    "draft": ["issue", "issue", "delete"],
    "issued": ["pay", "pay", "void", "sync", "credit", "credit", "forgive", "delete"],
    "paid": ["credit", "forgive", "forgive", "touch", "delete"],
    "synced": ["pay", "touch"],
    "void": ["forgive", "touch"],
}


@dataclass
class Day:
    """What was owed at the end of a day, and the overview's figures at that moment."""

    owed: dict[str, Decimal]
    figures: list[Ageing]


@dataclass
class Past:
    """An account in memory and its mirror, from the morning of `first` on."""

    chance: random.Random
    first: date
    days: dict[date, Day] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = Clock(begin_of(self.first))
        self.orb = MadeUpOrb(Account(0, 1, self.clock, self.clock.now()))

    def live(self, days: int) -> None:
        """Let so many days pass, with a few events on each."""
        for number in range(days):
            day = self.first + timedelta(days=number)
            begin = begin_of(day)
            seconds = int((begin_of(day + timedelta(days=1)) - begin).total_seconds())
            for second in sorted(self.chance.sample(range(seconds), 4)):
                self.clock.set(begin + timedelta(seconds=second))
                self._do_something()
            self.clock.set(as_of(day, now=begin + timedelta(days=3)).moment)
            for invoice_id in self.orb.invoice_ids():
                self.see(invoice_id)
            self.days[day] = self._remember()

    def _remember(self) -> Day:
        found = (self.orb.invoice(one) for one in self.orb.invoice_ids("issued"))
        owed = {one["id"]: Decimal(one["amount_due"]) for one in found}
        now = as_of(now=self.clock.now())
        return Day(
            {name: amount for name, amount in owed.items() if amount > 0},
            read_receivables(Invoice.objects.all(), now),
        )

    def _do_something(self) -> None:
        ids = self.orb.invoice_ids()
        if len(ids) < 3 or self.chance.random() < 0.3:
            self.see(self._add()["id"])
            return
        # Often one that was credited already, or few credit notes would be voided.
        noted = [one for one in ids if self.orb.invoice(one)["credit_notes"]]
        is_noted = noted and self.chance.random() < 0.4
        invoice_id = self.chance.choice(noted if is_noted else ids)
        # Orb's clock may have issued or collected it meanwhile.
        self.see(invoice_id)
        status = self.orb.invoice(invoice_id)["status"]
        what = self.chance.choice(POSSIBLE[status])
        getattr(self, f"_{what}")(invoice_id)
        if what != "delete":
            self.see(invoice_id)

    def _add(self) -> dict[str, Any]:
        return self.orb.add_invoice(
            status=self.chance.choice(["draft", "issued", "issued", "paid", "synced"]),
            external_customer_id=self.chance.choice(CUSTOMERS),
            amount=f"{self.chance.randint(100, 99_999)}.{self.chance.randint(0, 99):02}",
            days_ago=self.chance.randint(-5, 120),
        )

    def _issue(self, invoice_id: str) -> None:
        self.orb.issue(invoice_id)

    def _pay(self, invoice_id: str) -> None:
        self.orb.mark_paid(invoice_id)

    def _void(self, invoice_id: str) -> None:
        self.orb.void(invoice_id)

    def _sync(self, invoice_id: str) -> None:
        self.orb.sync(invoice_id)

    def _touch(self, invoice_id: str) -> None:
        self.orb.update_invoice(invoice_id, memo=f"{self.chance.random()}")

    def _credit(self, invoice_id: str) -> None:
        """Issue a credit note, which lowers what is due on an issued invoice."""
        invoice = self.orb.invoice(invoice_id)
        due, is_open = Decimal(invoice["amount_due"]), invoice["status"] == "issued"
        off = min(due, Decimal(self.chance.randint(1, 400)))
        notes = invoice["credit_notes"]
        note = {
            "id": f"{invoice_id}-{len(notes)}",
            "credit_note_number": f"CN-{len(notes)}",
            "memo": None,
            "reason": "Order change",
            "total": f"{off}",
            "type": "adjustment" if is_open else "refund",
            "voided_at": None,
        }
        changes: dict[str, Any] = {"credit_notes": [*notes, note]}
        if is_open:
            changes["amount_due"] = f"{due - off}"
        self.orb.update_invoice(invoice_id, **changes)

    def _forgive(self, invoice_id: str) -> None:
        """Void a credit note that is not void, if there is one."""
        invoice = self.orb.invoice(invoice_id)
        notes = [dict(note) for note in invoice["credit_notes"]]
        valid = [note for note in notes if note["voided_at"] is None]
        if not valid:
            return
        note = self.chance.choice(valid)
        note["voided_at"] = self.clock.now().replace(microsecond=0).isoformat()
        changes: dict[str, Any] = {"credit_notes": notes}
        # The amount is frozen once the invoice is paid or void.
        if invoice["status"] == "issued":
            due = Decimal(invoice["amount_due"]) + Decimal(note["total"])
            changes["amount_due"] = f"{due}"
        self.orb.update_invoice(invoice_id, **changes)

    def _delete(self, invoice_id: str) -> None:
        self.orb.delete_invoice(invoice_id)
        self._write(invoice_id, None)

    def see(self, invoice_id: str) -> None:
        """Mirror an invoice as it is now."""
        self._write(invoice_id, self.orb.invoice(invoice_id))

    def _write(self, invoice_id: str, payload: dict[str, Any] | None) -> None:
        known = mirror.versions([invoice_id]).get(invoice_id)
        now = time.monotonic()
        interval = primary.clock().interval(now, now)
        changes = InvoiceChange.objects.filter(invoice=invoice_id)
        notes = InvoiceCreditNote.objects.filter(invoice=invoice_id)
        had_changes = list(changes.values_list("pk", flat=True))
        had_notes = list(notes.values_list("pk", flat=True))
        seen = Observation(
            invoice_id, payload, interval, supersedes=known, is_absent=payload is None
        )
        assert not mirror.write([seen]).failed
        # The mirror has a clock of its own, which is not turned back here.
        then = self.clock.now()
        changes.exclude(pk__in=had_changes).update(created_at=then)
        new_notes = notes.exclude(pk__in=had_notes)
        new_notes.exclude(dated_at=None).update(dated_at=then)
        if payload is None:
            Invoice.objects.filter(pk=invoice_id).update(missing_since=then)


@contextmanager
def changed_meanwhile(alias: str, **changes: Any) -> Iterator[None]:
    """
    Change all invoices in another connection, right after the block first reads them.
    """
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has no reports of one instant outside a transaction")
    changed: list[int] = []

    def change() -> None:
        changed.append(Invoice.objects.using(alias).update(**changes))
        connections.close_all()

    def meanwhile(execute: Any, sql: str, *more: Any) -> Any:
        found = execute(sql, *more)
        if "django_orb_invoice" in sql and not changed:
            worker = threading.Thread(target=change)
            worker.start()
            worker.join()
        return found

    with connections[alias].execute_wrapper(meanwhile):
        yield
    assert changed == [Invoice.objects.count()]
