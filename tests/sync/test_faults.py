"""
Patient and complete: runs through an Orb that misbehaves at random.

Hypothesis chooses what goes wrong, when, and what changes at Orb meanwhile. After
all that, with Orb well again, one more run leaves the mirror equal to Orb, value
for value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from django.conf import settings as django_settings
from django.db.models import Sum
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from django_orb import mirror, services
from django_orb.client.orb_client import OrbClient
from django_orb.exceptions import OrbSyncFailedError
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceObservation,
    SyncAbsence,
    SyncRun,
    SyncWindow,
    WebhookEvent,
    WebhookFeed,
)
from django_orb.models.runs import COUNTS
from django_orb.testing import OrbSandbox

from .test_runs import assert_mirrors

pytestmark = pytest.mark.proof

Test = TypeVar("Test", bound=Callable[..., None])

PAGE_SIZE = 10
NONSENSE = "a lot"
TIMEOUT_SECONDS = 0.2

# What goes wrong


@dataclass(frozen=True)
class Trouble:
    """A call of one of the sandbox's `*_next` methods."""

    method: str
    options: Mapping[str, Any]

    def happen(self, orb: OrbSandbox) -> None:
        getattr(orb, self.method)(**self.options)


def _trouble(method: str, **options: Any) -> st.SearchStrategy[Trouble]:
    chosen = {
        name: value if isinstance(value, st.SearchStrategy) else st.just(value)
        for name, value in options.items()
    }
    return st.fixed_dictionaries(chosen).map(lambda given: Trouble(method, given))


COUNT = st.integers(1, 4)
SKIP = st.integers(0, 6)
ROUTE = st.sampled_from(["list_invoices", "list_invoices", "fetch_invoice", None])
FAILURES = st.one_of(
    _trouble("fail_next", status=429, count=COUNT, skip=SKIP, route=ROUTE),
    _trouble(
        "fail_next",
        status=429,
        headers=st.sampled_from(["1", "30", "0.5", "soon"]).map(
            lambda value: {"Retry-After": value}
        ),
        count=COUNT,
        skip=SKIP,
        route=ROUTE,
    ),
    _trouble(
        "fail_next",
        status=st.sampled_from([408, 500, 503]),
        when=st.sampled_from(["before", "after"]),
        count=COUNT,
        skip=SKIP,
        route=ROUTE,
    ),
    _trouble("fail_next", status=502, html=True, count=COUNT, skip=SKIP, route=ROUTE),
    _trouble(
        "cut_next",
        when=st.sampled_from(["before", "during", "after"]),
        count=COUNT,
        skip=SKIP,
        route=ROUTE,
    ),
    _trouble("repeat_next", count=st.integers(1, 2), skip=SKIP),
)
# Each takes real time, and is rarer for that.
TIMEOUT = _trouble(
    "delay_next", count=1, seconds=2 * TIMEOUT_SECONDS, skip=SKIP, route=ROUTE
)

# What happens at Orb meanwhile


@dataclass(frozen=True)
class Change:
    """Something at Orb between two pages; `which` chooses the invoice."""

    kind: str
    which: int
    days_ago: int

    def happen(self, orb: OrbSandbox, broken: dict[str, str]) -> None:
        if self.kind == "add":
            orb.add_invoice(days_ago=self.days_ago)
            return
        status = {"issue": "draft", "mark_paid": "issued", "void": "issued"}
        ids = orb.invoice_ids(status.get(self.kind))
        if not ids:
            return
        invoice_id = ids[self.which % len(ids)]
        if self.kind in status:
            getattr(orb, self.kind)(invoice_id)
        elif self.kind == "move":
            moved = orb.add_invoice(days_ago=self.days_ago)["invoice_date"]
            orb.update_invoice(invoice_id, invoice_date=moved)
        elif invoice_id not in broken:
            broken[invoice_id] = orb.invoice(invoice_id)["total"]
            orb.update_invoice(invoice_id, total=NONSENSE)


KINDS = ["add", "add", "mark_paid", "void", "issue", "move", "break"]
CHANGES = st.builds(
    Change, st.sampled_from(KINDS), st.integers(0, 99), st.integers(-40, 300)
)


@dataclass(frozen=True)
class Schedule:
    """Runs by mode, troubles before each, and changes after so many of their steps."""

    seed: int
    invoices: int
    retries: int
    runs: list[tuple[str, list[Trouble], dict[int, Change]]]
    timeout: Trouble | None


SCHEDULES = st.builds(
    Schedule,
    seed=st.integers(1, 50),
    invoices=st.integers(30, 60),
    retries=st.sampled_from([0, 2]),
    runs=st.lists(
        st.tuples(
            st.sampled_from(["full", "incremental"]),
            st.lists(FAILURES, max_size=5),
            st.dictionaries(st.integers(0, 12), CHANGES, max_size=5),
        ),
        min_size=1,
        max_size=2,
    ),
    timeout=st.one_of(st.none(), st.none(), st.none(), TIMEOUT),
)


