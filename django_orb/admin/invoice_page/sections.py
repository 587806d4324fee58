"""
Show an invoice as sections of text, which are read from its payload.

The payload is what Orb sent, so nothing in it is taken for granted. What is absent or
has another form is left out or shown as it came, and is never an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext

from django_orb.admin.badges import payment_badge
from django_orb.customer_labels import label_of
from django_orb.exact_json import ExactJSONEncoder
from django_orb.formatting import (
    as_map,
    as_maps,
    as_text,
    humanized,
    joined,
    local_moment,
    money,
    report_day,
    report_short,
    report_zone,
    safe_link,
    to_moment,
    utc_moment,
)
from django_orb.models import Invoice

from .amounts import Row, exact, read_settled, read_sums
from .lines import LineView, amount, read_lines

MAX_JSON = 300_000


@dataclass(frozen=True)
class Fact:
    label: str
    value: str
    note: str = ""
    url: str = ""


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
class InvoiceView:
    headline: Fact
    billing: list[str]
    shipping: list[str]
    tax_id: str
    dates: list[Fact]
    zone: str
    """The time zone of all days on the page."""

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
    missing_since: str


def read_invoice_view(invoice: Invoice, customer_url: str = "") -> InvoiceView:
    """Read the sections; `customer_url` leads to the page of its customer."""
    payload = as_map(invoice.payload)
    currency = invoice.currency
    raw_json = pretty(payload)
    return InvoiceView(
        headline=read_headline(invoice, payload),
        billing=read_address(payload.get("billing_address")),
        shipping=read_address(payload.get("shipping_address")),
        tax_id=read_tax_id(payload.get("customer_tax_id")),
        dates=read_dates(invoice, payload),
        zone=report_zone().key,
        references=read_references(invoice, customer_url),
        lines=read_lines(payload, currency),
        # Lines without a quantity, which Orb may leave out of its answer.
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
        missing_since=local_moment(invoice.missing_since),
    )


def pretty(payload: Any) -> str:
    """Write JSON for people to read, with Orb's own digits."""
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
    # There is no column for the next attempt to collect a payment.
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
        Fact(label, report_short(value), utc_moment(value))
        for label, value in dates
        if value is not None
    ] + [
        Fact(label, report_day(value), utc_moment(value))
        for label, value in moments
        if value is not None
    ]


def read_failures(invoice: Invoice) -> list[Fact]:
    """Return why it fails now, as far as events have said; one query."""
    facts = []
    for failure in invoice.failure_reasons.current():
        label = joined(
            " · ", str(failure.get_kind_display()), humanized(failure.connection_type)
        )
        note = joined(" · ", failure.provider, utc_moment(failure.failed_at))
        reason = failure.reason or gettext("Orb gave no reason.")
        facts.append(Fact(label, reason, note))
    return facts


def read_references(invoice: Invoice, customer_url: str) -> list[Fact]:
    name, _ = label_of(invoice)
    rows = [
        (
            gettext("Customer's id"),
            ""
            if name == invoice.external_customer_id
            else invoice.external_customer_id,
        ),
        (gettext("Customer in Orb"), invoice.customer_id),
        (gettext("Subscription"), invoice.subscription_id),
        (gettext("Source"), invoice.get_invoice_source_display()),
    ]
    customer = Fact(gettext("Customer"), name, url=customer_url)
    return [customer, *(Fact(label, value) for label, value in rows if value)]


def read_provenance(invoice: Invoice) -> str:
    """Return where the data comes from, and how old it is."""
    seen, written = (
        local_moment(invoice.last_seen_at),
        local_moment(invoice.mirrored_at),
    )
    return joined(
        " · ",
        gettext("Invoice %(pk)s in Orb") % {"pk": invoice.pk},
        (gettext("last seen there %(seen)s") % {"seen": seen}) if seen else "",
        gettext("last changed here %(written)s") % {"written": written},
    )


def read_headline(invoice: Invoice, payload: Mapping[str, Any]) -> Fact:
    """Return the amount to see first: what is to be paid, or else the total."""
    note = read_settled(invoice)
    # An amount due would look like a debt beside "paid" or "void".
    if note:
        total = exact(payload, "total", invoice.total)
        return Fact(gettext("Total"), money(total, invoice.currency), note)
    due = exact(payload, "amount_due", invoice.amount_due)
    return Fact(gettext("Amount due"), money(due, invoice.currency))


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
        label = humanized(one.get("action")) or pgettext("of a balance", "Change")
        facts.append(Fact(label, sign + amount(one.get("amount"), currency), note))
    return facts


def read_payments(payload: Mapping[str, Any], currency: str) -> list[Payment]:
    return [
        Payment(
            moment=utc_moment(to_moment(one.get("created_at"))),
            amount=amount(one.get("amount"), currency),
            # A payload may hold anything here: only a plain true counts.
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
            gettext("voided") if one.get("voided_at") else "",
        )
        facts.append(Fact(label, amount(one.get("total"), currency), note))
    return facts


def read_metadata(metadata: Any) -> list[Fact]:
    return [
        Fact(as_text(key), as_text(value)) for key, value in as_map(metadata).items()
    ]
