"""
Exactly once: voids and line items through everything that can cut in.

Hypothesis chooses what is asked for, by how many at once, what the connection does
and where a process is killed with SIGKILL. Then Orb is well again and `recover`
runs: each void and each line that was recorded is in Orb once and in the mirror
once, or was refused and is nowhere.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_orb import tasks
from django_orb.db.clock import database_now
from django_orb.models import Invoice, InvoiceLineItem, InvoiceOperation
from django_orb.testing import OrbSandbox
from tests import databases
from tests.doers import CALLS, POINTS, Doers
from tests.sync.test_faults import quietly

pytestmark = pytest.mark.proof

ROUTES = {
    "void": "void_invoice",
    "line": "create_invoice_line_item",
    "delete": "delete_invoice_line_item",
    "issue": "issue_invoice",
    "edit": "update_invoice",
}
STATUS = {"void": "issued"}
SHORT, LONG = 40, 400


@dataclass(frozen=True)
class Trouble:
    """What becomes of the next so many requests that carry the deed."""

    method: str
    options: dict[str, Any]

    def happen(self, orb: OrbSandbox, route: str) -> None:
        getattr(orb, self.method)(route=route, **self.options)


def _cut(when: str, count: int) -> Trouble:
    return Trouble("cut_next", {"when": when, "count": count})


def _fail(status: int, when: str, count: int) -> Trouble:
    return Trouble("fail_next", {"status": status, "when": when, "count": count})


COUNT = st.integers(1, 4)
TROUBLES = st.one_of(
    st.builds(_cut, st.sampled_from(["before", "after", "during"]), COUNT),
    st.builds(
        _fail,
        st.sampled_from([408, 409, 500, 503]),
        st.sampled_from(["before", "after"]),
        COUNT,
    ),
    # Whoever says this has done nothing.
    st.builds(_fail, st.sampled_from([401, 429]), st.just("before"), COUNT),
)
KILLS = st.one_of(st.none(), st.sampled_from(sorted(POINTS)), st.integers(0, CALLS))


@dataclass(frozen=True)
class Round:
    """
    Things asked for at the same time, of one invoice.

    Each is a number, which names the intention (the same number is a double
    click), and where its process is killed.
    """

    clicks: list[tuple[int, str | int | None]]
    troubles: list[Trouble]
    lag: int
    recovers: bool


@dataclass(frozen=True)
class Schedule:
    kind: str
    rounds: list[Round]


ROUNDS = st.builds(
    Round,
    clicks=st.lists(st.tuples(st.integers(0, 1), KILLS), min_size=1, max_size=2),
    troubles=st.lists(TROUBLES, max_size=2),
    lag=st.sampled_from([0, 0, 1, 3]),
    recovers=st.booleans(),
)
SCHEDULES = st.builds(
    Schedule,
    kind=st.sampled_from(["void", "void", "line", "line", "line", "delete", "issue"]),
    rounds=st.lists(ROUNDS, min_size=1, max_size=3),
)


@dataclass
class Story:
    """One schedule, played on an invoice of its own."""

    schedule: Schedule
    orb: OrbSandbox
    doers: Doers
    seen: Counter[str] = field(default_factory=Counter)

    def play(self) -> None:
        kind = self.schedule.kind
        made = self.orb.add_invoice(
            status=STATUS.get(kind, "draft"), days_ago=1, metadata={}
        )
        self.invoice_id = str(made["id"])
        self.lines = [line["id"] for line in made["line_items"]]
        self.keys = [f"{self.lines[0]} {uuid.uuid4().hex[:12]}" for _ in range(2)]
        for one in self.schedule.rounds:
            self._play_round(one)
        self.orb.clear_faults()
        self.orb.lag_reads(0)
        # What lags behind catches up with the reads.
        for _ in range(2 + 3):
            self._recover()
        self._check()

    def _play_round(self, one: Round) -> None:
        self.orb.lag_reads(one.lag)
        for trouble in one.troubles:
            trouble.happen(self.orb, ROUTES[self.schedule.kind])
        ends = self.doers.do(
            *[
                {
                    "kind": self.schedule.kind,
                    "invoice_id": self.invoice_id,
                    "key": self.keys[number],
                    "kill": kill,
                }
                for number, kill in one.clicks
            ]
        )
        self.seen.update(ends)
        if one.recovers:
            self._recover()

    def _recover(self) -> None:
        """Let six minutes pass, and the schedule do its work."""
        past = database_now(databases.current_alias) - timedelta(minutes=6)
        pending = InvoiceOperation.objects.filter(state="pending")
        pending.update(lease_expires_at=past)
        # Orb's reads no longer lag behind what got no answer.
        pending.exclude(first_sent_at=None).update(first_sent_at=past)
        InvoiceOperation.objects.filter(mirrored_at=None).exclude(
            finished_at=None
        ).update(finished_at=past)
        tasks.recover()

    def _check(self) -> None:
        operations = InvoiceOperation.objects.filter(invoice_id=self.invoice_id)
        states = {one.idempotency_key: one.state for one in operations}
        self.seen.update(states.values())
        assert set(states.values()) <= {"succeeded", "refused"}, states
        done = [key for key, state in states.items() if state == "succeeded"]
        invoice = self.orb.invoice(self.invoice_id)
        getattr(self, f"_check_{self.schedule.kind}")(invoice, done)
        if done:
            assert Invoice.objects.get(pk=self.invoice_id).payload == invoice
            seen = {op.idempotency_key for op in operations if op.mirrored_at}
            assert seen >= set(done)

    def _check_void(self, invoice: dict[str, Any], done: list[str]) -> None:
        assert (invoice["status"] == "void") == bool(done)
        # Two that got no answer both find it done: whose it was cannot be told.
        assert self._events("invoice.manually_marked_as_void") == bool(done)

    def _check_line(self, invoice: dict[str, Any], done: list[str]) -> None:
        names = Counter(line["name"] for line in invoice["line_items"])
        mirrored = InvoiceLineItem.objects.filter(invoice_id=self.invoice_id)
        for key in self.keys:
            assert names[key] == (key in done)
            assert mirrored.filter(name=key).count() == (key in done)

    def _check_delete(self, invoice: dict[str, Any], done: list[str]) -> None:
        assert len(invoice["line_items"]) == (0 if done else 1)

    def _check_issue(self, invoice: dict[str, Any], done: list[str]) -> None:
        assert (invoice["status"] != "draft") == bool(done)
        # Two that got no answer both find it done: whose it was cannot be told.
        assert self._events("invoice.issued") == bool(done)

    def _check_edit(self, invoice: dict[str, Any], done: list[str]) -> None:
        assert [*invoice["metadata"]] == done

    def _events(self, kind: str) -> int:
        return sum(
            event["type"] == kind and event["invoice"]["id"] == self.invoice_id
            for event in self.orb.webhook_events()
        )


@pytest.fixture
def doers(
    orb: OrbSandbox, process_environment: Callable[[], dict[str, str]]
) -> Iterator[Doers]:
    made = Doers(process_environment())
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "django_orb.operations.confirmation.time.sleep", lambda seconds: None
    )


def play_all(orb: OrbSandbox, doers: Doers, examples: int) -> Counter[str]:
    """Play so many schedules on one sandbox; how what was asked for ended."""
    seen: Counter[str] = Counter()

    @quietly(examples)
    @given(schedule=SCHEDULES)
    def play(schedule: Schedule) -> None:
        story = Story(schedule, orb, doers)
        story.play()
        seen.update(story.seen)
        seen["schedules"] += 1

    play()
    return seen


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_everything_happens_once(orb: OrbSandbox, doers: Doers) -> None:
    seen = play_all(orb, doers, SHORT)

    # The schedules are no empty promise.
    assert seen["killed"] > SHORT / 4
    assert seen["succeeded"] > SHORT / 4
    assert seen["refused"]


@pytest.mark.long
@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_everything_happens_once_for_long(orb: OrbSandbox, doers: Doers) -> None:
    seen = play_all(orb, doers, LONG)

    print(dict(seen))
    assert seen["schedules"] >= LONG


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
def test_everything_happens_once_on_every_database(
    any_committed_database: str, orb: OrbSandbox, doers: Doers
) -> None:
    assert play_all(orb, doers, 5)["schedules"] == 5


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
@pytest.mark.parametrize("kind", sorted(ROUTES))
def test_process_killed_at_each_point(orb: OrbSandbox, doers: Doers, kind: str) -> None:
    for point in POINTS:
        if kind == "edit" and point == "seen":
            continue  # an edit looks before it is recorded, too
        story = Story(Schedule(kind, [Round([(0, point)], [], 0, False)]), orb, doers)

        story.play()

        assert story.seen["killed"] == 1
        assert story.seen["succeeded"] == (point != "not recorded")
