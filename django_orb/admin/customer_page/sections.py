"""Read what a customer's page shows, in a fixed number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Sum
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_orb.admin import paginator
from django_orb.admin.badges import invoice_badge, missing_badge, overdue_badge
from django_orb.admin.badges import payment_badge as attempt_badge
from django_orb.admin.cells import Cell, amount_of
from django_orb.admin.columns import NOTHING_DUE
from django_orb.admin.customer_links import OWED_CHOICE, list_url
from django_orb.customer_labels import CustomerLabel, label_of
from django_orb.formatting import (
    humanized,
    joined,
    money,
    report_day,
    safe_link,
    short,
    utc_moment,
)
from django_orb.models import Invoice, InvoiceCreditNote, InvoicePaymentAttempt
from django_orb.reports import AGES, Amount, Credited, as_of, read_receivables

#: How many invoices, payments and credit notes the page shows.
SHOWN = 10
#: How many of the latest invoices are searched for payments.
SEARCHED = 200

ZERO = Decimal(0)

Invoices = QuerySet[Invoice, Invoice]
_DRAFT, _ISSUED = Invoice.Status.DRAFT, Invoice.Status.ISSUED
_PAID, _SYNCED = Invoice.Status.PAID, Invoice.Status.SYNCED


@dataclass(frozen=True)
class Customer:
    """A customer, under the names that the latest invoice has."""

    customer_id: str
    external_customer_id: str
    label: CustomerLabel
    invoices: Invoices

    @property
    def name(self) -> str:
        return short(self.label.name)


@dataclass(frozen=True)
class Figures:
    """The sums in one currency, and what is owed by age, each with its title."""

    currency: str
    sums: list[tuple[str, Cell]]
    by_age: list[tuple[str, Cell]]


@dataclass(frozen=True)
class InvoiceRow:
    pk: str
    number: str
    state: SafeString
    dated: str
    due: str
    late: SafeString | str
    amount_due: str
    total: str
    is_settled: bool


@dataclass(frozen=True)
class PaymentRow:
    moment: str
    pk: str
    number: str
    amount: str
    badge: SafeString
    how: str
    receipt: str


@dataclass(frozen=True)
class NoteRow:
    number: str
    pk: str
    invoice: str
    kind: str
    total: str
    why: str
    is_voided: bool


@dataclass(frozen=True)
class Page:
    """The contents of a page; `figures` is None if there are too many to add up unasked."""

    invoices: list[InvoiceRow]
    count: str
    is_capped: bool
    titles: list[str]
    ages: list[str]
    figures: list[Figures] | None
    has_owed: bool
    payments: list[PaymentRow]
    credit_notes: list[NoteRow]
    is_searched_in_part: bool
    searched: int = SEARCHED


def find_customer(invoices: Invoices, customer_id: str) -> Customer | None:
    """Return the customer, or None if there is no invoice for it; one query."""
    found = invoices.for_customer(customer_id=customer_id)  # type: ignore[attr-defined]
    latest = found.order_by("-invoice_date").defer("payload").first()
    if latest is None:
        return None
    return Customer(customer_id, latest.external_customer_id, label_of(latest), found)


def read_page(customer: Customer, site: str, *, adds_up_all: bool) -> Page:
    """
    Return what the page shows.

    If there are more invoices than a list counts, they are added up only on request.
    """
    every = customer.invoices
    count = every.order_by()[: paginator.MOST + 1].count()
    is_capped = count > paginator.MOST
    latest = every.order_by("-invoice_date", "-id")
    shown = list(latest.defer("payload")[:SHOWN])
    # Payments and credit notes have no index by customer: they are looked up for so
    # many invoices, however many the customer has.
    searched = list(latest.values_list("pk", flat=True)[:SEARCHED])
    is_added_up = adds_up_all or not is_capped
    figures = read_figures(customer, site) if is_added_up else None
    return Page(
        invoices=[_invoice_row(one) for one in shown],
        count=number_format(min(count, paginator.MOST), force_grouping=True),
        is_capped=is_capped,
        titles=sum_titles(),
        ages=age_titles(),
        figures=figures,
        has_owed=any(one.by_age[-1][1].count for one in figures or ()),
        payments=read_payments(every, searched),
        credit_notes=read_credit_notes(every, searched),
        is_searched_in_part=count > SEARCHED,
    )


def sum_titles() -> list[str]:
    return [
        gettext("Open"),
        gettext("Overdue"),
        gettext("Paid"),
        gettext("Synced"),
        gettext("Invoiced"),
        gettext("Credit notes"),
        gettext("Drafts"),
    ]


def age_titles() -> list[str]:
    return [*(str(age.title) for age in AGES), gettext("All")]


def read_figures(customer: Customer, site: str) -> list[Figures]:
    """
    Add up the invoices that Orb still knows, by currency; three queries.

    Open, overdue and paid are amounts due; invoiced, synced and drafts are totals.
    """
    known = customer.invoices.filter(missing_since=None).order_by()
    rows: Any = known.values("currency", "status").annotate(
        count=Count("pk"), total=Sum("total"), amount_due=Sum("amount_due")
    )
    by_status = {(row["currency"], row["status"]): row for row in rows}
    owed = {one.currency: one for one in read_receivables(known, as_of())}
    credited = read_credited(known)
    currencies = sorted({currency for currency, _ in by_status})

    def figures(currency: str) -> Figures:
        def cell(amount: Amount | Credited, **filters: str) -> Cell:
            listed = {**filters, "currency": currency}
            url = list_url(site, customer.customer_id, **listed) if filters else ""
            return amount_of(amount, currency, url)

        def total(column: str, *statuses: str) -> Amount:
            found = [by_status.get((currency, status)) for status in statuses]
            return _all(
                [Amount(row["count"], row[column] or ZERO) for row in found if row]
            )

        ages = owed[currency].by_age if currency in owed else [Amount()] * len(AGES)
        draft, issued, paid, synced = (
            _DRAFT.value,
            _ISSUED.value,
            _PAID.value,
            _SYNCED.value,
        )
        sums = [
            cell(_all(ages), age=OWED_CHOICE),
            # Without what is not due yet, and what has no due date.
            cell(_all(ages[1:-1]), overdue="yes"),
            cell(total("amount_due", paid), status__exact=paid, missing="no"),
            cell(total("total", synced), status__exact=synced, missing="no"),
            cell(total("total", issued, paid, synced)),
            cell(credited.get(currency, Credited())),
            cell(total("total", draft), status__exact=draft, missing="no"),
        ]
        by_age = [
            cell(amount, age=age.name) for age, amount in zip(AGES, ages, strict=True)
        ]
        return Figures(
            currency,
            [*zip(sum_titles(), sums, strict=True)],
            [*zip(age_titles(), [*by_age, cell(_all(ages))], strict=True)],
        )

    return [figures(currency) for currency in currencies]


def _all(amounts: list[Amount]) -> Amount:
    return sum(amounts, Amount())


def read_credited(invoices: Invoices) -> dict[str, Credited]:
    """
    Return the sums of the credit notes that are not voided, on those of these invoices
    that count as invoiced.
    """
    invoiced = invoices.filter(status__in=[_ISSUED, _PAID, _SYNCED]).order_by()
    notes = InvoiceCreditNote.objects.using(invoices.db).filter(
        invoice__in=invoiced, voided_at=None
    )
    rows = notes.order_by().values_list("invoice__currency")
    # The cell says of how many invoices the sum is: one may have several credit notes.
    found = rows.annotate(
        count=Count("invoice", distinct=True),
        unknown=Count("pk") - Count("total"),
        sum=Sum("total"),
    )
    return {
        currency: Credited(count, None if unknown else total)
        for currency, count, unknown, total in found
    }


def _invoice_row(invoice: Invoice) -> InvoiceRow:
    state = invoice_badge(invoice)
    if invoice.missing_since is not None:
        state = SafeString(f"{state} {missing_badge()}")
    return InvoiceRow(
        pk=invoice.pk,
        number=short(str(invoice)),
        state=state,
        dated=report_day(invoice.invoice_date),
        due=report_day(invoice.due_date),
        late=overdue_badge(invoice.days_overdue) if invoice.is_overdue else "",
        amount_due=money(invoice.amount_due, invoice.currency),
        total=money(invoice.total, invoice.currency),
        is_settled=invoice.status in NOTHING_DUE,
    )


def read_payments(invoices: Invoices, invoice_ids: list[str]) -> list[PaymentRow]:
    """
    Return the latest payments of these invoices: attempts, and payments outside Orb.

    A paid invoice without a successful attempt was marked as paid. Two queries.
    """
    attempts = InvoicePaymentAttempt.objects.using(invoices.db).filter(
        invoice_id__in=invoice_ids
    )
    tried = attempts.select_related("invoice").defer("invoice__payload").order_by()
    paid = invoices.filter(
        ~Exists(attempts.filter(invoice=OuterRef("pk"), succeeded=True)),
        pk__in=invoice_ids,
        status=_PAID,
        # Orb takes an invoice of 0 for paid once it is issued, without any payment.
        amount_due__gt=0,
    )
    found = [(one.created_at, _attempt_row(one)) for one in tried]
    for invoice in paid.defer("payload").order_by():
        # The day on which the money came, if Orb was told.
        moment = invoice.payment_received_at or invoice.paid_at
        found.append((moment, _paid_row(invoice, moment)))
    dated = [(moment, row) for moment, row in found if moment is not None]
    dated.sort(key=lambda one: (one[0], one[1].pk), reverse=True)
    undated = [row for moment, row in found if moment is None]
    return [*(row for _, row in dated), *undated][:SHOWN]


def _attempt_row(attempt: InvoicePaymentAttempt) -> PaymentRow:
    return PaymentRow(
        moment=utc_moment(attempt.created_at),
        pk=attempt.invoice_id,
        number=short(str(attempt.invoice)),
        amount=money(attempt.amount, attempt.invoice.currency),
        badge=attempt_badge(attempt.succeeded is True),
        how=joined(
            " ", humanized(attempt.payment_provider), short(attempt.payment_provider_id)
        ),
        receipt=safe_link(attempt.receipt_pdf),
    )


def _paid_row(invoice: Invoice, moment: datetime | None) -> PaymentRow:
    return PaymentRow(
        moment=report_day(moment),
        pk=invoice.pk,
        number=short(str(invoice)),
        amount=money(invoice.amount_due, invoice.currency),
        badge=attempt_badge(succeeded=True),
        how=gettext("marked as paid"),
        receipt="",
    )


def read_credit_notes(invoices: Invoices, invoice_ids: list[str]) -> list[NoteRow]:
    """Return the credit notes on these invoices, the latest invoice's first; one query."""
    notes = InvoiceCreditNote.objects.using(invoices.db).filter(
        invoice_id__in=invoice_ids
    )
    read = notes.select_related("invoice").defer("invoice__payload").order_by()
    place = {invoice_id: number for number, invoice_id in enumerate(invoice_ids)}
    newest = sorted(read, key=lambda note: (place[note.invoice_id], note.position))
    return [
        NoteRow(
            number=short(str(note)),
            pk=note.invoice_id,
            invoice=short(str(note.invoice)),
            kind=short(note.get_type_display()),
            total=money(note.total, note.invoice.currency),
            why=joined(" · ", short(humanized(note.reason)), short(note.memo)),
            is_voided=note.voided_at is not None,
        )
        for note in newest[:SHOWN]
    ]
