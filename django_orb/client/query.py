"""Write the filters of a list of invoices as Orb's query parameters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TypedDict, cast

from django_orb.exceptions import OrbInputError

_COMPARISONS = ("gt", "gte", "lt", "lte")


class InvoiceFilters(TypedDict, total=False):
    """
    Filters of a list of invoices; None leaves a filter out.

    If no status is given, Orb lists only issued, paid and synced invoices.
    `invoice_date_*` takes a date or an aware datetime, `amount*` a decimal in the
    invoice's currency, `due_date_window` a span such as "7d" or "2m".

    Source: https://docs.withorb.com/api-reference/invoice/list-invoices
    """

    status: Sequence[str] | str | None
    customer_id: str | None
    external_customer_id: str | None
    subscription_id: str | None
    invoice_date_gt: date | datetime | None
    invoice_date_gte: date | datetime | None
    invoice_date_lt: date | datetime | None
    invoice_date_lte: date | datetime | None
    due_date: date | None
    due_date_gt: date | None
    due_date_lt: date | None
    due_date_window: str | None
    date_type: str | None
    amount: Decimal | str | None
    amount_gt: Decimal | str | None
    amount_lt: Decimal | str | None
    is_recurring: bool | None
    include_zero_quantity_line_items: bool | None


def list_query(limit: int, filters: InvoiceFilters) -> list[tuple[str, str]]:
    """
    Return filters as query parameters, in the form that Orb's own SDK sends.

    Raises:
        OrbInputError: a value is ambiguous.
        TypeError: there is no such filter.
    """
    unknown = filters.keys() - InvoiceFilters.__annotations__
    if unknown:
        raise TypeError(f"unknown filters: {', '.join(sorted(unknown))}")
    query = [("limit", str(limit))]
    for name, value in filters.items():
        field, _, comparison = name.rpartition("_")
        key = f"{field}[{comparison}]" if comparison in _COMPARISONS else name
        if value is None:
            continue
        if name == "status" and not isinstance(value, str):
            statuses = [str(status) for status in cast("Sequence[str]", value)]
            # Orb's own SDK drops an empty list, and gets issued, paid and synced
            # invoices for it.
            if not statuses:
                raise OrbInputError("No status is asked for.", field="status")
            # Orb documents only this form of a list; Orb's first SDK left the brackets
            # out.
            query += [("status[]", status) for status in statuses]
        else:
            query.append((key, _query_value(name, value)))
    return query


def _query_value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Orb's own SDK would send it without an offset, and leave it to Orb to guess.
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise OrbInputError(f"{name} needs a time zone.", field=name)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal) and value.is_finite():
        # Not `str`, which writes some amounts as 1E+2.
        return format(value, "f")
    if isinstance(value, str):
        return value
    raise OrbInputError(f"{name} cannot be {value!r}.", field=name)
