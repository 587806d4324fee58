"""
What happened to invoices, as Orb's webhooks tell it and GET /webhook_events lists it.

Own choices, as the documents are silent: events are kept from the sandbox's start on,
10,000 at most, newest first; nothing is delivered anywhere.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from .calendars import shown
from .ids import make_id
from .query import Args, Bound, Reader, encode_cursor, within

KEPT = 10_000


@dataclass(frozen=True)
class Event:
    serial: int
    id: str
    moment: int
    type: str
    properties: dict[str, Any]
    body: bytes = field(repr=False)

    def payload(self) -> dict[str, Any]:
        """The body of the webhook."""
        return {
            **self.summary(),
            "payload_style": "expanded",
            "properties": self.properties,
            "invoice": json.loads(self.body),
        }

    def summary(self) -> dict[str, Any]:
        return {"id": self.id, "created_at": shown(self.moment), "type": self.type}

    def listed(self, include_payload: bool) -> dict[str, Any]:
        """A member of the list of events."""
        return {
            **self.summary(),
            "is_delivered": False,
            "payload": self.payload() if include_payload else self.summary(),
            "delivery_attempts": [],
        }


class Events:
    """Guarded by the account's lock."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._serials = count(1)
        self._kept: deque[Event] = deque(maxlen=KEPT)

    def add(
        self, type: str, body: bytes, moment: int, properties: dict[str, Any]
    ) -> None:
        """Something happened to the invoice whose JSON is `body`."""
        serial = next(self._serials)
        event_id = make_id(self._seed, "event", serial)
        self._kept.append(Event(serial, event_id, moment, type, properties, body))

    def newest_first(self) -> Iterator[Event]:
        return reversed(self._kept)

    def oldest_first(self) -> list[Event]:
        return [*self._kept]

    def find(self, event_id: str) -> Event | None:
        return next((event for event in self._kept if event.id == event_id), None)


@dataclass(frozen=True)
class EventQuery:
    limit: int
    before: int | None
    type: str | None
    delivered: bool | None
    include_payload: bool
    created_at: tuple[Bound, ...]

    @classmethod
    def parse(cls, args: Args) -> EventQuery:
        reader = Reader(args)
        after = reader.cursor()
        query = cls(
            limit=reader.limit(),
            before=after[0] if after else None,
            type=args.get("event_type"),
            delivered=reader.flag("delivery_success"),
            include_payload=reader.flag("include_payload") is not False,
            created_at=reader.moments("created_at"),
        )
        reader.finish()
        return query

    def cursor(self, last: Event) -> str:
        return encode_cursor((last.serial, last.id))

    def select(self, events: Events) -> list[Event]:
        """One more than the limit, where there are more."""
        wanted = filter(self._takes, events.newest_first())
        return list(islice(wanted, self.limit + 1))

    def _takes(self, event: Event) -> bool:
        return (
            (self.before is None or event.serial < self.before)
            and self.type in {None, event.type}
            and self.delivered is not True
            and within(event.moment, self.created_at)
        )
