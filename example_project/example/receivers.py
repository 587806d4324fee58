from __future__ import annotations

from functools import partial
from typing import Any

from django.core.mail import mail_managers
from django.db import transaction
from django.dispatch import receiver

from django_orb.models import Invoice
from django_orb.signals import invoice_overdue, invoice_status_changed

from .models import Access, Account


@receiver(invoice_overdue, sender=Invoice)
def remind(invoice: Invoice, days: int, **more: Any) -> None:
    """Send a reminder; called once for each invoice and number of `OVERDUE_DAYS`."""
    account = Account.objects.filter(
        external_customer_id=invoice.external_customer_id
    ).first()
    if account is not None:
        subject = f"Invoice {invoice} was due {days} days ago"
        # A mail cannot be taken back, so it is sent once the call is recorded.
        transaction.on_commit(
            partial(mail_managers, subject, f"Please remind {account.name}.")
        )


@receiver(invoice_status_changed, sender=Invoice)
def grant_access(invoice: Invoice, status: str, **more: Any) -> None:
    """Give access; called once per change, in the transaction that records this."""
    customer = invoice.external_customer_id
    if status == Invoice.Status.PAID and customer:
        Access.objects.get_or_create(external_customer_id=customer)
