"""Store the lists in an invoice as rows, written with it from the same payload."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import MoneyField, OrbIdField

from .invoices import Invoice, InvoiceLineItem


class InvoiceChild(models.Model):
    """
    An item of a list in an invoice's payload, in Orb's order.

    Odd values in it do not keep the invoice out of the mirror. A value that its column
    cannot hold is left empty and named in `rounded_fields`; an item without a usable id
    gets one that says so. The payload has all of it as it came.
    """

    orb_id = OrbIdField(_("Orb id"))
    position = models.PositiveIntegerField(_("position"))
    rounded_fields = models.JSONField(
        _("rounded fields"),
        default=list,
        blank=True,
        help_text=_("Columns that could not hold Orb's exact value; the payload does."),
    )

    class Meta:
        abstract = True
        default_permissions = ("view",)
        ordering = ["invoice", "position"]

    def __str__(self) -> str:
        return str(self.orb_id)


class InvoiceCreditNote(InvoiceChild):
    """A credit note on an invoice, in the invoice's currency."""

    class Type(models.TextChoices):
        ADJUSTMENT = "adjustment", _("Adjustment")
        REFUND = "refund", _("Refund")

    invoice = models.ForeignKey(
        Invoice,
        verbose_name=_("invoice"),
        on_delete=models.CASCADE,
        related_name="credit_notes",
        db_index=False,  # the constraint below serves it
    )
    credit_note_number = models.TextField(_("credit note number"), blank=True)
    # The choices only name the types: one that Orb adds is stored, and shown as it
    # came.
    type = models.CharField(_("type"), max_length=64, choices=Type.choices, blank=True)
    total = MoneyField(_("total"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    memo = models.TextField(_("memo"), blank=True)
    voided_at = models.DateTimeField(_("voided at"), null=True, blank=True)
    dated_at = models.DateTimeField(
        _("dated at"),
        null=True,
        blank=True,
        help_text=_(
            "When it changed the customer's balance, else when it was first seen here. "
            "Empty if it was there when the invoice was first seen: invoices list their "
            "credit notes without a date."
        ),
    )

    class Meta(InvoiceChild.Meta):
        verbose_name = _("credit note")
        verbose_name_plural = _("credit notes")
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "orb_id"], name="orb_credit_note_once_per_invoice"
            )
        ]
        # For what was credited in a month, and for what was owed before it.
        indexes = [models.Index(fields=["dated_at"], name="orb_credit_note_dated")]

    def __str__(self) -> str:
        return self.credit_note_number or super().__str__()


class InvoicePaymentAttempt(InvoiceChild):
    """An attempt to collect an invoice's payment, in the invoice's currency."""

    invoice = models.ForeignKey(
        Invoice,
        verbose_name=_("invoice"),
        on_delete=models.CASCADE,
        related_name="payment_attempts",
        db_index=False,  # the constraint below serves it
    )
    amount = MoneyField(_("amount"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), null=True, blank=True)
    payment_provider = models.CharField(
        _("payment provider"), max_length=64, blank=True
    )
    payment_provider_id = models.TextField(_("id at the provider"), blank=True)
    receipt_pdf = models.TextField(_("receipt"), blank=True)
    succeeded = models.BooleanField(_("succeeded"), null=True, blank=True)

    class Meta(InvoiceChild.Meta):
        verbose_name = _("payment attempt")
        verbose_name_plural = _("payment attempts")
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "orb_id"],
                name="orb_payment_attempt_once_per_invoice",
            )
        ]
        indexes = [
            # The order of the admin's list, without a filter and with the one that it
            # has.
            models.Index(fields=["-created_at", "-id"], name="orb_attempt_created"),
            models.Index(
                fields=["succeeded", "-created_at", "-id"], name="orb_attempt_succeeded"
            ),
        ]


class InvoiceBalanceTransaction(InvoiceChild):
    """An amount that an invoice took from its customer's balance, or gave back."""

    invoice = models.ForeignKey(
        Invoice,
        verbose_name=_("invoice"),
        on_delete=models.CASCADE,
        related_name="customer_balance_transactions",
        db_index=False,  # the constraint below serves it
    )
    action = models.CharField(_("action"), max_length=64, blank=True)
    type = models.CharField(_("type"), max_length=64, blank=True)
    amount = MoneyField(
        _("amount"),
        null=True,
        blank=True,
        help_text=_("As Orb sends it; `type` says in which direction."),
    )
    starting_balance = MoneyField(_("starting balance"), null=True, blank=True)
    ending_balance = MoneyField(_("ending balance"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), null=True, blank=True)
    description = models.TextField(_("description"), blank=True)
    credit_note_id = OrbIdField(_("credit note"), blank=True)

    class Meta(InvoiceChild.Meta):
        verbose_name = _("balance transaction")
        verbose_name_plural = _("balance transactions")
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "orb_id"],
                name="orb_balance_transaction_once_per_invoice",
            )
        ]


class InvoiceLineTax(models.Model):
    """
    One tax on one line; not inside the line's `amount`. Orb gives it no id.

    A line may bear several, and a tax return adds up each rate separately.
    """

    line_item = models.ForeignKey(
        InvoiceLineItem,
        verbose_name=_("invoice line item"),
        on_delete=models.CASCADE,
        related_name="taxes",
        db_index=False,  # the constraint below serves it
    )
    position = models.PositiveIntegerField(_("position"))
    amount = MoneyField(_("amount"), null=True, blank=True)
    tax_rate_description = models.TextField(_("tax rate"), blank=True)
    tax_rate_percentage = MoneyField(_("percentage"), null=True, blank=True)
    tax_reason = models.TextField(_("tax reason"), blank=True)
    rounded_fields = models.JSONField(_("rounded fields"), default=list, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("line item's tax")
        verbose_name_plural = _("line items' taxes")
        ordering = ["line_item", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["line_item", "position"], name="orb_tax_once_per_line_item"
            )
        ]

    def __str__(self) -> str:
        return self.tax_rate_description or str(self.position)
