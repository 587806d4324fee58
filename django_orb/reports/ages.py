"""How late a payment is, in the five spans that everybody ages by, and one more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q


@dataclass(frozen=True)
class Age:
    """A span of days after the due date: from `first` on, and before `end`."""

    name: str
    first: int | None = None
    end: int | None = None

    def condition(self, moment: datetime) -> Q:
        """Match open invoices whose payment is so late at this moment."""
        if self.name == "undated":
            return Q(due_date=None)
        found = Q()
        if self.end is not None:
            found &= Q(due_date__gte=moment - timedelta(days=self.end))
        if self.first is not None:
            found &= Q(due_date__lt=moment - timedelta(days=self.first))
        return found


AGES = (
    Age("not_due", end=0),
    Age("30", first=0, end=30),
    Age("60", first=30, end=60),
    Age("90", first=60, end=90),
    Age("older", first=90),
    Age("undated"),
)
