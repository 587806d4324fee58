"""
An invoice as its page shows it: sections of text, read from the payload.

The payload is what Orb sent, so nothing in it is taken for granted: what is
absent or has another form is left out or shown as it came, and never an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_orb.customers import label_of
from django_orb.exact_json import ExactJSONEncoder
from django_orb.formats import (
    as_map,
    as_maps,
    as_text,
    humanized,
    joined,
    local_moment,
    money,
    safe_link,
    to_decimal,
    to_moment,
    utc_day,
    utc_moment,
    utc_short,
)
from django_orb.models import Invoice

from .badges import payment_badge
from .lines import (
    ZERO,
    LineView,
    amount,
    read_discount_label,
    read_lines,
    read_tax_label,
    sum_of,
)

MAX_JSON = 300_000


@dataclass(frozen=True)
class Fact:
    label: str
    value: str
    note: str = ""
    url: str = ""


@dataclass(frozen=True)
class Row:
    """A row of the sums; `weight` is "", "sum" or "due"."""

    label: str
    amount: str
    note: str = ""
    weight: str = ""


@dataclass(frozen=True)
class Payment:
    moment: str
    amount: str
    succeeded: bool
    provider: str
    receipt: str

    @property
    def badge(self) -> SafeString:
        return payment_badge(self.succeeded)


@dataclass(frozen=True)
class Sheet:
    headline: Fact
    billing: list[str]
    shipping: list[str]
    tax_id: str
    dates: list[Fact]
    references: list[Fact]
    lines: list[LineView]
    hidden_lines: str
    sums: list[Row]
    balance: list[Fact]
    payments: list[Payment]
    credit_notes: list[Fact]
    metadata: list[Fact]
    pdf: str
    portal: str
    provenance: str
    raw_json: str
    is_json_cut: bool


def read_sheet(invoice: Invoice) -> Sheet:
    payload = as_map(invoice.payload)
    currency = invoice.currency
    raw_json = pretty(payload)
    return Sheet(
        headline=read_headline(invoice, payload),
        billing=read_address(payload.get("billing_address")),
        shipping=read_address(payload.get("shipping_address")),
        tax_id=read_tax_id(payload.get("customer_tax_id")),
        dates=read_dates(invoice, payload),
        references=read_references(invoice),
        lines=read_lines(payload, currency),
        hidden_lines=as_text(payload.get("hidden_line_item_count") or None),
        sums=read_sums(invoice, payload),
        balance=read_balance(payload, currency),
        payments=read_payments(payload, currency),
        credit_notes=read_credit_notes(payload, currency),
        metadata=read_metadata(payload.get("metadata")),
        pdf=safe_link(invoice.invoice_pdf),
        portal=safe_link(invoice.hosted_invoice_url),
        provenance=read_provenance(invoice),
        raw_json=raw_json[:MAX_JSON],
        is_json_cut=len(raw_json) > MAX_JSON,
    )


def pretty(payload: Any) -> str:
    """JSON to read, with Orb's own digits."""
    try:
        return json.dumps(payload, cls=ExactJSONEncoder, indent=2, ensure_ascii=False)
    except ValueError:  # what no database would have stored, such as a NUL
        return json.dumps(payload, default=str, indent=2)


def read_address(address: Any) -> list[str]:
    parts = as_map(address)
    line = {name: as_text(parts.get(name)) for name in parts}
    town = joined(
        " ", line.get("city", ""), line.get("state", ""), line.get("postal_code", "")
    )
    rows = [line.get("line1"), line.get("line2"), town, line.get("country")]
    return [row for row in rows if row]


def read_tax_id(tax_id: Any) -> str:
    parts = as_map(tax_id)
    kind = as_text(parts.get("type")).replace("_", " ").upper()
    return joined(" ", kind, as_text(parts.get("value")))


