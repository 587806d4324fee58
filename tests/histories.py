"""
Small histories of one invoice, in every order that their events can have.

Orb's state changes at known instants; readers ask, are answered and write what
they saw; webhooks come late. Every order is played against the real writer and a
real database. Orders that have led to the same (rows of the database, requests on
their way, clock) go on alike, so that what follows is played once and counted as
often as it was reached.

What is demanded at each write, with what only the model knows, the state of Orb
that every observation is of: nothing older is taken over something newer, nothing
newer is dropped. At the end, all doubts fetched, the mirror holds the newest state that
anybody saw, and one more fetch brings Orb's newest.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from typing import Any, NamedTuple, cast

import pytest
from django.db import connections, transaction

from django_orb import mirror
from django_orb.client.orb_client import OrbClient
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import clock, primary, uses_copy
from django_orb.db.clock import DatabaseClock, Interval
from django_orb.exceptions import OrbNotFoundError
from django_orb.mirror import fetching
from django_orb.mirror.ordering import NEVER_THERE
from django_orb.mirror.writing import Observation, WriteResult
from django_orb.models import (
    Invoice,
    InvoiceLineItem,
    InvoiceObservation,
    InvoiceOperation,
)
from tests import times

from .payloads import load

ID = "inv1"
#: Orb's state in which it answers 404.
GONE = "-"
#: What our own write makes of the invoice.
WRITTEN = "W"
#: When the invoice of a full table was last seen, and its clocks were measured.
LONG_AGO = -1000
BEFORE = -20
NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)
MINUTE = 60.0
DAY = 86_400.0


class Stale(AssertionError):  # noqa: N818  what was found, not what went wrong
    """The writer let an older state win, or lost a newer one."""


class Unsettled(AssertionError):  # noqa: N818
    """Doubts that no fetch ends."""


@cache
def _payload(state: str) -> dict[str, Any]:
    payload = load("invoice_issued")
    line = payload["line_items"][0]
    # Some lines are common to all states, others are not.
    ids = ["common", f"only in {state}"]
    lines = [{**line, "id": name, "name": state} for name in ids]
    return {**payload, "id": ID, "memo": state, "line_items": lines}


def payload_of(state: str) -> dict[str, Any]:
    return deepcopy(_payload(state))


# What a history is made of


class Worker(NamedTuple):
    """
    A process with a clock of its own.

    It measured the database's once, when that took `delays` seconds there and
    back, and looks at it when it writes, or at every occasion (`is_watchful`).
    """

    ahead: float = 0.0
    rate: float = 1.0
    delays: tuple[float, float] = (0.0, 0.0)
    is_watchful: bool = False


@dataclass(frozen=True)
class History:
    """
    What happens, in no order yet.

    `changes` are Orb's states one after the other, beginning with the one that a
    full table (`is_known`) holds. `workers` are those of the readers, in turn.
    Time passes between a beginning and an end, and between an end and a beginning,
    or, if `is_every_event_later`, at every event; timestamps have a resolution of
    `tick` seconds. The database's clock makes each
    of `steps` at an instant of its own. `hooks` is how often each change is
    delivered, with an Orb whose clock is `orb_ahead` and within `skew`. `looks`
    are own writes: how many reads may lag behind each.
    """

    changes: str = "A"
    is_known: bool = True
    pages: int = 0
    fetches: int = 0
    hooks: int = 0
    looks: tuple[int, ...] = ()
    workers: tuple[Worker, ...] = (Worker(),)
    is_every_event_later: bool = False
    tick: float = 0.0
    steps: tuple[float, ...] = ()
    skew: float = 300.0
    orb_ahead: float = 0.0


class Reader(NamedTuple):
    """A request to Orb: `kind` is page, fetch, refetch (of a doubt) or look."""

    kind: str
    worker: int
    phase: str = "begin"
    began: int = 0
    ended: int = 0
    saw: str = ""
    saw_at: int = 0
    version: int = 0
    rounds: int = 0
    bounds: tuple[Any, ...] = ()


class Hook(NamedTuple):
    """A webhook on its way, to be delivered so many times more."""

    state: str
    created: int
    age: int
    left: int


class Row(NamedTuple):
    """What the mirror holds of the invoice, by what the writer left there."""

    state: str
    observation: tuple[Any, ...]
    version: int


class Moment(NamedTuple):
    """Everything that decides what can happen from here on."""

    now: int
    is_beginning: bool
    age: int
    orb: str
    before: str
    lagging: int
    coming: str
    steps: tuple[float, ...]
    shift: float
    readers: tuple[Reader, ...]
    hooks: tuple[Hook, ...]
    row: Row
    # What the processes know of the database's clock.
    eras: tuple[tuple[Any, ...], ...]
    # Known to the model only: the age of what the mirror holds, and of the newest
    # that anybody brought, with its state. Ages count Orb's changes.
    held_at: int
    newest_at: int
    newest: str


NOTHING = Row("", (), 0)


# Clocks


class Clocks:
    """Time as the processes of a history tell it."""

    def __init__(self, history: History) -> None:
        self.now = 0.0
        self.shift = 0.0
        self.worker = Worker()
        self._tick = history.tick
        self._delays = (0.0, 0.0)

    def monotonic(self) -> float:
        return self.worker.ahead + self._coarse(self.worker.rate * self.now)

    def epoch(self) -> float:
        """The database's clock."""
        return NOON.timestamp() + self._coarse(self.now) + self.shift

    def _coarse(self, moment: float) -> float:
        return math.floor(moment / self._tick) * self._tick if self._tick else moment

    def asked(self) -> float:
        """The database's clock, with the way there and back."""
        there, back = self._delays
        self.now += there
        epoch = self.epoch()
        self.now += back
        return epoch

    def at(self, moment: float) -> float:
        now, self.now = self.now, moment
        reading = self.monotonic()
        self.now = now
        return reading

    def measure(self, worker: Worker, using: str) -> tuple[Any, ...]:
        """Measure what a worker knows of the database's clock before everything begins."""
        self.worker, self.now, self.shift = worker, BEFORE, 0.0
        self._delays = worker.delays
        measured = DatabaseClock(using)
        measured.check()
        self._delays = (0.0, 0.0)
        return measured.eras


