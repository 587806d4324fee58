"""Return the addresses of the pages about a customer."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_orb.customer_labels import label_of
from django_orb.formatting import short
from django_orb.models import Invoice
from django_orb.templatetags.orb_admin import address_of, linked

CUSTOMER_VAR = "customer"
#: What the filter "days late" calls invoices of every age.
OWED_CHOICE = "owed"
# A project's own id may have any length.
TOOLTIP_CHARACTERS = 500


def customer_url(site: str, customer_id: str, view: str = "customer") -> str:
    """Return the address of a page; "" without a customer, or without that page."""
    if not customer_id:
        return ""
    return address_of(site, f"invoice_{view}", quote(customer_id))


def list_url(site: str, customer_id: str, **filters: str) -> str:
    """Return the address of the list of a customer's invoices."""
    url = address_of(site, "invoice_changelist")
    query = urlencode({CUSTOMER_VAR: customer_id, **filters})
    return f"{url}?{query}" if url else ""


def customer_link(site: str, invoice: Invoice) -> SafeString:
    """Show the name of an invoice's customer as a link to the customer's page."""
    shown = format_html(
        '<span class="orb-clip" title="{}">{}</span>',
        (invoice.external_customer_id or invoice.customer_id)[:TOOLTIP_CHARACTERS],
        short(label_of(invoice).name),
    )
    return linked(customer_url(site, invoice.customer_id), shown)
