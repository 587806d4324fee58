"""Show what a subscription would be billed next; each view asks Orb."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.http import HttpResponse
from django.utils.translation import gettext

from django_orb import services
from django_orb.exceptions import OrbConfigurationError, OrbError, OrbNotFoundError
from django_orb.formatting import local_moment, report_short, report_zone
from django_orb.models import Invoice
from django_orb.services import UpcomingInvoice

from .actions import ActionContext, explain
from .caching import keep
from .invoice_page import ZERO, LineView, Row, read_lines, read_sums

# Users go back and forth between pages: each look would be a request to Orb.
CACHE_SECONDS = 60


@dataclass(frozen=True)
class Forecast:
    target: str
    read_at: str
    amount_due: str
    lines: list[LineView]
    sums: list[Row]
    hidden_lines: str = ""


def respond(call: ActionContext) -> HttpResponse | None:
    """Show the upcoming invoice, or say why there is none and return None."""
    invoice = call.invoices[0]
    if not invoice.subscription_id:
        call.say(
            messages.WARNING, gettext("It does not belong to a subscription."), invoice
        )
        return None
    try:
        upcoming, read_at = fetch(invoice.subscription_id)
    except OrbNotFoundError as err:
        call.say(
            messages.WARNING,
            gettext("Nothing is upcoming. %(detail)s") % {"detail": err.detail},
            invoice,
        )
        return None
    except (OrbError, OrbConfigurationError) as err:
        call.say(messages.ERROR, explain(err), invoice)
        return None
    title = gettext("Upcoming invoice of subscription %(subscription_id)s") % {
        "subscription_id": invoice.subscription_id
    }
    context = {
        "title": title,
        "shown": read_forecast(upcoming, read_at),
        "zone": report_zone().key,
    }
    return call.render("upcoming.html", context)


def fetch(subscription_id: str) -> tuple[UpcomingInvoice, datetime]:
    """Return the upcoming invoice and when it was read, at most a minute ago."""
    return keep(
        f"upcoming {subscription_id}",
        CACHE_SECONDS,
        lambda: services.fetch_upcoming_invoice(subscription_id),
    )


def read_forecast(upcoming: UpcomingInvoice, read_at: datetime) -> Forecast:
    # An invoice that is never saved, so that the sums are written as for others.
    # Older accounts leave out all but the subtotal.
    subtotal = ZERO if upcoming.subtotal is None else upcoming.subtotal
    total = subtotal if upcoming.total is None else upcoming.total
    like = Invoice(
        status=Invoice.Status.DRAFT,
        currency=upcoming.currency,
        subtotal=subtotal,
        total=total,
        amount_due=total if upcoming.amount_due is None else upcoming.amount_due,
    )
    sums = read_sums(like, upcoming.payload)
    return Forecast(
        # Upcoming invoices have this in the place of an invoice date.
        target=report_short(upcoming.target_date),
        read_at=local_moment(read_at),
        amount_due=sums[-1].amount,
        lines=read_lines(upcoming.payload, upcoming.currency),
        sums=sums,
    )
