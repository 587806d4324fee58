"""Add up the invoices of a list, each currency separately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cached_property
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.utils.formats import number_format

from django_orb.formatting import money
from django_orb.models import Invoice

from .changelist import QuickChangeList

#: As many invoices are added up while the page is made: a busy month's.
MOST_SUMMED = 20_000
#: The parameter of a list that has all of its invoices added up, however many.
SUMS_VAR = "sums"

Sums = list[tuple[str, int, Decimal, Decimal]]

_SQL = """
    SELECT currency, COUNT(*), SUM(total), SUM(amount_due)
    FROM ({invoices}) listed GROUP BY currency ORDER BY currency
"""


@dataclass(frozen=True)
class CurrencySum:
    """A row of the table, as texts."""

    currency: str
    count: str
    total: str
    amount_due: str


@dataclass(frozen=True)
class ListSums:
    """The rows of the table; none if there are more invoices than are added up."""

    rows: Sequence[CurrencySum]
    is_capped: bool = False

    @property
    def most(self) -> str:
        return number_format(MOST_SUMMED, force_grouping=True)


class SummedChangeList(QuickChangeList):
    """A list of invoices that says what all of them come to, on every page of it."""

    @property
    def adds_up_all(self) -> bool:
        return self.filter_params.get(SUMS_VAR) == ["all"]

    @cached_property
    def sums(self) -> ListSums:
        if self.adds_up_all:
            found = [
                (row["currency"], row["count"], row["total"], row["amount_due"])
                for row in self.queryset.totals_by_currency()
            ]
            return ListSums([_shown(row) for row in found])
        order = getattr(self.paginator, "count_by", ())
        found = add_up(self.queryset, order)
        if sum(count for _, count, _, _ in found) > MOST_SUMMED:
            return ListSums([], is_capped=True)
        return ListSums([_shown(row) for row in found])

    @property
    def add_up_all_url(self) -> str:
        return super().get_query_string({SUMS_VAR: "all"})

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        chosen: dict[str, Any] = super().get_filters_params(params)
        chosen.pop(SUMS_VAR, None)
        return chosen

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """As Django's; the next choice is not made to wait for all sums again."""
        return super().get_query_string({SUMS_VAR: None, **(new_params or {})}, remove)


def add_up(invoices: QuerySet[Invoice, Any], order: Sequence[str]) -> Sums:
    """
    Return currency, count, total and amount due of each currency.

    Of one invoice more than `MOST_SUMMED` at most, in an order that an index has.
    """
    listed = invoices.order_by(*order).values("currency", "total", "amount_due")
    using = invoices.db
    compiler = listed[: MOST_SUMMED + 1].query.get_compiler(using)
    sql, params = compiler.as_sql()
    with connections[using].cursor() as cursor:
        cursor.execute(_SQL.format(invoices=sql), params)
        return [
            (currency, count, _decimal(total), _decimal(amount_due))
            for currency, count, total, amount_due in cursor.fetchall()
        ]


# SQLite adds up floats, whose first 15 digits are right.
_FLOAT = Context(prec=15)


def _decimal(value: Any) -> Decimal:
    return _FLOAT.create_decimal(value) if isinstance(value, float) else Decimal(value)


def _shown(row: tuple[str, int, Decimal, Decimal]) -> CurrencySum:
    currency, count, total, amount_due = row
    return CurrencySum(
        currency,
        number_format(count, force_grouping=True),
        money(total, currency),
        money(amount_due, currency),
    )
