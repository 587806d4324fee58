"""Render a row of the account as the invoice that Orb would show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from .bills import MAX_LINES, Bill, BillKey, PriceBook
from .calendars import DAY, month_start, shown_bytes, stamp
from .catalog import CURRENCY_FACTORS
from .customers import Customer
from .ids import digest, letters
from .links import links, signed_links, with_signed_links
from .payments import payment_values
from .rows import STATUSES, Row
from .templates import Template, dumps, quoted, slot

LinksOf = Callable[[str], tuple[str, str]]

# Bodies are kept up to this size in all; the rest is rendered again on each read.
KEPT_BYTES = 128_000_000

_NULL = b"null"
_ORDER = """
    id invoice_number invoice_source status currency subtotal total amount_due
    invoice_date due_date created_at issued_at paid_at voided_at
    scheduled_issue_at eligible_to_issue_at will_auto_issue
    issue_failed_at sync_failed_at
    payment_started_at payment_failed_at payment_received_at auto_collection
    customer subscription billing_address shipping_address customer_tax_id
    discount discounts minimum minimum_amount maximum maximum_amount
    customer_balance_transactions credit_notes payment_attempts line_items
    hidden_line_item_count memo metadata hosted_invoice_url invoice_pdf
"""
_CONSTANTS = dict.fromkeys(
    [
        "issue_failed_at",
        "sync_failed_at",
        "shipping_address",
        "minimum",
        "minimum_amount",
        "maximum",
        "maximum_amount",
    ]
) | {"hidden_line_item_count": 0}
_INVOICE = Template({name: _CONSTANTS.get(name, slot(name)) for name in _ORDER.split()})

_WORDS = {
    word: quoted(word)
    for word in (*STATUSES, "subscription", "partial", "one_off", *CURRENCY_FACTORS)
}

# A digest has 88 letters: each line takes twelve for its id.
_LINE_IDS = Struct("12s" * MAX_LINES + "4x")


class Renderer:
    def __init__(self, seed: int, levels: int, first_month: int, prefix: str) -> None:
        self.signs_links = False
        self._book = PriceBook(seed)
        self._levels = levels
        self._first_month = first_month
        self._prefix = prefix.encode()
        self._key = digest(seed, "render")[:32]
        self._bills: dict[BillKey, Bill] = {}
        self._room = KEPT_BYTES

    def bill(self, key: BillKey) -> Bill:
        bill = self._bills.get(key)
        if bill is None:
            bill = self._bills[key] = Bill(self._book, key, self._levels)
        return bill

    def invoice(self, row: Row) -> bytes:
        """Return the invoice as a reader sees it; `signs_links` signs its links."""
        if not self.signs_links:
            return self.state(row)
        if row.changed and row.body is not None:
            return dumps(with_signed_links(json.loads(row.body)))
        return self._derived(row, signed_links)

    def state(self, row: Row) -> bytes:
        """Return the invoice without signatures, and keep it if there is room."""
        if row.body is not None:
            return row.body
        body = self._derived(row, links)
        if len(body) <= self._room:
            self._room -= len(body)
            row.body = body
        return body

    def keep(self, row: Row) -> bool:
        """Serialise the invoice ahead of time. Return whether there was room for it."""
        self.state(row)
        return row.body is not None

    def _derived(self, row: Row, links_of: LinksOf) -> bytes:
        bill = self.bill(row.bill)
        chance = hashlib.blake2b(row.id.encode(), key=self._key).digest()
        values = payment_values(row, bill, chance)
        self._add_identity(values, row, links_of)
        _add_times(values, row)
        _add_customer(values, row)
        values["subtotal"] = bill.subtotal_json
        values["total"] = bill.total_json
        values["discount"] = bill.discount
        values["discounts"] = bill.discounts
        line_ids = _LINE_IDS.unpack(letters(chance))
        values["line_items"] = bill.lines.render(self._periods(row) + line_ids)
        return _INVOICE.render(values)

    def _add_identity(
        self, values: dict[str, bytes], row: Row, links_of: LinksOf
    ) -> None:
        values["id"] = quoted(row.id)
        values["invoice_number"] = b'"%b-%05d"' % (self._prefix, row.number)
        values["invoice_source"] = _WORDS[row.source]
        values["status"] = _WORDS[row.status]
        # The documents' sample of a draft has no links; all drafts may not be like it.
        values["hosted_invoice_url"] = values["invoice_pdf"] = _NULL
        if row.status != "draft":
            portal, pdf = links_of(row.id)
            values["hosted_invoice_url"] = quoted(portal)
            values["invoice_pdf"] = quoted(pdf)

    def _periods(self, row: Row) -> tuple[bytes, ...]:
        """Return the first part of `LAYOUT`: the customer, and the periods."""
        customer = row.customer
        month = self._first_month + row.period
        if row.source == "one_off":
            times = _one_off_period(row.date)
        elif row.source == "partial":
            times = _partial_period(customer, month, row.date)
        else:
            day, zone = customer.billing_day, customer.region.time_zone
            times = _regular_period(month, day, zone)
        return (customer.id.encode(), *times)


def _one_off_period(date: int) -> tuple[bytes, ...]:
    start, end = shown_bytes(date), shown_bytes(date + 30 * DAY)
    return start, end, start, end


def _partial_period(customer: Customer, month: int, date: int) -> tuple[bytes, ...]:
    day, zone = customer.billing_day, customer.region.time_zone
    start, end = (shown_bytes(month_start(m, day, zone)) for m in (month - 1, month))
    middle = shown_bytes(date)
    return start, middle, middle, end


@lru_cache(maxsize=20_000)
def _regular_period(month: int, day: int, zone: str) -> tuple[bytes, ...]:
    """Return the month before the invoice's date for usage, the one after for fees."""
    months = (month - 1, month, month + 1)
    before, start, end = (shown_bytes(month_start(m, day, zone)) for m in months)
    return before, start, start, end


def _add_times(values: dict[str, bytes], row: Row) -> None:
    status = row.status
    values["invoice_date"] = stamp(row.date)
    values["created_at"] = stamp(row.created)
    values["issued_at"] = stamp(row.issued)
    values["paid_at"] = stamp(row.settled) if status == "paid" else _NULL
    values["voided_at"] = stamp(row.settled) if status == "void" else _NULL
    draft = status == "draft"
    values["due_date"] = _NULL if draft else stamp(row.due)
    values["scheduled_issue_at"] = stamp(row.scheduled)
    values["eligible_to_issue_at"] = (
        stamp(row.scheduled or row.date) if draft else _NULL
    )
    values["will_auto_issue"] = b"true" if row.scheduled else b"false"


def _add_customer(values: dict[str, bytes], row: Row) -> None:
    customer = row.customer
    values["currency"] = _WORDS[customer.region.currency]
    values["customer"] = customer.minified
    values["subscription"] = _NULL if row.source == "one_off" else customer.subscription
    values["billing_address"] = customer.address
    values["customer_tax_id"] = customer.tax_id
    values["metadata"] = customer.metadata
    values["memo"] = _memo(customer)


def _memo(customer: Customer) -> bytes:
    terms = customer.net_terms
    if not terms:
        return _NULL
    if customer.region.code == "de":
        return (
            f'"Zahlbar innerhalb von {terms} Tagen ohne Abzug. Vielen Dank!"'.encode()
        )
    return b'"Net %d. Please quote the invoice number with your transfer."' % terms
