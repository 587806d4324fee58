"""
Keep all processes within one budget of requests, in the mirror's database.

A budget is the time when its next request may leave. A process that needs several requests
moves this time on by all of them at once, and then knows when each may leave. So it asks
the database once for many requests.
"""

# Note [Reserving inside a transaction]
# Other processes would not see what a transaction reserves until it ends, and would
# wait for its lock. So inside a transaction another connection is opened to reserve. On
# SQLite, which has a single writer, that connection would wait for the transaction, which
# waits for it: there the budget is only read, and this process only spaces its own
# requests.

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.db import DatabaseError

from django_orb import metrics
from django_orb.client import OrbClient
from django_orb.conf import get_settings
from django_orb.db import in_this_context, primary
from django_orb.models import RequestBudget

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger(__name__)

T = TypeVar("T")

READS, WRITES = "reads", "writes"
# A turn that is not used within this time is given up: late turns would be used in a
# burst.
KEEP_SECONDS = 1.0
# How far ahead one process may reserve.
MAX_BLOCK_SECONDS = 0.5
# How long Orb may make all processes wait.
MAX_HOLD_SECONDS = 60.0
# How far ahead the next turn may be for all processes together, shorter than any lease;
# a time beyond that was noted before the clock was set back.
MAX_AHEAD_SECONDS = 90.0
MAX_TURNS_AHEAD = 100
# How long a wait for a turn may go on after its request was given up.
STEP_SECONDS = 1.0
# How long to wait for a connection that reserves while a transaction is open.
CONNECTION_SECONDS = 10.0

# Whether the next read has already waited for its turn.
_has_had_its_turn: ContextVar[bool] = ContextVar("has_had_its_turn", default=False)


