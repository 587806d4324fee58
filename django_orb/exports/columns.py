"""
The columns that an export may have, under the titles of Orb's own CSV files.

Orb's files also have the customer's e-mail, the plan, and what a credit note takes off
each line. Those are not in an invoice.

Source: https://docs.withorb.com/invoicing/invoice-csv-downloads
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from django.utils.translation import gettext_lazy as _

from django_orb.conf import get_settings
from django_orb.exceptions import OrbInputError, in_english


class Kind(Enum):
    TEXT = "text"
    QUANTITY = "quantity"
    MONEY = "money"
    DAY = "day"
    MOMENT = "moment"


@dataclass(frozen=True)
class Column:
    """
    One column; `path` leads to its value, "" if it is not read with the row.

    Orb's dates are midnight at the customer. They are written as days.
    """

    name: str
    label: object
    path: str = ""
    kind: Kind = Kind.TEXT
    is_default: bool = True

    def title(self, zone: object) -> str:
        """Return the text at the head of the column, which is English for everyone."""
        title = in_english(self.label)
        return f"{title} ({zone})" if self.kind is Kind.MOMENT else title


NAME, TAX = "customer_name", "tax"
CREDITED, NET = "credited", "net_total"
WHY = "failure_reasons"

_MEMO = Column("memo", _("Memo"), "memo")
_CUSTOMER = [
    Column("external_customer_id", _("External customer ID"), "external_customer_id"),
    Column("customer_id", _("Customer ID"), "customer_id"),
    Column(NAME, _("Customer name")),
]
_DATES = [
    Column("invoice_date", _("Invoice date"), "invoice_date", Kind.DAY),
    Column("due_date", _("Due date"), "due_date", Kind.DAY),
]
_STATE = [
    Column("currency", _("Invoice currency"), "currency"),
    Column("status", _("Invoice status"), "status"),
    Column("subscription_id", _("Subscription ID"), "subscription_id"),
    Column("paid_at", _("Paid at"), "paid_at", Kind.MOMENT),
    Column("invoice_type", _("Invoice type"), "invoice_source"),
]
# Orb's own files do not have these: they have to be chosen.
_MORE_OF_INVOICES = [
    Column("created_at", _("Created at"), "created_at", Kind.MOMENT, False),
    Column("issued_at", _("Issued at"), "issued_at", Kind.MOMENT, False),
    Column("voided_at", _("Voided at"), "voided_at", Kind.MOMENT, False),
    Column(
        "payment_received_at",
        _("Payment received at"),
        "payment_received_at",
        Kind.MOMENT,
        False,
    ),
    Column(
        "payment_failed_at",
        _("Payment failed at"),
        "payment_failed_at",
        Kind.MOMENT,
        False,
    ),
    Column(
        "issue_failed_at", _("Issue failed at"), "issue_failed_at", Kind.MOMENT, False
    ),
    Column("sync_failed_at", _("Sync failed at"), "sync_failed_at", Kind.MOMENT, False),
    Column(WHY, _("Why it fails"), is_default=False),
    Column("missing_since", _("Missing since"), "missing_since", Kind.MOMENT, False),
]

INVOICE_COLUMNS = [
    Column("invoice_id", _("Invoice ID"), "id"),
    *_CUSTOMER,
    Column("invoice_number", _("Invoice number"), "invoice_number"),
    *_DATES,
    _MEMO,
    Column("subtotal", _("Subtotal"), "subtotal", Kind.MONEY),
    Column(TAX, _("Tax amount"), "", Kind.MONEY),
    Column("total", _("Total"), "total", Kind.MONEY),
    Column(CREDITED, _("Credit notes"), "", Kind.MONEY),
    Column(NET, _("Net of credit notes"), "", Kind.MONEY),
    Column("amount_due", _("Amount due"), "amount_due", Kind.MONEY),
    *_STATE,
    *_MORE_OF_INVOICES,
]


def _through_invoice(columns: Iterable[Column]) -> list[Column]:
    return [
        Column(
            one.name,
            one.label,
            f"invoice__{one.path}" if one.path else "",
            one.kind,
            one.is_default,
        )
        for one in columns
    ]


LINE_COLUMNS = [
    Column("invoice_id", _("Invoice ID"), "invoice_id"),
    *_through_invoice(_CUSTOMER),
    Column("invoice_number", _("Invoice number"), "invoice__invoice_number"),
    *_through_invoice([*_DATES, _MEMO]),
    Column("line_item_name", _("Line item name"), "name"),
    Column("start_date", _("Invoice line item start"), "start_date", Kind.DAY),
    Column("end_date", _("Invoice line item end"), "end_date", Kind.DAY),
    Column("quantity", _("Quantity"), "quantity", Kind.QUANTITY),
    Column("subtotal", _("Gross amount"), "subtotal", Kind.MONEY),
    Column(
        "credits_applied",
        _("Prepaid credits applied amount"),
        "credits_applied",
        Kind.MONEY,
    ),
    Column("amount", _("Net invoice line item amount"), "amount", Kind.MONEY),
    Column(TAX, _("Tax amount"), "", Kind.MONEY),
    *_through_invoice(_STATE),
    Column("line_item_id", _("Line item ID"), "orb_id", Kind.TEXT, False),
    Column("item_id", _("Item ID"), "item_id", Kind.TEXT, False),
    Column("price_id", _("Price ID"), "price_id", Kind.TEXT, False),
    Column("price_type", _("Price type"), "price_type", Kind.TEXT, False),
    Column("grouping", _("Grouping"), "grouping", Kind.TEXT, False),
    Column(
        "adjusted_subtotal",
        _("Adjusted subtotal"),
        "adjusted_subtotal",
        Kind.MONEY,
        False,
    ),
    Column(
        "partially_invoiced_amount",
        _("Partially invoiced amount"),
        "partially_invoiced_amount",
        Kind.MONEY,
        False,
    ),
    *_through_invoice(_MORE_OF_INVOICES),
]


def columns_of(*, lines: bool) -> list[Column]:
    """Return all columns that invoices, or line items, may be exported with."""
    return LINE_COLUMNS if lines else INVOICE_COLUMNS


def default_columns(*, lines: bool) -> list[str]:
    """Return the columns of Orb's own file; names only if the project gives them."""
    has_names = bool(get_settings().CUSTOMER_LABELS)
    return [
        one.name
        for one in columns_of(lines=lines)
        if one.is_default and (has_names or one.name != NAME)
    ]


def choose_columns(names: Sequence[str] | None, *, lines: bool) -> list[Column]:
    """
    Return the columns with these names, in the order of the names.

    Raises:
        OrbInputError: a column does not exist, or is named twice.
    """
    chosen = default_columns(lines=lines) if names is None else names
    return pick_columns(chosen, columns_of(lines=lines))


def pick_columns(
    names: Sequence[str] | None, columns: Sequence[Column]
) -> list[Column]:
    """
    Pick columns by name, in the order of the names; by default the default ones.

    Raises:
        OrbInputError: a column does not exist, or is named twice.
    """
    known = {one.name: one for one in columns}
    default = [one.name for one in columns if one.is_default]
    chosen = default if names is None else list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise OrbInputError(
            f"The column {unknown[0]!r} does not exist. Choose from: {', '.join(known)}.",
            field="columns",
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise OrbInputError(
            "Name at least one column, and each only once.", field="columns"
        )
    return [known[name] for name in chosen]
