"""Sort payments by how late they are: the five usual spans, and one without a date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_orb.models.invoice_status import days_late, late_by, less_late_than


@dataclass(frozen=True)
class Age:
    """A span of whole days after the due date, from `first` to `end`."""

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
            found &= less_late_than(moment, self.end + 1)
        if self.first is not None:
            found &= late_by(moment, self.first)
        return found


# As many spans as Orb's own report on the age of receivables has
# (https://docs.withorb.com/financial-operations/ar-aging), and one for what has no
# date.
AGES = (
    Age("not_due", _("Not yet due"), end=0),
    Age("30", _("1 to 30 days late"), first=1, end=30),
    Age("60", _("31 to 60 days late"), first=31, end=60),
    Age("90", _("61 to 90 days late"), first=61, end=90),
    Age("older", _("Over 90 days late"), first=91),
    Age("undated", _("Without a due date")),
)


def age_of(due_date: datetime | None, moment: datetime) -> Age:
    """Return the span that a payment is in at a moment, as `Age.condition` has it."""
    if due_date is None:
        return AGES[-1]
    late = days_late(due_date, moment)
    for age in AGES[:-1]:
        if age.end is None or late <= age.end:
            return age
    raise AssertionError("the last span has no end")
