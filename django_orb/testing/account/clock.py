from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Any


class Clock:
    """
    The sandbox's clock.

    It follows real time, unless it was given an instant: then it stands still until
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
        """Return now in whole seconds since 1970: Orb's times have no fraction."""
        return int(self.now().timestamp())

    def advance(self, step: timedelta) -> None:
        with self._lock:
            if self._frozen is None:
                self._offset += step
            else:
                self._frozen += step

    def set(self, now: datetime) -> None:
        """Jump to `now`; a clock that runs keeps running from there."""
        with self._lock:
            if self._frozen is None:
                self._offset = as_utc(now) - datetime.now(timezone.utc)
            else:
                self._frozen = as_utc(now)

    def dump(self) -> dict[str, Any]:
        with self._lock:
            frozen = self._frozen.isoformat() if self._frozen else None
            return {"frozen": frozen, "offset": self._offset.total_seconds()}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Clock:
        frozen = dumped["frozen"]
        clock = cls(datetime.fromisoformat(frozen) if frozen else None)
        clock._offset = timedelta(seconds=dumped["offset"])
        return clock


def as_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc)
