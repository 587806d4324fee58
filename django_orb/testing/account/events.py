"""
Events about invoices, as Orb sends them in webhooks and lists them.

Own choices, because the documents do not say: GET /webhook_events lists the newest
10,000 events since the sandbox's start, newest first.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from .calendars import shown
from .ids import make_id
from .query import Args, Bound, Reader, encode_cursor, within

KEPT = 10_000

# The fields that the style "standard" leaves out, those that "id" keeps, and how lines
# differed before 2025.
_NOT_STANDARD = {
    "discount",
    "discounts",
    "hidden_line_item_count",
    "line_items",
    "maximum",
    "maximum_amount",
    "minimum",
    "minimum_amount",
    "subtotal",
}
_IDENTITY = ("customer", "id", "invoice_number", "status", "subscription")
_NEW_LINE_KEYS = {
    "adjusted_subtotal",
    "adjustments",
    "credits_applied",
    "partially_invoiced_amount",
}
_OLD_LINE = dict.fromkeys(
    ("discount", "maximum", "maximum_amount", "minimum", "minimum_amount")
)


def _expanded(invoice: dict[str, Any]) -> dict[str, Any]:
    return invoice


def _standard(invoice: dict[str, Any]) -> dict[str, Any]:
    return {key: v for key, v in invoice.items() if key not in _NOT_STANDARD}


def _identity(invoice: dict[str, Any]) -> dict[str, Any]:
    return {key: invoice[key] for key in _IDENTITY}


def _old(invoice: dict[str, Any]) -> dict[str, Any]:
    lines = [
        {**{k: v for k, v in line.items() if k not in _NEW_LINE_KEYS}, **_OLD_LINE}
        for line in invoice["line_items"]
    ]
    return {**invoice, "line_items": lines}


STYLES = {"expanded": _expanded, "standard": _standard, "id": _identity, "old": _old}


@dataclass(frozen=True)
class Event:
    serial: int
    id: str
    moment: int
    type: str
    properties: dict[str, Any]
    body: bytes = field(repr=False)
    attempts: list[dict[str, Any]] = field(default_factory=list, compare=False)

    def payload(self, style: str = "expanded") -> dict[str, Any]:
        """Return the body of the webhook."""
        payload = {
            **self.summary(),
            "payload_style": "expanded" if style == "expanded" else "standard",
            "properties": self.properties,
            "invoice": STYLES[style](json.loads(self.body)),
        }
        if self.type.startswith("invoice.accounting_sync_"):
            payload["accounting_sync_record"] = self._accounting_sync_record()
        if style == "old":
            del payload["payload_style"]
        return payload

    def _accounting_sync_record(self) -> dict[str, Any]:
        invoice = json.loads(self.body)
        reason = self.properties.get("failure_reason")
        return {
            "id": make_id("accounting sync record", self.id),
            "customer_id": invoice["customer"]["id"],
            "record_type": "invoice",
            "error_details": {"message": reason} if reason else None,
            "invoice_id": invoice["id"],
            "provider_customer_id": None,
            "status": "failed" if reason else "succeeded",
            "sync_action": "create",
        }

    @property
    def is_delivered(self) -> bool:
        return any(attempt["is_success"] for attempt in self.attempts)

    def summary(self) -> dict[str, Any]:
        return {"id": self.id, "created_at": shown(self.moment), "type": self.type}

    def listed(self, include_payload: bool) -> dict[str, Any]:
        """Return the event as GET /webhook_events shows it."""
        return {
            **self.summary(),
            "is_delivered": self.is_delivered,
            "payload": self.payload() if include_payload else self.summary(),
            "delivery_attempts": [*self.attempts],
        }


class Events:
    """The events of an account, whose lock guards them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._serials = count(1)
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self.listener: Callable[[Event], None] = lambda event: None

    def add(
        self, type: str, body: bytes, moment: int, properties: dict[str, Any]
    ) -> None:
        """Record an event about the invoice whose JSON is `body`."""
        event = self.made_up(type, body, moment, properties)
        self._kept.append(event)
        self.listener(event)

    def made_up(
        self, type: str, body: bytes, moment: int, properties: dict[str, Any]
    ) -> Event:
        """Return an event that a test sends itself: the list does not show it."""
        serial = next(self._serials)
        event_id = make_id(self._seed, "event", serial)
        return Event(serial, event_id, moment, type, properties, body)

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
        """Return the events of a page, and one more if there are more."""
        wanted = filter(self._takes, events.newest_first())
        return list(islice(wanted, self.limit + 1))

    def _takes(self, event: Event) -> bool:
        return (
            (self.before is None or event.serial < self.before)
            and self.type in {None, event.type}
            and self.delivered in {None, event.is_delivered}
            and within(event.moment, self.created_at)
        )
