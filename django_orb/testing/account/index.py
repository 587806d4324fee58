"""Find invoices, newest invoice date first, without reading all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice

from .query import Query
from .rows import STATUSES, Row

Key = tuple[int, str]


def position(row: Row) -> Key:
    """Return the sort key of lists. Own choice: invoices of the same date go by id."""
    return (-row.date, row.id)


def _negative_date(row: Row) -> float:
    return -row.date


class Index:
    def __init__(self, rows: Iterable[Row]) -> None:
        self.by_id: dict[str, Row] = {}
        self._all: list[Row] = []
        self._by_status: dict[str, list[Row]] = {status: [] for status in STATUSES}
        self._by_customer: dict[str, list[Row]] = {}
        for row in sorted(rows, key=position):
            self.by_id[row.id] = row
            for place in self._places(row):
                place.append(row)

    def _places(self, row: Row) -> tuple[list[Row], ...]:
        """Return the lists that the row belongs to."""
        of_customer = self._by_customer.setdefault(row.customer.id, [])
        # A test may give an invoice a status that does not exist (yet).
        of_status = self._by_status.setdefault(row.status, [])
        return self._all, of_status, of_customer

    def status_counts(self) -> dict[str, int]:
        return {status: len(rows) for status, rows in self._by_status.items()}

    def newest_first(self) -> list[Row]:
        return [*self._all]

    def of_status(self, status: str) -> list[Row]:
        return self._by_status[status]

    def of_customer(self, customer_id: str) -> list[Row]:
        return self._by_customer.get(customer_id, [])

    def add(self, row: Row) -> None:
        self.by_id[row.id] = row
        for place in self._places(row):
            insort(place, row, key=position)

    def remove(self, row: Row) -> None:
        del self.by_id[row.id]
        for place in self._places(row):
            del place[bisect_left(place, position(row), key=position)]

    def select(self, query: Query, customer_ids: set[str] | None) -> list[Row]:
        """Return the rows of a page, and one more if there are more."""
        rows = self._candidates(query, customer_ids)
        return list(islice(filter(query.test(), rows), query.limit + 1))

    def _candidates(self, query: Query, customer_ids: set[str] | None) -> Iterator[Row]:
        if customer_ids is not None:
            lists = [self.of_customer(customer_id) for customer_id in customer_ids]
        else:
            lists = [self._by_status[status] for status in query.statuses]
            if 2 * sum(map(len, lists)) > len(self._all):
                # Filtering out a few rows is quicker than merging long lists.
                lists = [self._all]
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
