"""Sort payments by how late they are: the five usual spans, and one without a date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Age:
    """A span of days after the due date: more than `first`, and at most `end`."""

    name: str
    title: object
    first: int | None = None
    end: int | None = None

    def condition(self, moment: datetime) -> Q:
        """Match open invoices whose payment is as late as this at a moment."""
        if self.name == "undated":
            return Q(due_date=None)
        found = Q()
        if self.end is not None:
            found &= Q(due_date__gte=moment - timedelta(days=self.end))
        if self.first is not None:
            found &= Q(due_date__lt=moment - timedelta(days=self.first))
        return found


# As many spans as Orb's own report on the age of receivables has
# (https://docs.withorb.com/financial-operations/ar-aging), and one for what has no
# date.
AGES = (
    Age("not_due", _("Not yet due"), end=0),
    Age("30", _("1 to 30 days late"), first=0, end=30),
    Age("60", _("31 to 60 days late"), first=30, end=60),
    Age("90", _("61 to 90 days late"), first=60, end=90),
    Age("older", _("Over 90 days late"), first=90),
    Age("undated", _("Without a due date")),
)


def age_of(due_date: datetime | None, moment: datetime) -> Age:
    """Return the span that a payment is in at a moment, as `Age.condition` has it."""
    if due_date is None:
        return AGES[-1]
    late = moment - due_date
    for age in AGES[:-1]:
        if age.end is None or late <= timedelta(days=age.end):
            return age
    raise AssertionError("the last span has no end")


def days_late(due_date: datetime | None, moment: datetime) -> int | None:
    """Return the days since the due date, rounded up; None if there is no due date."""
    if due_date is None:
        return None
    late = moment - due_date
    # So the number fits the span: what is late by an hour is in "1 to 30 days".
    return -(-late // timedelta(days=1)) if late > timedelta() else 0
