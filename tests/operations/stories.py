"""
What can happen to calls that change something in Orb, and what must come of it.

A `Schedule` says what is asked for, by how many processes at once, what Orb and the
connection do meanwhile, where processes are killed, and what happens afterwards. A
`Story` plays one on an invoice of its own and compares what is recorded with Orb's
books: which keys Orb obeyed, and what the invoice shows.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import F
from hypothesis import strategies as st

from django_orb import operations, services, tasks
from django_orb.account import open_account
from django_orb.db.clock import database_now
from django_orb.maintenance import retention
from django_orb.models import Invoice, InvoiceLineItem, InvoiceOperation
from django_orb.operations import recovery
from django_orb.operations.lookup import SHOWN, UNKNOWN_INVOICE
from django_orb.testing import OrbSandbox
from tests import databases
from tests.doers import CALLS, POINTS, Doers

Kill = str | int | None

ROUTES = {
    "void": "void_invoice",
    "line": "create_invoice_line_item",
    # Two that ask for the same line, under a key of their own.
    "twins": "create_invoice_line_item",
    "delete": "delete_invoice_line_item",
    "issue": "issue_invoice",
    "edit": "update_invoice",
    "create": "create_invoice",
}
FETCH = "fetch_invoice"
# Where Orb is looked at for what was done, if not at the invoice itself.
LOOKS = {"create": "list_invoices"}
STATUS = {"void": "issued"}
ENDED = {"succeeded", "refused", "cancelled"}
LAG = 3


@dataclass(frozen=True)
class Trouble:
    """A fault that the next requests to a route meet."""

    method: str
    options: dict[str, Any]
    is_of_reads: bool = False

    def happen(self, orb: OrbSandbox, kind: str) -> None:
        route = LOOKS.get(kind, FETCH) if self.is_of_reads else ROUTES[kind]
        getattr(orb, self.method)(route=route, **self.options)


def cut(when: str, count: int = 1) -> Trouble:
    return Trouble("cut_next", {"when": when, "count": count})


def fail(status: int, when: str = "before", count: int = 1, **more: Any) -> Trouble:
    options = {"status": status, "when": when, "count": count, **more}
    return Trouble("fail_next", options)


def blind(**options: Any) -> Trouble:
    return Trouble("fail_next", options, is_of_reads=True)


@dataclass(frozen=True)
class Click:
    """
    Something asked for, in a process of its own.

    `number` names the intention: the same one again is a double click, under the same
    key. `how` is "ask", "queue", "other" (the same key with another body) or
    "stolen" (somebody else used the key in Orb for something else before).
    """

    number: int = 0
    how: str = "ask"
    kill: Kill = None


@dataclass(frozen=True)
class Round:
    """Some things happen at the same time, and then others one after the other."""

    clicks: list[Click]
    troubles: list[Trouble] = field(default_factory=list)
    # Processes beside them: "recover" or "cancel", and where each is killed.
    beside: list[tuple[str, Kill]] = field(default_factory=list)
    lag: int = 0
    then: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Schedule:
    kind: str
    rounds: list[Round]


COUNT = st.integers(1, 4)
TROUBLES = st.one_of(
    st.builds(cut, st.sampled_from(["before", "after", "during"]), COUNT),
    st.builds(
        fail,
        st.sampled_from([408, 409, 500, 503]),
        st.sampled_from(["before", "after"]),
        COUNT,
    ),
    # Whoever says this has done nothing.
    st.builds(fail, st.sampled_from([400, 401, 403, 404, 413, 429]), count=COUNT),
    st.builds(fail, st.sampled_from([404, 502]), count=COUNT, html=st.just(True)),
    # A proxy's success, whose body is an object and nothing of Orb's.
    st.builds(fail, st.just(200), st.sampled_from(["before", "after"]), COUNT),
    st.builds(blind, status=st.just(200), count=COUNT),
    st.builds(blind, status=st.sampled_from([401, 429, 503]), count=COUNT),
    st.builds(blind, status=st.just(404), count=COUNT, html=st.just(True)),
)
# An answer that is lost, and a refusal of the next.
LOST_AND_REFUSED = st.builds(
    lambda when, status: [cut(when, 3), fail(status)],
    st.sampled_from(["after", "before"]),
    st.sampled_from([400, 401, 404]),
)
KILLS = st.one_of(st.none(), st.sampled_from(sorted(POINTS)), st.integers(0, CALLS))
AFTERWARDS = [
    *["recover"] * 3,
    *["hours", "days", "restore young", "restore old", "restore old"],
    *["cancel", "look", "look away", "close", "prune", "meddle", "blind"],
]
ROUNDS = st.builds(
    Round,
    clicks=st.lists(
        st.builds(
            Click,
            number=st.integers(0, 1),
            how=st.sampled_from(["ask"] * 4 + ["queue"] * 3 + ["other", "stolen"]),
            kill=KILLS,
        ),
        min_size=1,
        max_size=2,
    ),
    troubles=st.one_of(st.lists(TROUBLES, max_size=2), LOST_AND_REFUSED),
    beside=st.lists(
        st.tuples(st.sampled_from(["recover", "recover", "cancel"]), KILLS), max_size=2
    ),
    lag=st.sampled_from([0, 0, 1, LAG]),
    then=st.lists(st.sampled_from(AFTERWARDS), max_size=3),
)
SCHEDULES = st.builds(
    Schedule,
    kind=st.sampled_from(
        ["void"] * 3 + ["line"] * 3 + ["twins", "delete", "issue", "edit", "create"]
    ),
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
        self.kind = self.schedule.kind
        made = self.orb.add_invoice(
            status=STATUS.get(self.kind, "draft"), days_ago=1, metadata={}
        )
        self.invoice_id = str(made["id"])
        self.line = made["line_items"][0]["id"]
        self.item = made["line_items"][0]["price"]["item"]["id"]
        self.customer = self.orb.add_customer()["id"]
        self.keys = [self._new_key() for _ in range(2)]
        # All that were ever asked with, and which of them Orb is known to have obeyed.
        self.asked: set[str] = set()
        self.stolen: set[str] = set()
        self._obeyed: set[str] = set()
        self.forgotten: set[str] = set()
        # What became of rows that were pruned, and keys whose row a restore lost.
        self.pruned: dict[str, InvoiceOperation] = {}
        self.lost: set[str] = set()
        self.is_restored = self.has_jumped = self.is_meddled = False
        self.backup: list[dict[str, Any]] = []
        for one in self.schedule.rounds:
            self._play_round(one)
        self.orb.clear_faults()
        self.lag = 0
        self._come_to_an_end()
        self._check()

    def _new_key(self) -> str:
        return f"{self.invoice_id} {uuid.uuid4().hex}"

    @property
    def rows(self) -> Any:
        # An invoice that is to be made has no id to find its row by.
        return InvoiceOperation.objects.filter(
            idempotency_key__startswith=f"{self.invoice_id} "
        )

    # What happens

    def _play_round(self, one: Round) -> None:
        self.lag = one.lag
        deeds = [self._deed_of(click) for click in one.clicks]
        for trouble in one.troubles:
            trouble.happen(self.orb, self.kind)
        self._pass_minutes()
        beside = [
            {"how": how, "invoice_id": self.invoice_id, "kill": kill}
            for how, kill in one.beside
            if how != "cancel" or not self._may_be_of_a_young_backup()
        ]
        self.seen.update(self.doers.do(*deeds, *beside))
        self.backup = list(self.rows.values())
        for name in one.then:
            self.seen[name] += 1
            getattr(self, f"_{name.replace(' ', '_')}")()

    def _deed_of(self, click: Click) -> dict[str, Any]:
        key = self.keys[click.number]
        is_known = self.rows.filter(idempotency_key=key).exists()
        if key in self.lost | self.forgotten and not is_known:
            # Nothing is left that knows it: that it is used again is a new wish.
            key = self.keys[click.number] = self._new_key()
        how = click.how
        if how == "stolen" and key not in self.asked | self.stolen:
            self._steal(key)
        self.asked.add(key)
        deed = {
            "how": "queue" if how == "queue" and self.kind != "edit" else "ask",
            "kind": "line" if self.kind == "twins" else self.kind,
            "invoice_id": self.invoice_id,
            "key": key,
            "name": self._name_of(key),
            "line": self.line,
            "customer": self.customer,
            "item": self.item,
            "kill": click.kill,
        }
        return {**deed, "amount": "2.00"} if how == "other" else deed

    def _name_of(self, key: str) -> str:
        return self.invoice_id if self.kind == "twins" else key

    def _steal(self, key: str) -> None:
        self.orb.clear_faults()
        other = str(self.orb.add_invoice(status="issued", days_ago=1)["id"])
        with open_account() as client:
            client.void_invoice(other, idempotency_key=key)
        self.stolen.add(key)

    def _pass(self, step: timedelta) -> None:
        """Let time pass for all that is recorded; Orb's reads catch up meanwhile."""
        for name in ("created_at", "first_sent_at", "finished_at", "mirrored_at"):
            rows = self.rows.exclude(**{name: None})
            rows.update(**{name: F(name) - step})
            for row in self.backup:
                row[name] = row[name] and row[name] - step
        past = database_now(databases.current_alias) - step
        self.rows.exclude(lease_expires_at=None).update(lease_expires_at=past)
        self.orb.lag_reads(0)
        self.orb.update_invoice(self.invoice_id)  # changes nothing, and is seen at once
        self.orb.lag_reads(self.lag)

    def _pass_minutes(self) -> None:
        self._pass(timedelta(minutes=6))

    def _recover(self) -> None:
        """Let six minutes pass, and the schedule do its work."""
        self._pass_minutes()
        tasks.recover()
        tasks.recover()  # the first is over once it got no answer

    def _hours(self) -> None:
        self.has_jumped = True
        self._pass(timedelta(hours=2))

    def _days(self) -> None:
        """Orb forgets the keys; what is recorded grows old."""
        self.has_jumped = True
        self._note_obeyed()
        self.forgotten |= self.asked
        self._pass(timedelta(days=3))
        self.orb.advance(timedelta(days=3))

    def _restore_young(self) -> None:
        self._restore()
        self._pass(timedelta(hours=10))

    def _restore_old(self) -> None:
        self._restore()
        self._days()

    def _restore(self) -> None:
        """Put the rows back as they were when the round's processes had ended."""
        self.has_jumped = self.is_restored = True
        self.lost |= self.asked - {row["idempotency_key"] for row in self.backup}
        self.rows.delete()
        InvoiceOperation.objects.bulk_create(
            InvoiceOperation(**row) for row in self.backup
        )

    def _may_be_of_a_young_backup(self) -> bool:
        # Between a restore and the next minute's `recover` nothing tells what was
        # queued an hour ago from what was sent since the backup.
        return self.is_restored

    def _cancel(self) -> None:
        if not self._may_be_of_a_young_backup():
            operations.cancel(self.invoice_id, detail="Stopped.")

    def _waiting(self) -> list[InvoiceOperation]:
        return list(self.rows.filter(state="needs_attention"))

    def _look(self) -> None:
        for operation in self._waiting():
            with open_account(retries=0) as client:
                recovery.look_again(operation, client=client)

    def _look_away(self) -> None:
        """A person looks while Orb is away: that is told, and changes nothing."""
        for operation in self._waiting():
            before = (operation.state, operation.detail)
            self.orb.clear_faults()
            self.orb.fail_next(1, status=503, route=LOOKS.get(self.kind, FETCH))
            with open_account(retries=0) as client:
                trouble = recovery.look_again(operation, client=client)
            assert trouble
            operation.refresh_from_db()
            assert (operation.state, operation.detail) == before

    def _blind(self) -> None:
        """What is looked at next is what a proxy answers instead of Orb."""
        self.orb.fail_next(1, status=200, route=LOOKS.get(self.kind, FETCH))

    def _close(self) -> None:
        """A person reads Orb's books, and says what they say."""
        for operation in self._waiting():
            was_done = self._was_done(operation.idempotency_key)
            recovery.close(operation, was_done=was_done, detail="Looked up.")

    def _prune(self) -> None:
        before = database_now(databases.current_alias) - timedelta(days=1)
        rows = {row.idempotency_key: row for row in self.rows}
        retention.prune_operations(before=before)
        left = {row.idempotency_key for row in self.rows}
        self.pruned |= {key: row for key, row in rows.items() if key not in left}

    def _meddle(self) -> None:
        """Somebody else edits what was edited here."""
        shown = self.orb.invoice(self.invoice_id)["metadata"]
        if self.kind == "edit" and shown:
            self.is_meddled = True
            theirs = dict.fromkeys(shown, "theirs")
            self.orb.update_invoice(self.invoice_id, metadata=theirs)

    def _come_to_an_end(self) -> None:
        """Orb is well again, and time passes: all is decided, or asks a person."""
        for number in range(12):
            self._recover()
            if number == 8:
                self._hours()  # for what Orb says belongs to another request
            is_shown = not self.rows.filter(state="succeeded", mirrored_at=None)
            if is_shown and not self.rows.filter(state="pending"):
                break
        for operation in self._waiting():
            self.seen["waited"] += 1
            assert operation.detail
            assert operation.detail != UNKNOWN_INVOICE
        self._look_away()
        self._pass_minutes()
        self._look()
        self.seen["closed"] += len(self._waiting())
        for operation in self._waiting():
            assert self._is_hidden(operation), operation.detail
        self._close()

    def _is_hidden(self, operation: InvoiceOperation) -> bool:
        """Whether Orb's invoice cannot tell for sure whether it was done."""
        return self.kind in {"line", "twins", "edit", "create"}

    # What must have come of it

    def _note_obeyed(self) -> None:
        known = self.asked - self.stolen - self.forgotten
        kept = self.orb._keys.dump()
        obeyed = {one["key"] for one in kept if one["status"] < 300}
        self._obeyed |= known & obeyed

    def _was_done(self, key: str) -> bool:
        """Whether Orb did what was asked for under a key, by its own books."""
        invoice = self.orb.invoice(self.invoice_id)
        if self.kind == "delete":
            return not invoice["line_items"]
        if self.kind == "edit":
            return key in invoice["metadata"]
        if self.kind == "create":
            return key in self._made()
        if self.kind == "line":
            return any(line["name"] == key for line in invoice["line_items"])
        self._note_obeyed()
        return key in self._obeyed

    def _check(self) -> None:
        ended = self.pruned | {row.idempotency_key: row for row in self.rows}
        states = {key: row.state for key, row in ended.items()}
        self.seen.update(states.values())
        assert set(states.values()) <= ENDED, states
        done = {key for key, state in states.items() if state == "succeeded"}
        invoice = self.orb.invoice(self.invoice_id)
        self._note_obeyed()
        self.ended, self.done = ended, done
        if self.has_jumped or self.is_meddled:
            # What is older than `recover` reads back, and what others did, comes with
            # the next sync, once Orb's reads no longer lag behind what was done here.
            self._pass_minutes()
            services.fetch_invoice(self.invoice_id)
            list(services.list_invoices(customer_id=self.customer))
        if done and not self.has_jumped:
            assert {row.idempotency_key for row in self.rows if row.mirrored_at} >= done
        if done and self.kind != "create":
            assert Invoice.objects.get(pk=self.invoice_id).payload == invoice
        getattr(self, f"_check_{self.kind}")(invoice)

    def _check_void(self, invoice: dict[str, Any]) -> None:
        self._check_once(invoice["status"] == "void")

    def _check_issue(self, invoice: dict[str, Any]) -> None:
        self._check_once(invoice["status"] != "draft")

    def _check_once(self, is_done: bool) -> None:
        """Of what can be done once, Orb obeyed one key, and its row says so."""
        recorded = self.ended.keys()
        assert len(self._obeyed) == is_done
        assert self.done >= self._obeyed & recorded
        for key in self.done - self._obeyed:
            # Once Orb has forgotten the keys, or a row was put back to before its
            # answer, only the invoice is left to ask, and it does not say whose doing
            # it shows. Until then one waits for the answer to the other.
            assert self.has_jumped
            assert is_done
            assert self.ended[key].detail == SHOWN

    def _check_line(self, invoice: dict[str, Any]) -> None:
        names = Counter(line["name"] for line in invoice["line_items"])
        mirrored = InvoiceLineItem.objects.filter(invoice_id=self.invoice_id)
        for key in self.asked:
            assert names[key] <= 1
            if key in self.ended:
                assert names[key] == (key in self.done)
            if key in self.done:
                assert mirrored.filter(name=key).count() == 1

    def _check_twins(self, invoice: dict[str, Any]) -> None:
        names = Counter(line["name"] for line in invoice["line_items"])
        assert names[self.invoice_id] == len(self._obeyed)
        assert self.done == self._obeyed & self.ended.keys()

    def _made(self) -> Counter[str]:
        """The keys under which invoices of the customer were made."""
        invoices = map(self.orb.invoice, self.orb.invoice_ids())
        return Counter(
            one["metadata"]["key"]
            for one in invoices
            if one["customer"]["id"] == self.customer
        )

    def _check_create(self, invoice: dict[str, Any]) -> None:
        made = self._made()
        mirrored = Invoice.objects.filter(customer_id=self.customer)
        for key in self.asked:
            assert made[key] <= 1
            if key in self.ended:
                assert made[key] == (key in self.done)
            if key in self.done:
                (one,) = (
                    one for one in mirrored if one.payload["metadata"] == {"key": key}
                )
                assert one.payload == self.orb.invoice(one.pk)

    def _check_delete(self, invoice: dict[str, Any]) -> None:
        if self.done:
            assert not invoice["line_items"]
        elif not self.lost:
            assert len(invoice["line_items"]) == 1

    def _check_edit(self, invoice: dict[str, Any]) -> None:
        shown = invoice["metadata"]
        assert shown.keys() & self.ended.keys() == self.done
        if self.is_meddled:
            assert "theirs" in shown.values()
