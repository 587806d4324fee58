from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from .invoices import Invoice


class InvoiceChange(models.Model):
    """
    A change of an invoice in the mirror, written in the transaction that made it.

    It may also be that the invoice is overdue for a number of days, as a sync noticed.

    The signals are sent from these rows, in the order of their keys, and they are the
    invoice's history.
    """

    class Kind(models.TextChoices):
        CREATED = "created", _("Created")
        UPDATED = "updated", _("Updated")
        OVERDUE = "overdue", _("Overdue")

    class Origin(models.TextChoices):
        SYNC = "sync", _("Sync")
        FETCH = "fetch", _("Fetch")
        WEBHOOK = "webhook", _("Webhook")
        OPERATION = "operation", _("Operation")

    id = models.BigAutoField(primary_key=True)
    # Not the key: a restored backup gives its numbers to other changes, while receivers
    # may have noted the number of the first.
    change_id = models.UUIDField(
        _("change's id"),
        default=uuid.uuid4,
        unique=True,
        editable=False,
        help_text=_("As receivers get it; unique across databases."),
    )
    invoice = models.ForeignKey(
        Invoice,
        verbose_name=_("invoice"),
        on_delete=models.CASCADE,
        related_name="changes",
        db_constraint=False,
        db_index=False,  # an index below serves it
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    previous_status = models.CharField(
        _("previous status"),
        max_length=64,
        blank=True,
        help_text=_("Empty if the invoice is new."),
    )
    # No choices: a change to a status that Orb adds is recorded like any other.
    status = models.CharField(_("status"), max_length=64)
    changed_fields = models.JSONField(
        _("changed fields"),
        default=list,
        blank=True,
        help_text=_("Names in Orb's JSON; none for a new one."),
    )
    days_overdue = models.PositiveIntegerField(
        _("days overdue"),
        null=True,
        blank=True,
        help_text=_("The number of OVERDUE_DAYS that was reached."),
    )
    origin = models.CharField(_("origin"), max_length=16, choices=Origin.choices)
    origin_id = models.CharField(
        _("brought by"),
        max_length=128,
        blank=True,
        help_text=_("The run, the webhook event or the operation that brought it."),
    )
    created_at = models.DateTimeField(_("created at"))
    announced_at = models.DateTimeField(_("announced at"), null=True, blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt at"), null=True, blank=True)
    failed_at = models.DateTimeField(
        _("failed at"),
        null=True,
        blank=True,
        help_text=_("When the last attempt to tell it failed."),
    )
    error = models.TextField(_("error"), blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invoice change")
        verbose_name_plural = _("invoice changes")
        ordering = ["-pk"]
        permissions = [("tell_invoicechange", "Can have failed changes told again")]
        indexes = [
            models.Index(fields=["invoice", "id"], name="orb_change_invoice"),
            # What waits has NULL here and is told in the order of the keys. Retention
            # deletes by it too.
            models.Index(fields=["announced_at", "id"], name="orb_change_waiting"),
            # What changed in a period, for statements and the end of a month.
            models.Index(fields=["created_at", "id"], name="orb_change_created"),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.get_kind_display()}"
