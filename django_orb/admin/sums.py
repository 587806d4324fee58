"""Add up the invoices of a list, each currency separately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cached_property
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet
from django.utils.formats import number_format

from django_orb.formatting import money
from django_orb.models import Invoice
from django_orb.models.invoices import CurrencyTotal

from . import paginator
from .changelist import QuickChangeList

#: The parameter of a list that has all of its invoices added up, however many.
SUMS_VAR = "sums"


@dataclass(frozen=True)
class CurrencySum:
    """A row of the table, as texts."""

    currency: str
    count: str
    amount_due: str
    total: str


class SummingPaginator(paginator.CappedPaginator):
    """Counts as its base does, and knows what the counted invoices come to."""

    @cached_property
    def totals(self) -> list[CurrencyTotal]:
        """The totals of the list, or of one row more than are counted."""
        return add_up(self.object_list, self.count_by, paginator.MOST + 1)  # type: ignore[arg-type]

    @cached_property
    def _counted(self) -> int:
        # An index alone counts quickly. Where rows are read for the count, they are
        # added up as well, instead of being read again.
        is_of_invoices = getattr(self.object_list, "model", None) is Invoice
        if self.count_by or not is_of_invoices:
            return super()._counted
        return sum(one["count"] for one in self.totals)


class SummedChangeList(QuickChangeList):
    """
    A list of invoices that says what all of them come to, on every page of it.

    If they are more than are counted, only when asked: to add them up takes longer than
    the list itself.
    """

    @cached_property
    def sums(self) -> Sequence[CurrencySum] | None:
        """A row for each currency; None if the invoices are too many."""
        invoices: Any = self.queryset
        pages: Any = self.paginator
        if SUMS_VAR in self.filter_params:
            totals = invoices.totals_by_currency()
        elif pages.is_capped:
            return None
        else:
            totals = pages.totals
        return [
            CurrencySum(
                one["currency"],
                number_format(one["count"], force_grouping=True),
                money(one["amount_due"], one["currency"]),
                money(one["total"], one["currency"]),
            )
            for one in totals
        ]

    @property
    def add_up_all_url(self) -> str:
        return super().get_query_string({SUMS_VAR: "all"})

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        chosen: dict[str, Any] = super().get_filters_params(params)
        # Django refuses an address with a parameter that is not a filter's.
        chosen.pop(SUMS_VAR, None)
        return chosen

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """As Django's; the next choice is not made to wait for all sums again."""
        return super().get_query_string({SUMS_VAR: None, **(new_params or {})}, remove)


def add_up(
    invoices: QuerySet[Invoice, Any], order: Sequence[str], most: int
) -> list[CurrencyTotal]:
    """As `totals_by_currency`, of the first so many in an order that an index has."""
    # The ORM cannot group the rows of a slice: it would cut off groups instead.
    listed = invoices.order_by(*order).values("currency", "total", "amount_due")[:most]
    using = listed.db
    try:
        sql, params = listed.query.get_compiler(using).as_sql()
    except EmptyResultSet:
        # For a query that nothing can match, Django has no SQL.
        return []
    with connections[using].cursor() as cursor:
        cursor.execute(_ADD_UP.format(invoices=sql), params)
        rows = cursor.fetchall()
    return [
        CurrencyTotal(
            currency=currency,
            count=count,
            total=_decimal(total),
            amount_due=_decimal(amount_due),
        )
        for currency, count, total, amount_due in rows
    ]


_ADD_UP = """
    SELECT currency, COUNT(*), SUM(total), SUM(amount_due)
    FROM ({invoices}) listed GROUP BY currency ORDER BY currency
"""
# SQLite adds up floats, whose first 15 digits are right.
_FLOAT = Context(prec=15)


def _decimal(value: Any) -> Decimal:
    return _FLOAT.create_decimal(value) if isinstance(value, float) else Decimal(value)
