"""
Work on several windows of a run at a time, in one process.

Threads wait for Orb, each for one page of one window or for a single invoice. Only the
caller's thread uses the database: it takes the steps whose pages have come, one after the
other. So there is one writer, and memory holds at most two pages for each window.
"""

# Note [Alone]
# Some pages kill the process, and the rows say only that an attempt did not finish. So
# a window with such an attempt takes its next step while nothing else is asked of Orb,
# and its attempt is counted only then. Otherwise the windows beside it would be blamed
# each time, until their invoices were passed over as well.

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import DatabaseError

from django_orb.client import OrbClient
from django_orb.conf import get_settings
from django_orb.db import StatementLog, primary
from django_orb.models import Invoice, SyncWindow

from . import windows
from .page_reader import Filling, PageReader
from .steps import WindowFailedError, is_page

logger = logging.getLogger(__name__)

# How long to wait at a time, so that users can stop the run during a long wait.
LOOK_SECONDS = 1.0


class _Held:
    """A window that is leased to this worker; it has a reader once it has begun."""

    def __init__(self, window: SyncWindow, lease: str) -> None:
        self.window = window
        self.lease = lease
        self.reader: PageReader | None = None
        self.renewed_at = time.monotonic()
        self._wait_seconds = 0.0
        self._waits_since = 0.0
        self._slept = 0.0

    @property
    def is_list(self) -> bool:
        return self.window.kind == SyncWindow.Kind.LIST

    def begin_to_wait(self, seconds: float) -> None:
        self.reader = None
        self._wait_seconds, self._slept = seconds, 0.0
        self._waits_since = time.monotonic()

    def has_slept(self, seconds: float) -> None:
        self._slept += seconds

    @property
    def seconds_to_wait(self) -> float:
        waited = max(self._slept, time.monotonic() - self._waits_since)
        return max(0.0, self._wait_seconds - waited)

    @property
    def awaited(self) -> Future[Any] | None:
        return self.reader.awaited if self.reader else None

    @property
    def can_go_on(self) -> bool:
        awaited = self.awaited
        return not self.seconds_to_wait and (awaited is None or awaited.done())


