from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from django_orb.testing.account import Account, Clock, MadeUpOrb, dumps

from .app import Options, OrbApp
from .control import ControlApp, Switch
from .deliveries import Deliveries
from .faults import Faults
from .idempotency import IdempotencyKeys
from .journal import Journal, LoggedRequest
from .limits import RateLimits
from .misbehaviour import Misbehaviour
from .routes import Routes
from .server import Server
from .snapshots import dump, load


class OrbSandbox(MadeUpOrb, Misbehaviour):
    """
    An Orb with a made-up account, on loopback.

        with OrbSandbox(invoices=1000, seed=1) as orb:
            settings.DJANGO_ORB = {"BASE_URL": orb.base_url, "API_KEY": orb.api_key}

    The account is the same for the same `invoices`, `seed` and day, except that drafts
    which fall due in the course of the day are issued, and the next ones created.
    `now` stops the clock at an instant; without it the clock follows real time.
    Without `port` a free one is used. Every method may be called while the sandbox
    serves requests.
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
        super().__init__(Account(invoices, seed, clock, clock.now()))
        self._options = Options(api_key, latency_ms)
        self._limits.mode = rate_limits
        self.host = host
        self._requested_port = port

    def _set_up(self, account: Account) -> None:
        super()._set_up(account)
        self._routes = Routes(account, self._operations, self._customers)
        self._keys = IdempotencyKeys(account.clock)
        self._faults = Faults()
        self._limits = RateLimits()
        self._journal = Journal()
        #: Sends events to endpoints: `sandbox.webhooks.deliver_to(url, ...)`.
        self.webhooks = Deliveries(account.events, account.seed)
        self._server: Server | None = None

    # Start and stop

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

        Benchmarks then have full speed from the first page on.
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
        """The value for `DJANGO_ORB["BASE_URL"]`."""
        return f"http://{self.host}:{self.port}/v1"

    def save(self, path: str | Path) -> None:
        """Write all that has changed in the account since its creation to a file."""
        state = {**dump(self._account), "idempotency_keys": self._keys.dump()}
        Path(path).write_bytes(dumps(state))

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> OrbSandbox:
        """
        Return a sandbox in a saved state; `options` are those of the class.

        The clock continues from where it was, or stands where it stood. Faults and the
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
