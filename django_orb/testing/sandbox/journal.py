from __future__ import annotations

import threading
from collections import Counter, deque
from typing import NamedTuple


class LoggedRequest(NamedTuple):
    """A request that was answered; `status` is 0 if the connection was cut."""

    method: str
    path: str
    query: str
    status: int
    route: str
    idempotency_key: str | None


class Journal:
    """The latest requests, and the number of requests by route."""

    def __init__(self, limit: int = 10_000) -> None:
        self._lock = threading.Lock()
        self._latest: deque[LoggedRequest] = deque(maxlen=limit)
        self._counts: Counter[str] = Counter()

    def add(self, request: LoggedRequest) -> None:
        with self._lock:
            self._latest.append(request)
            self._counts[request.route] += 1

    def latest(self) -> list[LoggedRequest]:
        with self._lock:
            return list(self._latest)

    def counts(self) -> Counter[str]:
        with self._lock:
            return self._counts.copy()

    def clear(self) -> None:
        with self._lock:
            self._latest.clear()
            self._counts.clear()
