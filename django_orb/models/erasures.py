from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import OrbIdField


class CustomerErasure(models.Model):
    """
    The record that a customer's personal data was erased, by whom, and when.

    The row names the customer by Orb's id alone, and has no personal data of theirs.
    While `active_customer_id` is set, the mirror keeps the customer's personal data out.
    """

    class Origin(models.TextChoices):
        CODE = "code", _("Code")
        COMMAND = "command", _("Command")
        ADMIN = "admin", _("Admin")

    customer_id = OrbIdField(_("customer in Orb"), db_index=True)
    # NULL once it is undone. So each customer has at most one active erasure, also on
    # MariaDB, which has no conditional constraints.
    active_customer_id = OrbIdField(null=True, unique=True, editable=False)
    erased_at = models.DateTimeField(_("erased at"))
    # A text and not a foreign key, as in `InvoiceOperation`: users may live in another
    # database, and the record outlives them.
    erased_by = models.CharField(
        _("erased by"),
        max_length=255,
        blank=True,
        help_text=_("The username, or empty if code or a command asked for it."),
    )
    origin = models.CharField(_("origin"), max_length=16, choices=Origin.choices)
    finished_at = models.DateTimeField(
        _("finished at"),
        null=True,
        blank=True,
        help_text=_("When everything that was stored before had been erased."),
    )
    undone_at = models.DateTimeField(_("undone at"), null=True, blank=True)
    undone_by = models.CharField(_("undone by"), max_length=255, blank=True)
    invoices = models.PositiveIntegerField(_("invoices"), default=0)
    # How far the walk over the stored rows has come; see `maintenance.erasing`.
    stage = models.CharField(max_length=16, blank=True)
    cursor = OrbIdField(blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("erasure of a customer")
        verbose_name_plural = _("erasures of customers")
        permissions = [("erase_customer", "Can erase a customer's personal data")]
        ordering = ["-erased_at", "-pk"]

    def __str__(self) -> str:
        return str(self.customer_id)


class ErasureGate(models.Model):
    """
    The one row that every writer of what Orb sent locks for reading.

    An erasure, or undoing one, changes the token, and so waits for the writers. See Note [No way
    past an erasure] in `mirror/erased.py`.
    """

    token = models.CharField(max_length=32, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.token
