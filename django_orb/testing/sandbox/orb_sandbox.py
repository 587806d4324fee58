from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from django_orb.testing.account import Account, Clock, dumps

from .app import Options, OrbApp
from .control import ControlApp, Switch
from .misbehaving_orb import MisbehavingOrb
from .server import Server
from .snapshots import dump, load


class OrbSandbox(MisbehavingOrb):
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