def read_dates(invoice: Invoice, payload: Mapping[str, Any]) -> list[Fact]:
    collection = as_map(payload.get("auto_collection"))
    dates = [
        (gettext("Invoice date"), invoice.invoice_date),
        (gettext("Due"), invoice.due_date),
    ]
    moments = [
        (gettext("Created"), invoice.created_at),
        (gettext("To be issued"), invoice.scheduled_issue_at),
        (gettext("Can be issued from"), invoice.eligible_to_issue_at),
        (gettext("Issued"), invoice.issued_at),
        (gettext("Issuing failed"), invoice.issue_failed_at),
        (gettext("Payment started"), invoice.payment_started_at),
        (gettext("Payment failed"), invoice.payment_failed_at),
        (gettext("Next payment attempt"), to_moment(collection.get("next_attempt_at"))),
        (gettext("Payment received"), invoice.payment_received_at),
        (gettext("Paid"), invoice.paid_at),
        (gettext("Sync to provider failed"), invoice.sync_failed_at),
        (gettext("Voided"), invoice.voided_at),
    ]
    return [
        Fact(label, utc_short(value).removesuffix(" UTC"), utc_moment(value))
        for label, value in dates
        if value is not None
    ] + [
        Fact(label, utc_day(value), utc_moment(value))
        for label, value in moments
        if value is not None
    ]


def read_references(invoice: Invoice) -> list[Fact]:
    name, url = label_of(invoice)
    is_named = name not in (invoice.external_customer_id, invoice.customer_id)
    named = [Fact(gettext("Customer"), name, url=url)] if is_named or url else []
    rows = [
        (
            gettext("Customer's id") if named else gettext("Customer"),
            invoice.external_customer_id,
        ),
        (gettext("Customer in Orb"), invoice.customer_id),
        (gettext("Subscription"), invoice.subscription_id),
        (gettext("Source"), invoice.get_invoice_source_display()),
    ]
    return [*named, *(Fact(label, value) for label, value in rows if value)]


def read_provenance(invoice: Invoice) -> str:
    """Where it comes from, and how old it is."""
    seen, written = (
        local_moment(invoice.last_seen_at),
        local_moment(invoice.mirrored_at),
    )
    return joined(
        " · ",
        (gettext("Invoice %(pk)s in Orb") % {"pk": invoice.pk}),
        (gettext("last seen there %(seen)s") % {"seen": seen}) if seen else "",
        (gettext("last changed here %(written)s") % {"written": written}),
    )


