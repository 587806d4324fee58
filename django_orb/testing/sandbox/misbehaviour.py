"""What can go wrong with Orb, on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django_orb.testing.account import Account

from .app import Options
from .faults import Fault, Faults
from .limits import RateLimits
from .routes import ROUTES


class Misbehaviour:
    """The part of the sandbox with which tests make it fail, wait and lag."""

    _account: Account
    _faults: Faults
    _limits: RateLimits
    _options: Options
    add_invoice: Callable[..., Any]

    def fail_next(
        self,
        count: int = 1,
        *,
        route: str | None = None,
        status: int = 500,
        headers: Mapping[str, str] | None = None,
        html: bool = False,
        when: str = "before",
        skip: int = 0,
    ) -> None:
        """
        Answer the next requests with an error, without (or "after") executing them.

        `html` answers as a proxy before Orb would; `skip` lets that many pass first.
        """
        fault = Fault("fail", count, route, skip, when, status, headers or {}, html)
        self._add_fault(fault)

    def cut_next(
        self,
        count: int = 1,
        *,
        when: str = "before",
        route: str | None = None,
        skip: int = 0,
    ) -> None:
        """
        Cut the connection: "before" the request is executed, "after" that without
        an answer, or "during" the answer's body.
        """
        self._add_fault(Fault("cut", count, route, skip, when))

    def delay_next(
        self, count: int, seconds: float, *, route: str | None = None, skip: int = 0
    ) -> None:
        """Wait before executing; meanwhile an idempotency key is in flight."""
        self._add_fault(Fault("delay", count, route, skip, seconds=seconds))

    def slow_next(
        self, count: int, seconds: float, *, route: str | None = None, skip: int = 0
    ) -> None:
        """Send the answer in pieces that take this long altogether."""
        self._add_fault(Fault("slow", count, route, skip, seconds=seconds))

    def repeat_next(self, count: int = 1, *, skip: int = 0) -> None:
        """Give the cursor that a list was asked with as its next one, again."""
        self._add_fault(Fault("repeat", count, "list_invoices", skip))

    def then(
        self,
        action: Callable[[], object],
        *,
        count: int = 1,
        route: str | None = "list_invoices",
        skip: int = 0,
    ) -> None:
        """
        Call `action` after each of the next successful answers, before the next.

        So an account changes between two pages: `orb.then(lambda: orb.void(some_id))`.
        """
        self._add_fault(Fault("then", count, route, skip, action=action))

    def shift_pages(self, count: int = 1, *, skip: int = 0) -> None:
        """After each of the next lists, a newer invoice moves all others down by one."""
        self.then(lambda: self.add_invoice(days_ago=-400), count=count, skip=skip)

    def _add_fault(self, fault: Fault) -> None:
        if fault.route is not None and fault.route not in ROUTES:
            raise ValueError(f"{fault.route!r} is not one of {sorted(ROUTES)}")
        self._faults.add(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    @property
    def waiting_faults(self) -> int:
        """How many are still to happen: 0 when all that was asked for has."""
        return self._faults.waiting()

    def lag_reads(self, count: int) -> None:
        """After each write from now on, show the next `count` reads the state before."""
        self._account.lag = count

    @property
    def sign_links(self) -> bool:
        """Whether hosted_invoice_url and invoice_pdf differ on every read."""
        return self._account.renderer.signs_links

    @sign_links.setter
    def sign_links(self, wanted: bool) -> None:
        self._account.renderer.signs_links = wanted

    @property
    def latency_ms(self) -> float:
        """How long every request waits before it is looked at."""
        return self._options.latency_ms

    @latency_ms.setter
    def latency_ms(self, milliseconds: float) -> None:
        self._options.latency_ms = milliseconds

    @property
    def rate_limits(self) -> str | None:
        """Whose budget requests have: "live", "test", "trial", or None for all."""
        return self._limits.mode

    @rate_limits.setter
    def rate_limits(self, mode: str | None) -> None:
        self._limits.mode = mode
