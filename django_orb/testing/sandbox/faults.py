"""Faults that tests ask for, by route and count."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from werkzeug.wrappers import Request, Response

WHEN = {"fail": ("before", "after"), "cut": ("before", "after", "during")}


@dataclass
class Fault:
    """
    A fault for the next `count` requests to a route, after `skip` others.

    `when` is "before" or "after" the request is executed or, for a cut, "during" the
    answer's body.
    """

    kind: str
    count: int
    route: str | None = None
    skip: int = 0
    when: str = "before"
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    html: bool = False
    seconds: float = 0.0
    action: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.when not in WHEN.get(self.kind, ("before",)):
            raise ValueError(f"{self.kind} cannot happen {self.when!r}")

    def matches(self, route: str) -> bool:
        return self.count > 0 and self.route in {None, route}


# A function that answers requests instead of the sandbox. It gets the route's name, the
# request, and a function that returns the sandbox's own answer.
Handler = Callable[[str, Request, Callable[[], Response]], Response]


class Faults:
    """The faults that have not happened yet; `take` uses one up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self.handlers: list[Handler] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> int:
        with self._lock:
            return sum(fault.count for fault in self._waiting)

    def take(self, route: str, *kinds: str) -> Fault | None:
        """Return the oldest fault that matches, and count it as used."""
        with self._lock:
            for fault in self._waiting:
                if fault.kind in kinds and fault.matches(route):
                    return self._used(fault)
        return None

    def _used(self, fault: Fault) -> Fault | None:
        if fault.skip:
            fault.skip -= 1
            return None
        fault.count -= 1
        if not fault.count:
            self._waiting.remove(fault)
        return fault
