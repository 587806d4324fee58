"""Template tags for a product's own pages: a customer's invoices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.template.defaultfilters import date as date_filter
from django.utils.translation import gettext

from django_orb import formatting
from django_orb.models import Invoice

register = template.Library()

LIMIT = 24
Status = Invoice.Status


@register.inclusion_tag("django_orb/invoices.html")
def orb_invoices(
    *,
    customer_id: str | None = None,
    external_customer_id: str | None = None,
    limit: int = LIMIT,
    opens: str = "",
) -> dict[str, Any]:
    """
    Show a table of one customer's invoices, newest first, by Orb's id or by your own.

        {% orb_invoices external_customer_id=account.slug opens="my-invoice" %}

    Drafts, voids and invoices that Orb no longer has are left out; for an empty id the
    table is empty. `opens` is the name of your view that opens an invoice: it gets the
    id, checks whose it is, and redirects to `services.current_links(invoice)`.
    """
    invoices = Invoice.objects.for_customer(
        customer_id=customer_id, external_customer_id=external_customer_id
    )
    # Drafts still change, and show only what Orb last computed.
    shown = [Status.ISSUED, Status.PAID, Status.SYNCED]
    invoices = invoices.filter(status__in=shown, missing_since=None)
    # One more row tells whether there are more.
    rows = list(invoices.defer("payload", "rounded_fields")[: limit + 1])
    return {"invoices": rows[:limit], "has_more": len(rows) > limit, "opens": opens}


@register.filter
def orb_money(invoice: Invoice, field: str) -> str:
    """Write an amount with its currency: `{{ invoice|orb_money:"total" }}`."""
    return formatting.money(getattr(invoice, field), invoice.currency)


@register.filter
def orb_day(moment: datetime | None) -> str:
    """Write one of Orb's dates, which are midnights, as a day in `REPORT_TIME_ZONE`."""
    if moment is None:
        return ""
    return date_filter(formatting.in_zone(moment, formatting.report_zone()).date())


@register.filter
def orb_status(invoice: Invoice) -> str:
    """Return what an invoice's status means to the customer."""
    if invoice.status == Status.PAID:
        return gettext("Paid")
    if invoice.is_overdue:
        return gettext("Overdue")
    return gettext("Open") if invoice.status == Status.ISSUED else gettext("Issued")
