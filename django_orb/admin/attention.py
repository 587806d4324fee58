"""Find what needs attention, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from django.contrib.admin.utils import quote
from django.db.models import Prefetch, Q, QuerySet, prefetch_related_objects
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import (
    humanized,
    joined,
    local_moment,
    money,
    recorded,
    short,
)
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceFailureReason,
    InvoiceOperation,
    WebhookEvent,
)
from django_orb.models.failure_reasons import FAILING, FailureKind
from django_orb.templatetags.orb_admin import address_of

SHOWN = 5
MOST = 1000

#: The conditions of invoices that need attention, by the name of the list's filter.
INVOICES: dict[str, tuple[Any, Q]] = {
    "payment_failed": (
        FailureKind.PAYMENT.label,
        FAILING[FailureKind.PAYMENT].condition(),
    ),
    "issue_failed": (FailureKind.ISSUE.label, FAILING[FailureKind.ISSUE].condition()),
    "sync_failed": (FailureKind.SYNC.label, FAILING[FailureKind.SYNC].condition()),
    "accounting_sync_failed": (
        FailureKind.ACCOUNTING_SYNC.label,
        # Only the reason shows this trouble; there are few, so each leads to its invoice.
        Q(
            pk__in=InvoiceFailureReason.objects.filter(
                kind=FailureKind.ACCOUNTING_SYNC, over_until=None
            ).values("invoice"),
            missing_since=None,
        ),
    ),
    "missing": (_("Deleted in Orb"), Q(missing_since__isnull=False)),
}


@dataclass(frozen=True)
class Case:
    url: str
    name: str
    note: str


@dataclass(frozen=True)
class Concern:
    """One kind of trouble; `advice` says what to do about it."""

    title: str
    count: str
    cases: list[Case]
    url: str
    advice: str


class Kind(NamedTuple):
    """The rows of a model that are in trouble; `note` says more about each."""

    model: str
    title: Any
    advice: Any
    rows: QuerySet[Any, Any]
    query: str
    note: Callable[[Any], str]


def read_concerns(request: HttpRequest, site: str) -> list[Concern]:
    """
    Return the kinds of trouble that there are and that the user may see.

    Two queries for each kind, and one for the reasons of all invoices that are shown.
    """
    found: list[tuple[Kind, int, list[Any]]] = []
    for kind in (*_kinds_of_invoices(), *_other_kinds()):
        if not request.user.has_perm(f"django_orb.view_{kind.model}"):
            continue
        # Bounded, because counting reads each of them.
        count = kind.rows.order_by()[: MOST + 1].count()
        first = list(kind.rows[:SHOWN])
        if count:
            found.append((kind, count, first))
    invoices = [row for *_, first in found for row in first if isinstance(row, Invoice)]
    current = InvoiceFailureReason.objects.current()
    # For all kinds at once, after what each of them shows is known.
    prefetch_related_objects(
        invoices, Prefetch("failure_reasons", current, to_attr="reasons")
    )
    return [_concern(kind, count, first, site) for kind, count, first in found]


def _concern(kind: Kind, count: int, first: list[Any], site: str) -> Concern:
    number = number_format(min(count, MOST), force_grouping=True)
    url = address_of(site, f"{kind.model}_changelist")
    return Concern(
        title=str(kind.title),
        count=number if count <= MOST else f"> {number}",
        cases=[_case(kind, one, site) for one in first],
        url=f"{url}{kind.query}" if url else "",
        advice=str(kind.advice),
    )


def _kinds_of_invoices() -> Iterator[Kind]:
    for name, (title, condition) in INVOICES.items():
        rows = Invoice.objects.filter(condition).defer("payload")
        yield Kind(
            "invoice",
            title,
            ADVICE[name],
            rows.order_by("invoice_date"),
            # For invoices that are gone the list has a filter of their own.
            "?missing=yes" if name == "missing" else f"?needs={name}",
            partial(_amount_and_reason, kind=name.removesuffix("_failed")),
        )


def _amount_and_reason(invoice: Any, *, kind: str) -> str:
    reasons = [reason for reason in invoice.reasons if reason.kind == kind]
    told = [joined(": ", humanized(one.connection_type), one.reason) for one in reasons]
    return joined(" · ", money(invoice.amount_due, invoice.currency), *told)


def _other_kinds() -> Iterator[Kind]:
    yield Kind(
        "invoicefailure",
        _("Could not be read"),
        ADVICE["failure"],
        InvoiceFailure.objects.order_by("failed_at").defer("payload_text"),
        "",
        lambda one: str(one.reason),
    )
    unknown = InvoiceOperation.State.NEEDS_ATTENTION.value
    yield Kind(
        "invoiceoperation",
        _("Operations with an unknown outcome"),
        ADVICE["operation"],
        InvoiceOperation.objects.filter(state=unknown).order_by("pk"),
        f"?state__exact={unknown}",
        lambda one: recorded(one.detail),
    )
    failed = WebhookEvent.State.FAILED.value
    yield Kind(
        "webhookevent",
        _("Webhook events that failed"),
        ADVICE["event"],
        WebhookEvent.objects.filter(state=failed).defer("body").order_by("received_at"),
        f"?state__exact={failed}",
        lambda one: local_moment(one.received_at),
    )
    untold = InvoiceChange.objects.filter(announced_at=None, failed_at__isnull=False)
    yield Kind(
        "invoicechange",
        _("Changes that could not be announced"),
        ADVICE["change"],
        untold.order_by("pk"),
        "?told=failed",
        lambda one: local_moment(one.created_at),
    )


ADVICE = {
    "payment_failed": _("Ask the customer for another way to pay, or collect again."),
    "issue_failed": _("Check in Orb why the draft could not be issued."),
    "sync_failed": _("Check in Orb and at the provider why the invoice was refused."),
    "accounting_sync_failed": _(
        "Correct it in the accounting system and have Orb sync it again; Orb's event "
        "of success takes it off this list."
    ),
    "missing": _("Orb no longer knows them; they stay here for the record."),
    "failure": _("The reason says what is wrong; each sync tries again."),
    "operation": _("Check in Orb whether it happened, and record that on its page."),
    "event": _("They are retried automatically; the page shows why they failed."),
    "change": _(
        "Correct the receiver that the error names, then announce them again; later "
        "changes of these invoices wait until then."
    ),
}


def _case(kind: Kind, row: Any, site: str) -> Case:
    url = address_of(site, f"{kind.model}_change", quote(str(row.pk)))
    return Case(url, short(str(row)), short(kind.note(row)))
