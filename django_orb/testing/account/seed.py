"""Make up an account: customers, and what became of each of their invoices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime

from .bills import BillKey
from .calendars import DAY, month_start
from .catalog import PARTIALS, PLANS, SERVICES
from .customers import Customer, make_customers
from .ids import digest, letters
from .payments import MAX_ATTEMPTS
from .rows import STATUSES, Row

HISTORY_MONTHS = 36
INVOICES_PER_CUSTOMER = 18
HOUR = 3600

# Orb waits twelve hours for late usage before it issues:
# https://docs.withorb.com/invoicing/invoice-issuance
GRACE = 12 * HOUR


def usage_levels(size: int) -> int:
    """
    Return the number of different amounts of usage.

    Invoices with the same plan, region and level share a bill, so that a large account
    is rendered from a few thousand bills, while those of a small one hardly repeat.
    """
    return 1000 if size <= 2000 else 10


# The invoices of a customer's month share its random bytes; each takes its id from
# another part of them.
_ID_BYTES = {
    "subscription": slice(24, 36),
    "partial": slice(36, 48),
    "one_off": slice(48, 60),
}


class Seeder:
    """Makes invoices, always the same from the same seed, size and day."""

    def __init__(self, seed: int, size: int, now: datetime) -> None:
        self.seed = seed
        self.size = size
        self.levels = usage_levels(size)
        # The day, not the time: two sandboxes started minutes apart must be equal.
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        self.today = int(midnight.timestamp())
        self.now = int(now.timestamp())
        self.month = now.year * 12 + now.month - 1
        count = max(8, size // INVOICES_PER_CUSTOMER) if size else 0
        self.customers = make_customers(seed, count, HISTORY_MONTHS)

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        left = self.size
        has_draft: set[str] = set()
        for row in self._newest_first():
            if not left:
                break
            opens_another = row.customer.id not in has_draft and self._is_over(row)
            if opens_another and left == 1:
                continue
            rows.append(row)
            left -= 2 if opens_another else 1
            if row.status == "draft":
                has_draft.add(row.customer.id)
        rows.sort(key=lambda row: (row.date, row.id))
        for number, row in enumerate(rows, 1):
            row.number = number
        self._leave_no_status_out(rows)
        self._differ_by_case_only(rows)
        return rows

    def _is_over(self, row: Row) -> bool:
        """Tell whether it fell due since midnight, so that the next draft follows."""
        goes_on = row.source == "subscription" and row.customer.last_month == 1
        return goes_on and row.scheduled is not None and row.scheduled <= self.now

    def _newest_first(self) -> Iterator[Row]:
        if not self.customers:
            return
        period = 1
        while True:
            for index, customer in enumerate(self.customers):
                yield from self._month_of(index, customer, period)
            period -= 1

    def _month_of(self, index: int, customer: Customer, period: int) -> Iterator[Row]:
        oldest = index % 3 == 0
        if not (customer.first_month <= period <= customer.last_month or oldest):
            return
        chance = digest(self.seed, "month", index, period)
        if customer.plan and self._is_billed(customer, period):
            yield self._subscription_row(customer, period, chance)
        if customer.plan and chance[60] < 9 and period < 0:
            yield self._partial_row(customer, period, chance)
        if chance[61] < (12 if customer.plan else 110):
            yield self._one_off_row(customer, period, chance)

    def _boundary(self, customer: Customer, period: int) -> int:
        zone = customer.region.time_zone
        return month_start(self.month + period, customer.billing_day, zone)

    def _is_billed(self, customer: Customer, period: int) -> bool:
        """Tell whether the period is over, or is the running one, which has a draft."""
        if self._boundary(customer, period) <= self.today:
            return True
        runs = self._boundary(customer, period - 1) <= self.today
        return runs and customer.last_month == 1

    def _subscription_row(self, customer: Customer, period: int, chance: bytes) -> Row:
        date = self._boundary(customer, period)
        created = self._boundary(customer, period - 1) + 60 + chance[20]
        plan = customer.plan or ""
        extra = _extra(plan, chance[9])
        row = self._row(customer, period, date, "subscription", plan, chance, extra)
        row.created = created
        self._settle(row, date + GRACE + chance[0] * 14, chance)
        return row

    def _partial_row(self, customer: Customer, period: int, chance: bytes) -> Row:
        start = self._boundary(customer, period - 1)
        date = start + (3 + chance[21] % 24) * DAY
        kind = f"partial:{chance[22] % len(PARTIALS)}"
        row = self._row(customer, period, date, "partial", kind, chance)
        self._settle(row, date + chance[0] * 3, chance)
        return row

    def _one_off_row(self, customer: Customer, period: int, chance: bytes) -> Row:
        start = self._boundary(customer, period)
        date = start + (chance[23] % 28) * DAY
        kind = f"service:{chance[24] % len(SERVICES)}"
        row = self._row(customer, period, date, "one_off", kind, chance)
        self._settle(row, date + chance[0] * 3, chance)
        return row

    def _row(
        self,
        customer: Customer,
        period: int,
        date: int,
        source: str,
        kind: str,
        chance: bytes,
        extra: str = "",
    ) -> Row:
        discount = customer.discount if source == "subscription" else ""
        region = customer.region.code
        level = self._level(customer, period, chance)
        if extra:
            # Fewer levels for rare bills keep their number small.
            level -= level % 4
        key = BillKey(kind, customer.currency, region, discount, level, extra)
        return Row(
            id=letters(chance[_ID_BYTES[source]]).decode(),
            number=0,
            date=date,
            due=date + customer.net_terms * DAY,
            status="issued",
            source=source,
            customer=customer,
            bill=key,
            period=period,
            created=min(date, self.today) - chance[20] * 60,
        )

    def _level(self, customer: Customer, period: int, chance: bytes) -> int:
        usage = customer.usage + customer.growth * period + (chance[8] - 128) / 1400
        return int(min(0.999, max(0.0, usage)) * self.levels)

    def _settle(self, row: Row, issued: int, chance: bytes) -> None:
        """Decide what became of an invoice whose time of issue is `issued`."""
        if issued > self.today or _waits_for_a_person(row, chance, self.today):
            self._stay_draft(row, chance)
            return
        row.issued = issued
        if chance[2] < 7 and issued + 10 * DAY <= self.today:
            row.status, row.settled = "void", issued + (1 + chance[3] % 9) * DAY
        elif row.bill.kind == "developer":
            row.status, row.settled = "paid", issued
        elif row.customer.collection == "sync":
            row.status = "synced"
        else:
            self._collect(row, issued, chance)

    def _stay_draft(self, row: Row, chance: bytes) -> None:
        row.status, row.due = "draft", None
        row.bill = row.bill._replace(region="")
        by_itself = row.source != "one_off" or chance[1] >= 128
        if by_itself and row.date + GRACE > self.today:
            grace = GRACE if row.source == "subscription" else 0
            row.scheduled = row.date + grace

    def _collect(self, row: Row, issued: int, chance: bytes) -> None:
        if row.customer.collection == "auto":
            paid = self._charged(row, issued, chance)
        else:
            paid = self._transferred(row, chance)
        if paid is not None and paid <= self.today:
            row.status, row.settled = "paid", paid

    def _charged(self, row: Row, issued: int, chance: bytes) -> int | None:
        first = issued + HOUR + chance[4] * 60
        if first > self.today:
            return None
        row.attempts = 1
        recent = issued > self.today - 75 * DAY
        if chance[5] < 4 and recent:
            row.attempts = 1 + min(3, (self.today - first) // (3 * DAY))
            return None
        if chance[5] < 18 and first + 3 * DAY <= self.today:
            row.attempts = 2
            return first + 3 * DAY
        return first

    def _transferred(self, row: Row, chance: bytes) -> int | None:
        due = row.due or row.date
        if chance[7] < 15 and row.date > self.today - 170 * DAY:
            return None
        late = (8 + chance[10] % 35) * DAY if row.customer.late else 0
        return due + late + (chance[6] - 190) * HOUR

    def _leave_no_status_out(self, rows: list[Row]) -> None:
        """Turn some paid invoices into the statuses that a small account lacks."""
        spare = [row for row in rows if row.status == "paid" and row.settled]
        spare = [row for row in spare if row.bill.kind != "developer"]
        random.Random(self.seed).shuffle(spare)  # noqa: S311
        there = {row.status for row in rows} | {"draft"}
        missing = [status for status in STATUSES if status not in there]
        for status in missing if len(rows) >= 20 else ():
            _become(spare.pop(), status)

    def _differ_by_case_only(self, rows: list[Row]) -> None:
        # Orb's ids are case-sensitive: a mirror that ignores case loses one of these.
        if len(rows) >= 100:
            rows[-50].id = rows[-60].id.swapcase()


def _become(row: Row, status: str) -> None:
    """Turn a paid invoice into one of another status."""
    row.status = status
    row.settled = row.settled if status == "void" else None
    # All attempts have been made, so that it stays issued.
    tried = status == "issued" and row.customer.collection == "auto"
    row.attempts = MAX_ATTEMPTS if tried else 0


def _extra(plan: str, chance: int) -> str:
    metered = any("ingestion" in item.price.name for item in PLANS[plan])
    if chance < 7 and metered:
        return "sla_credit"
    if chance < 11 and plan in {"business", "enterprise"}:
        return "goodwill"
    if chance < 16 and plan != "developer":
        return "archive"
    return "threshold" if chance < 20 and metered else ""


def _waits_for_a_person(row: Row, chance: bytes, today: int) -> bool:
    """Tell whether it is a one-off that the user has not issued yet."""
    return row.source == "one_off" and chance[1] < 40 and row.date > today - 45 * DAY