class SideBySide:
    """
    The windows that one process works on. Use it from one thread, through `opened`.

    `on_step` is called after each step, and about once a second while waiting; what it
    raises ends the work. `fail` ends the run of a window that cannot be finished.
    """

    def __init__(
        self,
        client: OrbClient,
        executor: ThreadPoolExecutor,
        *,
        most: int,
        on_step: Callable[[], None],
        fail: Callable[[int, str, str], None],
    ) -> None:
        self._client = client
        self._executor = executor
        self._most = most
        self._on_step = on_step
        self._fail = fail
        self._page_size = get_settings().PAGE_SIZE
        self._log = StatementLog()
        self._held: list[_Held] = []
        self._ended = threading.Event()
        self._filling = Filling(not primary.rows(Invoice).exists())

    @property
    def count(self) -> int:
        return len(self._held)

    def add(self, window: SyncWindow, lease: str) -> None:
        """Begin to work on a window that was just leased."""
        self._held.append(_Held(window, lease))

    def go_on(self) -> None:
        """Take each step that can be taken now; if there is none, wait for a while."""
        # Steps that do not read the list make requests that the others would wait for.
        lists = [held for held in self._held if held.is_list]
        ready = [held for held in lists or self._held if held.can_go_on]
        if not ready:
            self._wait(self._awaited())
        for held in ready:
            if held in self._held:  # the step before may have ended the run
                self._renew()
                self._step(held)

    def end(self) -> None:
        """Release all windows, and let no thread wait for its turn any longer."""
        self._ended.set()
        self.release_all()

    def release_all(self) -> None:
        """Release all windows; pages that were read but not stored are lost."""
        while self._held:
            self._drop(self._held[-1])

    def _awaited(self) -> list[Future[Any]]:
        return [held.awaited for held in self._held if held.awaited is not None]

    def _wait(self, awaited: list[Future[Any]]) -> None:
        """Wait until one of these pages is there, or a window may go on."""
        waits = [held.seconds_to_wait for held in self._held if held.seconds_to_wait]
        seconds = min([LOOK_SECONDS, *waits])
        if awaited:
            if not wait_for(awaited, seconds, return_when=FIRST_COMPLETED).done:
                self._on_step()
        else:
            self._on_step()
            time.sleep(seconds)
            for held in self._held:
                held.has_slept(seconds)
        self._renew()

    def _renew(self) -> None:
        """Renew the leases of the windows that wait during what comes next."""
        oldest = time.monotonic() - windows.RENEW_SECONDS
        old = [
            held
            for held in self._held
            if held.renewed_at < oldest and not held.seconds_to_wait
        ]
        if old:
            windows.renew_leases([held.lease for held in old])
            for held in old:
                held.renewed_at = time.monotonic()

    def _step(self, held: _Held) -> None:
        try:
            if held.reader is None:
                reader = self._begin(held)
                if reader.awaited is not None:
                    return
            else:
                reader = held.reader
            progress = windows.take_step(held.window, reader, self._client)
        except windows.LeaseLostError:
            progress = windows.Progress(is_lost=True)
        except WindowFailedError as err:
            self._fail(held.window.pk, held.lease, str(err))
            self.release_all()  # its run is over
            return
        self._go_on_after(held, progress)

    def _begin(self, held: _Held) -> PageReader:
        """
        Count the attempt, and ask for the first page; see Note [Alone].

        Raises:
            LeaseLostError: another worker has the window now, or the run was ended.
            WindowFailedError: too many attempts at the same page did not finish.
        """
        while held.window.attempts and (
            open_requests := [page for page in self._awaited() if not page.done()]
        ):
            self._wait(open_requests)
        held.window = windows.begin(held.window.pk, held.lease)
        held.renewed_at = time.monotonic()
        held.reader = PageReader(
            self._client,
            self._page_size,
            self._executor,
            self._filling,
            self._ended.is_set,
            self._most,
        )
        self._ask(held)
        return held.reader

    def _ask(self, held: _Held) -> None:
        if held.reader is not None and is_page(held.window):
            held.reader.ask(held.window)

    def _go_on_after(self, held: _Held, progress: windows.Progress) -> None:
        self._log.forget()
        if progress.wait_seconds:
            # The row alone says it: a failure of Orb has set it back, one of
            # this process has not.
            held.window.attempts = windows.attempts_of(held.window.pk)
            held.begin_to_wait(progress.wait_seconds)
            return
        if progress.is_done or progress.is_lost:
            self._drop(held)
        if progress.is_lost:
            return
        held.renewed_at = time.monotonic()
        self._on_step()
        if not progress.is_done:
            self._ask(held)

    def _drop(self, held: _Held) -> None:
        self._held.remove(held)
        try:
            windows.release_window(held.window.pk, held.lease)
        except DatabaseError:
            logger.warning(
                "The lease of %s was not released; it ends when it expires.",
                held.window,
                exc_info=True,
                extra={"orb_run_id": held.window.run_id},
            )


@contextmanager
def opened(
    client: OrbClient,
    *,
    most: int,
    on_step: Callable[[], None],
    fail: Callable[[int, str, str], None],
) -> Iterator[SideBySide]:
    """Work on windows inside the block; those that are left at its end are released."""
    with ExitStack() as stack:
        executor = ThreadPoolExecutor(most, thread_name_prefix="django_orb_page")
        stack.callback(executor.shutdown, cancel_futures=True)
        work = SideBySide(client, executor, most=most, on_step=on_step, fail=fail)
        # Called before the executor's shutdown, which waits for threads: those that
        # wait for their turn in the budget are to give up.
        stack.callback(work.end)
        yield work