def read_sums(invoice: Invoice, payload: Mapping[str, Any]) -> list[Row]:
    """
    From the subtotal to the amount due, so that the column adds up.

    What Orb does not itemise, such as a minimum on the whole invoice, is a row too.
    """
    currency = invoice.currency
    lines = as_maps(payload.get("line_items"))
    subtotal = _exact(payload, "subtotal", invoice.subtotal)
    total = _exact(payload, "total", invoice.total)
    due = _exact(payload, "amount_due", invoice.amount_due)
    discounts = read_discounts(payload, currency)
    steps = [
        (gettext("Discounts and adjustments"), read_adjusted(lines), discounts),
        (gettext("Prepaid credits"), -sum_of(lines, "credits_applied"), ""),
        (gettext("Invoiced before"), -sum_of(lines, "partially_invoiced_amount"), ""),
        *[(label, value, "") for label, value in read_taxes(lines).items()],
    ]
    steps.append(
        (
            gettext("Other"),
            total - subtotal - sum((value for _, value, _ in steps), ZERO),
            "",
        )
    )
    settled = [
        (gettext("Customer balance applied"), -balance_applied(payload), ""),
        (gettext("Credit notes"), -credited(payload), ""),
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


def read_settled(invoice: Invoice) -> str:
    """Why nobody has to pay the amount due any more; "" while somebody has."""
    if invoice.status == Invoice.Status.PAID:
        return joined(" ", "paid", utc_day(invoice.paid_at))
    if invoice.status == Invoice.Status.VOID:
        return joined(" ", gettext("void since"), utc_day(invoice.voided_at))
    return ""


def read_headline(invoice: Invoice, payload: Mapping[str, Any]) -> Fact:
    """The one amount to see at first: what is to pay, or else what it was about."""
    note = read_settled(invoice)
    if note:
        total = _exact(payload, "total", invoice.total)
        return Fact(gettext("Total"), money(total, invoice.currency), note)
    due = _exact(payload, "amount_due", invoice.amount_due)
    return Fact(gettext("Amount due"), money(due, invoice.currency))


def _exact(payload: Mapping[str, Any], name: str, stored: Decimal) -> Decimal:
    """Orb's own digits; the column may hold them rounded."""
    value = to_decimal(payload.get(name))
    return stored if value is None else value


def _rows(steps: list[tuple[str, Decimal, str]], currency: str) -> list[Row]:
    return [
        Row(label, money(value, currency), note)
        for label, value, note in steps
        if value
    ]


def read_adjusted(lines: list[Mapping[str, Any]]) -> Decimal:
    """What adjustments changed on the lines that say so."""
    change = ZERO
    for line in lines:
        before = to_decimal(line.get("subtotal"))
        after = to_decimal(line.get("adjusted_subtotal"))
        if before is not None and after is not None:
            change += after - before
    return change


def read_discounts(payload: Mapping[str, Any], currency: str) -> str:
    """The invoice's own discounts, in words."""
    discounts = []
    for one in as_maps(payload.get("discounts")):
        label = read_discount_label(one, as_text(one.get("discount_type")), currency)
        discounts.append(joined(", ", label, as_text(one.get("reason"))))
    return "; ".join(discounts)


def read_taxes(lines: list[Mapping[str, Any]]) -> dict[str, Decimal]:
    """All lines' taxes, added up by rate."""
    taxes: dict[str, Decimal] = {}
    for line in lines:
        for tax in as_maps(line.get("tax_amounts")):
            label = read_tax_label(tax)
            taxes[label] = taxes.get(label, ZERO) + sum_of([tax], "amount")
    return taxes


def balance_applied(payload: Mapping[str, Any]) -> Decimal:
    """How much of the customer's balance the invoice used."""
    used = ZERO
    for one in as_maps(payload.get("customer_balance_transactions")):
        if one.get("action") == "applied_to_invoice":
            value = to_decimal(one.get("amount")) or ZERO
            used += -value if one.get("type") == "increment" else value
    return used


def credited(payload: Mapping[str, Any]) -> Decimal:
    """What credit notes took off the amount due; refunds do not."""
    return sum_of(
        [
            note
            for note in as_maps(payload.get("credit_notes"))
            if note.get("type") == "adjustment" and not note.get("voided_at")
        ],
        "total",
    )


def read_balance(payload: Mapping[str, Any], currency: str) -> list[Fact]:
    facts = []
    for one in as_maps(payload.get("customer_balance_transactions")):
        sign = "+" if one.get("type") == "increment" else "-"
        note = joined(
            " · ",
            utc_moment(to_moment(one.get("created_at"))),
            (
                gettext("balance then %(amount)s")
                % {"amount": amount(one.get("ending_balance"), currency)}
            ),
            as_text(one.get("description")),
        )
        label = humanized(one.get("action")) or gettext("Change")
        facts.append(Fact(label, sign + amount(one.get("amount"), currency), note))
    return facts


def read_payments(payload: Mapping[str, Any], currency: str) -> list[Payment]:
    return [
        Payment(
            moment=utc_moment(to_moment(one.get("created_at"))),
            amount=amount(one.get("amount"), currency),
            succeeded=one.get("succeeded") is True,
            provider=joined(
                " ",
                humanized(one.get("payment_provider")),
                as_text(one.get("payment_provider_id")),
            ),
            receipt=safe_link(one.get("receipt_pdf")),
        )
        for one in as_maps(payload.get("payment_attempts"))
    ]


def read_credit_notes(payload: Mapping[str, Any], currency: str) -> list[Fact]:
    facts = []
    for one in as_maps(payload.get("credit_notes")):
        label = as_text(one.get("credit_note_number")) or as_text(one.get("id"))
        note = joined(
            " · ",
            humanized(one.get("type")),
            as_text(one.get("reason")),
            as_text(one.get("memo")),
            "voided" if one.get("voided_at") else "",
        )
        facts.append(Fact(label, amount(one.get("total"), currency), note))
    return facts


def read_metadata(metadata: Any) -> list[Fact]:
    return [
        Fact(as_text(key), as_text(value)) for key, value in as_map(metadata).items()
    ]
