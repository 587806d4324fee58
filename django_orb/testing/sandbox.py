from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any

from .account import Account
from .app import ROUTES, Options, OrbApp
from .clock import Clock
from .control import ControlApp, Switch
from .faults import Fault, Faults
from .journal import Journal, LoggedRequest
from .rows import STATUSES
from .server import Server


class OrbSandbox:
    """
    An Orb with a made-up account, on loopback.

        with OrbSandbox(invoices=1000, seed=1) as orb:
            settings.DJANGO_ORB = {"BASE_URL": orb.base_url, "API_KEY": orb.api_key}

    The account is the same for the same `invoices`, `seed` and day. `now` stops the
    clock at an instant; without it the clock follows real time. Without `port` a
    free one is taken. Every method may be called while requests are served.
    """

    def __init__(
        self,
        *,
        invoices: int = 1000,
        seed: int = 1,
        latency_ms: float = 0,
        api_key: str = "sandbox-key",
        now: datetime | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.host = host
        self.api_key = api_key
        self.clock = Clock(now)
        self._requested_port = port
        self._account = Account(invoices, seed, self.clock)
        self._faults = Faults()
        self._journal = Journal()
        self._options = Options(api_key, latency_ms)
        self._server: Server | None = None

    # Life

    def start(self) -> OrbSandbox:
        orb = OrbApp(self._account, self._faults, self._journal, self._options)
        app = Switch(orb, ControlApp(self))
        self._server = Server(app, self.host, self._requested_port)
        self._server.start()
        return self

    def warm(self) -> None:
        """
        Serialise the newest 13,000 invoices or so now, not when they are first read.

        For benchmarks: they are served at full speed from the first page on.
        """
        self._account.warm()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> OrbSandbox:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError(
                "The sandbox is not running: call start(), or use `with`."
            )
        return self._server.port

    @property
    def base_url(self) -> str:
        """What goes into `DJANGO_ORB["BASE_URL"]`."""
        return f"http://{self.host}:{self.port}/v1"

    # Looking at the account

    def status_counts(self) -> dict[str, int]:
        """How many invoices there are of each status."""
        return self._account.status_counts()

    def invoice(self, invoice_id: str) -> dict[str, Any]:
        """The invoice as the API would show it, without lag. KeyError if unknown."""
        return self._account.payload(self._known(invoice_id))

    def invoice_ids(self, status: str | None = None) -> list[str]:
        """Ids, newest invoice date first within each status."""
        if status is not None and status not in STATUSES:
            raise ValueError(f"{status!r} is not one of {STATUSES}")
        return self._account.ids(STATUSES if status is None else (status,))

    def subscription_ids(self, *, with_upcoming: bool = False) -> list[str]:
        """Subscriptions; `with_upcoming` leaves out those that have ended."""
        return self._account.subscription_ids(with_upcoming=with_upcoming)

    def customer_ids(self) -> list[str]:
        return list(self._account.customers)

    def _known(self, invoice_id: str) -> str:
        if not self._account.has(invoice_id):
            raise KeyError(invoice_id)
        return invoice_id

    # What Orb's own side does

    def issue(self, invoice_id: str) -> dict[str, Any]:
        """Issue a draft now, as Orb does by itself when its time comes."""
        return self._account.issue(invoice_id)

    def mark_paid(self, invoice_id: str) -> dict[str, Any]:
        return self._account.mark_paid(invoice_id)

    def void(self, invoice_id: str) -> dict[str, Any]:
        return self._account.void(invoice_id)

    def delete_draft(self, invoice_id: str) -> None:
        """Let a draft vanish, as when its subscription changes: it is a 404 then."""
        self._account.delete(invoice_id)

    def update_invoice(self, invoice_id: str, **changes: Any) -> dict[str, Any]:
        """Set fields of the payload to anything, whatever Orb's rules say."""
        return self._account.update(invoice_id, changes)

    def add_invoice(
        self,
        *,
        status: str = "issued",
        customer_id: str | None = None,
        amount: str = "100.00",
        name: str = "Consulting",
        days_ago: float = 0,
        **changes: Any,
    ) -> dict[str, Any]:
        """
        A new one-off invoice with one line, dated `days_ago` (negative: ahead).

        `changes` are set on its payload at last, as by `update_invoice`.
        """
        if status not in STATUSES:
            raise ValueError(f"{status!r} is not one of {STATUSES}")
        return self._account.add(
            status=status,
            customer_id=customer_id,
            amount=amount,
            name=name,
            days_ago=days_ago,
            changes=changes,
        )

    def set_balance(self, customer_id: str, amount: str) -> None:
        """What the customer has to their credit; it is used up at the next issue."""
        self._account.set_balance(customer_id, Decimal(amount))

    def advance(self, step: timedelta) -> None:
        """Move the clock on; drafts whose time comes meanwhile are issued."""
        self.clock.advance(step)

    # Misbehaviour

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
        return self._account.renderer.links.signed_anew

    @sign_links.setter
    def sign_links(self, wanted: bool) -> None:
        self._account.renderer.links.signed_anew = wanted

    @property
    def latency_ms(self) -> float:
        """How long every request waits before it is looked at."""
        return self._options.latency_ms

    @latency_ms.setter
    def latency_ms(self, milliseconds: float) -> None:
        self._options.latency_ms = milliseconds

    # What was asked

    @property
    def requests(self) -> list[LoggedRequest]:
        """The latest requests (10,000 at most), oldest first."""
        return self._journal.latest()

    def request_counts(self) -> Counter[str]:
        """How many requests there were, by route (`list_invoices`, ...)."""
        return self._journal.counts()

    def clear_requests(self) -> None:
        self._journal.clear()
