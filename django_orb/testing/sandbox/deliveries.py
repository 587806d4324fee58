"""
Send webhooks to endpoints as Orb does: signed, at least once, and with retries.

Source: https://docs.withorb.com/guides/integrations-and-exports/webhooks
Own choices, as the documents are silent: how long after a failure an event is sent
again, how often, and that each attempt gets a new signature.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

import requests

from django_orb.testing.account import STYLES, Event, Events

WORKERS = 4
RETRY_SECONDS = (1.0, 5.0, 30.0, 120.0)


@dataclass(frozen=True)
class Endpoint:
    """An address for webhooks, and what goes wrong on their way there."""

    url: str
    secret: str
    payload_style: str = "expanded"
    duplicates: float = 0.0
    delay_seconds: float = 0.0
    shuffle_seconds: float = 0.0
    retry_seconds: Sequence[float] = RETRY_SECONDS
    timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.payload_style not in STYLES:
            raise ValueError(f"{self.payload_style!r} is not one of {sorted(STYLES)}")
        if not 0 <= self.duplicates <= 1:
            raise ValueError("duplicates is a share, from 0 to 1")
        if min(self.delay_seconds, self.shuffle_seconds, *self.retry_seconds, 0) < 0:
            raise ValueError("seconds are not negative")


class Deliveries:
    """Sends events to endpoints, in its own threads."""

    def __init__(self, events: Events, seed: int) -> None:
        events.listener = self._take
        self._events = events
        self._seed = seed
        self._endpoints: list[Endpoint] = []
        self._serials = count()
        # The moment, a number that breaks ties, endpoint, event, and attempt.
        self._waiting: list[tuple[float, int, Endpoint, Event, int]] = []
        self._under_way = 0
        self._has_changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._is_stopped = False

    def deliver_to(self, url: str, *, secret: str, **options: Any) -> None:
        """
        Send every event from now on to this address.

        `duplicates` is the share of events that are sent twice; each event waits
        `delay_seconds`, and up to `shuffle_seconds` more, so that their order changes.
        `payload_style` is "expanded", "standard" (without lines), "id" (only what
        identifies the invoice), or "old" (before 2025). A webhook that is not answered
        with a 2xx within `timeout_seconds` is sent again after each of `retry_seconds`.
        """
        endpoint = Endpoint(url, secret, **options)
        with self._has_changed:
            self._endpoints.append(endpoint)
            self._is_stopped = False
            while len(self._threads) < WORKERS:
                thread = threading.Thread(target=self._work, daemon=True)
                self._threads.append(thread)
                thread.start()

    def wait(self, seconds: float = 10.0) -> bool:
        """Wait until everything is sent. Return False if that takes longer."""
        with self._has_changed:
            return self._has_changed.wait_for(
                lambda: not self._waiting and not self._under_way, seconds
            )

    def attempts(self) -> list[dict[str, Any]]:
        """Return all attempts, in the form in which the list of events shows them."""
        kept = self._events.oldest_first()
        return [attempt for event in kept for attempt in event.attempts]

    def stop(self) -> None:
        """Drop the webhooks that wait, and finish those that are being sent."""
        with self._has_changed:
            self._endpoints.clear()
            self._waiting.clear()
            self._is_stopped = True
            self._has_changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _take(self, event: Event) -> None:
        chance = Random(f"{self._seed} {event.id}")  # noqa: S311  no secret
        with self._has_changed:
            for endpoint in self._endpoints:
                for _ in range(1 + (chance.random() < endpoint.duplicates)):
                    delay = chance.uniform(0, endpoint.shuffle_seconds)
                    self._schedule(endpoint, event, 0, endpoint.delay_seconds + delay)

    def _schedule(
        self, endpoint: Endpoint, event: Event, attempt: int, seconds: float
    ) -> None:
        due = time.monotonic() + seconds
        heappush(self._waiting, (due, next(self._serials), endpoint, event, attempt))
        self._has_changed.notify_all()

    def _try_again(self, endpoint: Endpoint, event: Event, attempt: int) -> None:
        pauses = endpoint.retry_seconds
        if attempt < len(pauses):
            self._schedule(endpoint, event, attempt + 1, pauses[attempt])

    def _work(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while (next_one := self._next()) is not None:
                endpoint, event, attempt = next_one
                outcome = _send(session, endpoint, event)
                with self._has_changed:
                    number = len(event.attempts) + 1
                    event.attempts.append({"id": f"{event.id}{number:04}", **outcome})
                    self._under_way -= 1
                    if not outcome["is_success"] and not self._is_stopped:
                        self._try_again(endpoint, event, attempt)
                    self._has_changed.notify_all()

    def _next(self) -> tuple[Endpoint, Event, int] | None:
        """Wait for the next webhook that is due. Return it, or None after `stop`."""
        with self._has_changed:
            while not self._is_stopped:
                now = time.monotonic()
                if self._waiting and self._waiting[0][0] <= now:
                    _, _, endpoint, event, attempt = heappop(self._waiting)
                    self._under_way += 1
                    return endpoint, event, attempt
                until = self._waiting[0][0] - now if self._waiting else None
                self._has_changed.wait(until)
            return None


def _send(
    session: requests.Session, endpoint: Endpoint, event: Event
) -> dict[str, Any]:
    """Send a webhook once. Return the attempt as the list of events shows it."""
    # With spaces after colons and commas, as Orb writes it.
    body = json.dumps(event.payload(endpoint.payload_style)).encode()
    started = time.monotonic()
    status = None
    with suppress(requests.RequestException):
        status = session.post(
            endpoint.url,
            data=body,
            headers={
                "Content-Type": "application/json",
                **signed_headers(body, endpoint.secret),
            },
            timeout=endpoint.timeout_seconds,
            allow_redirects=False,
        ).status_code
    return {
        "endpoint_url": endpoint.url,
        "is_success": status is not None and 200 <= status < 300,
        "response_status_code": status,
        "elapsed_ms": round((time.monotonic() - started) * 1000),
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def signed_headers(body: bytes, secret: str) -> dict[str, str]:
    """Return the headers that prove that a body comes from Orb, and when."""
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    timestamp = now.isoformat(timespec="milliseconds")
    message = f"v1:{timestamp}:".encode() + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return {"X-Orb-Timestamp": timestamp, "X-Orb-Signature": f"v1={digest}"}
