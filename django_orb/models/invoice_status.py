from __future__ import annotations

from datetime import datetime, timedelta

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


def days_late(due_date: datetime | None, moment: datetime) -> int:
    """
    Return the whole days since the due date; 0 before them, or without a due date.

    Orb's due date is the midnight at which the due day begins, so on the due day itself
    a payment is not late.
    """
    return 0 if due_date is None else max((moment - due_date).days, 0)


def late_by(moment: datetime, days: int) -> Q:
    """Match what is at least so many days late, as `days_late` counts them."""
    return Q(due_date__lte=moment - timedelta(days=days))


def less_late_than(moment: datetime, days: int) -> Q:
    """Match what has a due date, and is fewer days late than this."""
    return Q(due_date__gt=moment - timedelta(days=days))


def overdue_at(moment: datetime, *, days: int = 1) -> Q:
    """Match what is owed and was late by so many days at a moment."""
    return OWED & late_by(moment, days)
