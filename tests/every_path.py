"""
One invoice, changed in Orb and brought here by every path that there is, by chance.

Whatever writes an observation takes part: pages, single fetches, webhooks whole and
reduced, the feed, verification with repair, PDFs made again, our own writes while Orb
lags behind them, two releases side by side, answers that cannot be stored, an Orb that
is away, events that are deleted and come again, payments that fail and are undone, a
backup that is restored. All of it is the real code,
on a clock that the walk moves.

`histories` plays every order of a few events; this plays some orders of everything.
What is demanded at each step: the mirror never goes back to an older state, and no
release writes a row again that is right, and no reason of a failure that is over is
shown. At the end, with nothing but `recover`: the
mirror holds the newest state that anybody was shown, or says why it cannot.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, cast

import pytest
from django.db import models

from django_orb import exact_json, mirror
from django_orb.client.orb_client import OrbClient
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import clock, primary, uses_copy
from django_orb.exceptions import OrbConnectionError, OrbError, OrbNotFoundError
from django_orb.maintenance import retention
from django_orb.mirror import fetching, mapping, observation_sql
from django_orb.mirror.writing import Observation, WriteResult
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceFailureReason,
    InvoiceLineItem,
    InvoiceObservation,
    InvoiceOperation,
    InvoiceRecheck,
    WebhookEvent,
)
from django_orb.operations import confirmation
from django_orb.webhooks import attempts, inbox, processing
from django_orb.webhooks.payload import parse_event
from tests import times

from . import failing
from .deliveries import event_of
from .histories import ID, Stale
from .payloads import load

NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)
LAG_SECONDS = 60.0
MODELS: list[type[models.Model]] = [
    *(Invoice, InvoiceLineItem, InvoiceObservation, InvoiceFailure, InvoiceRecheck),
    InvoiceFailureReason,
    *(InvoiceOperation, InvoiceChange, WebhookEvent),
]


class Rewritten(AssertionError):  # noqa: N818  what was found
    """A row that was right was written again."""


class Died(BaseException):
    """A worker died."""


class State(NamedTuple):
    """What Orb shows; `is_odd` makes it an invoice that no database gives back."""

    memo: str
    lines: tuple[str, ...] = ()
    is_odd: bool = False
    is_gone: bool = False
    failed: int = 0
    is_paid: bool = False

    def payload(self) -> dict[str, Any]:
        whole = load("invoice_issued")
        line = whole["line_items"][0]
        names = ("common", *self.lines)
        lines = [{**line, "id": name, "name": self.memo} for name in names]
        whole |= {"id": ID, "memo": self.memo, "line_items": lines}
        if self.failed:
            failed_at = NOON + timedelta(seconds=self.failed)
            whole["payment_failed_at"] = failed_at.isoformat()
        if self.is_paid:
            whole["status"] = "paid"
        return whole | ({"odd": exact_json.loads("9" * 700)} if self.is_odd else {})


class Answer(NamedTuple):
    """The answer to a request, on its way to the writer."""

    kind: str
    age: int
    started: float
    ended: float
    version: int | None


class Walk:
    """One walk by chance; also the client that the real code asks."""

    def __init__(self, seed: object, using: str, only: Sequence[str] = ()) -> None:
        self.chance = random.Random(str(seed))
        self.only = only
        self.using = using
        self.now = 0.0
        self.ages: list[State] = [State("a")]
        self.written_at = -1000.0
        self.before_write = 0
        self.is_away = False
        self.on_its_way: list[Answer] = []
        self.undelivered: list[tuple[str, int]] = []
        self.event_ages: dict[str, int] = {}
        self.held = -1
        self.newest = -1
        self.filled_by = 0  # which release wrote the row last, whatever the row says
        self.backup: Any = None
        self.path: list[str] = []
        self.writes = 0
        self.payment_events: list[tuple[str, int]] = []
        self.reasons = failing.Reasons(using)
        self.slow: list[Answer] = []
        self.is_unanswered = False
        self.paid_at = -1000.0
        self.is_dying = False

    # Time and Orb

    def monotonic(self) -> float:
        return self.now

    def epoch(self) -> float:
        return NOON.timestamp() + self.now

    def fetch_invoice(self, invoice_id: str) -> dict[str, Any]:
        if self.is_away:
            raise OrbConnectionError("Orb is away.")
        self.now += self.chance.choice([0.01, 0.1, 2.0])
        age = self._shown()
        self._meanwhile()
        self.now += self.chance.choice([0.01, 0.1, 2.0])
        self.newest = max(self.newest, age)
        if self.ages[age].is_gone:
            raise OrbNotFoundError("no such invoice", status_code=404)
        return self.ages[age].payload()

    def read_invoices_page(self, **filters: Any) -> None:
        if self.is_away:
            raise OrbConnectionError("Orb is away.")

    def _meanwhile(self) -> None:
        """Let others write while Orb is asked, and the process die."""
        if self.slow:
            answer = self.slow.pop()
            interval = primary.clock().interval(answer.started, self.now)
            payload = self.ages[answer.age].payload()
            result = mirror.write([Observation(ID, payload, interval)])
            mirror.fetch_later(result.doubtful)
        if self.is_dying:
            self.is_dying = False
            raise Died

    def _shown(self) -> int:
        """The age of what Orb shows now: the present, unless its reads lag."""
        lags = self.now < self.written_at + LAG_SECONDS - 1
        if lags and self.chance.random() < 0.4:
            return self.before_write
        return len(self.ages) - 1

    # What can happen

    def step(self) -> None:
        actions: list[Callable[[], None]] = [
            *(self.change, self.change, self.wait, self.ask_page, self.ask, self.ask),
            *(self.answer, self.answer, self.answer, self.deliver, self.deliver),
            *(self.deliver_again, self.hint, self.feed, self.write_to_orb),
            *(self.repair, self.make_pdf, self.recover, self.turn, self.prune),
            *(self.rush, self.die, self.pay_unanswered),
            *(self.save, self.restore, self.fail, self.pay, self.undo, self.replay),
        ]
        if self.only:
            actions = [getattr(self, name) for name in self.only]
        action = self.chance.choice(actions)
        self.path.append(action.__name__)
        mapping.MAPPER_VERSION = self.chance.choice([1, 2])
        before = self._row()
        self._try(action)
        self.look(before if action.__name__ != "restore" else None)

    def _try(self, action: Callable[[], Any]) -> None:
        with suppress(OrbError):
            action()

    def change(self) -> None:
        now = self.ages[-1]
        kept = now.lines if self.chance.random() < 0.7 else now.lines[:-1]
        memo, luck = self.chance.choice("abc"), self.chance.random()
        looks = {"is_odd": luck < 0.15, "is_gone": luck > 0.9}
        self._become(now._replace(memo=memo, lines=kept, **looks))

    def fail(self) -> None:
        """A payment fails; its number is the second of it."""
        now = self.ages[-1]
        # Until then its event may be left out, as that of a payment that was undone.
        is_soon = self.now < self.paid_at + 400.0
        if not now.is_gone and not now.is_paid and not is_soon:
            self.now += 120.0
            self._become(now._replace(failed=int(self.now)), failing.FAILED)

    def pay(self) -> None:
        now = self.ages[-1]
        if not now.is_gone and not now.is_paid:
            self._become(now._replace(is_paid=True), failing.SUCCEEDED)

    def undo(self) -> None:
        now = self.ages[-1]
        if now.is_paid:
            self._become(now._replace(is_paid=False), "invoice.undo_mark_as_paid")

    def replay(self) -> None:
        """A person has Orb send an event again, which may have been deleted here."""
        if self.payment_events:
            self._receive(*self.chance.choice(self.payment_events))

    def _become(self, state: State, type: str = "invoice.issued") -> None:
        self.now += 0.05
        if self.is_unanswered and (state.is_gone or not state.is_paid):
            # Only an answer that shows the unanswered write proves that Orb did it. Until
            # then, an answer that lags looks like any other.
            self.is_unanswered, self.written_at = False, -1000.0
        self.ages.append(state)
        self.now += 0.05
        if not state.is_gone:
            at = NOON + timedelta(seconds=self.now + self.chance.uniform(-200, 200))
            is_payment = type in (failing.FAILED, failing.SUCCEEDED)
            if is_payment:
                at = NOON + timedelta(seconds=self.now)
            reason = {"number": state.failed, "failure_reason": str(state.failed)}
            event = event_of(
                state.payload(), type, created_at=at.isoformat(), properties=reason
            )
            told = (exact_json.dumps(event), len(self.ages) - 1)
            self.undelivered.append(told)
            if is_payment:
                self.payment_events.append(told)

    def wait(self) -> None:
        self.now += self.chance.choice([1.0, 20.0, 70.0, 400.0])

    def ask_page(self) -> None:
        self._ask("page")

    def ask(self) -> None:
        self._ask("fetch")

    def _ask(self, kind: str) -> None:
        if self.is_away:
            return
        known = mirror.versions([ID]).get(ID)
        self.now += 0.05
        started = self.now
        self.now += self.chance.choice([0.05, 5.0])
        age = self._shown()
        self.on_its_way.append(
            Answer(kind, age, started, self.now, known if kind == "fetch" else None)
        )

    def answer(self) -> None:
        """Any of the answers is written, in whatever order."""
        if not self.on_its_way:
            return
        index = self.chance.randrange(len(self.on_its_way))
        kind, age, started, ended, version = self.on_its_way.pop(index)
        if kind == "page" and self.ages[age].is_gone:
            return
        interval = primary.clock().interval(started, ended)
        if self.ages[age].is_gone:
            seen = Observation.absent(ID, interval, version)
        else:
            value = self.ages[age].payload()
            payload = RawInvoice.of(value) if kind == "page" else value
            if isinstance(payload, RawInvoice) and self.writes % 2:
                # It came after a page of new ones.
                mirror.map_ahead(payload, mirror.digits_kept(), to_copy=uses_copy())
            seen = Observation(ID, payload, interval, version)
        self.newest = max(self.newest, age)
        self._store([seen])

    def _store(self, seen: list[Observation]) -> WriteResult:
        self.writes += 1
        return fetching.store(self.client, seen)

    @property
    def client(self) -> OrbClient:
        return cast("OrbClient", self)

    def deliver(self) -> None:
        if self.undelivered:
            index = self.chance.randrange(len(self.undelivered))
            self._receive(*self.undelivered.pop(index))

    def deliver_again(self) -> None:
        if self.event_ages:
            self._process(self.chance.choice(sorted(self.event_ages)))

    def feed(self) -> None:
        """Read undelivered events from the list; they are processed later."""
        for body, age in self.undelivered:
            self._receive(body, age, source="feed", is_processed=False)
        self.undelivered = []

    def hint(self) -> None:
        body = exact_json.dumps(event_of(ID, "invoice.cost_data_exported"))
        self._receive(body, -1)

    def _receive(
        self, body: str, age: int, source: str = "webhook", *, is_processed: bool = True
    ) -> None:
        event = parse_event(body.encode())
        inbox.store(event, body, source=source)
        self.event_ages[event.id] = age
        if is_processed:
            self._process(event.id)

    def _process(self, event_id: str) -> None:
        shown = WebhookEvent.objects.using(self.using).filter(
            pk=event_id, state__in=attempts.OPEN
        )
        if shown.exists():
            self.newest = max(self.newest, self.event_ages[event_id])
        processing.process_event(event_id, client=self.client)

    def write_to_orb(self) -> None:
        """We add a line; Orb's reads lag behind that for a while."""
        now = self.ages[-1]
        if now.is_gone or self.is_away:
            return
        line = f"ours {len(self.ages)}"
        if self.now > self.written_at + LAG_SECONDS:
            self.before_write = len(self.ages) - 1
        operation = self._operation("create_invoice_line_item", {"id": line})
        self._become(now._replace(lines=(*now.lines, line)))
        self.written_at = self.now
        self.is_unanswered = False
        self._succeed(operation)

    def pay_unanswered(self) -> None:
        """We mark it as paid, and Orb's answer is lost; `recover` gets it later."""
        now = self.ages[-1]
        if now.is_gone or now.is_paid or self.is_away:
            return
        if self.now > self.written_at + LAG_SECONDS:
            self.before_write = len(self.ages) - 1
        operation = self._operation("mark_invoice_paid", {})
        operation.first_sent_at = primary.now()
        operation.save(using=self.using)
        self._become(now._replace(is_paid=True), failing.SUCCEEDED)
        self.written_at = self.paid_at = self.now
        self.is_unanswered = True

    def _get_answers(self) -> None:
        """Sent again under its key, an operation gets Orb's first answer."""
        operations = InvoiceOperation.objects.using(self.using)
        now = primary.now()
        operations.filter(
            state=InvoiceOperation.State.PENDING,
            first_sent_at__lt=now - timedelta(seconds=370),
        ).update(state=InvoiceOperation.State.SUCCEEDED, finished_at=now)

    def make_pdf(self) -> None:
        if not self.is_away:
            self._succeed(self._operation("regenerate_invoice_pdf", {}))

    def _operation(self, kind: str, result: dict[str, Any]) -> InvoiceOperation:
        observation_sql.claim_observations([ID])
        return InvoiceOperation.objects.using(self.using).create(
            kind=kind,
            invoice_id=ID,
            idempotency_key=f"{kind} {len(self.path)}",
            created_at=primary.now(),
            result=result,
        )

    def _succeed(self, operation: InvoiceOperation) -> None:
        operation.state = InvoiceOperation.State.SUCCEEDED
        operation.finished_at = primary.now()
        operation.save(using=self.using)
        self.is_away = self.is_away or self.chance.random() < 0.2
        if self.chance.random() < 0.7:  # or the worker dies
            confirmation.read_back(self.client, operation, waits=(0.0, 0.0))

    def repair(self) -> None:
        mirror.write_again([ID])
        if self.chance.random() < 0.7:
            self._fetch()

    def _fetch(self) -> None:
        self._store(fetching.observe_invoices(self.client, [ID]))

    def turn(self) -> None:
        self.is_away = not self.is_away

    def prune(self) -> None:
        before = primary.now() - timedelta(seconds=300)
        retention.prune_events(before=before)

    def recover(self) -> None:
        for event_id in attempts.due_events():
            self._process(event_id)
        if not self.is_away:
            self._get_answers()
        confirmation.read_back_due(self.client)
        fetching.recheck(self.client)

    def rush(self) -> None:
        """
        Slow answers, from before Orb changed, come while the invoice is fetched again.
        """
        answer = Answer("page", len(self.ages) - 1, self.now, self.now, None)
        if self.ages[-1].is_gone or self.is_away:
            return
        mirror.fetch_later([ID])
        self.change()
        self.slow = [answer] * self.chance.choice([1, 3, 2 * fetching.MAX_ROUNDS])
        fetching.recheck(self.client)
        self.slow = []

    def die(self) -> None:
        """A worker dies in whatever `recover` fetches first."""
        self.is_dying = not self.is_away
        with suppress(Died):
            self.recover()
        self.is_dying = False

    def save(self) -> None:
        rows = [
            list(model._default_manager.using(self.using).all()) for model in MODELS
        ]
        ages = dict(self.event_ages)
        kept = (self.held, self.newest, ages, self.filled_by)
        self.backup = (rows, kept, self.reasons.save())

    def restore(self) -> None:
        """All workers are stopped, and it takes some minutes."""
        if self.backup is None:
            return
        rows, kept, reasons = self.backup
        self.reasons.restore(reasons)
        self.held, self.newest, ages, self.filled_by = kept
        self.event_ages = dict(ages)
        self.on_its_way = []
        for model in reversed(MODELS):
            model._default_manager.using(self.using).all().delete()
        for model, old in zip(MODELS, rows, strict=True):
            model._default_manager.using(self.using).bulk_create(old)
        self.now += 300.0

    # What is demanded

    def _row(self) -> Any:
        """What is stored: the state, when it was written, whether it is flagged."""
        invoice = Invoice.objects.using(self.using).filter(pk=ID).first()
        seen = InvoiceObservation.objects.using(self.using).filter(pk=ID).first()
        if invoice is None or seen is None:
            return None
        if invoice.missing_since:
            state = State("", is_gone=True)
        else:
            lines = [line.orb_id for line in invoice.line_items.all()]
            failed_at = invoice.payment_failed_at
            state = State(
                invoice.memo,
                tuple(lines[1:]),
                "odd" in invoice.payload,
                failed=int((failed_at - NOON).total_seconds()) if failed_at else 0,
                is_paid=invoice.status == "paid",
            )
        return state, invoice.mirrored_at, seen.rewrite_at

    def look(self, before: Any) -> None:
        row = self._row()
        if row is None:
            return
        ages = [age for age in self._ages_of(row[0]) if age >= self.held]
        if not ages:
            raise Stale(f"{row[0]} is older than {self.held} of {self.ages}")
        self.held = min(ages)
        if not row[0].is_gone:
            self.reasons.look(row[0].failed, row[0].is_paid)
        if before is not None and before[1] == row[1]:
            return
        is_needed = self.filled_by < mapping.MAPPER_VERSION
        if self.path[-1] != "restore":
            self.filled_by = mapping.MAPPER_VERSION
        if before is None or before[0] != row[0] or before[2] is not None:
            return
        if not is_needed and self.path[-1] in ("answer", "deliver"):
            raise Rewritten(f"{before} became {row}")

    def _ages_of(self, state: State) -> list[int]:
        return [
            age
            for age, then in enumerate(self.ages)
            if then == state or (then.is_gone and state.is_gone)
        ]

    def check_end(self) -> None:
        self.path.append("end")
        self.is_away = False
        for _ in range(4):
            self.now += 4000.0
            self._try(self.recover)
            self.look(None)
        if self.newest < 0:
            return
        is_failing = InvoiceFailure.objects.using(self.using).exists()
        row = self._row()
        latest = max(self._ages_of(row[0])) if row else -1
        odd = [age for age, state in enumerate(self.ages) if state.is_odd]
        is_told = is_failing and bool(odd) and odd[-1] >= self.newest
        is_unknown = row is None and self.ages[self.newest].is_gone
        if latest < self.newest and not is_told and not is_unknown:
            raise Stale(f"it ends with {row}, seen was {self.newest} of {self.ages}")
        self._fetch()
        self._check_now()

    def _check_now(self) -> None:
        """Whoever asks now gets Orb's state, or the reason why not."""
        now, row = self.ages[-1], self._row()
        is_failing = InvoiceFailure.objects.using(self.using).exists()
        if is_failing != now.is_odd:
            raise Stale(f"a failure is recorded: {is_failing}, and Orb has {now}")
        if now.is_odd or (now.is_gone and row is None):
            return
        if row is None or not self._is_same(row[0], now):
            raise Stale(f"after a fetch it holds {row}, Orb {now}")
        was_over = any(one.is_paid and one.failed == now.failed for one in self.ages)
        if not was_over:
            self.reasons.check_end(now.failed)

    def _is_same(self, stored: State, now: State) -> bool:
        return stored == now or (stored.is_gone and now.is_gone)


@contextmanager
def walking(seed: object, using: str, only: Sequence[str] = ()) -> Iterator[Walk]:
    walk = Walk(seed, using, only)
    with (
        pytest.MonkeyPatch.context() as patch,
        times.database_time(patch, using, walk.epoch),
    ):
        times.rule(patch, among=clock.__name__, monotonic=walk.monotonic)
        patch.setattr(mapping, "MAPPER_VERSION", 1)
        try:
            yield walk
        except AssertionError as err:
            err.args = (f"{err}\nseed {seed}: {', '.join(walk.path)}",)
            raise


def walk_by_chance(
    seed: object, using: str, steps: int = 40, only: Sequence[str] = ()
) -> int:
    """Go so many steps, of all kinds or of those named; the writes that were made."""
    with walking(seed, using, only) as walk:
        if walk.chance.random() < 0.5:  # or the table is empty
            walk._fetch()
        for _ in range(steps):
            walk.step()
        walk.check_end()
        return walk.writes
