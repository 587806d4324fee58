from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone


class Clock:
    """
    The sandbox's idea of now.

    Follows real time unless it was given an instant; then it stands still until
    `advance` or `set` moves it.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._frozen = as_utc(now) if now is not None else None
        self._offset = timedelta()

    def now(self) -> datetime:
        with self._lock:
            return self._frozen or datetime.now(timezone.utc) + self._offset

    def timestamp(self) -> int:
        """Now in whole seconds since 1970: Orb's times have no fraction."""
        return int(self.now().timestamp())

    def advance(self, step: timedelta) -> None:
        with self._lock:
            if self._frozen is None:
                self._offset += step
            else:
                self._frozen += step

    def set(self, now: datetime) -> None:
        """Jump to `now`; a clock that runs goes on running from there."""
        with self._lock:
            if self._frozen is None:
                self._offset = as_utc(now) - datetime.now(timezone.utc)
            else:
                self._frozen = as_utc(now)


def as_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc)
