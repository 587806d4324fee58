from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import OrbIdField

from .invoices import Invoice


class InvoiceObservation(models.Model):
    """
    When, and with what content, Orb last showed an invoice.

    Kept apart from `Invoice` so that seeing an unchanged invoice writes one
    narrow row and never the invoice's own. It is also the lock that writers of
    one invoice take, and exists before the invoice does.

    The stored content held at some instant not before `started_at`, and no
    observation of it ended after `ended_at`; both are on this database's clock.
    Nothing ever blanks them. `failed_from` and `failed_until` are the same of the newest
    answer that could not be stored, as long as no later one could.
    """

    invoice = models.OneToOneField(
        Invoice,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="observation",
        # This row is claimed and locked before the invoice's own row exists.
        db_constraint=False,
    )
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # Empty until another text comes; see Note [Hashed when needed] in
    # `mirror/ordering.py`.
    content_hash = models.CharField(max_length=64, blank=True)
    raw_digest = models.CharField(
        max_length=64, blank=True, help_text=_("Of the latest text from Orb.")
    )
    # A fetch that was begun after this version had been read is newer than it, even if
    # the clocks leave that in doubt.
    version = models.PositiveBigIntegerField(
        default=0, help_text=_("Counts the writes of this row.")
    )
    run_id = models.BigIntegerField(
        null=True, help_text=_("The newest run that saw the invoice.")
    )
    mapper_version = models.PositiveIntegerField(
        default=0, help_text=_("Of the release that wrote the invoice's row.")
    )
    rewrite_at = models.DateTimeField(
        null=True,
        help_text=_("What Orb shows after this is written even if unchanged."),
    )
    failed_from = models.DateTimeField(null=True)
    failed_until = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.pk} at {self.ended_at}"


class InvoiceRecheck(models.Model):
    """
    An invoice to fetch again, because an answer was left out that nothing else decides.

    Such an answer did not show our own write: Orb's answers may lag, or another party
    may have undone the write. From `due_at` on Orb's answers are believed again, and
    `recover` asks.
    """

    invoice_id = OrbIdField(primary_key=True)
    due_at = models.DateTimeField(db_index=True)
    # Counted before each, so that those that kill their worker count, too.
    attempts = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.pk} at {self.due_at}"


class InvoiceFailure(models.Model):
    """
    An invoice that Orb sent and that could not be mirrored, with the reason.

    Every run tries it again; the row goes once that succeeds.
    """

    # Not a foreign key: the mirror may never have had the invoice.
    invoice_id = OrbIdField(_("invoice"), primary_key=True)
    reason = models.TextField(_("reason"))
    # Not JSON: the database may have refused a part of it, such as a NUL character.
    payload_text = models.TextField(
        _("what Orb sent"),
        blank=True,
        help_text=_("What Orb sent, as JSON with everything escaped."),
    )
    failed_at = models.DateTimeField(_("failed at"))
    run_id = models.BigIntegerField(_("run"), null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invoice failure")
        verbose_name_plural = _("invoice failures")
        ordering = ["-failed_at"]

    def __str__(self) -> str:
        return f"{self.pk}: {self.reason}"
