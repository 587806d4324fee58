"""
Exactly once: what changes something in Orb, through everything that can cut in.

Hypothesis chooses what is asked for, by how many at once, what Orb and the connection
do, where processes are killed with SIGKILL, and what happens afterwards: a backup that
is restored, keys that Orb forgets, what a person does. Then Orb is well again and
`recover` runs: each intention that is recorded is in Orb once and in the mirror once, or
was refused or cancelled and is nowhere. What asks a person says so, and is decided once
the person looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from django_orb.client import transport
from django_orb.exceptions import OrbNotFoundError
from django_orb.models import InvoiceOperation, operation_type
from django_orb.operations import lookup, recovery, sending
from django_orb.testing import OrbSandbox
from tests.doers import POINTS, Doers
from tests.put_back import put_back

from .stories import SCHEDULES, Click, Round, Schedule, Story, blind, cut, fail

pytestmark = pytest.mark.proof

Test = TypeVar("Test", bound=Callable[..., None])

SHORT, LONG = 20, 400


def quietly(examples: int) -> Callable[[Test], Test]:
    decorate: Callable[[Test], Test] = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    return decorate


@pytest.fixture
def doers(
    orb: OrbSandbox, process_environment: Callable[[], dict[str, str]]
) -> Iterator[Doers]:
    made = Doers(process_environment())
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _no_waiting(waits: list[float]) -> None:
    """No test here is about how long is waited."""


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
    assert seen["killed"] >= LONG / 2


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
def test_everything_happens_once_on_every_database(
    any_committed_database: str, orb: OrbSandbox, doers: Doers
) -> None:
    assert play_all(orb, doers, 3)["schedules"] == 3


@pytest.mark.parametrize("orb", [{"invoices": 10}], indirect=True)
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
@pytest.mark.parametrize("kind", ["create", "edit", "line", "void"])
def test_process_killed_at_each_point(orb: OrbSandbox, doers: Doers, kind: str) -> None:
    for point in POINTS:
        if kind == "edit" and point == "seen":
            continue  # an edit looks before it is recorded, too
        story = Story(Schedule(kind, [Round([Click(kill=point)])]), orb, doers)

        story.play()

        assert story.seen["killed"] == 1
        assert story.seen["succeeded"] == (point != "not recorded")


# Faults that were there once, and the schedules that find them out


def forget_how_old_it_is(patch: pytest.MonkeyPatch) -> None:
    def is_remembered(operation: InvoiceOperation, now: Any) -> bool:
        sent_at = operation.first_sent_at
        return sent_at is None or now - sent_at < timedelta(hours=47)

    put_back(patch, lookup, "is_remembered", is_remembered)


def believe_refusals(patch: pytest.MonkeyPatch) -> None:
    def finish(operation: InvoiceOperation, doubt: Any, **_: Any) -> None:
        detail = sending.in_words(doubt.err)
        sending.finish(operation, "refused", detail)

    put_back(patch, sending, "_doubt_refusal", finish)


def look_as_if_pending(patch: pytest.MonkeyPatch) -> None:
    def look_again(operation: InvoiceOperation, *, client: Any) -> str:
        InvoiceOperation.objects.filter(pk=operation.pk).update(state="pending")
        operation.refresh_from_db()
        recovery.look(operation, client=client)
        return "" if operation.state != "pending" else operation.detail

    put_back(patch, recovery, "look_again", look_again)


def take_a_routes_404(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(transport._BY_STATUS, 404, OrbNotFoundError)


def believe_any_success(patch: pytest.MonkeyPatch) -> None:
    def require_invoice(payload: Any, invoice_id: str) -> Any:
        return payload

    put_back(patch, operation_type, "require_invoice", require_invoice)


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Schedule]] = {
    "an old row is sent": (
        forget_how_old_it_is,
        Schedule(
            "line",
            [Round([Click(how="queue")], then=["recover", "restore old", "recover"])],
        ),
    ),
    "a refusal after doubt is believed": (
        believe_refusals,
        Schedule(
            "void", [Round([Click()], [cut("after", 3), fail(400)], then=["recover"])]
        ),
    ),
    "a look in vain makes it pending": (
        look_as_if_pending,
        Schedule(
            "line",
            [Round([Click(how="queue")], then=["restore old", "recover", "look away"])],
        ),
    ),
    "a proxy's success is believed": (
        believe_any_success,
        Schedule("issue", [Round([Click(how="queue")], [fail(200)], then=["recover"])]),
    ),
    "a proxy's success shows what happened": (
        believe_any_success,
        Schedule(
            "issue",
            [Round([Click(how="queue")], then=["restore old", "blind", "recover"])],
        ),
    ),
    "a route's 404 is believed": (
        take_a_routes_404,
        Schedule(
            "delete",
            [
                Round(
                    [Click()],
                    [cut("after"), fail(400), blind(status=404, html=True)],
                    then=["recover"],
                )
            ],
        ),
    ),
}


@pytest.mark.parametrize("orb", [{"invoices": 1}], indirect=True)
@pytest.mark.django_db(databases=["default"], transaction=True)
def test_faults_are_found_out(
    orb: OrbSandbox, doers: Doers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bring_back, schedule in FAULTS.values():
        Story(schedule, orb, doers).play()
        with monkeypatch.context() as patch:
            bring_back(patch)
            with pytest.raises(AssertionError):
                Story(schedule, orb, doers).play()
        InvoiceOperation.objects.all().delete()
