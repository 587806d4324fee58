"""The columns of the invoice list."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import money, report_day, short, utc_moment
from django_orb.models import Invoice

from .badges import invoice_badge, missing_badge, overdue_badge
from .customer_links import customer_link

NOTHING_DUE = (Invoice.Status.PAID.value, Invoice.Status.VOID.value)


class InvoiceColumns:
    admin_site: AdminSite

    # Sorted by the key, which has an index, while the number itself has no limit.
    @admin.display(description=_("number"), ordering="invoice_number_key")
    def number(self, invoice: Invoice) -> str:
        return short(str(invoice))

    @admin.display(description=_("customer"), ordering="external_customer_key")
    def customer(self, invoice: Invoice) -> SafeString:
        return customer_link(self.admin_site.name, invoice)

    @admin.display(description=_("status"))
    def state(self, invoice: Invoice) -> SafeString:
        if invoice.missing_since is None:
            return invoice_badge(invoice)
        return format_html("{} {}", invoice_badge(invoice), missing_badge())

    @admin.display(description=_("amount due"), ordering="amount_due")
    def due_amount(self, invoice: Invoice) -> SafeString:
        return amount_cell(invoice.amount_due, invoice, invoice.status in NOTHING_DUE)

    @admin.display(description=_("total"), ordering="total")
    def total_amount(self, invoice: Invoice) -> SafeString:
        return amount_cell(
            invoice.total, invoice, invoice.status == Invoice.Status.VOID
        )

    @admin.display(description=_("dated"), ordering="invoice_date")
    def dated(self, invoice: Invoice) -> SafeString:
        # In the customer's time zone it may be another day: the tooltip has the moment.
        moment = utc_moment(invoice.invoice_date)
        return format_html(
            '<span title="{}">{}</span>', moment, report_day(invoice.invoice_date)
        )

    @admin.display(description=_("due"), ordering="due_date", empty_value="")
    def due(self, invoice: Invoice) -> SafeString | None:
        if invoice.due_date is None:
            return None
        late = overdue_badge(invoice.days_overdue) if invoice.is_overdue else ""
        return format_html(
            '<span title="{}">{}</span> {}',
            utc_moment(invoice.due_date),
            report_day(invoice.due_date),
            late,
        )


def amount_cell(amount: Decimal, invoice: Invoice, is_quiet: bool) -> SafeString:
    """Format an amount, in grey if it is no longer to be paid."""
    look = "orb-amount orb-quiet-amount" if is_quiet else "orb-amount"
    return format_html(
        '<span class="{}">{}</span>', look, money(amount, invoice.currency)
    )
