"""What tests add to an account: customers and invoices of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from dateutil.tz import gettz

from . import lifecycle
from .account import Account, Payload
from .calendars import DAY
from .catalog import CURRENCY_FACTORS
from .customers import Customer
from .new_line import NewLine
from .operations import Operations
from .problems import unknown
from .rows import STATUSES
from .templates import dumps

_LINE_KEYS = {"name", "amount", "quantity", "start_date", "end_date"}


class Additions:
    def __init__(self, account: Account, operations: Operations) -> None:
        self._account = account
        self._operations = operations

    def add_customer(
        self,
        external_customer_id: str | None = None,
        *,
        name: str = "Customer",
        currency: str = "USD",
        time_zone: str = "UTC",
        tax_percentage: str = "0",
        net_terms: int = 30,
    ) -> str:
        """Returns Orb's id of it."""
        if currency not in CURRENCY_FACTORS:
            known = ", ".join(sorted(CURRENCY_FACTORS))
            raise ValueError(f"The sandbox has no {currency!r}, only {known}.")
        if gettz(time_zone) is None:
            raise ValueError(f"There is no time zone {time_zone!r}.")
        _number(tax_percentage, "tax_percentage")
        account = self._account
        with account.opened():
            if account.customers_with("external_id", external_customer_id or ""):
                raise ValueError(f"There is a customer {external_customer_id!r}.")
            customer_id = account.new_id("customer")
            account.let_in(
                customer_id,
                name=name,
                external_customer_id=external_customer_id,
                currency=currency,
                time_zone=time_zone,
                tax_percentage=tax_percentage,
                net_terms=net_terms,
            )
            return customer_id

    def add_invoice(
        self,
        *,
        status: str = "issued",
        customer_id: str | None = None,
        external_customer_id: str | None = None,
        amount: str = "100.00",
        name: str = "Consulting",
        lines: Sequence[Mapping[str, Any]] | None = None,
        days_ago: float = 0,
        **changes: Any,
    ) -> Payload:
        """A one-off, brought to its status by the usual steps."""
        if lines is None:
            lines = [{"name": name, "amount": amount}]
        if status not in STATUSES:
            raise ValueError(f"{status!r} is not one of {STATUSES}")
        account, operations = self._account, self._operations
        with account.opened():
            customer = self._customer(customer_id, external_customer_id)
            row = operations.blank(customer, account.moment() - int(days_ago * DAY))
            today = account.clock.now().date()
            made = [operations.line(_line(line, today), row) for line in lines]
            payload = account.read(row) | {"line_items": made}
            payload = lifecycle.with_totals(payload)
            row.become(payload, dumps(payload))
            account.add(row)
            self._bring_to(status, row.id)
            if changes:
                return operations.update_anyhow(row.id, changes)
            return account.current(row)

    def invoice(self, invoice_id: str) -> Payload:
        return self._account.payload(invoice_id)

    def add_line(self, invoice_id: str, **line: Any) -> Payload:
        """One more line, whatever the status; the sums follow."""
        account = self._account
        with account.opened():
            row = account.row(invoice_id)
            before = account.current(row)
            made = self._operations.line(_line(line, account.clock.now().date()), row)
            after = lifecycle.with_totals(
                before | {"line_items": [*before["line_items"], made]}
            )
            more = Decimal(after["total"]) - Decimal(before["total"])
            due = Decimal(before["amount_due"]) + more
            account.write(row, after | {"amount_due": f"{due:f}"})
            return made

    def _bring_to(self, status: str, invoice_id: str) -> None:
        if status == "draft":
            return
        operations = self._operations
        issued = operations.issue_anyway(invoice_id)
        if issued["status"] == "paid":
            return
        steps = {
            "paid": operations.mark_paid_today,
            "synced": operations.sync,
            "void": operations.void,
        }
        if status in steps:
            steps[status](invoice_id)

    def _customer(self, customer_id: str | None, external_id: str | None) -> Customer:
        customers = self._account.customers
        if external_id is not None and customer_id is None:
            found = self._account.customers_with("external_id", external_id)
            customer_id = min(found) if found else self.add_customer(external_id)
        if customer_id is None:
            customer_id = next(iter(customers), None) or self.add_customer()
        if customer_id not in customers:
            raise unknown("Customer", customer_id)
        return customers[customer_id]


def _line(line: Mapping[str, Any], today: date) -> NewLine:
    wrong = line.keys() - _LINE_KEYS
    if wrong:
        raise TypeError(f"A line has {sorted(_LINE_KEYS)}, and no {sorted(wrong)}.")
    return NewLine(
        amount=_number(line.get("amount", "100.00"), "amount"),
        quantity=_number(line.get("quantity", 1), "quantity"),
        start_date=line.get("start_date", today),
        end_date=line.get("end_date", today),
        name=line.get("name", "Consulting"),
    )


def _number(value: Any, name: str) -> Decimal:
    if isinstance(value, float):
        raise TypeError(f"{name} is a float; give a Decimal or a string.")
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ValueError(f"{name} is no number: {value!r}") from error
