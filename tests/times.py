"""
Time as the package is told it, by the standard library and by the database.

Only the package's own calls are answered otherwise: the sandbox, the tests and all
other libraries keep the real time.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from django.db import connections

from django_orb.db import clock

PACKAGE = "django_orb"


def rule(
    patch: pytest.MonkeyPatch, *, among: str = PACKAGE, **functions: Callable[..., Any]
) -> None:
    """
    Answer `time.sleep`, `time.monotonic` and `time.time`, as named, from `among`.

    That is the whole package or a module of it; `rule(patch, sleep=waits.append)`.
    """
    for name, ours in functions.items():
        patch.setattr(time, name, _divided(getattr(time, name), ours, among))


def _divided(
    real: Callable[..., Any], ours: Callable[..., Any], among: str
) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        frame = sys._getframe(1)
        while frame.f_globals is globals() and frame.f_back:  # another rule's
            frame = frame.f_back
        caller = frame.f_globals.get("__name__", "")
        return (ours if _is_part(caller, among) else real)(*args)

    return call


def _is_part(module: str, package: str) -> bool:
    is_sandbox = module.startswith(f"{PACKAGE}.testing.")
    return f"{module}.".startswith(f"{package}.") and not is_sandbox


def hurry(patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Let a minute pass between any two looks of these modules at the clock."""
    minutes = itertools.count(step=60)
    for module in modules:
        rule(patch, among=module.__name__, monotonic=lambda: float(next(minutes)))


@contextmanager
def database_time(
    patch: pytest.MonkeyPatch, using: str, epoch: Callable[[], float]
) -> Iterator[None]:
    """
    Have the database tell this time, in seconds since 1970, to a package that forgot it.

    Only where it is asked for nothing else: a statement that locks rows too tells none.
    """
    patch.setattr(clock, "_clocks", {})
    told = clock.epoch_sql(connections[using].vendor)
    if told == "NULL":  # SQLite has no clock of its own
        rule(patch, among=clock.__name__, time=epoch)
        yield
        return

    def tell(execute: Any, sql: str, *args: Any) -> Any:
        if sql == f"SELECT {told}":
            sql = f"SELECT {epoch()!r}"
        return execute(sql.replace(told, "NULL"), *args)

    with connections[using].execute_wrapper(tell):
        yield


class Clock:
    """A monotonic clock that moves only while the package sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
