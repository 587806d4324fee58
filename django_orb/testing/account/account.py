"""The state of the account: its invoices, what readers see, and what time changes."""

from __future__ import annotations

import heapq
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from . import lifecycle
from .bills import item_id
from .calendars import DAY, month_start
from .catalog import item_names
from .clock import Clock
from .customers import plain_customer
from .events import Events
from .ids import digest, letters, make_id
from .index import Index, position
from .money import ZERO
from .payments import next_attempt
from .problems import unknown
from .query import Query, encode_cursor
from .render import Renderer
from .rows import Row, time_of
from .seed import GRACE, Seeder
from .templates import dumps

logger = logging.getLogger(__name__)

Payload = dict[str, Any]


@dataclass(frozen=True)
class Terms:
    """A client's wish for a draft's due date: days after its date, or a moment."""

    net_terms: int | None = None
    due: int | None = None


@dataclass
class Lagging:
    """A new state of an invoice that the next `reads` reads do not show yet."""

    body: bytes
    reads: int


class Account:
    """
    Customers, invoices and events, in memory.

    Any thread may call its methods; those that change it only inside `opened`.
    """

    def __init__(self, size: int, seed: int, clock: Clock, started: datetime) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.size = size
        self.seed = seed
        self.started = started
        self.lag = 0
        seeder = Seeder(seed, size, started)
        self.month = seeder.month
        prefix = letters(digest(seed, "account")).decode().upper()
        self.renderer = Renderer(
            seed,
            seeder.levels,
            seeder.month,
            "".join(letter for letter in prefix if letter.isalpha())[:6],
        )
        self.customers = {customer.id: customer for customer in seeder.customers}
        self.let_in_later: dict[str, dict[str, Any]] = {}
        rows = seeder.rows()
        self.index = Index(rows)
        self.events = Events(seed)
        self.numbers = self.size
        self.serial = 0
        self.balances: dict[str, Decimal] = {}
        self.adjustments: dict[str, list[Payload]] = {}
        self.terms: dict[str, Terms] = {}
        self.items = {item_id(seed, name): name for name in item_names()}
        self.deleted: list[str] = []
        self.lagging: dict[str, Lagging] = {}
        self._schedule: list[tuple[int, str]] = []
        for row in rows:
            self._put_on_schedule(row)

    def warm(self) -> None:
        """Serialise the newest invoices, as many as the renderer keeps."""
        for row in self.index.newest_first():
            with self.lock:
                if not self.renderer.keep(row):
                    break

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Bring the account up to the clock's time, and lock it for the block."""
        with self.lock:
            for row_id, lagging in list(self.lagging.items()):
                if lagging.reads <= 0:
                    del self.lagging[row_id]
                    self._publish(self.index.by_id[row_id], lagging.body)
            self._let_time_pass()
            yield

    # Reading

    def status_counts(self) -> dict[str, int]:
        with self.opened():
            return self.index.status_counts()

    def ids(self, status: str | None) -> list[str]:
        with self.opened():
            statuses = [*self.index.status_counts()] if status is None else [status]
            return [row.id for s in statuses for row in self.index.of_status(s)]

    def subscription_ids(self, *, with_upcoming: bool = False) -> list[str]:
        with self.opened():
            drafts = self.index.of_status("draft")
            known = (c.subscription_id for c in self.customers.values())
            billed = (r.subscription_id for r in drafts if r.source == "subscription")
            return [s for s in (billed if with_upcoming else known) if s]

    def has(self, invoice_id: str) -> bool:
        return invoice_id in self.index.by_id

    def row(self, invoice_id: str) -> Row:
        row = self.index.by_id.get(invoice_id)
        if row is None:
            raise unknown("Invoice", invoice_id)
        return row

    def fetch(self, invoice_id: str) -> bytes:
        with self.opened():
            row = self.row(invoice_id)
            body = self.renderer.invoice(row)
            self._count_read(row)
            return body

    def payload(self, invoice_id: str) -> Payload:
        """Return the invoice's newest state, also while readers see an older one."""
        with self.opened():
            return self.current(self.row(invoice_id))

    def page(self, query: Query) -> tuple[list[bytes], str | None]:
        with self.opened():
            rows = self.index.select(query, self._customers_of(query))
            page, more = rows[: query.limit], len(rows) > query.limit
            bodies = [self.renderer.invoice(row) for row in page]
            if self.lagging:
                for row in page:
                    self._count_read(row)
        return bodies, encode_cursor(position(page[-1])) if more else None

    def _customers_of(self, query: Query) -> set[str] | None:
        """Return the ids of the customers that a query names, or None for all."""
        if query.customer_id is not None:
            return {query.customer_id}
        if query.external_customer_id is not None:
            return self.customers_with("external_id", query.external_customer_id)
        if query.subscription_id is not None:
            return self.customers_with("subscription_id", query.subscription_id)
        return None

    def customers_with(self, attribute: str, value: str) -> set[str]:
        return {c.id for c in self.customers.values() if getattr(c, attribute) == value}

    def amount(self, row: Row) -> Decimal:
        # Own choice: the documents do not say which amount the filters mean.
        return self.renderer.bill(row.bill).total if row.total is None else row.total

    def let_in(self, customer_id: str, **facts: Any) -> None:
        """Add a customer; `facts` are the arguments of `plain_customer`."""
        self.customers[customer_id] = plain_customer(customer_id, **facts)
        self.let_in_later[customer_id] = facts

    def upcoming(self, subscription_id: str) -> Payload:
        """
        Return the draft of the running period in the form of an upcoming invoice.

        Own choice: a subscription without such a draft, ended or not, is a 404.
        """
        with self.opened():
            for row in self._drafts_of(subscription_id):
                payload: Payload = json.loads(self.renderer.invoice(row))
                payload["target_date"] = payload.pop("invoice_date")
                return payload
        raise unknown("Subscription", subscription_id)

    def _drafts_of(self, subscription_id: str) -> list[Row]:
        customers = self.customers_with("subscription_id", subscription_id)
        rows = [row for c in customers for row in self.index.of_customer(c)]
        drafts = [r for r in rows if r.status == "draft" and r.source == "subscription"]
        return sorted(drafts, key=lambda row: row.date)

    def read(self, row: Row) -> Payload:
        payload: Payload = json.loads(self.renderer.state(row))
        return payload

    def current(self, row: Row) -> Payload:
        """Return the newest state, on which a change must be based."""
        lagging = self.lagging.get(row.id)
        if lagging is None:
            return self.read(row)
        payload: Payload = json.loads(lagging.body)
        return payload

    def _count_read(self, row: Row) -> None:
        lagging = self.lagging.get(row.id)
        if lagging is not None:
            lagging.reads -= 1

    # Writing

    def write(
        self, row: Row, payload: Payload, event: str = "", **facts: Any
    ) -> Payload:
        """Change an invoice; with an `event`, also record `invoice.<event>`."""
        body = dumps(payload)
        if event:
            self.events.add(f"invoice.{event}", body, self.moment(), facts)
        if self.lag:
            self.lagging[row.id] = Lagging(body, self.lag)
        else:
            self.lagging.pop(row.id, None)
            self._publish(row, body)
        return payload

    def apply(
        self, row: Row, change: lifecycle.Change, event: str, **facts: Any
    ) -> Payload:
        self.balances[row.customer.id] = change.balance
        return self.write(row, change.payload, event, **facts)

    def _publish(self, row: Row, body: bytes) -> None:
        self.index.remove(row)
        row.become(json.loads(body), body)
        self.add(row)

    def add(self, row: Row) -> None:
        self.index.add(row)
        self._put_on_schedule(row)

    def remove(self, row: Row) -> None:
        self.lagging.pop(row.id, None)
        self.index.remove(row)
        self.deleted.append(row.id)

    def balance(self, row: Row) -> Decimal:
        return self.balance_of(row.customer.id)

    def balance_of(self, customer_id: str) -> Decimal:
        return self.balances.get(customer_id, ZERO)

    def new_id(self, kind: str) -> str:
        self.serial += 1
        return make_id(self.seed, "new", kind, self.serial)

    def new_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def moment(self) -> int:
        return self.clock.timestamp()

    # The passing of time

    def _put_on_schedule(self, row: Row) -> None:
        """Plan the issue of a draft, or the next attempt at a payment."""
        moment = row.scheduled
        if row.status == "issued":
            moment = _next_collection(row)
        if moment is not None:
            heapq.heappush(self._schedule, (moment, row.id))

    def _let_time_pass(self) -> None:
        now = self.moment()
        while self._schedule and self._schedule[0][0] <= now:
            moment, row_id = heapq.heappop(self._schedule)
            row = self.index.by_id.get(row_id)
            if row is None:
                continue
            try:
                self._do_what_is_due(row, moment)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                # A test may have put nonsense into it; the others must still be billed.
                logger.warning("Invoice %s cannot be billed", row_id, exc_info=True)

    def _do_what_is_due(self, row: Row, moment: int) -> None:
        payload = self.current(row)
        status = payload.get("status")
        if status == "draft" and time_of(payload, "scheduled_issue_at") == moment:
            self.issue(row, payload, moment)
        collection = payload.get("auto_collection")
        if status == "issued" and time_of(collection, "next_attempt_at") == moment:
            self._collect(row, payload, moment)

    def issue(self, row: Row, payload: Payload, moment: int) -> Payload:
        change = lifecycle.issue(
            payload, row.customer, self.balance(row), moment, self._due(row)
        )
        paid = change.payload["status"] == "paid"
        issued = self.apply(row, change, "issued", automatically_marked_as_paid=paid)
        if row.source == "subscription":
            self._open_next_draft(row)
        return issued

    def _due(self, row: Row) -> int:
        terms = self.terms.get(row.id, Terms())
        if terms.due is not None:
            return terms.due
        days = terms.net_terms
        return row.date + DAY * (row.customer.net_terms if days is None else days)

    def _open_next_draft(self, row: Row) -> None:
        """Create the draft of the next period, unless the subscription has ended."""
        customer = row.customer
        rows = self.index.of_customer(customer.id)
        goes_on = customer.last_month == 1
        if not goes_on or any(
            r.period > row.period for r in rows if r.status == "draft"
        ):
            return
        month = self.month + row.period + 1
        date = month_start(month, customer.billing_day, customer.region.time_zone)
        self.add(
            Row(
                id=self.new_id("invoice"),
                number=self.new_number(),
                date=date,
                due=None,
                status="draft",
                source="subscription",
                customer=customer,
                bill=row.bill._replace(region="", extra=""),
                period=row.period + 1,
                created=row.date + 60,
                scheduled=date + GRACE,
            )
        )

    def _collect(self, row: Row, payload: Payload, moment: int) -> None:
        # A payment that failed once keeps failing, until attempts are exhausted.
        succeeds = payload["auto_collection"]["num_attempts"] == 0
        tried = lifecycle.attempt_payment(payload, moment, succeeds)
        event = "payment_succeeded" if succeeds else "payment_failed"
        self.write(row, tried, event, **lifecycle.provider_facts(tried))


def _next_collection(row: Row) -> int | None:
    return row.next_attempt if row.changed else next_attempt(row)
