from __future__ import annotations

from django.db import models

from .invoices import Invoice


class OverdueThreshold(models.Model):
    """
    Since when syncs have watched for invoices that are overdue for a number of days.

    There is one row for each number in `OVERDUE_DAYS`, from the first sync that knows it.
    """

    days = models.PositiveIntegerField(primary_key=True)
    since = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.days} days since {self.since:%Y-%m-%d %H:%M}"


class OverdueNotice(models.Model):
    """The record that `invoice_overdue` is or was sent for an invoice and a number of days."""

    invoice = models.ForeignKey(
        Invoice,
        on_delete=models.CASCADE,
        related_name="overdue_notices",
        db_constraint=False,
        db_index=False,  # the constraint below serves it
    )
    # Kept here and not read off the changes, because retention deletes those.
    days = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "days"], name="orb_overdue_notice_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.days} days"
