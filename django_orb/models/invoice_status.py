from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class InvoiceStatus(models.TextChoices):
    """The statuses that Orb knows; `Invoice.Status` for users."""

    DRAFT = "draft", _("Draft")
    ISSUED = "issued", _("Issued")
    PAID = "paid", _("Paid")
    SYNCED = "synced", _("Synced")
    VOID = "void", _("Void")
