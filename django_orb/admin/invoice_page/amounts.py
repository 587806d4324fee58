"""Break an invoice's amounts down, from the subtotal to the amount due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext

from django_orb.formatting import (
    as_maps,
    as_text,
    joined,
    money,
    report_day,
    to_decimal,
)
from django_orb.models import Invoice
from django_orb.parsing import exact_sum

from .lines import ZERO, read_discount_label, read_tax_label, sum_of


@dataclass(frozen=True)
class Row:
    """A row of the sums; `weight` is "", "sum" or "due"."""

    label: str
    amount: str
    note: str = ""
    weight: str = ""


def read_sums(invoice: Invoice, payload: Mapping[str, Any]) -> list[Row]:
    """
    Return the rows from the subtotal to the amount due, so that the column adds up.

    What Orb does not itemise, such as a minimum on the whole invoice, is a row too.
    """
    currency = invoice.currency
    lines = as_maps(payload.get("line_items"))
    subtotal = exact(payload, "subtotal", invoice.subtotal)
    total = exact(payload, "total", invoice.total)
    due = exact(payload, "amount_due", invoice.amount_due)
    discounts = read_discounts(payload, currency)
    steps = [
        (gettext("Discounts and adjustments"), read_adjusted(lines), discounts),
        (
            gettext("Prepaid credits"),
            # A minus sign would round to 28 digits, the precision of Python's decimals.
            sum_of(lines, "credits_applied").copy_negate(),
            "",
        ),
        (
            gettext("Invoiced before"),
            sum_of(lines, "partially_invoiced_amount").copy_negate(),
            "",
        ),
        *[(label, value, "") for label, value in read_taxes(lines).items()],
    ]
    steps.append(
        (
            gettext("Other"),
            _difference(total, [subtotal, *(value for _, value, _ in steps)]),
            "",
        )
    )
    settled = [
        (
            gettext("Customer balance applied"),
            balance_applied(payload).copy_negate(),
            "",
        ),
        (gettext("Credit notes"), credited(payload).copy_negate(), ""),
    ]
    return [
        Row(gettext("Subtotal"), money(subtotal, currency)),
        *_rows(steps, currency),
        Row(gettext("Total"), money(total, currency), weight="sum"),
        *_rows(settled, currency),
        Row(
            gettext("Amount due"),
            money(due, currency),
            read_settled(invoice),
            weight="due",
        ),
    ]


def _difference(total: Decimal, parts: list[Decimal]) -> Decimal:
    return exact_sum([total, *(part.copy_negate() for part in parts)])


def read_settled(invoice: Invoice) -> str:
    """Return why the amount due need not be paid any more, or "" if it is owed."""
    if invoice.status == Invoice.Status.PAID:
        return _since(gettext("paid"), gettext("paid %(day)s"), invoice.paid_at)
    if invoice.status == Invoice.Status.VOID:
        return _since(gettext("void"), gettext("void since %(day)s"), invoice.voided_at)
    return ""


def _since(words: str, words_with_day: str, moment: datetime | None) -> str:
    return words_with_day % {"day": report_day(moment)} if moment else words


def exact(payload: Mapping[str, Any], name: str, stored: Decimal) -> Decimal:
    """Write an amount with Orb's own digits, which the column may hold rounded."""
    value = to_decimal(payload.get(name))
    return stored if value is None else value


def _rows(steps: list[tuple[str, Decimal, str]], currency: str) -> list[Row]:
    return [
        Row(label, money(value, currency), note)
        for label, value, note in steps
        if value
    ]


def read_adjusted(lines: list[Mapping[str, Any]]) -> Decimal:
    """Return what adjustments changed on the lines that say so."""
    changes: list[Decimal] = []
    for line in lines:
        before = to_decimal(line.get("subtotal"))
        after = to_decimal(line.get("adjusted_subtotal"))
        # Older payloads, of January 2025 for instance, lack the second.
        if before is not None and after is not None:
            changes.append(_difference(after, [before]))
    return exact_sum(changes)


def read_discounts(payload: Mapping[str, Any], currency: str) -> str:
    """Return the invoice's own discounts, in words."""
    discounts = []
    for one in as_maps(payload.get("discounts")):
        label = read_discount_label(one, as_text(one.get("discount_type")), currency)
        discounts.append(joined(", ", label, as_text(one.get("reason"))))
    return "; ".join(discounts)


def read_taxes(lines: list[Mapping[str, Any]]) -> dict[str, Decimal]:
    """Return the taxes of all lines, added up by rate."""
    taxes: dict[str, Decimal] = {}
    for line in lines:
        for tax in as_maps(line.get("tax_amounts")):
            label = read_tax_label(tax)
            taxes[label] = exact_sum([taxes.get(label, ZERO), sum_of([tax], "amount")])
    return taxes


def balance_applied(payload: Mapping[str, Any]) -> Decimal:
    """Return how much of the customer's balance the invoice used."""
    used: list[Decimal] = []
    for one in as_maps(payload.get("customer_balance_transactions")):
        if one.get("action") == "applied_to_invoice":
            value = to_decimal(one.get("amount")) or ZERO
            # Amounts have no sign: the type says whether the balance grew.
            is_returned = one.get("type") == "increment"
            used.append(value.copy_negate() if is_returned else value)
    return exact_sum(used)


def credited(payload: Mapping[str, Any]) -> Decimal:
    """Return what credit notes took off the amount due; refunds do not."""
    return sum_of(
        [
            note
            for note in as_maps(payload.get("credit_notes"))
            if note.get("type") == "adjustment" and not note.get("voided_at")
        ],
        "total",
    )
