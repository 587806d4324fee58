"""Which tasks are scheduled, and how late each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from celery.schedules import maybe_schedule

from .facts import Facts
from .occurrences import INCREMENTAL, RECOVER, SCHEDULED

PREFIX = "django_orb.tasks."
# How far apart calls by cron may be, if Celery has no schedule.
WITHOUT_BEAT = {INCREMENTAL: timedelta(hours=2), RECOVER: timedelta(hours=2)}


@dataclass(frozen=True)
class ScheduledTask:
    """`late` is how long ago it should have run; None if it did, or has time left."""

    name: str
    ran_at: datetime | None
    error: str
    late: timedelta | None


@dataclass(frozen=True)
class Schedule:
    has_beat: bool
    tasks: tuple[ScheduledTask, ...]
    missing: tuple[str, ...]


def read_schedule(facts: Facts) -> Schedule:
    """
    Compare Celery's schedule with when its tasks last ran; no statement.

    A task that has never run counts from when the account was first seen.
    """
    entries = dict(_entries())
    if entries:
        late = {name: _late(entry, facts, name) for name, entry in entries.items()}
    else:
        late = {name: _over(limit, facts, name) for name, limit in WITHOUT_BEAT.items()}
    tasks = []
    for name, how_late in late.items():
        last = facts.occurrences.get(name)
        tasks.append(
            ScheduledTask(
                name,
                last.at if last else None,
                last.detail if last else "",
                how_late if how_late and how_late > timedelta() else None,
            )
        )
    # Without any entry, cron or a backend of Django's tasks does the work.
    missing = [name for name in SCHEDULED if entries and name not in entries]
    return Schedule(bool(entries), tuple(tasks), tuple(missing))


def _entries() -> Iterator[tuple[str, Any]]:
    """The schedules of our tasks, by the name under which they are noted."""
    for entry in (current_app.conf.beat_schedule or {}).values():
        task = str(entry.get("task", ""))
        name = task.removeprefix(PREFIX)
        if name == "sync_invoices":
            # Beat takes None for no arguments. The last is the task's own default.
            given = [*(entry.get("args") or ()), "incremental"][0]
            name = f"{name} {(entry.get('kwargs') or {}).get('mode', given)}"
        if task.startswith(PREFIX) and name in SCHEDULED:
            # Beat also takes a number of seconds or a timedelta.
            yield name, maybe_schedule(entry["schedule"])


def _last(facts: Facts, name: str) -> datetime | None:
    last = facts.occurrences.get(name)
    return last.at if last else facts.account_confirmed_at


def _late(schedule: Any, facts: Facts, name: str) -> timedelta | None:
    last = _last(facts, name)
    if last is None:
        return None
    # Negative once the next run after the last one is due.
    remaining: timedelta = schedule.remaining_estimate(schedule.maybe_make_aware(last))
    return -remaining


def _over(limit: timedelta, facts: Facts, name: str) -> timedelta | None:
    last = _last(facts, name)
    return facts.now - last - limit if last else None
