"""Show a run's progress on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import OutputWrapper

from django_orb.models import SyncRun

REFRESH_SECONDS = 0.2
# Lines stay in a log, where few are enough.
LINE_SECONDS = 10.0
BAR_WIDTH = 24


class ProgressPrinter:
    """
    Shows pages, invoices and rate, and a bar if the number of invoices is known.

    Orb does not tell that number, so it is taken from the last run that succeeded.
    """

    def __init__(self, stdout: OutputWrapper) -> None:
        self._stdout = stdout
        self._is_terminal = stdout.isatty()
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._width = 0
        self._expected: int | None = None

    def show(self, run: SyncRun) -> None:
        now = time.monotonic()
        pause = REFRESH_SECONDS if self._is_terminal else LINE_SECONDS
        if now - self._shown_at < pause:
            return
        self._shown_at = now
        line = self._line(run, now - self._started)
        if not self._is_terminal:
            self._stdout.write(line)
            return
        # The last line may have been longer, and what it showed would stay.
        self._stdout.write(f"\r{line.ljust(self._width)}", ending="")
        # Without a line break the terminal would show nothing until the buffer is full.
        self._stdout.flush()
        self._width = len(line)

    def close(self) -> None:
        if self._is_terminal and self._width:
            self._stdout.write(f"\r{' ' * self._width}\r", ending="")
            self._stdout.flush()
            self._width = 0

    def _line(self, run: SyncRun, seconds: float) -> str:
        done = run.progress()
        seen = done["created"] + done["updated"] + done["unchanged"] + done["failed"]
        rate = seen / seconds if seconds > 0 else 0.0
        pages = f"{done['pages']} page{'' if done['pages'] == 1 else 's'}"
        text = f"{seen} invoices, {pages}, {rate:.0f}/s"
        expected = self._expect(run)
        if expected > seen > 0 and rate:
            filled = int(BAR_WIDTH * seen / expected)
            bar = "█" * filled + "░" * (BAR_WIDTH - filled)
            text = f"{bar} {text}, about {(expected - seen) / rate:.0f} s left"
        waiting = self._waiting(run)
        return f"{text}. {waiting}" if waiting else text

    def _expect(self, run: SyncRun) -> int:
        if self._expected is None:
            last: Any = (
                SyncRun.objects.using(run._state.db)
                .filter(kind=run.kind, state=SyncRun.State.SUCCEEDED)
                # The newest, which is the order of the model.
                .first()
            )
            self._expected = last.invoices if last else 0
        return self._expected

    def _waiting(self, run: SyncRun) -> str:
        pending = run.windows.using(run._state.db).filter(state="pending")
        window = pending.exclude(error="").first()
        return f"Waiting for Orb: {window.error}" if window else ""