class _Answer:
    """A client for one answer, which takes its time."""

    def __init__(self, clocks: Clocks, reader: Reader) -> None:
        self._clocks = clocks
        self._reader = reader

    def fetch_invoice(self, invoice_id: str) -> dict[str, Any]:
        self._clocks.now = self._reader.ended
        if self._reader.saw == GONE:
            raise OrbNotFoundError("no such invoice", status_code=404)
        return payload_of(self._reader.saw)


# Playing


@dataclass
class Tally:
    schedules: int = 0
    moments: int = 0
    writes: int = 0
    doubts: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.schedules + other.schedules,
            self.moments + other.moments,
            self.writes + other.writes,
            self.doubts + other.doubts,
        )


@dataclass
class Player:
    """Plays a history on the database `using`, within a transaction of the test."""

    history: History
    using: str
    tally: Tally = field(default_factory=Tally)

    def play_all(self, *, is_merging: bool = True) -> Tally:
        """
        Every order; each from its beginning on its own, unless `is_merging`.

        Raises:
            Stale: in one of them; its events are in the message.
        """
        reached: dict[object, int] = {}

        def follow(moment: Moment, path: tuple[str, ...]) -> int:
            key = _key(moment)
            if key in reached:
                return reached[key]
            count = 0
            self.tally.moments += 1
            for name, event in self._events(moment):
                with self._trace((*path, name)), _undone(self.using):
                    count += follow(event(), (*path, name))
            if not count:
                with self._trace(path), _undone(self.using):
                    self._check_end(moment)
                count = 1
            if is_merging:
                reached[key] = count
            return count

        with self._started() as start:
            self.tally.schedules = follow(start, ())
        return self.tally

    def play_some(self, count: int, chance: random.Random) -> Tally:
        """So many orders, each from beginning to end, by chance."""
        with self._started() as start:
            for _ in range(count):
                with _undone(self.using):
                    self._play_one(start, lambda events: chance.randrange(len(events)))
        return self.tally

    def play(self, *names: str) -> Row:
        """One order, by the beginnings of the names of its events; what it leaves."""
        left = list(names)

        def choose(events: list[str]) -> int:
            wanted = left.pop(0) if left else ""
            found = [n for n, name in enumerate(events) if name.startswith(wanted)]
            assert found, f"{wanted!r} is none of {events}"
            return found[0]

        with self._started() as start:
            row = self._play_one(start, choose)
        assert not left, f"never came to {left}"
        return row

    def _play_one(self, moment: Moment, choose: Callable[[list[str]], int]) -> Row:
        path: tuple[str, ...] = ()
        while events := list(self._events(moment)):
            name, event = events[choose([name for name, _ in events])]
            path = (*path, name)
            with self._trace(path):
                moment = event()
        with self._trace(path):
            self._check_end(moment)
        self.tally.schedules += 1
        return moment.row

    @contextmanager
    def _trace(self, path: tuple[str, ...]) -> Iterator[None]:
        try:
            yield
        except (Stale, Unsettled) as err:
            if not err.__dict__.get("path"):
                err.__dict__["path"] = path
                err.args = (f"{err}\nafter: {', '.join(path)}\nin: {self.history}",)
            raise

    @contextmanager
    def _started(self) -> Iterator[Moment]:
        history = self.history
        first = history.changes[0]
        self._clocks = Clocks(history)
        with (
            pytest.MonkeyPatch.context() as patch,
            times.database_time(patch, self.using, lambda: self._clocks.asked()),
            _undone(self.using),
        ):
            times.rule(patch, among=clock.__name__, monotonic=self._monotonic)
            row = NOTHING
            eras = [self._clocks.measure(w, self.using) for w in history.workers]
            if history.is_known:
                eras_then = self._clocks.measure(Worker(), self.using)
                self._clocks.now = LONG_AGO
                self._remember(eras_then)
                at = primary.clock().interval(LONG_AGO, LONG_AGO)
                seen = mirror.read_page([payload_of(first)], at)
                result = mirror.write(seen)
                row = self._read_row(NOTHING, result)
            readers = ["page"] * history.pages + ["fetch"] * history.fetches
            count = len(history.workers)
            yield Moment(
                now=0,
                is_beginning=False,
                age=0,
                orb=first,
                before=first,
                lagging=0,
                coming=history.changes[1:] + WRITTEN * len(history.looks),
                steps=history.steps,
                shift=0.0,
                readers=tuple(
                    Reader(kind, index % count) for index, kind in enumerate(readers)
                ),
                hooks=(),
                row=row,
                eras=tuple(eras),
                held_at=0 if history.is_known else -1,
                newest_at=0 if history.is_known else -1,
                newest=first if history.is_known else "",
            )

    def _monotonic(self) -> float:
        return self._clocks.monotonic()

    # Events: what can happen next, and what it makes of the moment

    def _events(self, moment: Moment) -> Iterator[tuple[str, Callable[[], Moment]]]:
        later = moment
        if self.history.is_every_event_later:
            later = moment._replace(now=moment.now + 1)
        if moment.coming:
            yield f"Orb becomes {moment.coming[0]}", partial(self._change, later)
        if moment.steps:
            yield f"clock steps {moment.steps[0]:+}", partial(self._step, later)
        for hook in dict.fromkeys(moment.hooks):
            name = f"webhook of {hook.state}"
            yield name, partial(self._deliver, later, hook)
        for reader in dict.fromkeys(moment.readers):
            name = f"{reader.kind} {reader.phase}s"
            act = getattr(self, f"_{reader.phase}")
            yield name, partial(act, later, reader)
            if reader.phase == "answer" and moment.lagging:
                name = f"{reader.kind} answers late"
                yield name, partial(self._answer_late, later, reader)

    def _stamp(self, moment: Moment, *, is_beginning: bool) -> Moment:
        """Later, if a beginning follows an end or an end a beginning."""
        if self.history.is_every_event_later or moment.is_beginning == is_beginning:
            return moment
        return moment._replace(now=moment.now + 1, is_beginning=is_beginning)

    def _change(self, moment: Moment) -> Moment:
        history = self.history
        state = moment.coming[0]
        is_ours = len(moment.coming) <= len(history.looks)
        age = moment.age + 1
        if history.hooks and state != GONE:
            moment = self._stamp(moment, is_beginning=True)
            hook = Hook(state, moment.now, age, history.hooks)
            moment = moment._replace(hooks=tuple(sorted((*moment.hooks, hook))))
        moment = moment._replace(
            age=age, orb=state, before=moment.orb, coming=moment.coming[1:]
        )
        if is_ours:
            InvoiceOperation.objects.using(self.using).create(
                kind=InvoiceOperation.Kind.CREATE_LINE_ITEM,
                state=InvoiceOperation.State.SUCCEEDED,
                invoice_id=ID,
                idempotency_key=f"{age}",
                created_at=NOON,
                finished_at=NOON + timedelta(seconds=moment.now),
                result={"id": f"only in {WRITTEN}"},
            )
            lag = history.looks[-len(moment.coming) - 1]
            look = Reader("look", 0)
            moment = _with(moment._replace(lagging=lag), None, look)
        return moment

    def _step(self, moment: Moment) -> Moment:
        return moment._replace(
            steps=moment.steps[1:], shift=moment.shift + moment.steps[0]
        )

    def _deliver(self, moment: Moment, hook: Hook) -> Moment:
        hooks = list(moment.hooks)
        hooks.remove(hook)
        if hook.left > 1:
            hooks.append(hook._replace(left=hook.left - 1))
        moment = moment._replace(hooks=tuple(sorted(hooks)))
        moment = self._stamp(moment, is_beginning=False)
        self._be(moment, 0)
        # Orb's clock is near the database's as it was before any step.
        created = NOON + timedelta(seconds=hook.created + self.history.orb_ahead)
        interval = Interval(
            created - timedelta(seconds=self.history.skew), primary.now()
        )
        seen = mirror.read_page([payload_of(hook.state)], interval)
        return self._store(moment, seen, hook.state, hook.age, Reader("hook", 0))

    def _begin(self, moment: Moment, reader: Reader) -> Moment:
        moment = self._stamp(moment, is_beginning=True)
        self._be(moment, reader.worker)
        moment = self._noted(moment, reader.worker)
        version = 0
        if reader.kind == "refetch":
            version = mirror.versions([ID]).get(ID, 0)
        began = reader._replace(phase="answer", began=moment.now, version=version)
        return _with(moment, reader, began)

    def _answer(self, moment: Moment, reader: Reader) -> Moment:
        answered = reader._replace(phase="end", saw=moment.orb, saw_at=moment.age)
        return _with(moment, reader, answered)

    def _answer_late(self, moment: Moment, reader: Reader) -> Moment:
        moment = moment._replace(lagging=moment.lagging - 1)
        saw, saw_at = moment.before, moment.age - 1
        answered = reader._replace(phase="end", saw=saw, saw_at=saw_at)
        return _with(moment, reader, answered)

    def _end(self, moment: Moment, reader: Reader) -> Moment:
        moment = self._stamp(moment, is_beginning=False)
        is_nothing = reader.kind == "page" and reader.saw == GONE
        if is_nothing:
            return _with(moment, reader, None)
        if reader.kind == "look" and reader.saw != WRITTEN:
            return _with(moment, reader, Reader("look", reader.worker))
        ended = reader._replace(phase="write", ended=moment.now)
        if reader.kind != "page":
            seen = self._observe(moment, ended)
            moment = self._noted(moment, reader.worker)
            bounds = tuple(vars(seen.interval).values())
            ended = ended._replace(bounds=bounds, version=seen.supersedes or 0)
        return _with(moment, reader, ended)

    def _observe(self, moment: Moment, reader: Reader) -> Observation:
        """Return the observation that our own code makes of an answer once it has ended."""
        self._be(moment, reader.worker)
        self._clocks.now = reader.began
        return fetching.observe_invoice(
            cast("OrbClient", _Answer(self._clocks, reader)),
            ID,
            supersedes=reader.version or None,
        )

    def _write(self, moment: Moment, reader: Reader) -> Moment:
        self._be(moment, reader.worker)
        if reader.kind == "page":
            # Pages are read ahead, and get their interval when it is their turn.
            interval = primary.clock().interval(
                self._clocks.at(reader.began), self._clocks.at(reader.ended)
            )
            raw = RawInvoice.of(payload_of(reader.saw))
            if reader.worker % 2:
                # It came after a page of new ones.
                mirror.map_ahead(raw, mirror.digits_kept(), to_copy=uses_copy())
            seen = mirror.read_page([raw], interval)
        elif reader.saw == GONE:
            gone = Observation.absent(ID, Interval(*reader.bounds))
            seen = [dataclasses.replace(gone, supersedes=reader.version or None)]
        else:
            payload = payload_of(reader.saw)
            version = reader.version or None
            seen = [Observation(ID, payload, Interval(*reader.bounds), version)]
        moment = _with(moment, reader, None)
        return self._store(moment, seen, reader.saw, reader.saw_at, reader)

    def _be(self, moment: Moment, worker: int) -> None:
        """Be this worker at this moment, with what it knows of the clock."""
        chosen = self.history.workers[worker]
        clocks = self._clocks
        clocks.worker, clocks.now, clocks.shift = chosen, moment.now, moment.shift
        self._remember(moment.eras[worker])
        if chosen.is_watchful:
            primary.clock().check()

    def _remember(self, eras: tuple[Any, ...]) -> None:
        known = clock._clocks[self.using] = DatabaseClock(self.using)
        known.eras = eras

    def _noted(self, moment: Moment, worker: int) -> Moment:
        """The moment with what this worker knows of the clock by now."""
        eras = list(moment.eras)
        eras[worker] = primary.clock().eras
        return moment._replace(eras=tuple(eras))

    # The writer, and what is demanded of it

    def _store(
        self,
        moment: Moment,
        seen: list[Observation],
        state: str,
        instant: int,
        reader: Reader,
    ) -> Moment:
        self.tally.writes += 1
        result = mirror.write(seen)
        moment = self._noted(moment, reader.worker)
        if instant > moment.newest_at:
            moment = moment._replace(newest=state, newest_at=instant)
        if result.doubtful:
            self.tally.doubts += 1
            if reader.rounds >= fetching.MAX_ROUNDS:
                raise Unsettled(f"{reader.rounds} fetches did not end a doubt")
            again = Reader("refetch", reader.worker, rounds=reader.rounds + 1)
            return _with(moment, None, again)
        row = self._read_row(moment.row, result)
        self._check_write(moment, row, state, instant, result)
        held_at = moment.held_at
        if row.state == state or not row.observation:
            held_at = max(held_at, instant)
        return moment._replace(row=row, held_at=held_at)

    def _check_write(
        self, moment: Moment, row: Row, state: str, instant: int, result: WriteResult
    ) -> None:
        is_taken = result.created or result.updated or result.missing
        if is_taken and instant < moment.held_at:
            raise Stale(
                f"{state} of {instant} was stored over {moment.row.state or 'nothing'} "
                f"of {moment.held_at}"
            )
        is_dropped = result.unchanged and row.state != state
        if is_dropped and instant > moment.held_at:
            raise Stale(
                f"{state} of {instant} was dropped for {row.state} of {moment.held_at}"
            )

    def _check_end(self, moment: Moment) -> None:
        held = moment.row.state or GONE
        if moment.newest and held != moment.newest:
            raise Stale(f"the mirror ends with {held}, seen was {moment.newest}")
        self._check_next_fetch(moment)

    def _check_next_fetch(self, moment: Moment) -> None:
        """Whoever asks now gets Orb's newest state into the mirror."""
        moment = moment._replace(newest="", now=moment.now + 1)
        moment = _with(moment, None, Reader("fetch", 0))
        while moment.readers:
            reader = moment.readers[0]
            act = getattr(self, f"_{reader.phase}")
            moment = act(moment._replace(now=moment.now + 1), reader)
        held = moment.row.state or GONE
        if held != moment.orb:
            raise Stale(f"after a fetch the mirror holds {held}, Orb {moment.orb}")

    def _read_row(self, before: Row, result: WriteResult) -> Row:
        observed = InvoiceObservation.objects.using(self.using).filter(pk=ID)
        found: dict[str, Any] = dict(observed.values().first() or {})
        version = found.pop("version", 0)
        state = before.state
        if result.created or result.updated or result.missing:
            state = self._read_state()
        elif found.get("content_hash") == NEVER_THERE:
            state = GONE
        return Row(state, tuple(found.values()), version)

    def _read_state(self) -> str:
        invoice = Invoice.objects.using(self.using).get(pk=ID)
        lines = InvoiceLineItem.objects.using(self.using).filter(invoice_id=ID)
        expected = [(one["id"], one["name"]) for one in invoice.payload["line_items"]]
        stored = list(lines.order_by("position").values_list("orb_id", "name"))
        if stored != expected:
            raise Stale(f"lines {stored} beside a payload with {expected}")
        return GONE if invoice.missing_since else str(invoice.payload["memo"])


def _with(moment: Moment, old: Reader | None, new: Reader | None) -> Moment:
    """The moment with another reader; their order makes no difference."""
    readers = list(moment.readers)
    if old is not None:
        readers.remove(old)
    if new is not None:
        readers.append(new)
    return moment._replace(readers=tuple(sorted(readers)))


def _key(moment: Moment) -> object:
    """Moments with equal keys go on alike. Of versions only their equality counts."""
    version = moment.row.version
    readers = tuple(
        reader._replace(version=int(reader.version == version))
        for reader in moment.readers
    )
    eras = moment.eras
    if not moment.steps:
        # When it was last looked at matters only to what comes after.
        eras = tuple((*known[:-1], known[-1]._replace(last=0.0)) for known in eras)
    row = moment.row._replace(version=0)
    return moment._replace(row=row, readers=readers, eras=eras)


@contextmanager
def _undone(using: str) -> Iterator[None]:
    """Whatever is written within is gone afterwards."""
    assert connections[using].in_atomic_block
    with transaction.atomic(using=using):
        yield
        transaction.set_rollback(True, using=using)
