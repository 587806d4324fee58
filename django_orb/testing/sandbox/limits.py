"""
Orb's rate limits: requests in any second, by mode of the account.

Source: https://docs.withorb.com/api-reference/rate-limits
No header says how much is left or how long to wait; the words of the answer are
those that were seen in test mode (github.com/rilldata/rill/pull/6023).
"""

from __future__ import annotations

import threading
import time
from collections import deque

from django_orb.testing.account import Problem

# Reads and writes per second.
BUDGETS = {"live": (100, 50), "test": (50, 5), "trial": (10, 1)}


class RateLimits:
    """Counts real seconds, not the clock's, because clients wait in real seconds."""

    def __init__(self, mode: str | None = None) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, deque[float]] = {"read": deque(), "write": deque()}
        self.mode = mode

    @property
    def mode(self) -> str | None:
        return self._mode

    @mode.setter
    def mode(self, mode: str | None) -> None:
        if mode is not None and mode not in BUDGETS:
            raise ValueError(f"{mode!r} is not one of {sorted(BUDGETS)}")
        self._mode = mode

    def check(self, method: str) -> None:
        """
        Count a request.

        Raises:
            Problem: 429, if it is over the limit.
        """
        mode = self._mode
        if mode is None:
            return
        kind = "read" if method == "GET" else "write"
        limit = BUDGETS[mode][kind == "write"]
        with self._lock:
            if not _fits(self._seen[kind], limit, time.monotonic()):
                detail = f"Rate limit exceeded ({limit} per 1 second)"
                raise Problem("429-too-many-requests", detail)


def _fits(seen: deque[float], limit: int, now: float) -> bool:
    while seen and seen[0] <= now - 1:
        seen.popleft()
    if len(seen) >= limit:
        return False
    seen.append(now)
    return True
