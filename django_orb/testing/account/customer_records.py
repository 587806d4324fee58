"""Customers and their balances, as the API shows them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from .account import Account, Payload
from .bodies import reading
from .calendars import month_start, parsed, shown
from .customers import Customer
from .links import portal_session
from .money import money
from .payments import balance_entry
from .problems import unknown
from .query import Args, Reader, encode_cursor, within
from .templates import dumps

# The SDK's `customers.create_portal_session`: 60 minutes by default, 180 at most.
DEFAULT_MINUTES, MAX_MINUTES = 60, 180


class CustomerRecords:
    def __init__(self, account: Account) -> None:
        self._account = account

    def fetch(self, customer_id: str) -> Payload:
        with self._account.opened():
            return self._payload(self._customer(customer_id))

    def fetch_by_external_id(self, external_id: str) -> Payload:
        return self.fetch(self.id_of(external_id))

    def id_of(self, external_id: str) -> str:
        """Return Orb's id of a customer."""
        with self._account.opened():
            found = self._account.customers_with("external_id", external_id)
            if not found:
                raise unknown("Customer", external_id)
            return str(found.pop())

    def open_portal(self, customer_id: str, fields: Payload) -> Payload:
        """
        Open a session in the customer's portal, whose pages the sandbox does not have.
        """
        with reading(fields) as body:
            minutes = body.optional_count("expires_in_minutes")
            if minutes is not None and not 1 <= minutes <= MAX_MINUTES:
                body.wrong("expires_in_minutes", f"1 to {MAX_MINUTES} are allowed")
            body.flag("invalidate_existing", default=True)
        account = self._account
        with account.opened():
            customer = self._customer(customer_id)
            session_id, now = account.new_id("portal session"), account.moment()
            ends = now + 60 * (DEFAULT_MINUTES if minutes is None else minutes)
            return {
                "id": session_id,
                "customer_id": customer.id,
                "created_at": shown(now),
                "expires_at": shown(ends),
                "url": portal_session(session_id),
            }

    def page(self, args: Args) -> tuple[list[bytes], str | None]:
        """Return a page of customers, newest first, as in all of Orb's lists."""
        with self._account.opened():
            records = [self._payload(c) for c in self._account.customers.values()]
        return _page(args, records, "created_at")

    def transactions(
        self, customer_id: str, args: Args
    ) -> tuple[list[bytes], str | None]:
        """
        Return a page of the changes of a customer's balance, newest first.

        Own choice: a balance from before the sandbox's start appears only if an
        invoice of that time used it.
        """
        account = self._account
        with account.opened():
            self._customer(customer_id)
            rows = account.index.of_customer(customer_id)
            entries = [*account.adjustments.get(customer_id, [])]
            for row in rows:
                entries += account.read(row)["customer_balance_transactions"]
        return _page(args, entries, "operation_time")

    def adjust(self, customer_id: str, fields: Payload) -> Payload:
        with reading(fields) as body:
            amount = body.amount("amount")
            kind = body.text("type")
            if kind not in {"increment", "decrement", ""}:
                body.wrong("type", "neither increment nor decrement")
            description = body.optional_text("description")
        with self._account.opened():
            customer = self._customer(customer_id)
            change = amount if kind == "increment" else -amount
            return self._adjusted(customer, change, description)

    def set_balance(self, customer_id: str, amount: Decimal) -> None:
        with self._account.opened():
            customer = self._customer(customer_id)
            change = amount - self._account.balance_of(customer.id)
            self._adjusted(customer, change, None)

    def _adjusted(
        self, customer: Customer, change: Decimal, description: str | None
    ) -> Payload:
        account = self._account
        entry = balance_entry(
            account.new_id("adjustment"),
            "manual_adjustment",
            change,
            account.balance_of(customer.id),
            account.moment(),
            customer.currency,
        ) | {"description": description, "invoice": None}
        account.balances[customer.id] = account.balance_of(customer.id) + change
        account.adjustments.setdefault(customer.id, []).append(entry)
        return entry

    def _customer(self, customer_id: str) -> Customer:
        customer = self._account.customers.get(customer_id)
        if customer is None:
            raise unknown("Customer", customer_id)
        return customer

    def _payload(self, customer: Customer) -> Payload:
        zone = customer.region.time_zone
        began = self._account.month + customer.first_month - 1
        domain = "".join(
            c for c in customer.name.lower() if c.isascii() and c.isalnum()
        )
        provider = _PROVIDERS[customer.collection]
        return {
            "id": customer.id,
            "external_customer_id": customer.external_id,
            "name": customer.name,
            "email": f"billing@{domain or 'customer'}.example",
            "additional_emails": [],
            "email_delivery": True,
            "created_at": shown(month_start(began, customer.billing_day, zone)),
            "currency": customer.currency,
            "balance": money(self._account.balance_of(customer.id), customer.currency),
            "timezone": zone,
            "auto_collection": customer.collection == "auto",
            "auto_issuance": None,
            "billing_address": json.loads(customer.address),
            "shipping_address": None,
            "tax_id": json.loads(customer.tax_id),
            "metadata": json.loads(customer.metadata),
            "hierarchy": {"parent": None, "children": []},
            "payment_provider": provider,
            "payment_provider_id": f"cus_{customer.id}" if provider else None,
            "portal_url": f"https://portal.withorb.com/view?token={customer.id}",
            "exempt_from_automated_tax": False,
            "automatic_tax_enabled": None,
            "accounting_sync_configuration": None,
            "default_payment_method": None,
            "payment_configuration": None,
            "reporting_configuration": None,
        }


_PROVIDERS = {"auto": "stripe_charge", "manual": None, "sync": "bill.com"}


def _page(
    args: Args, records: list[Payload], time_name: str
) -> tuple[list[bytes], str | None]:
    """Return one page of records that have an id and a time, newest first."""
    reader = Reader(args)
    limit, after = reader.limit(), reader.cursor()
    bounds = reader.moments(time_name)
    reader.finish()
    records = [r for r in records if within(_time(r), bounds)]
    records.sort(key=_position)
    rest = [r for r in records if after is None or _position(r) > after]
    page, more = rest[:limit], len(rest) > limit
    return [dumps(r) for r in page], encode_cursor(
        _position(page[-1])
    ) if more else None


def _time(record: dict[str, Any]) -> int:
    return parsed(record["created_at"]) or 0


def _position(record: dict[str, Any]) -> tuple[int, str]:
    return -_time(record), record["id"]
