"""Find out what was owed on each invoice at a moment of the past."""

# Note [What was owed]
# Orb's invoice says when it was issued, paid and voided, and keeps these dates whatever
# happens later. So an invoice was owed at a moment if it had been issued by then, and
# had not yet been paid, voided or deleted in Orb. An invoice's amounts are frozen when
# it is issued, and only a credit note of the type `adjustment` lowers what is due on it
# (one on a paid invoice is a refund, and does not). So what was due then is what is due
# now, plus the adjustments that came later. Once it is paid or void they are frozen for
# good: a credit note that is voided after that gives nothing back to the amount due, and
# one that is first seen after that was made before.
#
# Some things cannot be known from invoices alone:
#
# - The date of a credit note. The invoice lists its credit notes without dates, so
#   `InvoiceCreditNote.dated_at` is the date of the balance transaction that names the
#   credit note, or else when the mirror first saw it. One that was there when the
#   invoice was first mirrored counts from when the invoice was issued.
# - When an invoice was handed over to an external provider (`synced`): Orb has no date
#   for that. It is when the mirror saw it, as long as `CHANGE_RETENTION_DAYS` keeps the
#   change; an invoice that was never seen as issued counts as handed over at once. As
#   on the overview, an invoice that was handed over is not owed.
# - A payment that was undone (`invoice.undo_mark_as_paid`): its date is then empty, and
#   the invoice counts as never paid.
# - A due date that was recalculated since: the present one decides how late it was.
# - Whether Orb changes `amount_due` when an invoice is voided, or for a reason other
#   than these: the present amount counts.
# - A payment counts from when the invoice was paid in Orb (`paid_at`), even if the
#   money was received on another day (`payment_received_at`).
#
# Sources: https://docs.withorb.com/invoicing/credit-notes and
# https://docs.withorb.com/invoicing/structure; the fields of Orb's SDK,
# types/shared/invoice.py.

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import (
    Case,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    When,
)
from django.db.models.functions import Coalesce

from django_orb.models import Invoice, InvoiceChange, InvoiceCreditNote
from django_orb.models.fields import MoneyField
from django_orb.models.invoice_status import OWED
from django_orb.models.invoices import Difference

from .days import AsOf

Invoices = QuerySet[Invoice, Any]
Status = Invoice.Status


def owed(invoices: Invoices, at: AsOf) -> Invoices:
    """
    Return the invoices that were owed at a moment, each with the amount as `owed`.

    See Note [What was owed]. For the present these are the open invoices, each with its
    amount due.
    """
    if at.is_now:
        return invoices.filter(OWED).annotate(owed=F("amount_due"))
    there = Q(missing_since=None) | Q(missing_since__gt=at.moment)
    return (
        invoices.filter(_still_open(invoices, at.moment), there)
        .annotate(owed=amount_at(invoices, at.moment))
        .filter(owed__gt=0)
    )


def _still_open(invoices: Invoices, moment: datetime) -> Q:
    """
    Match invoices that were issued by then and not settled, whatever became of them.

    An open invoice without a date of issue was always open, as on the overview.
    """
    changes: Any = InvoiceChange.objects.using(invoices.db).order_by()
    went_later = changes.filter(
        previous_status=Status.ISSUED, status=Status.SYNCED, created_at__gt=moment
    )
    # A change away from the status counts too: the mirror may not have the one that led
    # to it, since retention deletes changes.
    was_synced = Exists(
        changes.filter(
            Q(status=Status.SYNCED) | Q(previous_status=Status.SYNCED),
            invoice=OuterRef("pk"),
        )
    )
    not_yet_gone = ~was_synced | Exists(went_later.filter(invoice=OuterRef("pk")))
    issued = Q(issued_at__lte=moment)
    settled_later = Q(status=Status.PAID, paid_at__gt=moment) | Q(
        status=Status.VOID, voided_at__gt=moment
    )
    return (
        Q(status=Status.ISSUED) & (issued | Q(issued_at=None))
        # Together, since whether it had gone is looked for among all changes.
        | issued & settled_later & not_yet_gone
        | Q(issued, status=Status.SYNCED, pk__in=went_later.values("invoice"))
    )


def amount_at(invoices: Invoices, moment: datetime | OuterRef) -> Any:
    """
    Return what was due on each invoice then, if it was open: the effect of later
    adjustments is undone. The moment may be a column, as an `OuterRef`.
    """
    adjustments = InvoiceCreditNote.objects.using(invoices.db).filter(
        type=InvoiceCreditNote.Type.ADJUSTMENT
    )
    later = adjustments.filter(Q(dated_at__gt=moment) | Q(voided_at__gt=moment))
    more = ExpressionWrapper(-F("total"), output_field=MoneyField())
    # An adjustment made since has lowered only the present amount. One voided since had
    # lowered only the amount of that time.
    effect = Case(
        When(_is_standing(), dated_at__gt=moment, then=more),
        When(_is_standing(), then=Decimal(0)),
        When(Q(dated_at=None) | Q(dated_at__lte=moment), then=F("total")),
        default=Decimal(0),
        output_field=MoneyField(),
    )
    sums = (
        later.filter(invoice=OuterRef("pk"))
        .order_by()
        .values("invoice")
        .annotate(sum=Sum(effect))
    )
    then = Difference(
        F("amount_due"), Coalesce(Subquery(sums.values("sum")), Decimal(0))
    )
    return Case(
        # Few invoices have such adjustments. All others keep their own amount, without
        # a subquery for each, and on SQLite without a sum of floats.
        When(pk__in=later.order_by().values("invoice"), then=then),
        default=F("amount_due"),
        output_field=MoneyField(),
    )


def _is_standing() -> Q:
    """Match credit notes whose effect is part of the present amount due."""
    return (
        Q(voided_at=None)
        | Q(invoice__status=Status.PAID, voided_at__gt=F("invoice__paid_at"))
        | Q(invoice__status=Status.VOID, voided_at__gt=F("invoice__voided_at"))
    )


def frozen_at(invoice: Invoice) -> datetime | None:
    """Return since when what was due on an invoice cannot change, as above."""
    if invoice.status == Status.PAID:
        return invoice.paid_at
    return invoice.voided_at if invoice.status == Status.VOID else None
