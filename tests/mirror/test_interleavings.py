"""
Never stale: all orders of small histories against the real writer.

See `histories.py` for what is played and what is demanded.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from django_orb.db import clock
from django_orb.db.clock import DatabaseClock, Interval
from django_orb.mirror import ordering, page_writer
from django_orb.mirror.ordering import Decision, Incoming, Known
from tests.histories import DAY, WRITTEN, History, Player, Stale, Unsettled, Worker
from tests.put_back import put_back

pytestmark = pytest.mark.proof

RESOLUTION = timedelta(seconds=clock.RESOLUTION)

Judge = Callable[[Known, Incoming, datetime], Decision]

on_sqlite = pytest.mark.django_db(databases=["default"])

# Their clocks are minutes apart, go wrong by almost as much as is allowed, and the
# way to the database and back took seconds, on one or on both ways.
FAST = Worker(ahead=420.0, rate=1.0009, delays=(3.0, 0.0))
SLOW = Worker(ahead=-300.0, rate=0.9991, delays=(0.0, 3.0))
FAR = Worker(ahead=1e6, delays=(1.0, 1.0))
WATCHFUL = Worker(is_watchful=True)


HISTORIES = {
    "a page and a fetch": History("AB", pages=1, fetches=1),
    "a page and a fetch of what is unknown": History(
        "AB", is_known=False, pages=1, fetches=1
    ),
    "two pages": History("AB", pages=2),
    "undone": History("ABA", pages=1, fetches=1),
    "undone, and unknown before": History("ABA", is_known=False, pages=1, fetches=1),
    "vanishes": History("A-", pages=1, fetches=1),
    "vanishes and returns": History("A-A", pages=1, fetches=1),
    "vanishes and returns changed": History("A-B", pages=1, fetches=1),
    "appears": History("-A", is_known=False, pages=1, fetches=1),
    "webhooks": History("AB", is_known=False, pages=1, hooks=2),
    "webhooks of a near clock": History("AB", hooks=3, skew=2.0, orb_ahead=2.0),
    "webhooks and a page": History("AB", pages=1, hooks=1, skew=1.0, orb_ahead=-1.0),
    "clocks minutes apart": History("AB", pages=1, fetches=1, workers=(FAST, SLOW)),
    "clocks minutes apart, undone": History(
        "ABA", pages=1, fetches=1, workers=(SLOW, FAR)
    ),
    "one time for all": History("ABA", pages=1, fetches=1, tick=DAY),
    "pairs of one time": History("AB", is_known=False, pages=1, fetches=1, tick=2.0),
    "own write": History("A", pages=1, looks=(0,)),
}


LONG_HISTORIES = {
    "undone, as pages saw it": History("ABA", is_known=False, pages=2, fetches=1),
    "every event later": History("AB", pages=1, fetches=1, is_every_event_later=True),
    "webhooks, undone": History("ABA", pages=1, hooks=1),
    "three readers of what is unknown": History(
        "AB", is_known=False, pages=2, fetches=1
    ),
    "three readers, undone": History("ABA", pages=2, fetches=1),
    "three readers, undone, unknown": History(
        "ABA", is_known=False, pages=2, fetches=1
    ),
    "three readers, undone twice": History("ABAB", is_known=False, pages=2, fetches=1),
    "three fetches, vanishes and returns": History("A-A", fetches=3),
    "four readers": History("AB", pages=2, fetches=2),
    "every event later, undone": History(
        "ABA", pages=1, fetches=1, is_every_event_later=True
    ),
    "every event later, unknown": History(
        "ABA", is_known=False, pages=1, fetches=1, is_every_event_later=True
    ),
    "webhooks twice, undone": History("ABA", pages=1, hooks=2),
    "webhooks and two readers": History("AB", pages=1, fetches=1, hooks=2),
    "webhooks of a near clock": History("ABA", pages=1, hooks=2, skew=2.0),
    "clocks minutes apart": History(
        "ABA", pages=2, fetches=1, workers=(FAST, SLOW, FAR)
    ),
    "clocks minutes apart, every event later": History(
        "ABA", pages=1, fetches=1, workers=(FAST, SLOW), is_every_event_later=True
    ),
    "one time for all": History("ABA", pages=2, fetches=1, tick=DAY),
    "one time for all, unknown": History(
        "ABA", is_known=False, pages=2, fetches=1, tick=DAY
    ),
    "pairs of one time": History("ABA", pages=2, fetches=1, tick=2.0),
    "own write": History("AB", pages=1, fetches=1, looks=(0,)),
}


@on_sqlite
@pytest.mark.parametrize("name", HISTORIES)
def test_newest_state_wins_in_every_order(name: str) -> None:
    tally = Player(HISTORIES[name], "default").play_all()

    print(name, tally)
    assert tally.schedules > 0


@on_sqlite
@pytest.mark.long
@pytest.mark.parametrize("name", LONG_HISTORIES)
def test_newest_state_wins_in_every_order_of_more(name: str) -> None:
    tally = Player(LONG_HISTORIES[name], "default").play_all()

    print(name, tally)
    assert tally.schedules > 0


@on_sqlite
def test_orders_that_lead_to_the_same_need_no_second_look() -> None:
    """Each order from its beginning on its own: as many, and nothing else found."""
    history = HISTORIES["webhooks and a page"]

    merged = Player(history, "default").play_all()
    separate = Player(history, "default").play_all(is_merging=False)

    assert merged.schedules == separate.schedules
    assert merged.writes < separate.writes


@pytest.mark.parametrize(
    "name", ["undone, and unknown before", "webhooks", "one time for all"]
)
def test_newest_state_wins_in_some_orders_on_every_database(
    any_database: str, name: str
) -> None:
    tally = Player(HISTORIES[name], any_database).play_some(20, random.Random(name))

    assert tally.schedules == 20


# Some orders by name


def play(history: History, *events: str) -> str:
    """The state that the mirror ends with."""
    return Player(history, "default").play(*events).state


@on_sqlite
@pytest.mark.parametrize("first", ["page", "fetch"])
def test_page_and_fetch_that_both_find_an_unknown_id(first: str) -> None:
    """Both asked when nothing was there, one before the change and one after it."""
    second = "fetch" if first == "page" else "page"
    asked = [f"{first} begins", f"{second} begins", f"{first} answers"]
    answered = ["Orb becomes B", f"{second} answers", f"{first} ends", f"{second} ends"]
    history = History("AB", is_known=False, pages=1, fetches=1)

    for writes in ([first, second], [second, first]):
        events = [f"{kind} writes" for kind in writes]
        assert play(history, *asked, *answered, *events) == "B"


@on_sqlite
def test_change_that_was_undone_and_its_page_written_last() -> None:
    history = History("ABA", pages=1, fetches=1)

    state = play(
        history,
        *("Orb becomes B", "page begins", "page answers", "page ends"),
        *("Orb becomes A", "fetch begins", "fetch answers", "fetch ends"),
        *("fetch writes", "page writes"),
    )

    assert state == "A"


@on_sqlite
def test_webhook_retried_after_newer_states_were_seen() -> None:
    history = History("ABC", fetches=1, hooks=2)

    state = play(
        history,
        *("Orb becomes B", "webhook of B", "Orb becomes C", "webhook of C"),
        *("fetch begins", "fetch answers", "fetch ends", "fetch writes"),
        *("webhook of B", "refetch", "refetch", "refetch", "refetch", "webhook of C"),
    )

    assert state == "C"


@on_sqlite
def test_page_fetched_before_a_webhook_and_written_after_it() -> None:
    history = History("AB", pages=1, hooks=2, skew=0.5)

    state = play(
        history,
        *("page begins", "page answers", "page ends", "Orb becomes B"),
        *("webhook of B", "page writes", "webhook of B"),
    )

    assert state == "B"


@on_sqlite
@pytest.mark.parametrize("workers", [(FAST, SLOW), (SLOW, FAST)])
def test_workers_whose_clocks_differ_by_minutes(workers: tuple[Worker, Worker]) -> None:
    history = History(
        "ABA", pages=1, fetches=1, workers=workers, is_every_event_later=True
    )

    state = play(
        history,
        *("page begins", "page answers", "page ends", "Orb becomes B"),
        *("fetch begins", "fetch answers", "fetch ends", "fetch writes", "page writes"),
    )

    assert state == "A"  # the last change, after all that


@on_sqlite
@pytest.mark.parametrize("first", ["page", "fetch"])
def test_tie_of_timestamps_is_fetched_again(first: str) -> None:
    history = History("AB", pages=1, fetches=1, tick=DAY)
    second = "fetch" if first == "page" else "page"
    player = Player(history, "default")

    row = player.play(
        *(f"{first} begins", f"{first} answers", f"{first} ends", f"{first} writes"),
        *("Orb becomes B", f"{second} begins", f"{second} answers", f"{second} ends"),
        *(f"{second} writes", "refetch begins", "refetch answers", "refetch ends"),
        "refetch writes",
    )

    assert row.state == "B"
    assert player.tally.doubts == 1


@on_sqlite
def test_fetch_after_our_own_write_counts_only_when_it_shows_it() -> None:
    history = History("A", looks=(2,))

    state = play(
        history,
        *("Orb becomes W", "look begins", "look answers late", "look ends"),
        *("look begins", "look answers late", "look ends"),
        *("look begins", "look answers", "look ends", "look writes"),
    )

    assert state == WRITTEN


@on_sqlite
def test_tie_with_a_404_is_settled_by_a_fetch() -> None:
    Player(History("A-A", pages=1, fetches=1, tick=DAY), "default").play_all()


@on_sqlite
@pytest.mark.parametrize(("pages", "fetches"), [(1, 0), (0, 1)])
def test_read_that_lags_behind_our_own_write_does_not_undo_it(
    pages: int, fetches: int
) -> None:
    history = History("A", pages=pages, fetches=fetches, looks=(1,))

    Player(history, "default").play_all()


@on_sqlite
def test_page_read_before_an_unknown_invoice_vanished_does_not_bring_it_back() -> None:
    Player(History("A-", is_known=False, pages=1, fetches=1), "default").play_all()


STEPS: dict[str, tuple[float, Worker, Worker]] = {
    "back, noticed by all": (-3600.0, WATCHFUL, WATCHFUL),
    "forward, noticed by all": (3600.0, WATCHFUL, WATCHFUL),
    "back, noticed by one": (-3600.0, Worker(), WATCHFUL),
    "forward, noticed by one": (3600.0, Worker(), WATCHFUL),
    "a little back, noticed by all": (-2.0, WATCHFUL, WATCHFUL),
    "a little forward, noticed by all": (2.0, WATCHFUL, WATCHFUL),
}


@on_sqlite
@pytest.mark.parametrize("name", STEPS)
def test_clock_of_the_database_that_steps(name: str) -> None:
    seconds, *workers = STEPS[name]
    history = History(
        "AB", pages=1, fetches=1, steps=(seconds,), workers=tuple(workers)
    )

    Player(history, "default").play_all()


# The proof can fail: a writer that is wrong is found out


def last_write_wins(judge: Judge) -> Judge:
    return lambda known, one, now: "same" if one.is_stored_in(known) else "take"


def only_beginnings_count(judge: Judge) -> Judge:
    def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        if decision in {"take", "same"} or known.started_at is None:
            return decision
        return "take" if one.interval.started_at > known.started_at else "drop"

    return wrong


def only_ends_count(judge: Judge) -> Judge:
    def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        if decision in {"take", "same"} or known.ended_at is None:
            return decision
        return "take" if one.interval.ended_at > known.ended_at else "drop"

    return wrong


def replaced(decision: Decision, by: Decision) -> Callable[[Judge], Judge]:
    def mutant(judge: Judge) -> Judge:
        def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
            right = judge(known, one, now)
            return by if right == decision else right

        return wrong

    return mutant


def equal_is_later(judge: Judge) -> Judge:
    def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        if known.started_at is None or known.ended_at is None:
            return decision
        is_equal = one.interval.started_at >= known.ended_at - 2 * RESOLUTION
        return "take" if decision == "doubt" and is_equal else decision

    return wrong


def equal_is_earlier(judge: Judge) -> Judge:
    def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        if known.started_at is None or known.ended_at is None:
            return decision
        is_equal = one.interval.ended_at <= known.started_at + 2 * RESOLUTION
        return "drop" if decision == "doubt" and is_equal else decision

    return wrong


def every_refetch_supersedes(judge: Judge) -> Judge:
    def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        return "take" if decision != "same" and one.seen.supersedes else decision

    return wrong


def no_refetch_supersedes(judge: Judge) -> Judge:
    def wrong(known: Known, one: Incoming, now: datetime) -> Decision:
        decision = judge(known, one, now)
        if decision != "take" or known.ended_at is None:
            return decision
        return "take" if one.interval.started_at > known.ended_at else "doubt"

    return wrong


ABA = HISTORIES["undone"]
LATER = LONG_HISTORIES["every event later"]
TIES = HISTORIES["one time for all"]
WRONG_RULES: dict[str, tuple[Callable[[Judge], Judge], History]] = {
    "last write wins": (last_write_wins, HISTORIES["a page and a fetch"]),
    "last write wins, unknown": (
        last_write_wins,
        HISTORIES["a page and a fetch of what is unknown"],
    ),
    "only beginnings count": (only_beginnings_count, HISTORIES["a page and a fetch"]),
    "only ends count": (only_ends_count, HISTORIES["a page and a fetch"]),
    "an unchanged one is not noted": (replaced("same", by="drop"), ABA),
    "a doubt is older": (replaced("doubt", by="drop"), ABA),
    "a doubt is newer": (replaced("doubt", by="take"), ABA),
    "an earlier one is taken": (replaced("drop", by="take"), ABA),
    "equal is later": (equal_is_later, TIES),
    "equal is earlier": (equal_is_earlier, TIES),
    "every refetch supersedes": (
        every_refetch_supersedes,
        LONG_HISTORIES["webhooks, undone"],
    ),
    "no refetch supersedes": (no_refetch_supersedes, TIES),
}


@on_sqlite
@pytest.mark.parametrize("name", WRONG_RULES)
def test_wrong_rule_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant, history = WRONG_RULES[name]
    put_back(monkeypatch, page_writer, "judge", mutant(ordering.judge))

    with pytest.raises((Stale, Unsettled)):
        Player(history, "default").play_all()


@on_sqlite
def test_forgetting_how_long_a_state_held_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen again, and only the first time stands for all of it."""

    def forgetful(
        invoice_id: str, known: Known, one: Incoming, decision: Decision, run_id: Any
    ) -> dict[str, Any]:
        row = ordering.touch(invoice_id, known, one, decision, run_id)
        if decision == "same":
            row["started_at"], row["ended_at"] = known.started_at, known.ended_at
        return row

    put_back(monkeypatch, page_writer, "touch", forgetful)

    with pytest.raises(Stale):
        Player(ABA, "default").play_all()


@on_sqlite
def test_stamp_after_the_answer_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = DatabaseClock.interval

    def stamp(clock: DatabaseClock, started: float, ended: float) -> Interval:
        moment = right(clock, ended, ended).ended_at
        return Interval(moment, moment)

    put_back(monkeypatch, DatabaseClock, "interval", stamp)

    with pytest.raises(Stale):
        Player(LATER, "default").play_all()


@on_sqlite
def test_clock_believed_without_its_error_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = DatabaseClock.interval

    def believe(clock: DatabaseClock, started: float, ended: float) -> Interval:
        begun = right(clock, started, started).ended_at
        return Interval(begun, right(clock, ended, ended).ended_at)

    put_back(monkeypatch, DatabaseClock, "interval", believe)

    with pytest.raises(Stale):
        Player(HISTORIES["clocks minutes apart, undone"], "default").play_all()
