"""Reminders and fees: how this product uses its invoices."""

from __future__ import annotations

from decimal import Decimal

from django.utils import timezone

from django_orb import services
from django_orb.models import Invoice, InvoiceLineItem


def customers_to_remind() -> list[str]:
    """Return the ids of customers with an overdue invoice."""
    late = Invoice.objects.overdue().order_by("external_customer_id")
    return list(late.values_list("external_customer_id", flat=True).distinct())


def charge_setup_fee(draft: Invoice) -> InvoiceLineItem:
    """Add the fee once per customer, however often this is called."""
    today = timezone.now().date()
    return services.create_invoice_line_item(
        draft,
        name="Setup",
        quantity=1,
        amount=Decimal("250.00"),
        start_date=today,
        end_date=today,
        idempotency_key=f"setup-fee-{draft.customer_id}",
    )
