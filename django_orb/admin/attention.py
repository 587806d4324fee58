"""Find what needs attention, and where it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.contrib.admin.utils import quote
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import local_moment, money, recorded, short
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceOperation,
    WebhookEvent,
)

SHOWN = 5
MOST = 1000

Status = Invoice.Status


#: Conditions of invoices that need a person, by the name of the list's filter.
INVOICES: dict[str, tuple[Any, Q]] = {
    "payment_failed": (
        _("Payment failed"),
        Q(status=Status.ISSUED, missing_since=None, payment_failed_at__isnull=False),
    ),
    "issue_failed": (
        _("Issuing failed"),
        Q(status=Status.DRAFT, missing_since=None, issue_failed_at__isnull=False),
    ),
    "sync_failed": (
        _("Sync to a provider failed"),
        Q(
            status__in=[Status.ISSUED, Status.PAID],
            missing_since=None,
            sync_failed_at__isnull=False,
        ),
    ),
    "missing": (_("Deleted in Orb"), Q(missing_since__isnull=False)),
}


AGE_TITLES = {
    "not_due": _("Not yet due"),
    "30": _("1 to 30 days late"),
    "60": _("31 to 60 days late"),
    "90": _("61 to 90 days late"),
    "older": _("Over 90 days late"),
    "undated": _("Without a due date"),
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
    """Rows of a model that are in trouble; `note` says more about one of them."""

    model: str
    title: Any
    advice: Any
    rows: QuerySet[Any, Any]
    query: str
    note: Callable[[Any], str]


def read_concerns(request: HttpRequest, site: str) -> list[Concern]:
    """Return those that exist and that the user may see. Two queries for each kind."""
    concerns = []
    for kind in (*_kinds_of_invoices(), *_other_kinds()):
        if not request.user.has_perm(f"django_orb.view_{kind.model}"):
            continue
        count = kind.rows.order_by()[: MOST + 1].count()
        first = list(kind.rows[:SHOWN])
        if count:
            number = number_format(min(count, MOST), force_grouping=True)
            concern = Concern(
                title=str(kind.title),
                count=number if count <= MOST else f"> {number}",
                cases=[_case(kind, one, site) for one in first],
                url=_url(site, kind.model, "changelist") + kind.query,
                advice=str(kind.advice),
            )
            concerns.append(concern)
    return concerns


def _kinds_of_invoices() -> Iterator[Kind]:
    for name, (title, condition) in INVOICES.items():
        yield Kind(
            "invoice",
            title,
            ADVICE[name],
            Invoice.objects.filter(condition).defer("payload").order_by("invoice_date"),
            "?missing=yes" if name == "missing" else f"?needs={name}",
            lambda one: money(one.amount_due, one.currency),
        )


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
        _("Changes that could not be told"),
        ADVICE["change"],
        untold.order_by("pk"),
        "?told=failed",
        lambda one: local_moment(one.created_at),
    )


ADVICE = {
    "payment_failed": _("Ask the customer for another way to pay, or collect again."),
    "issue_failed": _("Check in Orb why the draft could not be issued."),
    "sync_failed": _("Check in Orb and at the provider why the invoice was refused."),
    "missing": _("Orb no longer knows them; they stay here for the record."),
    "failure": _("The reason says what is wrong; each sync tries again."),
    "operation": _("Check in Orb whether it happened, and record that on its page."),
    "event": _("They are retried automatically; the page shows why they failed."),
    "change": _(
        "Correct the receiver that the error names, then tell them again; later "
        "changes of these invoices wait until then."
    ),
}


def _case(kind: Kind, row: Any, site: str) -> Case:
    url = _url(site, kind.model, "change", quote(str(row.pk)))
    return Case(url, short(str(row)), short(kind.note(row)))


def _url(site: str, model: str, view: str, *arguments: Any) -> str:
    name = f"admin:django_orb_{model}_{view}"
    return reverse(name, args=arguments, current_app=site)
