"""
State a customer's account: what was owed before a period and after it, and the changes.

The opening and the closing balance follow Note [What was owed], and so does the amount of
an invoice when it was issued. The changes in between come from the dates which that rule
uses. A difference that these do not explain, such as a payment that was undone later, is
an entry of its own (`OTHER`), so that a statement adds up whatever Orb did.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import OuterRef, Q, Sum
from django.utils.translation import gettext_noop

from django_orb.db import snapshot
from django_orb.exceptions import OrbInputError
from django_orb.models import Invoice, InvoiceChange, InvoiceCreditNote
from django_orb.parsing import exact_sum

from .days import INSTANT, AsOf, as_of, begin_of, to_day
from .owed import Invoices, amount_at, frozen_at, owed

ZERO = Decimal(0)
#: How many invoices one statement covers at most.
MOST = 1000
STATUS = Invoice.Status

ISSUED, CREDITED, CREDIT_VOIDED = "issued", "credited", "credit_voided"
PAID, VOIDED, SYNCED, GONE, OTHER = "paid", "voided", "synced", "gone", "other"
# The order of entries of the same instant.
ORDER = (ISSUED, CREDITED, CREDIT_VOIDED, PAID, VOIDED, SYNCED, GONE, OTHER)

NEVER_OWED = (datetime.min.replace(tzinfo=timezone.utc), "")

TOO_MANY = gettext_noop(
    "More than 1,000 invoices changed in this period: choose a shorter one."
)


@dataclass(frozen=True)
class Entry:
    """
    A change of the balance, and the balance after it, in the account's currency.

    `moment` (UTC) is None if there is no date. `number` is the credit note's, for entries
    about one. `invoice` is None if no single invoice explains the entry.
    """

    kind: str
    moment: datetime | None
    amount: Decimal
    balance: Decimal
    invoice: Invoice | None = None
    number: str = ""


@dataclass(frozen=True)
class Account:
    """The opening and closing balance in one currency, and all entries between them."""

    currency: str
    opening: Decimal
    entries: list[Entry]
    closing: Decimal


@dataclass(frozen=True)
class Statement:
    """The accounts in all currencies, from the day `since` to the day `until`."""

    since: date
    until: AsOf
    accounts: list[Account]


@dataclass(frozen=True)
class _Step:
    """An entry whose balance is not known yet."""

    kind: str
    moment: datetime | None
    amount: Decimal
    invoice: Invoice
    number: str = ""


@dataclass(frozen=True)
class _Life:
    """An invoice and what its entries are made from; `invoice` has `first_owed`."""

    invoice: Any
    notes: list[InvoiceCreditNote]
    #: When it was handed over (None if that is not known), and whether it ever was.
    synced_at: datetime | None
    was_synced: bool


class _Event(NamedTuple):
    """A dated change of what was owed on an invoice; None in `added` means all of it."""

    moment: datetime
    kind: str
    added: Decimal | None
    number: str


def read_statement(
    invoices: Invoices,
    since: date | str,
    until: date | str | None = None,
    *,
    now: datetime | None = None,
) -> Statement:
    """
    Return what these invoices owed before and after a period, and what changed it.

    Days are those of `REPORT_TIME_ZONE`; the period includes both. `until` is today by
    default. Seven queries, which see one instant.

    Raises:
        OrbInputError: a day is not valid, has not come yet or is too long ago, `since` is
            after `until`, or more than 1,000 invoices changed in the period.
    """
    end = as_of(until, now=now)
    first = as_of(to_day(since), now=now).day
    if first > end.day:
        raise OrbInputError(
            f"The period begins on {first}, after its end on {end.day}.", field="since"
        )
    # What was owed before a period is what was owed at the end of the day before it.
    begin = AsOf(first - timedelta(days=1), begin_of(first) - INSTANT, is_now=False)
    steps: dict[str, list[_Step]] = {}
    with snapshot(invoices):
        opening, closing = _sums(invoices, begin), _sums(invoices, end)
        for step in _steps(invoices, begin, end):
            steps.setdefault(step.invoice.currency, []).append(step)
    return Statement(
        first,
        end,
        [
            _account(
                currency,
                opening.get(currency, ZERO),
                steps.get(currency, []),
                closing.get(currency, ZERO),
            )
            for currency in sorted({*opening, *closing, *steps})
        ],
    )


def _sums(invoices: Invoices, at: AsOf) -> dict[str, Decimal]:
    rows: Any = owed(invoices, at).order_by().values("currency")
    return {row["currency"]: row["sum"] for row in rows.annotate(sum=Sum("owed"))}


def _amounts(invoices: Invoices, at: AsOf) -> dict[str, Decimal]:
    rows: Any = owed(invoices, at).order_by()
    return dict(rows.values_list("pk", "owed"))


def _account(
    currency: str, opening: Decimal, steps: list[_Step], closing: Decimal
) -> Account:
    def position(step: _Step) -> tuple[bool, Any, int, str]:
        # Those come last: only the closing balance shows that they happened.
        undated = step.moment is None
        return undated, step.moment or 0, ORDER.index(step.kind), str(step.invoice)

    entries = []
    balance = opening
    for step in sorted(steps, key=position):
        balance = exact_sum([balance, step.amount])
        entries.append(
            Entry(
                step.kind, step.moment, step.amount, balance, step.invoice, step.number
            )
        )
    if balance != closing:
        rest = exact_sum([closing, -balance])
        entries.append(Entry(OTHER, None, rest, closing))
    return Account(currency, opening, entries, closing)


def _steps(invoices: Invoices, begin: AsOf, end: AsOf) -> Iterator[_Step]:
    lives = _lives(invoices, begin, end)
    ours = invoices.filter(pk__in=[one.invoice.pk for one in lives])
    before, after = _amounts(ours, begin), _amounts(ours, end)
    for life in lives:
        pk = life.invoice.pk
        yield from _told(life, begin, end, before.get(pk, ZERO), after.get(pk, ZERO))


def _lives(invoices: Invoices, begin: AsOf, end: AsOf) -> list[_Life]:
    """Return the invoices that changed in the period; three queries."""
    changes: Any = InvoiceChange.objects.using(invoices.db).order_by("created_at")
    synced = changes.filter(Q(status=STATUS.SYNCED) | Q(previous_status=STATUS.SYNCED))
    notes = InvoiceCreditNote.objects.using(invoices.db).filter(
        type=InvoiceCreditNote.Type.ADJUSTMENT
    )

    def during(*columns: str) -> Q:
        found = Q()
        for column in columns:
            found |= Q(**{f"{column}__gt": begin.moment, f"{column}__lte": end.moment})
        return found

    touched = invoices.exclude(status=STATUS.DRAFT).filter(
        during("issued_at", "paid_at", "voided_at", "missing_since")
        | Q(pk__in=synced.filter(during("created_at")).order_by().values("invoice"))
        | Q(
            pk__in=notes.filter(during("dated_at", "voided_at"))
            .order_by()
            .values("invoice")
        )
    )
    # What was due on each invoice when it was issued: later credit notes have lowered the
    # amount that Orb shows now.
    first_owed = amount_at(invoices, OuterRef("issued_at"))
    found: list[Any] = list(
        # One more than a statement covers, to know if there are too many.
        touched.defer("payload").annotate(first_owed=first_owed).order_by()[: MOST + 1]
    )
    if len(found) > MOST:
        raise OrbInputError(TOO_MANY, field="since")
    pks = [one.pk for one in found]
    of_invoices: dict[str, list[InvoiceCreditNote]] = {}
    for note in notes.filter(invoice__in=pks).order_by("position"):
        of_invoices.setdefault(note.invoice_id, []).append(note)
    handed_over: dict[str, datetime | None] = {}
    for change in synced.filter(invoice__in=pks):
        # A change from another status does not say when the hand-over was, only that
        # there was one.
        is_first = change.previous_status == STATUS.ISSUED
        known = handed_over.get(change.invoice_id)
        handed_over[change.invoice_id] = change.created_at if is_first else known
    return [
        _Life(
            one,
            of_invoices.get(one.pk, []),
            handed_over.get(one.pk),
            one.pk in handed_over,
        )
        for one in found
    ]


def _told(
    life: _Life, begin: AsOf, end: AsOf, before: Decimal, after: Decimal
) -> Iterator[_Step]:
    """Yield the steps from the amount before the period to the amount after it."""
    running = before
    for event in _events(life):
        if not begin.moment < event.moment <= end.moment:
            continue
        added = event.added
        then = ZERO if added is None else exact_sum([running, added])
        then = max(then, ZERO)  # what is owed is never negative
        change = exact_sum([then, -running])
        running = then
        # An invoice without anything to pay belongs on a statement as well.
        if change or event.kind == ISSUED:
            yield _Step(event.kind, event.moment, change, life.invoice, event.number)
    if running != after:
        yield _Step(OTHER, None, exact_sum([after, -running]), life.invoice)


def _events(life: _Life) -> list[_Event]:
    """
    Return the dated changes. An invoice that was never seen as issued, because it had
    already been handed over, was never owed.
    """
    ended = _end(life)
    if ended == NEVER_OWED:
        return []
    invoice: Any = life.invoice
    found = [(invoice.issued_at, ISSUED, invoice.first_owed, "")]
    frozen = frozen_at(invoice)
    for note in life.notes:
        total, name = note.total or ZERO, str(note)
        # One that is first seen after the payment was made before it.
        dated = note.dated_at and min(note.dated_at, frozen or note.dated_at)
        # One from before the issue has already lowered the first amount.
        if not _is_before(note.dated_at, invoice.issued_at):
            found.append((dated, CREDITED, -total, name))
        found.append((note.voided_at, CREDIT_VOIDED, total, name))
    if ended is not None:
        found.append((*ended, None, ""))
    events = [_Event(*one) for one in found if one[0] is not None]
    # Nothing that happens to an invoice after its end changes what is owed.
    if ended is not None:
        events = [one for one in events if one.moment <= ended[0]]
    return sorted(events, key=lambda one: (one.moment, ORDER.index(one.kind)))


def _is_before(moment: datetime | None, other: datetime | None) -> bool:
    return moment is not None and other is not None and moment <= other


def _end(life: _Life) -> tuple[datetime, str] | None:
    """Return when and why it was no longer owed; None if it still is."""
    invoice: Any = life.invoice
    dated = {
        STATUS.PAID.value: (invoice.paid_at, PAID),
        STATUS.VOID.value: (invoice.voided_at, VOIDED),
        STATUS.SYNCED.value: (None, SYNCED),
    }
    ends = []
    if invoice.status in dated:
        moment, kind = dated[invoice.status]
        # Once it was handed over, a payment changes nothing: it was no longer owed.
        if life.was_synced or kind == SYNCED:
            moment, kind = life.synced_at, SYNCED
        if moment is None:
            return NEVER_OWED
        ends.append((moment, kind))
    if invoice.missing_since:
        ends.append((invoice.missing_since, GONE))
    return min(ends, default=None)
