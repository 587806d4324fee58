"""Format the amounts in tables of figures."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from django_orb.formatting import money
from django_orb.reports import Amount, Credited


@dataclass(frozen=True)
class Cell:
    """An amount, the number of its invoices, and the address of their list."""

    amount: str
    count: str = ""
    url: str = ""


def amount_of(amount: Amount | Credited, currency: str, url: str = "") -> Cell:
    # Unlike a sum of 0, which may be that of several invoices.
    if not amount.count:
        return Cell("-")
    count = number_format(amount.count, force_grouping=True)
    words = ngettext("%(count)s invoice", "%(count)s invoices", amount.count)
    # Orb sent a credit note whose total cannot be read.
    is_known = amount.total is not None
    shown = money(amount.total, currency) if is_known else gettext("not known")
    return Cell(shown, words % {"count": count}, url)
