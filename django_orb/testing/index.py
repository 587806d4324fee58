"""Finding invoices: newest invoice date first, without looking at all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice

from .query import Query
from .rows import STATUSES, Row

Key = tuple[int, str]


def position(row: Row) -> Key:
    """Its place in a list; own choice: invoices of the same date go by id."""
    return (-row.date, row.id)


def _negative_date(row: Row) -> float:
    return -row.date


class Index:
    def __init__(self, rows: Iterable[Row]) -> None:
        self.by_id: dict[str, Row] = {}
        self._by_status: dict[str, list[Row]] = {status: [] for status in STATUSES}
        self._by_customer: dict[str, list[Row]] = {}
        for row in sorted(rows, key=position):
            self.by_id[row.id] = row
            self._by_status[row.status].append(row)
            self._by_customer.setdefault(row.customer.id, []).append(row)

    def __len__(self) -> int:
        return len(self.by_id)

    def status_counts(self) -> dict[str, int]:
        return {status: len(rows) for status, rows in self._by_status.items()}

    def of_status(self, status: str) -> list[Row]:
        return self._by_status[status]

    def of_customer(self, customer_id: str) -> list[Row]:
        return self._by_customer.get(customer_id, [])

    def add(self, row: Row) -> None:
        self.by_id[row.id] = row
        insort(self._by_status[row.status], row, key=position)
        insort(self._by_customer.setdefault(row.customer.id, []), row, key=position)

    def remove(self, row: Row) -> None:
        del self.by_id[row.id]
        for rows in (self._by_status[row.status], self._by_customer[row.customer.id]):
            del rows[bisect_left(rows, position(row), key=position)]

    def select(self, query: Query, customer_ids: set[str] | None) -> list[Row]:
        """One row more than the limit, where there are more."""
        wanted = (
            row for row in self._candidates(query, customer_ids) if query.takes(row)
        )
        return list(islice(wanted, query.limit + 1))

    def _candidates(self, query: Query, customer_ids: set[str] | None) -> Iterator[Row]:
        if customer_ids is None:
            lists = [self._by_status[status] for status in query.statuses]
        else:
            lists = [self.of_customer(customer_id) for customer_id in customer_ids]
        slices = [_slice(rows, query) for rows in lists]
        return slices[0] if len(slices) == 1 else merge(*slices, key=position)


def _slice(rows: list[Row], query: Query) -> Iterator[Row]:
    start, end = 0, len(rows)
    if query.after is not None:
        start = bisect_right(rows, query.after, key=position)
    for operator, moment in query.invoice_dates:
        if operator in {"gt", "gte"}:
            bisect = bisect_left if operator == "gt" else bisect_right
            end = min(end, bisect(rows, -moment, key=_negative_date))
        else:
            bisect = bisect_right if operator == "lt" else bisect_left
            start = max(start, bisect(rows, -moment, key=_negative_date))
    return islice(rows, start, max(start, end))
