"""Ask Orb what a customer's subscriptions would be billed next."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import Max
from django.utils import timezone

from django_orb.admin import upcoming
from django_orb.admin.actions import explain
from django_orb.exceptions import OrbConfigurationError, OrbError, OrbNotFoundError

from .sections import Customer

#: How many subscriptions a page asks Orb about at most.
MOST = 10
#: A subscription without an invoice for that long has ended.
# Longer than a year, for those that are billed once a year.
LATELY = timedelta(days=400)


@dataclass(frozen=True)
class Subscription:
    """The forecast for one subscription, or why there is none."""

    subscription_id: str
    forecast: upcoming.Forecast | None = None
    note: str = ""


@dataclass
class Forecasts:
    """The forecasts of a customer; `problem` says why Orb was not asked for all."""

    subscriptions: list[Subscription] = field(default_factory=list)
    problem: str = ""
    has_more: bool = False


def read_forecasts(customer: Customer) -> Forecasts:
    """
    Ask Orb for the upcoming invoice of each subscription, the latest billed first.

    After an error that concerns more than one subscription, Orb is not asked again.
    """
    billed = customer.invoices.filter(invoice_date__gte=timezone.now() - LATELY)
    latest = billed.exclude(subscription_id="").order_by().values("subscription_id")
    ids = [
        row["subscription_id"]
        for row in latest.annotate(last=Max("invoice_date")).order_by("-last")[
            : MOST + 1
        ]
    ]
    found = Forecasts(has_more=len(ids) > MOST)
    for subscription_id in ids[:MOST]:
        try:
            invoice, read_at = upcoming.fetch(subscription_id)
            forecast = upcoming.read_forecast(invoice, read_at)
        except OrbNotFoundError as err:
            # Concerns this subscription alone, for instance because it has ended.
            one = Subscription(subscription_id, note=err.detail)
        except (OrbError, OrbConfigurationError) as err:
            found.problem = explain(err)
            break
        else:
            one = Subscription(subscription_id, forecast)
        found.subscriptions.append(one)
    return found
