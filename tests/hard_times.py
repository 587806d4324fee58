"""
Runs through an Orb that misbehaves by chance, and through a life that is not easy.

A schedule is a list of acts: runs of all kinds, verifications with repair, a new key,
pruning, a backup that is restored. Into each come troubles of Orb, of its list, of
single invoices and of the workers, and changes of Orb's invoices. All of it is the
real code; waiting only moves the clocks, those of the database and of Orb alike.

What is demanded after each act, with `recover` every minute: every run has ended, and
says why if it failed; only what can hinder a run for good ended one; what a run that
succeeded had to read is mirrored, or says why it is not. At the end, all being well
again, one full run makes the mirror equal to Orb.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
import requests
from celery.app.task import Task
from django.apps import apps
from django.conf import settings as django_settings
from django.db import models
from django.test import override_settings
from werkzeug.wrappers import Response

from django_orb import exact_json, services, tasks
from django_orb.db import primary
from django_orb.exceptions import OrbError
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceRecheck,
    SyncRun,
    SyncWindow,
    WebhookEvent,
    WebhookFeed,
)
from django_orb.sync import planning, runs
from django_orb.testing import OrbSandbox
from tests import times

from .misfortunes import (
    KILLS,
    KINDS,
    MAKERS,
    Change,
    GoOn,
    Killed,
    Make,
    Misfortune,
    NoFeed,
    misfortunes_by_chance,
)

TIMEOUT_SECONDS = 0.2
# More than any run needs that comes to an end, with these few invoices.
MOST_REQUESTS = 600
MOST_MESSAGES = 150
MOST_MINUTES = 60
ACTS = ["full", "full", "incremental", "incremental", "one", "verify"]
RARE_ACTS = ["prune", "save", "new key"]


class Found(AssertionError):  # noqa: N818  what was found, not what went wrong
    """A promise was broken."""


class Endless(BaseException):
    """Orb is asked again and again; no code of ours may catch this."""


class Time:
    """Clocks that waiting moves on at once."""

    def __init__(self, orb: OrbSandbox) -> None:
        self._orb = orb
        self._lock = threading.Lock()
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def epoch(self) -> float:
        """The time that the database tells."""
        return time.time() + self._ahead

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            with self._lock:
                self._ahead += seconds
            self._orb.advance(timedelta(seconds=seconds))

    def rule(self, patch: pytest.MonkeyPatch) -> None:
        """Be the clock of the mirror's code."""
        times.rule(patch, monotonic=self.monotonic, sleep=self.sleep)


class Workers:
    """Workers of Celery, one after the other; a message may have to wait."""

    def __init__(self, clock: Time) -> None:
        self._clock = clock
        self._messages: list[Any] = []
        self._number = itertools.count()

    def take(self, task: Task[Any, Any], args: Any, countdown: float = 0) -> None:
        due = self._clock.monotonic() + countdown
        heapq.heappush(self._messages, (due, next(self._number), task, args))

    def do(self, task: Any, *args: Any) -> None:
        try:
            task(*args)
        except Killed:
            pass  # its message is lost with it
        except Exception as err:
            raise Found(f"{task.name} left {type(err).__name__}: {err}") from err

    def settle(self) -> None:
        """Work, with `recover` every minute, until nothing is left to be done."""
        count = 0
        for _ in range(MOST_MINUTES):
            while self._messages:
                due, _, task, args = heapq.heappop(self._messages)
                self._clock.sleep(due - self._clock.monotonic())
                self.do(task, *args)
                count += 1
                if count > MOST_MESSAGES:
                    raise Found(f"after {count} messages: {running()}")
            if not SyncRun.objects.filter(state=SyncRun.State.RUNNING).exists():
                return
            self._clock.sleep(60)
            self.do(tasks.recover)
        raise Found(f"after {MOST_MINUTES} minutes: {running()}")

    def stop(self) -> None:
        self._messages.clear()


def running() -> list[str]:
    pending = SyncWindow.objects.filter(run__state=SyncRun.State.RUNNING)
    return [f"{one}: {one.state}, {one.error}" for one in pending]


def tables() -> list[type[models.Model]]:
    found = apps.get_app_config("django_orb").get_models()
    return [one for one in found if not one._meta.proxy]


def forget_all() -> None:
    """Stories of one test follow each other on the same database."""
    for model in reversed(tables()):
        model._default_manager.all().delete()


