"""
Report on a month that is being closed: open tasks, later changes, and its sums.

All of it comes from invoices. Recognised revenue cannot be told from them alone: they do
not say when a service was rendered, only when it was billed and for which period.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext_noop

from django_orb.db import primary, snapshot
from django_orb.exceptions import OrbInputError
from django_orb.formatting import in_zone, report_zone
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceCreditNote,
    InvoiceFailureReason,
    InvoiceOperation,
)
from django_orb.models.failure_reasons import FAILING, FailureKind
from django_orb.parsing import parse_month

from .days import AsOf, as_of, begin_of, to_day
from .receivables import Amount, Credited, read_receivables

ZERO = Decimal(0)
ROWS_AT_ONCE = 1000
STATUS = Invoice.Status
FINAL = (STATUS.ISSUED, STATUS.PAID, STATUS.SYNCED)

# The parts of the report, under their names in a file.
DRAFTS = gettext_noop("Draft")
FAILURES = gettext_noop("Failure")
CHANGES = gettext_noop("Change")
CREDIT_NOTES = gettext_noop("Credit note")


@dataclass(frozen=True)
class Month:
    """
    A month in `REPORT_TIME_ZONE`.

    It ends before `end`. Changes after the day `closed_on` are part of the report.
    """

    first: date
    last: date
    begin: datetime
    end: datetime
    closed_on: date
    at: AsOf

    @property
    def name(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def after(self) -> datetime:
        """The first moment whose changes are part of the report."""
        return begin_of(self.closed_on + timedelta(days=1))

    def dates(self, column: str) -> Q:
        """Match a date within the month."""
        return Q(**{f"{column}__gte": self.begin, f"{column}__lt": self.end})


@dataclass(frozen=True)
class Totals:
    """
    A month's sums in one currency.

    Invoiced is the total of issued, paid and synced invoices, by their date; credited is
    the total of credit notes on such invoices, unless they are void, by theirs. Paid is the amount due on
    invoices, by the day on which they were paid. Outstanding is what was owed at the
    month's end, or is owed now. `undated` are credit notes without a known date, on
    invoices of the month.
    """

    currency: str
    invoiced: Amount
    credited: Credited
    paid: Amount
    outstanding: Amount
    undated: Credited


@dataclass(frozen=True)
class Item:
    """
    One thing to look at before a month is closed.

    `before` and `after` are the statuses of a change. `fields` are Orb's names of what
    else changed, or what fails. `who` asked for the change or brought it here.
    """

    kind: str
    invoice: Any
    moment: datetime | None
    amount: Decimal | None
    before: str = ""
    after: str = ""
    fields: tuple[str, ...] = ()
    who: str = ""
    note: str = ""
    is_void: bool = False


def month_of(
    text: str | None = None,
    *,
    closed_on: date | str | None = None,
    now: datetime | None = None,
) -> Month:
    """
    Return a month, given as "2026-01"; the last one that is over by default.

    Raises:
        OrbInputError: it is not a month, or has not begun; or `closed_on`, by default the
            month's last day, is before the month or has not come yet.
    """
    today = in_zone(now or timezone.now(), report_zone()).date()
    first = _first_day(text, today)
    if first > today:
        raise OrbInputError(f"{first:%Y-%m} has not begun yet.", field="month")
    if first.year < 2000:
        raise OrbInputError(
            f"{first:%Y-%m} is too long ago: choose a month since 2000.", field="month"
        )
    following = _following(first)
    last = following - timedelta(days=1)
    chosen = min(last, today) if not closed_on else to_day(closed_on)
    if chosen < first or chosen > today:
        raise OrbInputError(
            f"{chosen} is not a day from {first} to {today}.", field="closed_on"
        )
    return Month(
        first,
        last,
        begin_of(first),
        begin_of(following),
        chosen,
        as_of(min(last, today), now=now),
    )


def _first_day(text: str | None, today: date) -> date:
    if not text:
        return (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    try:
        return parse_month(str(text).strip())
    except ValueError as err:
        raise OrbInputError(
            f"{str(text)[:40]!r} is not a month such as 2026-01.", field="month"
        ) from err


def _following(first: date) -> date:
    # No month is longer, so this leads into the next one.
    return (first + timedelta(days=31)).replace(day=1)


def read_totals(invoices: QuerySet[Invoice, Any], month: Month) -> list[Totals]:
    """
    Return the month's sums, as they are at one instant; first the currency with most
    invoices.
    """
    with snapshot(invoices):
        return _totals(invoices, month)


def _totals(invoices: QuerySet[Invoice, Any], month: Month) -> list[Totals]:
    known = invoices.filter(missing_since=None).order_by()
    notes = _notes(invoices.db).filter(voided_at=None)
    invoiced = _sums(
        known.filter(month.dates("invoice_date"), status__in=FINAL), "total"
    )
    paid = _sums(known.filter(month.dates("paid_at"), status=STATUS.PAID), "amount_due")
    credited = _credited(notes.filter(month.dates("dated_at")))
    of_month = month.dates("invoice__invoice_date")
    undated = _credited(notes.filter(of_month, dated_at=None))
    outstanding = {
        one.currency: one.all for one in read_receivables(invoices, month.at)
    }
    parts: list[dict[str, Any]] = [invoiced, credited, paid, outstanding, undated]
    # A currency may have payments in a month in which nothing was invoiced in it.
    currencies = {currency for part in parts for currency in part}
    found = [
        Totals(
            one,
            invoiced.get(one, Amount()),
            credited.get(one, Credited()),
            paid.get(one, Amount()),
            outstanding.get(one, Amount()),
            undated.get(one, Credited()),
        )
        for one in currencies
    ]
    return sorted(found, key=lambda one: (-one.invoiced.count, one.currency))


def _sums(rows: Any, column: str) -> dict[str, Amount]:
    sums = rows.values("currency").annotate(count=Count("pk"), sum=Sum(column))
    return {row["currency"]: Amount(row["count"], row["sum"] or ZERO) for row in sums}


def _credited(notes: Any) -> dict[str, Credited]:
    sums = notes.values_list("invoice__currency").annotate(
        count=Count("pk"), known=Count("total"), sum=Sum("total")
    )
    return {
        currency: Credited(count, total if known == count else None)
        for currency, count, known, total in sums
    }


def _notes(alias: str) -> Any:
    # Those of a void invoice take nothing away: what it had invoiced is not there either.
    notes = InvoiceCreditNote.objects.using(alias).order_by()
    return notes.filter(invoice__missing_since=None, invoice__status__in=FINAL)


def rows_of(kind: str, invoices: QuerySet[Invoice, Any], month: Month) -> Any:
    """
    Return a query of the rows of one part of the report, newest first.

    Changes come oldest first, because an index finds those quickly, even if other
    invoices changed a lot since.
    """
    of_month = month.dates("invoice_date")
    if kind == DRAFTS:
        drafts = invoices.filter(of_month, status=STATUS.DRAFT, missing_since=None)
        return drafts.order_by("-invoice_date", "-id").defer("payload")
    if kind == FAILURES:
        failing = Q()
        for one in FAILING.values():
            failing |= one.condition()
        # An invoice does not show that its sync to accounting failed: only the reason does.
        reasons = InvoiceFailureReason.objects.using(invoices.db)
        accounting = reasons.filter(kind=FailureKind.ACCOUNTING_SYNC, over_until=None)
        failing |= Q(pk__in=accounting.values("invoice"), missing_since=None)
        failed = invoices.filter(of_month).filter(failing)
        return failed.order_by("-invoice_date", "-id").defer("payload")
    if kind == CHANGES:
        # Becoming overdue changes nothing in the invoice.
        changes = InvoiceChange.objects.using(invoices.db).exclude(
            kind=InvoiceChange.Kind.OVERDUE
        )
        late = changes.filter(
            month.dates("invoice__invoice_date"), created_at__gte=month.after
        )
        return _with_invoice(late.order_by("created_at", "id"))
    notes = _notes(invoices.db).filter(
        # One without a date is in the month of its invoice, or none would have it.
        month.dates("dated_at") | Q(month.dates("invoice__invoice_date"), dated_at=None)
    )
    return _with_invoice(notes.order_by("-dated_at", "-id"))


def _with_invoice(rows: Any) -> Any:
    return rows.select_related("invoice").defer("invoice__payload")


def items_of(kind: str, rows: list[Any]) -> list[Item]:
    """Return the items of these rows; at most two queries."""
    if kind == DRAFTS:
        return [Item(kind, one, one.scheduled_issue_at, one.total) for one in rows]
    if kind == FAILURES:
        reasons = _reasons(rows)
        return [
            Item(
                kind,
                one,
                _failed_at(one),
                one.amount_due,
                fields=_failing(one, reasons),
                note="; ".join(reasons.get(one.pk, ())),
            )
            for one in rows
        ]
    if kind == CHANGES:
        actors = _actors(rows)
        return [
            Item(
                kind,
                one.invoice,
                one.created_at,
                one.invoice.total,
                before=one.previous_status,
                after=one.status,
                fields=tuple(name for name in one.changed_fields if name != "status"),
                who=actors.get((one.origin, one.origin_id), one.origin),
            )
            for one in rows
        ]
    return [
        Item(
            kind,
            one.invoice,
            one.dated_at,
            one.total,
            note=str(one),
            is_void=one.voided_at is not None,
        )
        for one in rows
    ]


def _failed_at(invoice: Invoice) -> datetime | None:
    failed = [
        invoice.issue_failed_at,
        invoice.payment_failed_at,
        invoice.sync_failed_at,
    ]
    return max((one for one in failed if one), default=None)


def _failing(invoice: Invoice, reasons: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the kinds of failure of an invoice."""
    found = [
        kind.value
        for kind, one in FAILING.items()
        if invoice.status in one.statuses and getattr(invoice, one.column)
    ]
    accounting = FailureKind.ACCOUNTING_SYNC.value
    if any(text.startswith(accounting) for text in reasons.get(invoice.pk, ())):
        found.append(accounting)
    return tuple(found)