class Pacer:
    """
    Hold requests back until the budget allows them.

    Only the thread that made it reserves turns, since a thread that just waits
    for Orb should not hold a database connection; others use what is reserved.
    """

    def __init__(self, name: str, per_second: float) -> None:
        self._name = name
        self._per_second = per_second
        self._owner = threading.get_ident()
        self._turns: deque[float] = deque()
        self._block = 1

    def top_up(self) -> None:
        """Reserve turns for the next requests, if none are left."""
        self._give_up_old()
        if self._turns:
            return
        most = max(1, int(self._per_second * MAX_BLOCK_SECONDS))
        self._block = min(most, self._block)
        starts_in = reserve(self._name, self._block, self._per_second)
        begin = time.monotonic() + starts_in
        self._turns.extend(begin + n / self._per_second for n in range(self._block))
        # Only a process that keeps sending reserves more at a time: others would wait
        # for turns that it took and did not use.
        self._block *= 2

    def wait(self) -> None:
        """Wait for this request's turn."""
        self.wait_until(self.take())

    def take(self) -> float:
        """Take the next turn. Return when it begins, by `time.monotonic()`."""
        if threading.get_ident() == self._owner:
            self.top_up()
        return self._next_turn()

    def wait_until(
        self, turn: float, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Wait for a turn, in small steps.

        Raises:
            CancelledError: `is_over` was true, so the request must not be sent.
        """
        seconds = left = max(0.0, turn - time.monotonic())
        while not is_over():
            time.sleep(min(left, STEP_SECONDS))
            left -= STEP_SECONDS
            if left <= 0:
                metrics.waited(self._name, seconds)
                return
        raise CancelledError

    def _next_turn(self) -> float:
        now = time.monotonic()
        while True:
            try:
                # In one step, since several threads take turns.
                turn = self._turns.popleft()
            except IndexError:
                return now + 1 / self._per_second
            if turn >= now - KEEP_SECONDS:
                return turn

    def _give_up_old(self) -> None:
        oldest = time.monotonic() - KEEP_SECONDS
        while self._turns and self._turns[0] < oldest:
            self._turns.popleft()
            self._block = 1


class RequestPacer:
    """The budgets of one client: `READS_PER_SECOND` and `WRITES_PER_SECOND`."""

    def __init__(self) -> None:
        conf = get_settings()
        self.reads = Pacer(READS, conf.READS_PER_SECOND)
        self.writes = Pacer(WRITES, conf.WRITES_PER_SECOND)

    def wait(self, method: str) -> None:
        if method != "GET":
            self.writes.wait()
        elif _has_had_its_turn.get():
            _has_had_its_turn.set(False)  # a retry waits for a turn of its own
        else:
            self.reads.wait()


class PacedClient(OrbClient):
    """An `OrbClient` that keeps to the budgets of the mirror's database."""

    pacer: RequestPacer

    @classmethod
    def connect(cls, *, retries: int = 2) -> Self:
        """
        Make a client for the account in `settings.DJANGO_ORB`.

        Raises:
            OrbConfigurationError: there is no API key, or something else is wrong.
        """
        client = cls.from_settings(retries=retries)
        client.pacer = RequestPacer()
        client.before_request(client.pacer.wait)
        return client


def in_turn(
    client: OrbClient, send: Callable[[], T], is_over: Callable[[], bool]
) -> Callable[[], T]:
    """
    Reserve the turn of a read. Return `send`, which now waits for that turn.

    Call this in the thread that opened the client, and the result in any. So threads
    that only wait for Orb need no database, and still keep to the budget. If `is_over`,
    the wait ends with a `CancelledError`.
    """
    pacer = getattr(client, "pacer", None)
    if pacer is None:
        return send
    turn = pacer.reads.take()

    def wait_and_send() -> T:
        pacer.reads.wait_until(turn, is_over)
        before = _has_had_its_turn.set(True)
        try:
            return send()
        finally:
            _has_had_its_turn.reset(before)

    return wait_and_send


def reserve(name: str, count: int, per_second: float) -> float:
    """
    Take `count` turns, and return in how many seconds the first of them begins.

    May be called inside a transaction; see Note [Reserving inside a transaction].
    """
    reserve_here = partial(_reserve, name, count, per_second)
    if not _is_in_transaction():
        return reserve_here()
    if primary.connection().vendor != "sqlite":
        try:
            return _apart(reserve_here)
        except (DatabaseError, TookTooLong):
            # If the database has no connection left, the request is sent anyway, and
            # only this process spaces its own.
            logger.warning("Requests to Orb were not reserved.", exc_info=True)
    budget = primary.rows(RequestBudget).filter(pk=name).first()
    now = primary.now()
    start = _start(budget.next_at if budget else now, now, per_second)
    return max(1 / per_second, (start - now).total_seconds())


def _reserve(name: str, count: int, per_second: float) -> float:
    budgets = primary.rows(RequestBudget).filter(pk=name)
    while True:
        now = primary.now()
        budget = budgets.first()
        if budget is None:
            _create(name, now)
            continue
        start = _start(budget.next_at, now, per_second)
        end = start + timedelta(seconds=count / per_second)
        # Nothing is locked between reading and writing. If another process was quicker,
        # no row has this time any more, and all is read again.
        if budgets.filter(next_at=budget.next_at).update(next_at=end):
            return (start - now).total_seconds()


def _start(next_at: datetime, now: datetime, per_second: float) -> datetime:
    """Return when the next turn begins; one too far ahead predates a clock set back."""
    ahead = max(MAX_AHEAD_SECONDS, MAX_TURNS_AHEAD / per_second)
    return min(max(next_at, now), now + timedelta(seconds=ahead))


def hold_back(name: str, seconds: float) -> None:
    """Let no process send requests for a while, because Orb asked for that."""
    hold_here = partial(_hold_back, name, min(seconds, MAX_HOLD_SECONDS))
    # On SQLite an open transaction is the only writer: it holds the others back once it
    # is committed.
    if not _is_in_transaction() or primary.connection().vendor == "sqlite":
        hold_here()
        return
    try:
        _apart(hold_here)
    except (DatabaseError, TookTooLong):
        logger.warning("Requests to Orb were not held back.", exc_info=True)


def _hold_back(name: str, seconds: float) -> None:
    now = primary.now()
    until = now + timedelta(seconds=seconds)
    _create(name, now)
    budgets = primary.rows(RequestBudget).filter(pk=name, next_at__lt=until)
    budgets.update(next_at=until)


def _is_in_transaction() -> bool:
    """Tell whether a transaction is open, other than that of a test case."""
    connection = primary.connection()
    if not connection.in_atomic_block:
        # Without autocommit the first statement has opened a transaction.
        return not connection.get_autocommit()
    blocks = connection.atomic_blocks
    # Django tells them apart like this to check that an outermost block is durable.
    return not blocks or not all(
        getattr(block, "_from_testcase", False) for block in blocks
    )


def _apart(call: Callable[[], T]) -> T:
    """
    Make a call over a connection that only lives for it.

    Raises:
        DatabaseError: no connection could be opened, or the call raised it.
        TookTooLong: it took too long; not Python 3.10's own `TimeoutError`.
    """

    def run() -> T:
        # Looked up now: if the caller gives up waiting, the router may name another
        # database by the time that this one is to be closed.
        connection = primary.connection()
        try:
            return call()
        finally:
            connection.close()

    executor = ThreadPoolExecutor(max_workers=1)
    try:
        return executor.submit(in_this_context(run)).result(CONNECTION_SECONDS)
    finally:
        # Waiting would keep the caller beyond the time-out if the budget is locked.
        executor.shutdown(wait=False)


def _create(name: str, now: datetime) -> None:
    primary.rows(RequestBudget).bulk_create(
        [RequestBudget(name=name, next_at=now)], ignore_conflicts=True
    )
