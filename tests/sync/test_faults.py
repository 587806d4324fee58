"""Patient, and it ends: schedules of all that goes wrong; see `hard_times.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from django_orb import services
from django_orb.models import Invoice, SyncRun, SyncWindow
from django_orb.sync import bad_pages, page_sizes, runs, steps, windows
from django_orb.sync.steps import Step
from tests import misfortunes
from tests.hard_times import EVERYTHING, Bias, Endless, Found, Story
from tests.put_back import put_back

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.proof

SOME = 10
MANY = 500


def play_all(seeds: Iterable[object], bias: Bias = EVERYTHING) -> None:
    for seed in seeds:
        Story(seed, bias).play()


@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_mirror_converges_whatever_goes_wrong() -> None:
    play_all(range(SOME))


def test_mirror_converges_on_every_database(any_committed_database: str) -> None:
    play_all(f"{any_committed_database} {n}" for n in range(2))


@pytest.mark.long
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_mirror_converges_whatever_goes_wrong_for_long() -> None:
    play_all(range(SOME, SOME + MANY))


@pytest.mark.parametrize("orb", [{"invoices": 30}], indirect=True)
def test_invoice_that_fails_after_it_was_mirrored_counts_once(
    any_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    orb.update_invoice(orb.invoice_ids("paid")[0], total="a lot")

    run = services.sync_invoices(mode="full")

    assert run.failed == 1
    assert run.invoices == len(orb.invoice_ids())


# The proof can fail: what was wrong once is found out


def leave_the_task(action: Callable[[], Any], *args: Any, **options: Any) -> Any:
    try:
        return action(), windows.Progress()
    except windows.LeaseLostError:
        return None, windows.Progress(is_lost=True)


def believe_that_all_was_read(window: SyncWindow, *args: Any, **options: Any) -> Step:
    return Step([], is_last=True)


def follow_without_a_mark(*args: Any, **options: Any) -> dict[str, Any]:
    return {**follow(*args, **options), "cursor_mark": ""}


def mark_what_is_mirrored(absences: Any, run: SyncRun) -> None:
    mark(absences.filter(invoice_id__in=list(mirrored_ids())), run)


def mirrored_ids() -> Any:
    return Invoice.objects.values_list("pk", flat=True)


def pass_gap_quietly(*args: Any, **options: Any) -> Step:
    step = pass_gap(*args, **options)
    changes = {**step.changes, "has_gap": False}
    return replace(step, observations=[], changes=changes)


follow, mark, pass_gap = steps.follow, runs._mark, bad_pages._pass_gap


class Fault(NamedTuple):
    """How it is put back, and a schedule that comes across it."""

    module: Any
    name: str
    wrong: Callable[..., Any]
    bias: Bias
    seed: int = 0


BAD = Bias(("full",), (misfortunes.bad_invoice,))
FAULTS = {
    "as much is asked for after a failure": Fault(
        page_sizes, "size_after_failure", lambda *_: {}, BAD, 2
    ),
    "a gap in the list counts as read": Fault(
        bad_pages, "_pass_gap", pass_gap_quietly, BAD, 16
    ),
    "a circle is not noticed": Fault(
        steps, "follow", follow_without_a_mark, Bias(("full",), (misfortunes.circle,))
    ),
    "an exception of a step leaves the task": Fault(
        windows, "_try", leave_the_task, Bias(("full",), (misfortunes.in_passing,)), 6
    ),
    "a list of events counts as read": Fault(
        bad_pages,
        "without_events",
        believe_that_all_was_read,
        Bias(
            ("full", "incremental", "incremental"),
            (misfortunes.bad_feed,),
            ("mark_paid", "void"),
        ),
        1,
    ),
    "a failure of a missing id stays": Fault(
        runs,
        "_mark",
        mark_what_is_mirrored,
        Bias(("full", "full"), (misfortunes.circle,), ("break new", "delete broken")),
        15,
    ),
}


@pytest.mark.django_db(databases=["default"], transaction=True)
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    put_back(monkeypatch, fault.module, fault.name, fault.wrong)
    # Others follow, in case that this schedule leads elsewhere by now.
    seeds = [f"fault {n}" for n in range(fault.seed, fault.seed + MANY)]

    with pytest.raises((Found, Endless)):
        play_all(seeds, fault.bias)