def _reasons(invoices: list[Any]) -> dict[str, list[str]]:
    every = InvoiceFailureReason.objects.using(primary.alias()).current()
    found: dict[str, list[str]] = {}
    for one in every.filter(invoice_id__in=[invoice.pk for invoice in invoices]):
        text = one.reason or one.provider
        found.setdefault(one.invoice_id, []).append(f"{one.kind}: {text}")
    return found


def _actors(changes: list[Any]) -> dict[tuple[str, str], str]:
    """Return the users who asked for the operations that changes came from."""
    # Only operations are asked for by users; syncs, webhooks and fetches bring the
    # rest.
    origin = InvoiceChange.Origin.OPERATION.value
    ids = {
        int(one.origin_id)
        for one in changes
        if one.origin == origin and one.origin_id.isdigit()
    }
    operations = primary.rows(InvoiceOperation).filter(pk__in=ids)
    names = operations.values_list("pk", "actor_name")
    return {(origin, str(pk)): name for pk, name in names if name} if ids else {}


def read_items(
    kind: str, invoices: QuerySet[Invoice, Any], month: Month
) -> Iterator[list[Item]]:
    """Yield pages of all items of a part, in the order of their rows."""
    # In the order of the key, which never changes, each row is on exactly one page,
    # whatever is written meanwhile.
    rows = rows_of(kind, invoices, month).order_by("pk")
    page = list(rows[:ROWS_AT_ONCE])
    while page:
        yield items_of(kind, page)
        page = list(rows.filter(pk__gt=page[-1].pk)[:ROWS_AT_ONCE])
