from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, TypedDict

from django.db import models
from django.db.models import (
    Case,
    Count,
    DecimalField,
    Exists,
    F,
    Func,
    OuterRef,
    Subquery,
    Sum,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import (
    ExactCharField,
    ExactTextField,
    MoneyField,
    OrbIdField,
    PayloadField,
    SearchKeyField,
    search_key,
)
from django_orb.parsing import exact_sum, read_decimal

from .invoice_status import OPEN, InvoiceStatus, days_late, overdue_at
from .operation_types import permissions_on

# Half of what Orb promises, as days may pass before a new link is mirrored.
LINKS_ARE_FRESH = timedelta(days=30)


class CurrencyTotal(TypedDict):
    """The totals of invoices in one currency."""

    currency: str
    count: int
    total: Decimal
    amount_due: Decimal


class Difference(Func):
    """
    One amount less another, as exact as the database's columns.

    SQLite subtracts floats, so the result is rounded to the places of the first amount.
    """

    template = "(%(expressions)s)"
    arg_joiner = " - "
    output_field: DecimalField[Any, Any] = MoneyField()

    def as_sqlite(
        self, compiler: Any, connection: Any, **context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        whole, part = map(compiler.compile, self.get_source_expressions())
        # A float holds about 15 digits (https://www.sqlite.org/floatingpoint.html):
        # without rounding, 0.30 - 0.10 is 0.19999999999999998.
        digits = f"LENGTH(CAST(ABS({whole[0]}) AS INTEGER))"
        sql = f"ROUND({whole[0]} - {part[0]}, 14 - {digits})"
        return sql, (*whole[1], *part[1], *whole[1])


class InvoiceQuerySet(models.QuerySet["Invoice"]):
    def unsettled(self) -> InvoiceQuerySet:
        """Drafts and issued invoices: what can still change in Orb."""
        return self.filter(status__in=[Invoice.Status.DRAFT, Invoice.Status.ISSUED])

    def open(self) -> InvoiceQuerySet:
        """Issued, waiting for payment, and still known to Orb."""
        return self.filter(OPEN)

    def overdue(self, *, at: datetime | None = None) -> InvoiceQuerySet:
        """Open with something to pay, late by a day or more at `at` (default: now)."""
        return self.filter(overdue_at(at or timezone.now()))

    def for_customer(
        self, *, customer_id: str | None = None, external_customer_id: str | None = None
    ) -> InvoiceQuerySet:
        """
        One customer's invoices, by Orb's id or by your own.

        Raises:
            TypeError: neither or both were given. An empty id finds nothing, so
                that a customer without one never sees what others have.
        """
        if (customer_id is None) == (external_customer_id is None):
            raise TypeError("Give either customer_id or external_customer_id.")
        given = customer_id or external_customer_id
        if not given or "\0" in given:  # no id contains NUL, and PostgreSQL fails at it
            return self.none()
        if customer_id is not None:
            return self.filter(customer_id=customer_id)
        assert external_customer_id is not None  # noqa: S101
        return self.filter(
            # The key is folded and cut, so that an index can hold it. Several ids may
            # share one: the id itself decides.
            external_customer_key=search_key(external_customer_id),
            external_customer_id=external_customer_id,
        )

    def net_of_credit_notes(self) -> InvoiceQuerySet:
        """
        Annotate `credited`, the sum of credit notes, and `net_total`, `total` less it.

        Voided credit notes do not count. Both are in the invoice's currency. Both are
        None if the total of one credit note is not known, since the sum of the others
        would look complete.
        """
        # By its name, because `children` imports this module.
        model: Any = self.model._meta.get_field("credit_notes").related_model
        notes = model._default_manager.filter(invoice=OuterRef("pk"), voided_at=None)
        sums = notes.order_by().values("invoice").annotate(sum=Sum("total"))
        credited = Case(
            When(Exists(notes.filter(total=None)), then=None),
            default=Coalesce(Subquery(sums.values("sum")), Decimal(0)),
            output_field=MoneyField(),
        )
        noted = self.annotate(credited=credited)
        return noted.annotate(net_total=Difference(F("total"), F("credited")))

    def with_failure_reasons(self) -> InvoiceQuerySet:
        """
        Annotate why invoices fail now, one column for each kind of failure.

        `issue_failure_reason`, `payment_failure_reason`, `sync_failure_reason` and
        `accounting_sync_failure_reason` are None if that does not fail, or if no event
        about it was received. If Orb gave no reason, they name the provider, or are "".
        """
        model: Any = self.model._meta.get_field("failure_reasons").related_model
        current = model.objects.current().filter(invoice=OuterRef("pk"))
        text = Case(When(reason="", then="provider"), default="reason")
        columns = {
            f"{kind}_failure_reason": Subquery(
                current.filter(kind=kind)
                # Each accounting system may have a reason of its own; a column has room
                # for one.
                .order_by("-failed_at", "-pk")
                .values_list(text)[:1]
            )
            for kind in model.Kind.values
        }
        return self.annotate(**columns)

    def totals_by_currency(self) -> list[CurrencyTotal]:
        """
        Return one entry per currency: amounts in different ones are never added up.
        """
        sums = (
            self.order_by("currency")
            .values("currency")
            .annotate(
                count=Count("pk"), total=Sum("total"), amount_due=Sum("amount_due")
            )
        )
        return [CurrencyTotal(**row) for row in sums]


class Invoice(models.Model):
    """
    An invoice as Orb last showed it.

    Written only by the mirror; `Invoice.objects` never asks Orb. The columns are
    what people filter, join and report on, under Orb's names; `payload` is all.
    """

    Status: TypeAlias = InvoiceStatus

    class Source(models.TextChoices):
        SUBSCRIPTION = "subscription", _("Subscription")
        PARTIAL = "partial", _("Partial")
        ONE_OFF = "one_off", _("One-off")

    id = OrbIdField(primary_key=True)
    # Orb publishes no limit for it. What is searched is the bounded key beside it.
    invoice_number = models.TextField(_("invoice number"), blank=True)
    invoice_number_key = SearchKeyField(blank=True)
    invoice_source = models.CharField(
        _("invoice source"), max_length=64, choices=Source.choices, blank=True
    )
    # The choices only name the statuses: one that Orb adds is stored, and shown as it
    # came.
    status = models.CharField(_("status"), max_length=64, choices=Status.choices)
    # On MariaDB, too, "Credits" and "credits" are two units, whose sums must not meet.
    currency = ExactCharField(_("currency"), max_length=64)
    subtotal = MoneyField(_("subtotal"))
    total = MoneyField(_("total"))
    amount_due = MoneyField(_("amount due"))
    customer_id = OrbIdField(_("customer in Orb"))
    external_customer_id = ExactTextField(_("customer's id"), blank=True)
    external_customer_key = SearchKeyField(blank=True)
    subscription_id = OrbIdField(_("subscription"), blank=True, db_index=True)
    invoice_date = models.DateTimeField(_("invoice date"))
    # Orb sets it when it issues the invoice: drafts have none.
    due_date = models.DateTimeField(_("due date"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"))
    issued_at = models.DateTimeField(_("issued at"), null=True, blank=True)
    paid_at = models.DateTimeField(_("paid at"), null=True, blank=True)
    voided_at = models.DateTimeField(_("voided at"), null=True, blank=True)
    scheduled_issue_at = models.DateTimeField(
        _("scheduled issue at"), null=True, blank=True
    )
    eligible_to_issue_at = models.DateTimeField(
        _("eligible to issue at"), null=True, blank=True
    )
    will_auto_issue = models.BooleanField(_("issued automatically"), default=False)
    issue_failed_at = models.DateTimeField(_("issue failed at"), null=True, blank=True)
    sync_failed_at = models.DateTimeField(_("sync failed at"), null=True, blank=True)
    payment_started_at = models.DateTimeField(
        _("payment started at"), null=True, blank=True
    )
    payment_failed_at = models.DateTimeField(
        _("payment failed at"), null=True, blank=True
    )
    payment_received_at = models.DateTimeField(
        _("payment received at"), null=True, blank=True
    )
    memo = models.TextField(_("memo"), blank=True)
    hosted_invoice_url = models.TextField(_("portal link"), blank=True)
    invoice_pdf = models.TextField(_("PDF"), blank=True)
    payload = PayloadField(_("payload"))
    rounded_fields = models.JSONField(
        _("rounded fields"),
        default=list,
        blank=True,
        help_text=_("Columns that could not hold Orb's exact value; the payload does."),
    )
    missing_since = models.DateTimeField(
        _("missing since"),
        null=True,
        blank=True,
        help_text=_("When Orb first no longer knew this invoice."),
    )
    mirrored_at = models.DateTimeField(
        _("mirrored at"), help_text=_("When this row was last written.")
    )

    objects = InvoiceQuerySet.as_manager()

    #: What the project calls the customer; set by `customer_labels.label_customers`.
    customer_label: Any

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        ordering = ["-invoice_date", "-id"]
        permissions = [
            *permissions_on("invoice"),
            ("sync_invoice", "Can fetch invoices again from Orb"),
            ("export_invoice", "Can export invoices, their line items and operations"),
            ("open_portal_invoice", "Can open the portal of a customer"),
        ]
        indexes = [
            models.Index(fields=["-invoice_date", "-id"], name="orb_invoice_date"),
            models.Index(
                fields=["status", "-invoice_date", "-id"],
                name="orb_invoice_status_date",
            ),
            models.Index(
                fields=["customer_id", "-invoice_date"], name="orb_invoice_customer"
            ),
            models.Index(fields=["status", "due_date"], name="orb_invoice_status_due"),
            # What the admin's list is filtered and sorted by.
            models.Index(
                fields=["currency", "-invoice_date", "-id"], name="orb_invoice_currency"
            ),
            models.Index(
                fields=["invoice_source", "-invoice_date", "-id"],
                name="orb_invoice_source",
            ),
            models.Index(
                fields=["external_customer_key", "id"], name="orb_invoice_external"
            ),
            models.Index(
                fields=["invoice_number_key", "id"], name="orb_invoice_number"
            ),
            models.Index(
                # Amounts only compare within a currency, so the list sorts by the
                # currency first.
                fields=["currency", "amount_due", "id"],
                name="orb_invoice_amount_due",
            ),
            models.Index(fields=["currency", "total", "id"], name="orb_invoice_total"),
            models.Index(fields=["due_date", "id"], name="orb_invoice_due"),
            models.Index(fields=["missing_since"], name="orb_invoice_missing"),
            # For what was paid in a month, and owed before it.
            models.Index(
                fields=["status", "paid_at", "issued_at"],
                name="orb_invoice_status_paid",
            ),
            # What needs attention.
            models.Index(
                fields=["status", "payment_failed_at"],
                name="orb_invoice_payment_failed",
            ),
            models.Index(
                fields=["status", "issue_failed_at"], name="orb_invoice_issue_failed"
            ),
            models.Index(fields=["sync_failed_at"], name="orb_invoice_sync_failed"),
        ]

    def __str__(self) -> str:
        return self.invoice_number or self.pk

    @property
    def last_seen_at(self) -> datetime | None:
        """When Orb last showed this invoice, changed or not; UTC."""
        observation: Any = getattr(self, "observation", None)
        return observation.ended_at if observation else None

    @property
    def has_fresh_links(self) -> bool:
        """
        Whether `hosted_invoice_url` and `invoice_pdf` still work for sure.

        Orb's links hold for 60 days at least from when they were made.
        Source: https://docs.withorb.com/guides/invoicing/invoice-portal
        """
        return timezone.now() - self.mirrored_at < LINKS_ARE_FRESH

    @property
    def is_open(self) -> bool:
        return self.status == self.Status.ISSUED and self.missing_since is None

    @property
    def is_overdue(self) -> bool:
        """Whether `overdue_at` matches it now."""
        return self.days_overdue > 0

    @property
    def days_overdue(self) -> int:
        """Whole days since the due date; 0 unless overdue."""
        is_owed = self.is_open and self.amount_due > 0
        return days_late(self.due_date, timezone.now()) if is_owed else 0

    @property
    def tax(self) -> Decimal | None:
        """
        The sum of all lines' taxes, in `currency`; Orb's totals include it.

        None if an amount cannot be read, since a part of the sum would pass for all of it.
        """
        return _whole_sum(line.tax for line in self.line_items.all())


# The admin's index lists models only. These are proxies without permissions of their
# own: their pages ask for `view_invoice`.
class Overview(Invoice):
    """The admin's page of figures, which its index shows beside the models."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("overview")
        verbose_name_plural = _("overview")


class Receivables(Invoice):
    """The admin's page of what was owed on a day."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("receivables")
        verbose_name_plural = _("receivables")


class MonthEnd(Invoice):
    """The admin's page about a month that is being closed."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("month end")
        verbose_name_plural = _("month end")


class InvoiceLineItem(models.Model):
    """One line of an invoice, in Orb's order (`position` counts from 0)."""

    invoice = models.ForeignKey(
        Invoice,
        verbose_name=_("invoice"),
        on_delete=models.CASCADE,
        related_name="line_items",
        db_index=False,  # the constraint below serves it
    )
    orb_id = OrbIdField(_("Orb id"))
    position = models.PositiveIntegerField(_("position"))
    name = models.TextField(_("name"), blank=True)
    quantity = MoneyField(_("quantity"), null=True, blank=True)
    amount = MoneyField(
        _("amount"), help_text=_("After adjustments and credits, before tax.")
    )
    subtotal = MoneyField(_("subtotal"), null=True, blank=True)
    adjusted_subtotal = MoneyField(_("adjusted subtotal"), null=True, blank=True)
    credits_applied = MoneyField(_("credits applied"), null=True, blank=True)
    partially_invoiced_amount = MoneyField(
        _("partially invoiced amount"), null=True, blank=True
    )
    start_date = models.DateTimeField(_("start date"), null=True, blank=True)
    end_date = models.DateTimeField(_("end date"), null=True, blank=True)
    grouping = models.TextField(_("grouping"), blank=True)
    # The admin finds line items by the whole id of an item or of a price.
    item_id = OrbIdField(_("item"), blank=True, db_index=True)
    price_id = OrbIdField(_("price"), blank=True, db_index=True)
    price_type = models.CharField(_("price type"), max_length=64, blank=True)
    price_model_type = models.CharField(
        _("price model type"), max_length=64, blank=True
    )
    rounded_fields = models.JSONField(_("rounded fields"), default=list, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invoice line item")
        verbose_name_plural = _("invoice line items")
        ordering = ["invoice", "position"]
        constraints = [
            models.UniqueConstraint(
                # Orb does not say that line items' ids are unique across invoices.
                fields=["invoice", "orb_id"],
                name="orb_line_item_once_per_invoice",
            )
        ]
        permissions = permissions_on("invoicelineitem")

    def __str__(self) -> str:
        return self.name or self.orb_id

    @property
    def payload(self) -> dict[str, Any]:
        """This line in the invoice's payload."""
        payload: Any = self.invoice.payload
        lines = _objects_of(payload if isinstance(payload, dict) else {}, "line_items")
        return lines[self.position] if self.position < len(lines) else {}

    @property
    def adjustments(self) -> list[dict[str, Any]]:
        return _objects_of(self.payload, "adjustments")

    @property
    def sub_line_items(self) -> list[dict[str, Any]]:
        """Tiers or matrix cells, each with name, quantity and amount."""
        return _objects_of(self.payload, "sub_line_items")

    @property
    def tax_amounts(self) -> list[dict[str, Any]]:
        return _objects_of(self.payload, "tax_amounts")

    @property
    def tax(self) -> Decimal | None:
        """
        The sum of this line's taxes; not inside `amount`.

        An amount that is null or absent is 0. None if one is not a number.
        """
        amounts = (tax.get("amount") for tax in self.tax_amounts)
        return _whole_sum(
            Decimal(0) if raw is None else read_decimal(raw) for raw in amounts
        )


def _whole_sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum; None if one of the amounts is not known."""
    known: list[Decimal] = []
    for amount in amounts:
        if amount is None:
            return None
        known.append(amount)
    return exact_sum(known)


def _objects_of(source: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The JSON objects of a list; Orb may have sent null, or something else."""
    items = source.get(name)
    return (
        [one for one in items if isinstance(one, dict)]
        if isinstance(items, list)
        else []
    )
