"""An Orb that tests can make misbehave, without a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from django_orb.testing.account import Account, MadeUpOrb

from .app import Options
from .deliveries import Deliveries
from .faults import Fault, Faults, Handler
from .idempotency import IdempotencyKeys
from .journal import Journal, LoggedRequest
from .limits import RateLimits
from .routes import ROUTES, Routes


class MisbehavingOrb(MadeUpOrb):
    """A made-up account that fails, waits and lags, and a log of its requests."""

    _options: Options

    def _set_up(self, account: Account) -> None:
        super()._set_up(account)
        self._routes = Routes(account, self._operations, self._customers)
        self._keys = IdempotencyKeys(account.clock)
        self._faults = Faults()
        self._limits = RateLimits()
        self._journal = Journal()
        #: Sends events to endpoints: `sandbox.webhooks.deliver_to(url, ...)`.
        self.webhooks = Deliveries(account.events, account.seed)

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

        `html` answers like a proxy in front of Orb; `skip` lets that many pass first.
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
        Cut the connection: "before" or "after" the request is executed, without an
        answer, or "during" the answer's body.
        """
        self._add_fault(Fault("cut", count, route, skip, when))

    def delay_next(
        self, count: int, seconds: float, *, route: str | None = None, skip: int = 0
    ) -> None:
        """Wait before executing; meanwhile the idempotency key is in flight."""
        self._add_fault(Fault("delay", count, route, skip, seconds=seconds))

    def slow_next(
        self, count: int, seconds: float, *, route: str | None = None, skip: int = 0
    ) -> None:
        """Send the answer in pieces that take this long in total."""
        self._add_fault(Fault("slow", count, route, skip, seconds=seconds))

    def repeat_next(self, count: int = 1, *, skip: int = 0) -> None:
        """Let the next lists return the cursor of their request as the next one."""
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
        Call `action` after each of the next successful requests, before it is answered.

        It changes the account between two pages: `orb.then(lambda: orb.void(some_id))`.
        """
        self._add_fault(Fault("then", count, route, skip, action=action))

    def shift_pages(self, count: int = 1, *, skip: int = 0) -> None:
        """After each of the next lists, add a newer invoice that shifts all others."""
        self.then(lambda: self.add_invoice(days_ago=-400), count=count, skip=skip)

    def answer_through(self, handler: Handler) -> None:
        """
        Let `handler(route, request, go_on)` give every answer from now on.

        `go_on()` returns the sandbox's own answer, a `werkzeug.Response`. The handler
        may change it, answer otherwise, or do something before or after it. Of several
        handlers, the last one that was added gets the request first.
        """
        self._faults.handlers.append(handler)

    def _add_fault(self, fault: Fault) -> None:
        if fault.route is not None and fault.route not in ROUTES:
            raise ValueError(f"{fault.route!r} is not one of {sorted(ROUTES)}")
        self._faults.add(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    @property
    def waiting_faults(self) -> int:
        """The number of faults that have not happened yet."""
        return self._faults.waiting()

    def lag_reads(self, count: int) -> None:
        """Show the next `count` reads after each write the state before it."""
        self._account.lag = count

    @property
    def sign_links(self) -> bool:
        """True if hosted_invoice_url and invoice_pdf differ on every read."""
        return self._account.renderer.signs_links

    @sign_links.setter
    def sign_links(self, wanted: bool) -> None:
        self._account.renderer.signs_links = wanted

    @property
    def latency_ms(self) -> float:
        """The milliseconds that every request waits before it is handled."""
        return self._options.latency_ms

    @latency_ms.setter
    def latency_ms(self, milliseconds: float) -> None:
        self._options.latency_ms = milliseconds

    @property
    def rate_limits(self) -> str | None:
        """The mode whose budget applies: "live", "test", "trial"; None: no limit."""
        return self._limits.mode

    @rate_limits.setter
    def rate_limits(self, mode: str | None) -> None:
        self._limits.mode = mode

    @property
    def has_webhook_events(self) -> bool:
        """False if the account lacks the feature GET /webhook_events."""
        return self._routes.has_webhook_events

    @has_webhook_events.setter
    def has_webhook_events(self, wanted: bool) -> None:
        self._routes.has_webhook_events = wanted

    # Requests

    @property
    def requests(self) -> list[LoggedRequest]:
        """The latest requests (10,000 at most), oldest first."""
        return self._journal.latest()

    def request_counts(self) -> Counter[str]:
        """Return the number of requests by route (`list_invoices`, ...)."""
        return self._journal.counts()

    def clear_requests(self) -> None:
        self._journal.clear()
