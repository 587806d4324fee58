"""Count the pages of lists that may be very long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.utils.formats import number_format

MOST = 5_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """
    Count at most `MOST` rows.

    To count all rows of a large table takes longer than anything else on its page, and
    users do not turn a hundred pages.
    """

    #: The order to count in, which some index has after the filter's column; empty if
    #: there is no such index.
    count_by: Sequence[str] = ()

    @cached_property
    def count(self) -> int:
        return min(self._counted, MOST)

    @property
    def is_capped(self) -> bool:
        return self._counted > MOST

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        # A slice is counted in a subquery with a LIMIT, at which the database stops
        # reading.
        return int(rows.order_by(*self.count_by)[: MOST + 1].count())

    @property
    def count_text(self) -> str:
        return number_format(self.count, force_grouping=True)
