"""
Receivers that fail by chance: what they do here happens once, and in order.

Invoices change, two receivers write to this database and fail in every way that is
not their own, and in their own. When all is well again, each receiver's effects are
those of the changes in their order, but for those where it failed by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.admin.models import LogEntry
from django.db import connections

from django_orb import tasks
from django_orb.mirror import change_log
from django_orb.models import Invoice, InvoiceChange
from django_orb.signals import invoice_status_changed, invoice_updated
from tests import databases, times

from .test_change_log import Connect, connect
from .test_telling import TROUBLES, be_in_the_way, let_time_pass, users
from .test_writing import at, make, see

__all__ = ["connect"]  # a fixture

STATUSES = ("draft", "issued", "paid", "void")
INVOICES = ("inv1", "inv2", "inv3")


def fail_at_the_commit() -> None:
    LogEntry.objects.create(
        user_id=987654, object_id="1", object_repr="x", action_flag=1
    )


def fail_by_itself() -> None:
    raise ZeroDivisionError


def be_interrupted() -> None:
    raise KeyboardInterrupt


class Schedule:
    """Changes of invoices, and what becomes of telling them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.is_calm = False
        self.outcomes: dict[tuple[str, str], bool] = {}
        self.troubles: list[Callable[[], None]] = [
            *TROUBLES,
            *(be_in_the_way, fail_at_the_commit, be_interrupted, fail_by_itself),
        ]
        self.is_immediate = connections[databases.current_alias].vendor == "mysql"
        self.second = 0

    def receiver(self, name: str) -> Callable[..., None]:
        def receive(invoice: Invoice, change_id: Any, **more: Any) -> None:
            users().create(username=f"{name} {invoice.pk} {change_id}")
            trouble = self.chance.choice(self.troubles)
            if self.is_calm or self.chance.random() < 0.6:
                self.outcomes[name, str(change_id)] = True
                return
            # Where constraints fail at once, the receiver does.
            is_own = trouble is fail_by_itself or (
                trouble is fail_at_the_commit and self.is_immediate
            )
            self.outcomes[name, str(change_id)] = not is_own
            trouble()

        return receive

    def step(self) -> None:
        try:
            self.act()
        except (SoftTimeLimitExceeded, ValueError, KeyboardInterrupt):
            pass  # they end the work of a process

    def act(self) -> None:
        choice = self.chance.random()
        if choice < 0.6:
            status = self.chance.choice(STATUSES)
            payload = make(self.chance.choice(INVOICES), status=status)
            self.second += 2
            see(payload, at(self.second, self.second + 1))
        elif choice < 0.8:
            let_time_pass()
            tasks.recover()
        else:
            change_log.announce()

    def end(self) -> None:
        """All is well again, and a person looks after what failed."""
        self.is_calm = True
        failed = InvoiceChange.objects.filter(failed_at__isnull=False)
        ids = list(failed.values_list("pk", flat=True))
        change_log.tell_again(ids)
        let_time_pass()
        tasks.recover()

    def check(self, name: str, signal: Any) -> None:
        told = list(InvoiceChange.objects.order_by("pk"))
        if signal is invoice_updated:
            told = [one for one in told if one.kind == "updated"]
        else:
            told = [one for one in told if one.previous_status != one.status]
        rows = users().order_by("pk").values_list("username", flat=True)
        effects = [row.split() for row in rows]
        for invoice_id in INVOICES:
            ids = [str(one.change_id) for one in told if one.invoice_id == invoice_id]
            expected = [one for one in ids if self.outcomes[name, one]]
            found = [one[2] for one in effects if one[:2] == [name, invoice_id]]
            assert found == expected


@pytest.mark.parametrize(
    ("seeds", "steps"),
    [
        pytest.param(range(3), 25, id="short"),
        pytest.param(range(3, 203), 40, id="full", marks=pytest.mark.long),
    ],
)
def test_effects_here_happen_once_and_in_order(
    any_committed_database: str,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    seeds: range,
    steps: int,
) -> None:
    times.rule(monkeypatch, sleep=lambda seconds: None)
    current: list[Schedule] = []
    signals = {"status": invoice_status_changed, "updated": invoice_updated}

    def listen_as(name: str) -> Callable[..., None]:
        return lambda **named: current[0].receiver(name)(**named)

    for name, signal in signals.items():
        connect(signal, listen_as(name))
    for seed in seeds:
        current[:] = [Schedule(seed)]
        for _ in range(steps):
            current[0].step()
        current[0].end()
        assert not InvoiceChange.objects.filter(announced_at=None).exists(), seed
        for name, signal in signals.items():
            current[0].check(name, signal)
        users().all().delete()
        InvoiceChange.objects.all().delete()
        Invoice.objects.all().delete()
