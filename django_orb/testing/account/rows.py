from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .bills import BillKey
from .calendars import parsed
from .customers import Customer
from .money import decimal

STATUSES = ("draft", "issued", "paid", "synced", "void")


@dataclass(slots=True, eq=False)
class Row:
    """
    The part of an invoice by which it is found and sorted.

    The renderer derives the rest when the invoice is read. Only an invoice that changed
    since the account was made has a `total`, and its whole `body` is kept.
    """

    id: str
    number: int
    date: int
    due: int | None
    status: str
    source: str
    customer: Customer
    bill: BillKey
    period: int
    created: int
    issued: int | None = None
    settled: int | None = None
    scheduled: int | None = None
    attempts: int = 0
    total: Decimal | None = None
    next_attempt: int | None = None
    body: bytes | None = None

    @property
    def subscription_id(self) -> str | None:
        return None if self.source == "one_off" else self.customer.subscription_id

    @property
    def changed(self) -> bool:
        return self.total is not None

    def become(self, payload: dict[str, Any], body: bytes) -> None:
        """
        Take the state of a payload; `body` is the payload as JSON.

        Tests put nonsense into payloads: readers see it, but the row ignores it.
        """
        self.body = body
        self.total = _amount(payload.get("total"))
        self.status = str(payload.get("status"))
        self.due = time_of(payload, "due_date")
        date = time_of(payload, "invoice_date")
        self.date = self.date if date is None else date
        waits = self.status == "draft" and payload.get("will_auto_issue")
        self.scheduled = time_of(payload, "scheduled_issue_at") if waits else None
        self.next_attempt = time_of(payload.get("auto_collection"), "next_attempt_at")


def time_of(payload: Any, name: str) -> int | None:
    """Return a time of a payload, or None if it is missing or not a time."""
    value = payload.get(name) if isinstance(payload, dict) else None
    try:
        return parsed(value)
    except (TypeError, ValueError):
        return None


def _amount(value: Any) -> Decimal:
    try:
        return decimal(value)
    except (TypeError, ValueError):
        return Decimal(0)
