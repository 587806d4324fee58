"""An Orb without a server: a made-up account, and what Orb itself does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from dateutil.tz import gettz

from . import lifecycle
from .account import Account
from .calendars import DAY
from .catalog import CURRENCY_FACTORS
from .clock import Clock
from .customer_records import CustomerRecords
from .customers import Customer
from .new_line import NewLine
from .operations import Operations
from .problems import unknown
from .rows import STATUSES
from .templates import dumps

_LINE_KEYS = {"name", "amount", "quantity", "start_date", "end_date"}


class MadeUpOrb:
    """
    Read a made-up account, add to it, and do what Orb itself does.

    Every method may be called while the sandbox serves requests.
    """

    def __init__(self, account: Account) -> None:
        self._set_up(account)

    def _set_up(self, account: Account) -> None:
        self._account = account
        self._operations = Operations(account)
        self._customers = CustomerRecords(account)

    # Reading the account

    @property
    def clock(self) -> Clock:
        return self._account.clock

    def status_counts(self) -> dict[str, int]:
        """Return the number of invoices of each status."""
        return self._account.status_counts()

    def invoice(self, invoice_id: str) -> dict[str, Any]:
        """Return the invoice as the API shows it, without lag. KeyError if unknown."""
        return self._account.payload(self._known(invoice_id))

    def invoice_ids(self, status: str | None = None) -> list[str]:
        """Return ids, newest invoice date first within each status."""
        if status is not None and status not in STATUSES:
            raise ValueError(f"{status!r} is not one of {STATUSES}")
        return self._account.ids(status)

    def subscription_ids(self, *, with_upcoming: bool = False) -> list[str]:
        """Return ids of subscriptions; `with_upcoming` leaves out those that ended."""
        return self._account.subscription_ids(with_upcoming=with_upcoming)

    def customer(self, customer_id: str) -> dict[str, Any]:
        """Return the customer as the API shows it, with the name that invoices lack."""
        return self._customers.fetch(customer_id)

    def customer_ids(self) -> list[str]:
        return list(self._account.customers)

    def _known(self, invoice_id: str) -> str:
        if not self._account.has(invoice_id):
            raise KeyError(invoice_id)
        return invoice_id

    # What Orb itself does

    def issue(self, invoice_id: str) -> dict[str, Any]:
        """Issue a draft now, as Orb does automatically when its time comes."""
        return self._operations.issue_anyway(invoice_id)

    def mark_paid(self, invoice_id: str) -> dict[str, Any]:
        return self._operations.mark_paid_today(invoice_id)

    def undo_mark_paid(self, invoice_id: str) -> dict[str, Any]:
        """Make a paid invoice issued again; Orb has an event for it but no API call."""
        return self._operations.undo_mark_paid(invoice_id)

    def attempt_payment(self, invoice_id: str, *, succeeds: bool) -> dict[str, Any]:
        """Charge the customer's payment method, as Orb's automatic collection does."""
        return self._operations.attempt_payment(invoice_id, succeeds=succeeds)

    def sync(self, invoice_id: str) -> dict[str, Any]:
        """Hand an issued invoice over to an external provider."""
        return self._operations.sync(invoice_id)

    def fail_issue(
        self, invoice_id: str, *, reason: str = "The customer has no address for tax."
    ) -> dict[str, Any]:
        """Fail to issue a draft; only the event tells the reason."""
        return self._operations.fail_issue(invoice_id, reason)

    def fail_sync(self, invoice_id: str) -> dict[str, Any]:
        """Fail to hand an issued invoice over; the event names the provider only."""
        return self._operations.fail_sync(invoice_id)

    def sync_accounting(
        self,
        invoice_id: str,
        *,
        succeeds: bool,
        connection_type: str = "quickbooks",
        failure_reason: str = "The customer does not exist in QuickBooks.",
    ) -> dict[str, Any]:
        """Sync an invoice that is not a draft to accounting. Only events tell of it."""
        reason = "" if succeeds else failure_reason
        return self._operations.sync_accounting(invoice_id, connection_type, reason)

    def void(self, invoice_id: str) -> dict[str, Any]:
        return self._operations.void(invoice_id)

    def delete_draft(self, invoice_id: str) -> None:
        """Delete a draft, as Orb does if its subscription changes; it is a 404 then."""
        self._operations.delete_draft(invoice_id)

    def delete_invoice(self, invoice_id: str) -> None:
        """Delete an invoice of any status, which Orb itself does not do."""
        self._operations.delete(invoice_id)

    def update_invoice(self, invoice_id: str, **changes: Any) -> dict[str, Any]:
        """Set fields of the payload to any values, even against Orb's rules."""
        return self._operations.update_anyhow(invoice_id, changes)

    def add_customer(
        self,
        external_customer_id: str | None = None,
        *,
        name: str = "Customer",
        currency: str = "USD",
        time_zone: str = "UTC",
        tax_percentage: str = "0",
        net_terms: int = 30,
    ) -> dict[str, Any]:
        """Add a customer without address or card, and return it as the API shows it."""
        if currency not in CURRENCY_FACTORS:
            known = ", ".join(sorted(CURRENCY_FACTORS))
            raise ValueError(f"The sandbox has no {currency!r}, only {known}.")
        if gettz(time_zone) is None:
            raise ValueError(f"There is no time zone {time_zone!r}.")
        _number(tax_percentage, "tax_percentage")
        account = self._account
        with account.opened():
            if account.customers_with("external_id", external_customer_id or ""):
                raise ValueError(
                    f"There is a customer {external_customer_id!r} already."
                )
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
        return self.customer(customer_id)

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
    ) -> dict[str, Any]:
        """
        Add a one-off invoice, dated `days_ago` (negative: ahead), and return it.

        It is for the customer with that id, or with that `external_customer_id`, who
        is added if new. `lines` have a name and an amount (the line's total), and may
        have a quantity, start_date and end_date; without `lines` there is one line, of
        `name` and `amount`. `changes` are set on the payload last, as by
        `update_invoice`; an `id` among them is the invoice's from the start.
        """
        if lines is None:
            lines = [{"name": name, "amount": amount}]
        if status not in STATUSES:
            raise ValueError(f"{status!r} is not one of {STATUSES}")
        account, operations = self._account, self._operations
        with account.opened():
            customer = self._customer(customer_id, external_customer_id)
            row = operations.blank(customer, account.moment() - int(days_ago * DAY))
            row.id = changes.pop("id", row.id)
            if account.has(row.id):
                raise ValueError(f"There is an invoice {row.id!r} already.")
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

    def add_line(self, invoice_id: str, **line: Any) -> dict[str, Any]:
        """Add a line in any status, update the invoice's sums, and return the line."""
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

    def set_balance(self, customer_id: str, amount: str) -> None:
        """Set the customer's credit (negative: debt), which the next issue uses."""
        self._customers.set_balance(customer_id, Decimal(amount))

    def advance(self, step: timedelta) -> None:
        """Move the clock forward; drafts whose time comes meanwhile are issued."""
        self.clock.advance(step)

    def webhook_events(self) -> list[dict[str, Any]]:
        """Return the bodies of the webhooks that Orb would have sent, oldest first."""
        with self._account.opened():
            return [e.payload() for e in self._account.events.oldest_first()]

    def webhook_payload(
        self,
        type: str,
        invoice_id: str,
        payload_style: str = "expanded",
        **properties: Any,
    ) -> dict[str, Any]:
        """Return a webhook's body about an invoice, even if Orb would not send it."""
        body = dumps(self.invoice(invoice_id))
        events, moment = self._account.events, self._account.moment()
        with self._account.opened():
            event = events.made_up(type, body, moment, properties)
        return event.payload(payload_style)

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
            customer_id = min(found) if found else self.add_customer(external_id)["id"]
        if customer_id is None:
            customer_id = next(iter(customers), None) or self.add_customer()["id"]
        if customer_id not in customers:
            raise unknown("Customer", customer_id)
        return customers[customer_id]


def _line(line: Mapping[str, Any], today: date) -> NewLine:
    wrong = line.keys() - _LINE_KEYS
    if wrong:
        raise TypeError(f"A line has {sorted(_LINE_KEYS)}, not {sorted(wrong)}.")
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
        raise ValueError(f"{name} is not a number: {value!r}") from error