@dataclass
class Story:
    """One schedule, played."""

    schedule: Schedule
    orb: OrbSandbox
    broken: dict[str, str] = field(default_factory=dict)

    def play(self) -> None:
        for mode, troubles, changes in self.schedule.runs:
            for trouble in troubles:
                trouble.happen(self.orb)
            if self.schedule.timeout:
                self.schedule.timeout.happen(self.orb)
            self._sync(mode, dict(changes))
            self.orb.clear_faults()
        if self.broken:
            self._check_failures()
        self._end_well()

    def _sync(self, mode: Any, changes: dict[int, Change]) -> None:
        steps = 0

        def on_step(run: SyncRun) -> None:
            nonlocal steps
            if steps in changes:
                changes.pop(steps).happen(self.orb, self.broken)
            steps += 1

        try:
            run = services.sync_invoices(mode=mode, on_step=on_step)
        except OrbSyncFailedError as err:
            # Only a list that goes round in circles may end a run.
            if "repeated a cursor" not in str(err):
                raise
            run = err.run
        check_counts(run)

    def _check_failures(self) -> None:
        """What failed was what could not be read, and is said, once each."""
        failures = InvoiceFailure.objects.values_list("pk", flat=True)
        assert set(failures) <= self.broken.keys()

        run = services.sync_invoices(mode="full")

        check_counts(run)
        # An invoice that was issued after it broke has a total of Orb's again.
        broken = {
            invoice_id
            for invoice_id in self.broken
            if self.orb.invoice(invoice_id)["total"] == NONSENSE
        }
        assert set(failures.all()) == broken
        assert run.failed == len(broken)

    def _end_well(self) -> None:
        for invoice_id, total in self.broken.items():
            self.orb.update_invoice(invoice_id, total=total)
        WebhookEvent.objects.all().delete()  # those that failed would ask Orb too
        self.orb.clear_requests()

        run = services.sync_invoices(mode="full")

        check_counts(run)
        assert (run.state, run.error) == (SyncRun.State.SUCCEEDED, "")
        assert run.failed == 0
        assert run.invoices == len(self.orb.invoice_ids())
        if not self.schedule.timeout:  # what was given up may be answered only now
            assert run.requests == sum(self.orb.request_counts().values())
        assert not InvoiceFailure.objects.exists()
        assert_mirrors(self.orb)
        created = SyncRun.objects.aggregate(total=Sum("created"))["total"]
        # What runs met first in Orb's list of events counts there.
        by_events = InvoiceChange.objects.filter(kind="created", origin="webhook")
        assert created + by_events.count() == len(self.orb.invoice_ids())


def check_counts(run: SyncRun) -> None:
    run.refresh_from_db()
    assert not run.is_active
    of_windows = run.windows.aggregate(**{name: Sum(name) for name in COUNTS})
    for name in set(COUNTS) - {"missing"}:
        assert getattr(run, name) == of_windows[name], name
    assert run.missing == 0
    if run.state == SyncRun.State.SUCCEEDED:
        states = set(run.windows.values_list("state", flat=True))
        assert states == {SyncWindow.State.DONE}


# Playing


@contextmanager
def impatient(retries: int) -> Iterator[None]:
    """Nobody waits, except the sandbox; few windows, so that each has some pages."""
    clock = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    make = OrbClient.from_settings

    def from_settings(**options: Any) -> OrbClient:
        return make(**{**options, "retries": retries})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django_orb.sync.planning.WINDOW_COUNT", 2)
        patch.setattr("django_orb.sync.runs.time", clock)
        patch.setattr("django_orb.client.transport.time", clock)
        patch.setattr(OrbClient, "from_settings", from_settings)
        yield


def play(schedule: Schedule) -> None:
    with (
        OrbSandbox(invoices=schedule.invoices, seed=schedule.seed) as orb,
        override_settings(
            DJANGO_ORB={
                **django_settings.DJANGO_ORB,
                "API_KEY": orb.api_key,
                "BASE_URL": orb.base_url,
                "PAGE_SIZE": PAGE_SIZE,
                "TIMEOUT_SECONDS": TIMEOUT_SECONDS if schedule.timeout else 30.0,
            }
        ),
        impatient(schedule.retries),
    ):
        try:
            Story(schedule, orb).play()
        finally:
            forget_all()


def forget_all() -> None:
    """Examples of one test follow each other on the same database."""
    using = mirror.database_alias()
    events = (WebhookEvent, WebhookFeed)
    for model in (SyncAbsence, SyncWindow, SyncRun, InvoiceFailure, *events):
        model.objects.using(using).all().delete()
    InvoiceObservation.objects.using(using).all().delete()
    Invoice.objects.using(using).all().delete()


def quietly(examples: int) -> Callable[[Test], Test]:
    decorate: Callable[[Test], Test] = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    return decorate


@pytest.mark.django_db(databases=["postgresql"])
@quietly(30)
@given(schedule=SCHEDULES)
def test_mirror_converges_whatever_goes_wrong(schedule: Schedule) -> None:
    play(schedule)


@pytest.mark.parametrize("orb", [{"invoices": 30}], indirect=True)
def test_invoice_that_fails_after_it_was_mirrored_counts_once(
    any_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    orb.update_invoice(orb.invoice_ids("paid")[0], total="a lot")

    run = services.sync_invoices(mode="full")

    assert run.failed == 1
    assert run.invoices == len(orb.invoice_ids())


@pytest.mark.long
@pytest.mark.django_db(databases=["postgresql"])
@quietly(500)
@given(schedule=SCHEDULES)
def test_mirror_converges_whatever_goes_wrong_for_long(schedule: Schedule) -> None:
    play(schedule)


@quietly(5)
@given(schedule=SCHEDULES)
def test_mirror_converges_on_every_database(
    any_database: str, schedule: Schedule
) -> None:
    play(schedule)
