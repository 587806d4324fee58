"""Return the addresses of the pages about a customer."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_orb.customer_labels import label_of
from django_orb.formatting import short
from django_orb.models import Invoice

CUSTOMER_VAR = "customer"
# A project's own id may have any length.
TOOLTIP_CHARACTERS = 500


def customer_url(site: str, customer_id: str, view: str = "customer") -> str:
    """Return the address of a page; "" for an invoice without a customer."""
    if not customer_id:
        return ""
    name = f"admin:django_orb_invoice_{view}"
    return reverse(name, args=[quote(customer_id)], current_app=site)


def list_url(site: str, customer_id: str, **filters: str) -> str:
    """Return the address of the list of a customer's invoices."""
    url = reverse("admin:django_orb_invoice_changelist", current_app=site)
    return f"{url}?{urlencode({CUSTOMER_VAR: customer_id, **filters})}"


def customer_link(site: str, invoice: Invoice) -> SafeString:
    """Show the name of an invoice's customer as a link to the customer's page."""
    shown = format_html(
        '<span class="orb-clip" title="{}">{}</span>',
        (invoice.external_customer_id or invoice.customer_id)[:TOOLTIP_CHARACTERS],
        short(label_of(invoice).name),
    )
    url = customer_url(site, invoice.customer_id)
    return format_html('<a href="{}">{}</a>', url, shown) if url else shown