State = dict[str, Any]


class Bias(NamedTuple):
    """The parts that a story may consist of, by default all."""

    acts: tuple[str, ...] = ()
    misfortunes: tuple[Make, ...] = MAKERS
    changes: tuple[str, ...] = KINDS


EVERYTHING = Bias()


class Happening(NamedTuple):
    """Something that happens before the request of a number, in the thread that sends it."""

    at: int
    happen: Callable[[], None]
    # In the thread that uses the database: before its next request, or after a step.
    is_here: bool = False


class Story:
    """One schedule, played; everything in it comes from the seed."""

    def __init__(self, seed: object, bias: Bias = EVERYTHING) -> None:
        self.chance = random.Random(str(seed))
        self.bias = bias
        self.path: list[str] = []
        self.orb = OrbSandbox(
            invoices=self.chance.randint(12, 30), seed=self.chance.randint(1, 9)
        )
        self.clock = Time(self.orb)
        self.workers = Workers(self.clock)
        self.misfortunes: list[Misfortune] = []
        self.happenings: list[Happening] = []
        self.lock = threading.Lock()
        self.has_feed = False
        self.broken: dict[str, str] = {}
        self.told: set[str] = set()
        self.backup: Any = None
        self.requests = 0
        self.key = self.orb.api_key
        self.options = {
            **django_settings.DJANGO_ORB,
            "PAGE_SIZE": self.chance.choice([100, 20, 5]),
            "CONCURRENCY": random.Random(f"{seed}, beside").choice([1, 2, 4]),
            "SWEEP_MINUTES": self.chance.choice([0, 60]),
            "RUN_RETENTION_DAYS": 1,
            "WEBHOOK_RETENTION_DAYS": 1,
            "CHANGE_RETENTION_DAYS": 1,
        }

    # What surrounds the real code

    @contextmanager
    def playing(self) -> Iterator[None]:
        with (
            pytest.MonkeyPatch.context() as patch,
            times.database_time(patch, primary.alias(), self.clock.epoch),
            self.orb,
        ):
            self.clock.rule(patch)
            self._watch(patch)
            patch.setattr(planning, "WINDOW_COUNT", 2)
            yield

    def _watch(self, patch: pytest.MonkeyPatch) -> None:
        """Be there when Orb is asked, when it answers, and when a message is sent."""
        request = requests.Session.request

        def answer(route: str, asked: Any, go_on: GoOn) -> Response:
            for one in self.misfortunes:
                go_on = one.around(route, asked, go_on)
            return go_on()

        def send(session: Any, *args: Any, **options: Any) -> requests.Response:
            self._before_request()
            answer = request(session, *args, **options)
            if KILLS in answer.headers:
                answer.close()
                raise Killed
            return answer

        def publish(task: Any, args: Any = (), **options: Any) -> None:
            self.workers.take(task, args, options.get("countdown", 0))

        self.orb.answer_through(answer)
        patch.setattr(requests.Session, "request", send)
        patch.setattr(Task, "apply_async", publish)

    def _settings(self) -> override_settings:
        is_slow = any(one.is_slow for one in self.misfortunes)
        changed = {
            "API_KEY": self.key,
            "BASE_URL": self.orb.base_url,
            "TIMEOUT_SECONDS": TIMEOUT_SECONDS if is_slow else 30.0,
        }
        return override_settings(DJANGO_ORB={**self.options, **changed})

    def _before_request(self) -> None:
        with self.lock:
            self.requests += 1
        if self.requests > MOST_REQUESTS:
            raise Endless(f"Orb was asked {self.requests} times")
        self._let_happen()

    def _let_happen(self, *_: Any) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            self.has_feed = WebhookFeed.objects.exists()
        while happening := self._due_happening(is_main=is_main):
            happening.happen()

    def _due_happening(self, *, is_main: bool) -> Happening | None:
        with self.lock:
            for one in self.happenings:
                if one.at <= self.requests and (is_main or not one.is_here):
                    self.happenings.remove(one)
                    return one
        return None

    # Acts

    def play(self) -> None:
        with self.playing():
            try:
                for number in range(len(self.bias.acts) or 3):
                    self.act(number)
                self.end_well()
            except (AssertionError, Endless) as err:
                err.args = (f"{err}\n{'; '.join(self.path)}",)
                raise
            finally:
                forget_all()

    def act(self, number: int) -> None:
        self.has_feed = WebhookFeed.objects.exists()
        kind = self.chance.choice(self._choices(number))
        self.path.append(kind)
        self.requests = 0
        for _ in range(self.chance.choice([0, 1, 2])):
            self._change(Change.by_chance(self.chance, self.bias.changes))
        self._plan()
        before, first = self._state(), self._last_run()
        with self._settings():
            getattr(self, f"_{kind.replace(' ', '_')}")()
            self.happenings.clear()
            self.workers.settle()
        after = self._state()
        for run in SyncRun.objects.filter(pk__gt=first):
            self._check(run, before, after)
        self.orb.clear_faults()
        kept = [one for one in self.misfortunes if self.chance.random() < one.stays]
        for one in self.misfortunes:
            if one not in kept:
                one.end(self.orb)
        self.misfortunes = kept

    def _choices(self, number: int) -> list[str]:
        if number < len(self.bias.acts):
            return [self.bias.acts[number]]
        if number == 0 and self.chance.random() < 0.7:
            return ["full"]
        return [*ACTS, *ACTS, *RARE_ACTS, *(["restore"] * 6 if self.backup else [])]

    def _plan(self) -> None:
        for one in misfortunes_by_chance(self.chance, self.orb, self.bias.misfortunes):
            self.path.append(str(one))
            one.begin(self.orb)
            self.misfortunes.append(one)
        happenings: list[Happening] = []
        for _ in range(self.chance.choice([1, 2, 4, 6])):
            change = Change.by_chance(self.chance, self.bias.changes)
            at = self.chance.randint(1, 15)
            happenings.append(Happening(at, partial(self._change, change)))
        luck = self.chance.random()
        at = self.chance.randint(1, 20)
        if luck < 0.1:
            happenings.append(Happening(at, self._cancel, is_here=True))
        elif luck < 0.2:
            happenings.append(Happening(at, self._kill))
        elif luck < 0.35:
            happenings.append(Happening(at, self._save, is_here=True))
        self.happenings = sorted(happenings, key=lambda one: one.at)

    def _change(self, change: Change) -> None:
        self.path.append(str(change))
        invoice_id = change.happen(self.orb, self.broken)
        # Events from before the list's first reading are not read for certain.
        if invoice_id and change.has_event and self.has_feed:
            self.told.add(invoice_id)
        else:
            self.told.discard(invoice_id)

    def _cancel(self) -> None:
        self.path.append("(cancel)")
        for run in SyncRun.objects.filter(state=SyncRun.State.RUNNING):
            runs.cancel_run(run)

    def _kill(self) -> None:
        self.path.append("(kill)")
        raise Killed

    def _full(self) -> None:
        self._sync("full")

    def _incremental(self) -> None:
        self._sync("incremental")

    def _sync(self, mode: Any) -> None:
        if self.chance.random() < 0.7:
            self.workers.do(tasks.sync_invoices, mode)
        else:
            see = self._let_happen
            self._here(lambda: services.sync_invoices(mode=mode, on_step=see))

    def _one(self) -> None:
        ids = self.orb.invoice_ids()
        chosen = self.chance.sample(ids, min(3, len(ids)))
        self._here(lambda: services.sync_invoices(invoice_ids=chosen))

    def _here(self, call: Callable[[], Any]) -> None:
        """In this process, which ends with the reason, or dies."""
        try:
            call()
        except (OrbError, Killed) as err:
            self.path.append(f"({type(err).__name__}: {str(err)[:60]})")

    def _verify(self) -> None:
        before = self._state()
        verification = services.verify_invoices(fix=True)

        def verify() -> None:
            list(verification)
            if verification.is_right:
                self._demand(before, before.keys(), self._state(), "verification")

        self._here(verify)

    def _prune(self) -> None:
        self.clock.sleep(2 * 86_400)
        self.workers.do(tasks.prune)

    def _new_key(self) -> None:
        self.key = f"key {len(self.path)}".replace(" ", "-")
        self.orb._options.api_key = self.key
        with self._settings():
            self._sync("incremental")
            self.workers.settle()

    def _save(self) -> None:
        self.backup = [(one, list(one._default_manager.all())) for one in tables()]

    def _restore(self) -> None:
        """All workers are stopped, and it takes some minutes."""
        self.workers.stop()
        forget_all()
        for model, rows in self.backup or []:
            model._default_manager.bulk_create(rows)
        if not WebhookFeed.objects.exists():
            self.told.clear()
        self.clock.sleep(300)
        self.workers.do(tasks.recover)

    # What is demanded

    def _state(self) -> State:
        return {pk: json.dumps(self.orb.invoice(pk)) for pk in self.orb.invoice_ids()}

    def _last_run(self) -> int:
        return max(SyncRun.objects.values_list("pk", flat=True), default=0)

    def _check(self, run: SyncRun, before: State, after: State) -> None:
        self.path.append(f"({run}: {run.state} {run.error[:150]})")
        if run.is_active or (run.state == SyncRun.State.FAILED and not run.error):
            raise Found(f"{run} ended as {run.state}: {run.error!r}")
        if run.state == SyncRun.State.FAILED:
            is_hindered = any(one.may_end_a_run for one in self.misfortunes)
            is_unknown = "does not know" in run.error
            if not is_hindered and not is_unknown:
                raise Found(f"{run} failed: {run.error}")
        if run.state != SyncRun.State.SUCCEEDED:
            return
        states = set(run.windows.values_list("state", flat=True))
        if states != {SyncWindow.State.DONE}:
            raise Found(f"{run} succeeded with windows {states}")
        self._demand(before, self._read_by(run, after), after, str(run))

    def _read_by(self, run: SyncRun, after: State) -> set[str]:
        """What a run that succeeded has to have read."""
        if run.kind == SyncRun.Kind.FULL:
            return set(after)
        windows = run.windows.all()
        ids = {pk for one in windows for pk in one.invoice_ids}
        is_away = any(isinstance(one, NoFeed) for one in self.misfortunes)
        if windows.filter(kind=SyncWindow.Kind.FEED).exists() and not is_away:
            ids |= self.told
        if windows.filter(kind=SyncWindow.Kind.LIST).exists():
            ids |= {*self.orb.invoice_ids("draft"), *self.orb.invoice_ids("issued")}
        return ids

    def _demand(self, before: State, ids: Any, after: State, whose: str) -> None:
        """What did not change meanwhile is here, or says why it is not."""
        hidden = {one.hides for one in self.misfortunes}
        still = {pk for pk in ids if before.get(pk) == after.get(pk)} & after.keys()
        stored = Invoice.objects.filter(missing_since=None).in_bulk()
        excused = {
            *InvoiceFailure.objects.values_list("pk", flat=True),
            *InvoiceRecheck.objects.values_list("pk", flat=True),
            *WebhookEvent.objects.filter(state__in=["received", "failed"]).values_list(
                "invoice_id", flat=True
            ),
        }
        for pk in sorted(still - excused - hidden):
            if pk not in stored or stored[pk].payload != exact_json.loads(after[pk]):
                raise Found(f"{pk} was not read by {whose}, which succeeded")

    def end_well(self) -> None:
        self.path.append("all is well")
        self.orb.clear_faults()
        for one in self.misfortunes:
            one.end(self.orb)
        self.misfortunes = []
        for invoice_id, total in self.broken.items():
            if invoice_id in self.orb.invoice_ids():
                self.orb.update_invoice(invoice_id, total=total)
        self.requests = 0
        with self._settings():
            for _ in range(3):
                self.clock.sleep(4000)
                self.workers.do(tasks.recover)
                self.workers.settle()
            run = services.sync_invoices(mode="full")
            self._check_end(run)

    def _check_end(self, run: SyncRun) -> None:
        if (run.state, run.error, run.failed) != (SyncRun.State.SUCCEEDED, "", 0):
            raise Found(f"all is well, and {run} is {run.state}: {run.error}")
        failures = list(InvoiceFailure.objects.values_list("pk", "reason"))
        if failures:
            raise Found(f"all is well, and there are {failures}")
        differences = list(services.verify_invoices())
        if differences:
            raise Found(f"all is well, and there are {differences}")
        mirrored = Invoice.objects.filter(missing_since=None)
        ids = {*mirrored.values_list("pk", flat=True)}
        if ids != {*self.orb.invoice_ids()}:
            raise Found(f"all is well, and {ids ^ {*self.orb.invoice_ids()}} differ")
        self.requests = 0
