from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import ExactCharField, OrbIdField

from .invoice_status import InvoiceStatus
from .invoices import Invoice

# How long before the time that the invoice shows for a failure its event may be created.
# Orb gives the latter to the second, and payments are tried again after days.
EVENT_PRECEDES = timedelta(minutes=1)


class FailureKind(models.TextChoices):
    ISSUE = "issue", _("Issuing failed")
    PAYMENT = "payment", _("Payment failed")
    SYNC = "sync", _("Sync to a provider failed")
    ACCOUNTING_SYNC = "accounting_sync", _("Accounting sync failed")


class Failing(NamedTuple):
    """
    How an invoice shows that it fails: in these statuses, with a time in a column.

    A time in the column `ended_by` that is not earlier ends it.
    """

    statuses: tuple[InvoiceStatus, ...]
    column: str
    ended_by: str = ""

    def condition(self, prefix: str = "") -> Q:
        """Match invoices that fail, or rows that lead to them by `prefix`."""
        conditions = {
            "status__in": self.statuses,
            "missing_since": None,
            f"{self.column}__isnull": False,
        }
        found = Q(**{f"{prefix}{name}": value for name, value in conditions.items()})
        if self.ended_by:
            end, column = f"{prefix}{self.ended_by}", F(f"{prefix}{self.column}")
            found &= Q(**{end: None}) | Q(**{f"{end}__lt": column})
        return found


#: Orb keeps the time of a failure even after it is over: only with the status does it
#: tell. Nothing in an invoice shows that its accounting sync failed.
FAILING = {
    FailureKind.ISSUE: Failing((InvoiceStatus.DRAFT,), "issue_failed_at"),
    FailureKind.PAYMENT: Failing((InvoiceStatus.ISSUED,), "payment_failed_at"),
    # Once it is paid, the provider no longer has to collect it.
    FailureKind.SYNC: Failing(
        (InvoiceStatus.ISSUED, InvoiceStatus.PAID), "sync_failed_at", "paid_at"
    ),
}


def _shown_by_invoice() -> Q:
    """Match reasons of the failure that the invoice itself shows, not of an earlier one."""
    shown = Q(kind=FailureKind.ACCOUNTING_SYNC, invoice__missing_since=None)
    for kind, failing in FAILING.items():
        latest = {f"invoice__{failing.column}__lte": F("failed_at") + EVENT_PRECEDES}
        shown |= Q(kind=kind) & failing.condition("invoice__") & Q(**latest)
    return shown


class InvoiceFailureReasonQuerySet(models.QuerySet["InvoiceFailureReason"]):
    def current(self) -> InvoiceFailureReasonQuerySet:
        """The reasons for which invoices fail now; those that are over do not count."""
        return self.filter(_shown_by_invoice(), over_until=None)


class InvoiceFailureReason(models.Model):
    """
    Why Orb last failed at an invoice, which only webhook events say.

    There is one row for each kind of failure, and for each connection if it is the sync
    to accounting. A row without `failed_at` says only that earlier failures are over.
    Read `InvoiceFailureReason.objects.current()`, or `invoice.failure_reasons.current()`.
    """

    Kind = FailureKind

    invoice = models.ForeignKey(
        Invoice,
        verbose_name=_("invoice"),
        on_delete=models.CASCADE,
        related_name="failure_reasons",
        db_constraint=False,
        db_index=False,  # the constraint below serves it
    )
    kind = models.CharField(_("kind"), max_length=32, choices=FailureKind.choices)
    # It is part of the unique constraint, where MariaDB's default collation would take
    # names that differ in case for the same. Empty and not NULL for other kinds of
    # failure: to a constraint each NULL is another value.
    connection_type = ExactCharField(
        _("connection"),
        max_length=64,
        blank=True,
        help_text=_("The accounting system, as Orb names it."),
    )
    reason = models.TextField(
        _("reason"), blank=True, help_text=_("Empty if Orb gave none.")
    )
    provider = models.TextField(
        _("provider"),
        blank=True,
        help_text=_("The payment provider and its reference, as Orb names them."),
    )
    event_id = OrbIdField(_("event"), blank=True)
    failed_at = models.DateTimeField(
        _("failed at"),
        null=True,
        blank=True,
        help_text=_("When the event was created, by Orb's clock."),
    )
    over_until = models.DateTimeField(
        _("over until"),
        null=True,
        blank=True,
        help_text=_("Failures up to then are over; empty while it fails."),
    )

    objects = InvoiceFailureReasonQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("failure reason")
        verbose_name_plural = _("failure reasons")
        ordering = ["-failed_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "kind", "connection_type"],
                name="orb_failure_reason_once",
            )
        ]
        indexes = [
            models.Index(fields=["over_until", "kind"], name="orb_failure_reason_now")
        ]

    def __str__(self) -> str:
        return self.reason or self.provider or str(self.get_kind_display())
