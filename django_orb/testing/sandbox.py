from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

from .account import Account
from .additions import Additions
from .app import Options, OrbApp
from .clock import Clock
from .control import ControlApp, Switch
from .customer_records import CustomerRecords
from .deliveries import Deliveries
from .faults import Faults
from .idempotency import IdempotencyKeys
from .journal import Journal, LoggedRequest
from .limits import RateLimits
from .misbehaviour import Misbehaviour
from .operations import Operations
from .routes import Routes
from .rows import STATUSES
from .server import Server
from .snapshots import dump, load
from .templates import dumps


class OrbSandbox(Misbehaviour):
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
        rate_limits: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        clock = Clock(now)
        self._set_up(Account(invoices, seed, clock, clock.now()))
        self._options = Options(api_key, latency_ms)
        self._limits.mode = rate_limits
        self.host = host
        self._requested_port = port

    def _set_up(self, account: Account) -> None:
        self._account = account
        self._operations = Operations(account)
        self._additions = Additions(account, self._operations)
        self._customers = CustomerRecords(account)
        self._routes = Routes(account, self._operations, self._customers)
        self._keys = IdempotencyKeys(account.clock)
        self._faults = Faults()
        self._limits = RateLimits()
        self._journal = Journal()
        #: Sends what happens to endpoints: `sandbox.webhooks.deliver_to(url, ...)`.
        self.webhooks = Deliveries(account.events, account.seed)
        self._server: Server | None = None

    # Life

    def start(self) -> OrbSandbox:
        orb = OrbApp(
            self._routes,
            self._options,
            keys=self._keys,
            faults=self._faults,
            limits=self._limits,
            journal=self._journal,
        )
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
        self.webhooks.stop()
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
    def api_key(self) -> str:
        return self._options.api_key

    @property
    def base_url(self) -> str:
        """What goes into `DJANGO_ORB["BASE_URL"]`."""
        return f"http://{self.host}:{self.port}/v1"

    def save(self, path: str | Path) -> None:
        """Write the state to a file: what changed since the seed made the account."""
        state = {**dump(self._account), "idempotency_keys": self._keys.dump()}
        Path(path).write_bytes(dumps(state))

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> OrbSandbox:
        """
        A sandbox in a saved state; `options` are those of the class.

        The clock goes on from where it was, or stands where it stood. Faults and the
        log of requests are not saved.
        """
        state = json.loads(Path(path).read_bytes())
        account = load(state)
        sandbox = cls(invoices=0, **options)
        server_options = sandbox._options, sandbox._limits.mode
        sandbox._set_up(account)
        sandbox._options, sandbox._limits.mode = server_options
        sandbox._keys.load(state["idempotency_keys"])
        return sandbox

    # Looking at the account

    @property
    def clock(self) -> Clock:
        return self._account.clock

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
        return self._account.ids(status)

    def subscription_ids(self, *, with_upcoming: bool = False) -> list[str]:
        """Subscriptions; `with_upcoming` leaves out those that have ended."""
        return self._account.subscription_ids(with_upcoming=with_upcoming)

    def customer(self, customer_id: str) -> dict[str, Any]:
        """The customer as the API would show it; invoices carry no names."""
        return self._customers.fetch(customer_id)

    def customer_ids(self) -> list[str]:
        return list(self._account.customers)

    def _known(self, invoice_id: str) -> str:
        if not self._account.has(invoice_id):
            raise KeyError(invoice_id)
        return invoice_id

    # What Orb's own side does

    def issue(self, invoice_id: str) -> dict[str, Any]:
        """Issue a draft now, as Orb does by itself when its time comes."""
        return self._operations.issue_anyway(invoice_id)

    def mark_paid(self, invoice_id: str) -> dict[str, Any]:
        return self._operations.mark_paid_today(invoice_id)

    def undo_mark_paid(self, invoice_id: str) -> dict[str, Any]:
        """Paid becomes issued again; Orb has no operation for it, but its people do."""
        return self._operations.undo_mark_paid(invoice_id)

    def attempt_payment(self, invoice_id: str, *, succeeds: bool) -> dict[str, Any]:
        """Charge the customer's payment method, as dunning does."""
        return self._operations.attempt_payment(invoice_id, succeeds=succeeds)

    def sync(self, invoice_id: str) -> dict[str, Any]:
        """Hand an issued invoice over to an accounting system."""
        return self._operations.sync(invoice_id)

    def void(self, invoice_id: str) -> dict[str, Any]:
        return self._operations.void(invoice_id)

    def delete_draft(self, invoice_id: str) -> None:
        """Let a draft vanish, as when its subscription changes: it is a 404 then."""
        self._operations.delete_draft(invoice_id)

    def delete_invoice(self, invoice_id: str) -> None:
        """Let an invoice of any status vanish, which Orb itself does not do."""
        self._operations.delete(invoice_id)

    def update_invoice(self, invoice_id: str, **changes: Any) -> dict[str, Any]:
        """Set fields of the payload to anything, whatever Orb's rules say."""
        return self._operations.update_anyhow(invoice_id, changes)

    def add_customer(
        self, external_customer_id: str | None = None, **facts: Any
    ) -> dict[str, Any]:
        """
        A customer without address or card; `facts` as in Orb, with these defaults:
        name="Customer", currency="USD", time_zone="UTC", tax_percentage="0",
        net_terms=30.
        """
        customer_id = self._additions.add_customer(external_customer_id, **facts)
        return self.customer(customer_id)

    def add_invoice(
        self,
        *,
        status: str = "issued",
        customer_id: str | None = None,
        external_customer_id: str | None = None,
        amount: str = "100.00",
        name: str = "Consulting",
        lines: Sequence[Mapping[str, Any]] | None = None,
        days_ago: float = 0,
        **changes: Any,
    ) -> dict[str, Any]:
        """
        A new one-off invoice, dated `days_ago` (negative: ahead).

        It is for the customer of that id; one with a new `external_customer_id` is
        added. `lines` have a name, an amount (the line's total), and may have a
        quantity, start_date and end_date; without any there is one of `amount` and
        `name`. `changes` are set on its payload at last, as by `update_invoice`.
        """
        return self._additions.add_invoice(
            status=status,
            customer_id=customer_id,
            external_customer_id=external_customer_id,
            amount=amount,
            name=name,
            lines=lines,
            days_ago=days_ago,
            **changes,
        )

    def add_line(self, invoice_id: str, **line: Any) -> dict[str, Any]:
        """One more line, as in `add_invoice`; the invoice's sums follow."""
        return self._additions.add_line(invoice_id, **line)

    def set_balance(self, customer_id: str, amount: str) -> None:
        """What the customer has to their credit; it is used up at the next issue."""
        self._customers.set_balance(customer_id, Decimal(amount))

    def advance(self, step: timedelta) -> None:
        """Move the clock on; drafts whose time comes meanwhile are issued."""
        self.clock.advance(step)

    def webhook_events(self) -> list[dict[str, Any]]:
        """The bodies of the webhooks Orb would have sent, oldest first."""
        with self._account.opened():
            return [e.payload() for e in self._account.events.oldest_first()]

    def webhook_payload(
        self,
        type: str,
        invoice_id: str,
        payload_style: str = "expanded",
        **properties: Any,
    ) -> dict[str, Any]:
        """A webhook of now about an invoice, whether or not Orb would send one."""
        body = dumps(self.invoice(invoice_id))
        events, moment = self._account.events, self._account.moment()
        with self._account.opened():
            event = events.made_up(type, body, moment, properties)
        return event.payload(payload_style)

    @property
    def has_webhook_events(self) -> bool:
        """Whether GET /webhook_events is there, or a feature the account lacks."""
        return self._routes.has_webhook_events

    @has_webhook_events.setter
    def has_webhook_events(self, wanted: bool) -> None:
        self._routes.has_webhook_events = wanted

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
