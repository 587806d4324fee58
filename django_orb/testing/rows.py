from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .bills import BillKey
from .calendars import parsed
from .customers import Customer

STATUSES = ("draft", "issued", "paid", "synced", "void")


@dataclass(slots=True, eq=False)
class Row:
    """
    What must be known of an invoice to find it and to put it in order.

    Everything else is derived from it when somebody reads it; only an invoice that
    changed since the account was made carries its `total` and its whole `body`.
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
        """Be this from now on; `body` is the same as JSON."""
        self.body = body
        self.total = Decimal(payload["total"])
        self.next_attempt = parsed(payload["auto_collection"]["next_attempt_at"])
        self.status = payload["status"]
        self.due = parsed(payload["due_date"])
        self.date = parsed(payload["invoice_date"]) or 0
        waits = self.status == "draft" and payload["will_auto_issue"]
        self.scheduled = parsed(payload["scheduled_issue_at"]) if waits else None
