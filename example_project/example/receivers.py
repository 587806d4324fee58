from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from django_orb.models import Invoice
from django_orb.signals import invoice_status_changed

from .models import Access


@receiver(invoice_status_changed, sender=Invoice)
def grant_access(invoice: Invoice, status: str, **more: Any) -> None:
    """Give access; called once per change, in the transaction that records this."""
    customer = invoice.external_customer_id
    if status == Invoice.Status.PAID and customer:
        Access.objects.get_or_create(external_customer_id=customer)
