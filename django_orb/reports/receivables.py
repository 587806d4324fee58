"""Add up what was owed on a day. Different currencies are never added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

from django.db.models import Case, CharField, Count, Max, Sum, Value, When

from django_orb.customer_labels import Customer
from django_orb.db import uncompiled
from django_orb.parsing import exact_sum

from .ages import AGES
from .days import AsOf
from .owed import Invoices, owed

ZERO = Decimal(0)
ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class Amount:
    """How many invoices there are, and their sum."""

    count: int = 0
    total: Decimal = ZERO

    def __add__(self, other: Amount) -> Amount:
        total = exact_sum([self.total, other.total])
        return Amount(self.count + other.count, total)


@dataclass(frozen=True)
class Credited:
    """
    How many credit notes there are, and their sum.

    It is None if the total of one is not known, since the sum of the others would look
    complete.
    """

    count: int = 0
    total: Decimal | None = ZERO


@dataclass(frozen=True)
class Ageing:
    """
    The amounts owed in one currency, by all customers or by one.

    `by_age` has the order of `AGES`: not yet due; 1 to 30, 31 to 60, 61 to 90 and over
    90 days late; without a due date.
    """

    currency: str
    by_age: list[Amount]
    customer: Customer | None = None

    @property
    def all(self) -> Amount:
        return sum(self.by_age, Amount())


def read_receivables(invoices: Invoices, at: AsOf) -> list[Ageing]:
    """Return what was owed by age; first the currency with most invoices."""
    rows: Any = _aged(owed(invoices, at), at).order_by()
    sums = rows.values("currency", "age").annotate(count=Count("pk"), sum=Sum("owed"))
    # To PostgreSQL so many conditions look expensive: it would compile them, for longer
    # than they take (https://www.postgresql.org/docs/current/jit-decision.html).
    with uncompiled(invoices):
        sums = sorted(sums, key=_currency_of)
    found = [
        Ageing(currency, _in_order(of_currency))
        for currency, of_currency in groupby(sums, key=_currency_of)
    ]
    return sorted(found, key=lambda one: (-one.all.count, one.currency))


def customers_owing(invoices: Invoices, at: AsOf, currency: str) -> Any:
    """
    Return a query of the customers who owed something in a currency, largest sum first.

    Its rows are dicts of `customer_id`, `external_customer_id`, `count` and `sum`.
    """
    of_currency: Any = owed(invoices, at).filter(currency=currency)
    return (
        of_currency.order_by()
        .values("customer_id")
        .annotate(
            # Not in the grouping, because a customer's invoices may differ in it. The
            # largest, since some may be empty.
            external=Max("external_customer_id"),
            count=Count("pk"),
            sum=Sum("owed"),
        )
        # With the id, or one of two equal sums could be on two pages.
        .order_by("-sum", "customer_id")
    )


def read_customers(
    invoices: Invoices, at: AsOf, currency: str, rows: Iterable[dict[str, Any]]
) -> list[Ageing]:
    """Return what each customer in these rows of `customers_owing` owed, by age."""
    rows = list(rows)
    chosen = invoices.filter(
        currency=currency, customer_id__in=[row["customer_id"] for row in rows]
    )
    with uncompiled(invoices):
        by_customer = {
            one.customer.customer_id: one
            for one in read_by_customer(chosen, at)
            if one.customer
        }
    return [
        by_customer[row["customer_id"]]
        for row in rows
        if row["customer_id"] in by_customer  # it was paid between the two queries
    ]


def read_by_customer(invoices: Invoices, at: AsOf) -> Iterator[Ageing]:
    """Yield what each customer owed, ordered by currency and customer."""
    rows: Any = _aged(owed(invoices, at), at).order_by()
    sums = (
        rows.values("currency", "customer_id", "age")
        .annotate(
            external=Max("external_customer_id"), count=Count("pk"), sum=Sum("owed")
        )
        .order_by("currency", "customer_id")
    )
    # By the order of the statement a customer's rows come one after the other, so only
    # one customer is in memory at a time.
    for (currency, customer_id), found in groupby(
        sums.iterator(chunk_size=ROWS_AT_ONCE),
        key=lambda row: (row["currency"], row["customer_id"]),
    ):
        of_customer = list(found)
        external = max(row["external"] for row in of_customer)
        customer = Customer(customer_id, external)
        yield Ageing(currency, _in_order(of_customer), customer)


def _aged(invoices: Invoices, at: AsOf) -> Invoices:
    """Annotate invoices with the name of their age."""
    cases = [When(one.condition(at.moment), then=Value(one.name)) for one in AGES]
    return invoices.annotate(age=Case(*cases, output_field=CharField()))


def _currency_of(row: dict[str, Any]) -> str:
    return str(row["currency"])


def _in_order(rows: Iterable[dict[str, Any]]) -> list[Amount]:
    by_name = {row["age"]: Amount(row["count"], row["sum"] or ZERO) for row in rows}
    return [by_name.get(one.name, Amount()) for one in AGES]
