from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class InvoiceStatus(models.TextChoices):
    """The statuses that Orb knows; `Invoice.Status` for users."""

    DRAFT = "draft", _("Draft")
    ISSUED = "issued", _("Issued")
    PAID = "paid", _("Paid")
    SYNCED = "synced", _("Synced")
    VOID = "void", _("Void")


#: Issued, waiting for payment, and still known to Orb.
OPEN = Q(status=InvoiceStatus.ISSUED, missing_since=None)
#: Open, with something to pay.
OWED = OPEN & Q(amount_due__gt=0)


def overdue_at(moment: datetime) -> Q:
    """Match what is owed and was due before a moment."""
    return OWED & Q(due_date__lt=moment)
