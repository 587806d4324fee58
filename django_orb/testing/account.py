"""The account's state, and the rules by which it changes."""

from __future__ import annotations

import heapq
import json
import threading
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from . import lifecycle
from .bills import BillKey, item_id
from .calendars import DAY
from .catalog import item_names
from .clock import Clock
from .ids import digest, letters, make_id
from .index import Index, position
from .money import ZERO
from .new_line import NewLine
from .problems import refused, unknown
from .query import Query, encode_cursor
from .render import Renderer
from .rows import Row
from .seed import Seeder
from .templates import dumps

Payload = dict[str, Any]


class Account:
    """All methods may be called from any thread."""

    def __init__(self, size: int, seed: int, clock: Clock) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.seed = seed
        self.lag = 0
        now = clock.now()
        seeder = Seeder(seed, size, now)
        prefix = letters(digest(seed, "account")).upper()
        self.prefix = "".join(c for c in prefix if c.isalpha())[:6]
        self.renderer = Renderer(
            seed, seeder.levels, now.year * 12 + now.month - 1, self.prefix
        )
        self.customers = {customer.id: customer for customer in seeder.customers}
        rows = seeder.rows()
        self.index = Index(rows)
        self._numbers = len(rows)
        self._serial = 0
        self._balances: dict[str, Decimal] = {}
        self._items = {item_id(seed, name): name for name in item_names()}
        self._lagging: dict[str, _Lagging] = {}
        self._drafts = [(row.scheduled, row.id) for row in rows if row.scheduled]
        heapq.heapify(self._drafts)
        if size > 5_000:
            self._price_everything(rows)

    def _price_everything(self, rows: Iterable[Row]) -> None:
        """Price the bills of a large account at once: its first reader is in a hurry."""
        for key in {row.bill for row in rows}:
            self.renderer.bill(key)

    def warm(self) -> None:
        """Serialise the newest invoices, as many as are kept."""
        for row in self.index.newest_first():
            with self.lock:
                if not self.renderer.keep(row):
                    break

    # Reading

    def status_counts(self) -> dict[str, int]:
        with self.lock:
            self._catch_up()
            return self.index.status_counts()

    def ids(self, statuses: Iterable[str]) -> list[str]:
        with self.lock:
            self._catch_up()
            return [row.id for s in statuses for row in self.index.of_status(s)]

    def subscription_ids(self, *, with_upcoming: bool = False) -> list[str]:
        with self.lock:
            self._catch_up()
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
        with self.lock:
            self._catch_up()
            row = self.row(invoice_id)
            body = self.renderer.invoice(row)
            self._count_read(row)
            return body

    def payload(self, invoice_id: str) -> Payload:
        """The invoice as it is, whatever lagging readers are shown."""
        with self.lock:
            self._catch_up()
            return self._current(self.row(invoice_id))

    def page(self, query: Query) -> tuple[list[bytes], str | None]:
        with self.lock:
            self._catch_up()
            rows = self.index.select(query, self._customers_of(query))
            page, more = rows[: query.limit], len(rows) > query.limit
            bodies = [self.renderer.invoice(row) for row in page]
            if self._lagging:
                for row in page:
                    self._count_read(row)
        return bodies, encode_cursor(position(page[-1])) if more else None

    def _customers_of(self, query: Query) -> set[str] | None:
        """The customers that a query is about; None for all."""
        if query.customer_id is not None:
            return {query.customer_id}
        if query.external_customer_id is not None:
            return self._with("external_id", query.external_customer_id)
        if query.subscription_id is not None:
            return self._with("subscription_id", query.subscription_id)
        return None

    def _with(self, attribute: str, value: str) -> set[str]:
        return {c.id for c in self.customers.values() if getattr(c, attribute) == value}

    def amount(self, row: Row) -> Decimal:
        # Own choice: the documents do not say which amount the filters mean.
        if row.payload is not None:
            return Decimal(row.payload["total"])
        return self.renderer.bill(row.bill).total

    def upcoming(self, subscription_id: str) -> Payload:
        """
        The draft of the running period, as the upcoming invoice shows it.

        Own choice: a subscription without one, ended or not, is not found.
        """
        with self.lock:
            self._catch_up()
            for row in self._drafts_of(subscription_id):
                payload = dict(self._read(row))
                payload["target_date"] = payload.pop("invoice_date")
                return payload
        raise unknown("Subscription", subscription_id)

    def _drafts_of(self, subscription_id: str) -> list[Row]:
        customers = self._with("subscription_id", subscription_id)
        rows = [row for c in customers for row in self.index.of_customer(c)]
        drafts = [r for r in rows if r.status == "draft" and r.source == "subscription"]
        return sorted(drafts, key=lambda row: row.date)

    def _read(self, row: Row) -> Payload:
        payload: Payload = json.loads(self.renderer.invoice(row))
        return payload

    def _current(self, row: Row) -> Payload:
        lagging = self._lagging.get(row.id)
        return dict(lagging.payload) if lagging else self._read(row)

    # Reads that lag behind writes

    def _count_read(self, row: Row) -> None:
        lagging = self._lagging.get(row.id)
        if lagging is not None:
            lagging.reads -= 1

    def _catch_up(self) -> None:
        for row_id, lagging in list(self._lagging.items()):
            if lagging.reads <= 0:
                del self._lagging[row_id]
                self._publish(self.index.by_id[row_id], lagging.payload)
        self._issue_what_is_due()

    def _write(self, row: Row, payload: Payload) -> Payload:
        if self.lag:
            self._lagging[row.id] = _Lagging(payload, self.lag)
        else:
            self._publish(row, payload)
        return payload

    def _publish(self, row: Row, payload: Payload) -> None:
        self.index.remove(row)
        row.replace_payload(payload, dumps(payload))
        self.index.add(row)
        if row.scheduled is not None:
            heapq.heappush(self._drafts, (row.scheduled, row.id))

    # What clients ask for

    def create_line_item(self, new: NewLine) -> Payload:
        with self.lock:
            self._catch_up()
            row = self.row(new.invoice_id)
            payload = self._current(row)
            _demand(payload, "draft", to="get another line item")
            line = self._line(new, row)
            lines = [*payload["line_items"], line]
            self._write(row, lifecycle.with_totals(payload | {"line_items": lines}))
            return line

    def _line(self, new: NewLine, row: Row) -> Payload:
        item = self._item(new)
        return new.payload(row.customer, item, self._new_id("line"), self._moment())

    def _item(self, new: NewLine) -> tuple[str, str]:
        """
        Id and name of the item: found by name, or made, as Orb does.

        Source: https://docs.withorb.com/api-reference/invoice/create-invoice-line-item
        """
        if new.item_id is not None:
            if new.item_id not in self._items:
                raise unknown("Item", new.item_id)
            return new.item_id, self._items[new.item_id]
        name = new.name or ""
        found = item_id(self.seed, name)
        self._items[found] = name
        return found, name

    def void(self, invoice_id: str) -> Payload:
        with self.lock:
            self._catch_up()
            row = self.row(invoice_id)
            payload = self._current(row)
            _demand(payload, "issued", to="be voided")
            return self._apply(
                row, lifecycle.void(payload, self._balance(row), self._moment())
            )

    def _apply(self, row: Row, change: lifecycle.Change) -> Payload:
        self._balances[row.customer.id] = change.balance
        return self._write(row, change.payload)

    def _balance(self, row: Row) -> Decimal:
        return self._balances.get(row.customer.id, ZERO)

    def set_balance(self, customer_id: str, amount: Decimal) -> None:
        with self.lock:
            if customer_id not in self.customers:
                raise unknown("Customer", customer_id)
            self._balances[customer_id] = amount

    # What happens on Orb's own side

    def issue(self, invoice_id: str) -> Payload:
        with self.lock:
            row = self.row(invoice_id)
            payload = self._current(row)
            _demand(payload, "draft", to="be issued")
            return self._issue(row, payload, self._moment())

    def _issue(self, row: Row, payload: Payload, moment: int) -> Payload:
        change = lifecycle.issue(
            payload, row.customer, self._balance(row), moment, self.renderer.links
        )
        return self._apply(row, change)

    def _issue_what_is_due(self) -> None:
        now = self._moment()
        while self._drafts and self._drafts[0][0] <= now:
            scheduled, row_id = heapq.heappop(self._drafts)
            row = self.index.by_id.get(row_id)
            if row and row.status == "draft" and row.scheduled == scheduled:
                self._issue(row, self._current(row), scheduled)

    def mark_paid(self, invoice_id: str) -> Payload:
        with self.lock:
            self._catch_up()
            row = self.row(invoice_id)
            payload = self._current(row)
            _demand(payload, "issued", "synced", to="be marked as paid")
            return self._write(row, lifecycle.mark_paid(payload, self._moment()))

    def update(self, invoice_id: str, changes: Payload) -> Payload:
        """Set fields to whatever is given, against all rules if need be."""
        with self.lock:
            row = self.row(invoice_id)
            payload = self._current(row)
            missing = changes.keys() - payload.keys()
            if missing:
                raise KeyError(f"an invoice has no {', '.join(sorted(missing))}")
            return self._write(row, payload | changes)

    def delete(self, invoice_id: str) -> None:
        """Let a draft disappear, as when its subscription is changed."""
        with self.lock:
            row = self.row(invoice_id)
            self._lagging.pop(invoice_id, None)
            self.index.remove(row)

    def add(
        self,
        *,
        status: str = "issued",
        customer_id: str | None = None,
        amount: str = "100.00",
        name: str = "Consulting",
        days_ago: float = 0,
        changes: Payload | None = None,
    ) -> Payload:
        """A one-off with a single line, brought to a status by the usual steps."""
        with self.lock:
            row = self._blank(customer_id, days_ago)
            today = self.clock.now().date()
            new = NewLine(row.id, Decimal(amount), Decimal(1), today, today, name)
            payload = self._read(row) | {"line_items": [self._line(new, row)]}
            payload = self._brought_to(status, row, lifecycle.with_totals(payload))
            row.replace_payload(payload | (changes or {}), b"")
            row.body = dumps(row.payload)
            self.index.add(row)
            return dict(row.payload or {})

    def _blank(self, customer_id: str | None, days_ago: float) -> Row:
        customer_id = customer_id or next(iter(self.customers), "")
        if customer_id not in self.customers:
            raise unknown("Customer", customer_id)
        customer = self.customers[customer_id]
        self._numbers += 1
        moment = self._moment()
        return Row(
            id=self._new_id("invoice"),
            number=self._numbers,
            date=moment - int(days_ago * DAY),
            due=None,
            status="draft",
            source="one_off",
            customer=customer,
            bill=BillKey("service:0", customer.currency, "", "", 0),
            period=0,
            created=moment,
        )

    def _brought_to(self, status: str, row: Row, payload: Payload) -> Payload:
        if status == "draft":
            return payload
        moment, links = self._moment(), self.renderer.links
        issued = lifecycle.issue(payload, row.customer, ZERO, moment, links).payload
        if status == "void":
            return lifecycle.void(issued, ZERO, moment).payload
        if status == "paid":
            return lifecycle.mark_paid(issued, moment)
        return issued | {"status": status}

    def _new_id(self, kind: str) -> str:
        self._serial += 1
        return make_id(self.seed, "new", kind, self._serial)

    def _moment(self) -> int:
        return self.clock.timestamp()


class _Lagging:
    """A state that readers are not shown yet."""

    def __init__(self, payload: Payload, reads: int) -> None:
        self.payload = payload
        self.reads = reads


def _demand(payload: Payload, *statuses: str, to: str) -> None:
    # Own choice of type and words: Orb's for a wrong status are not public.
    if payload["status"] not in statuses:
        raise refused(
            f"Invoice {payload['id']} is {payload['status']}; it must be "
            f"{' or '.join(statuses)} to {to}."
        )
