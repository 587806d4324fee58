"""Format the statement of a customer's account, for paper and screen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.admin.invoice_page import read_address
from django_orb.exceptions import OrbInputError
from django_orb.formatting import (
    as_map,
    day,
    in_zone,
    joined,
    money,
    recorded,
    report_day,
    report_zone,
    short,
)
from django_orb.models import Invoice
from django_orb.reports import Account, Entry, Statement, read_statement

from .sections import Customer


@dataclass(frozen=True)
class Line:
    """An entry; `pk` is that of its invoice, or "" if it has none."""

    day: str
    text: str
    pk: str
    number: str
    note: str
    amount: str
    balance: str


@dataclass(frozen=True)
class AccountView:
    """One currency's account, formatted."""

    currency: str
    opening: str
    lines: list[Line]
    closing: str


class PeriodForm(forms.Form):
    """The period of a statement; by default last month and this one until today."""

    since = forms.DateField(
        label=_("First day"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    until = forms.DateField(
        label=_("Last day"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )

    def __init__(self, query: Any) -> None:
        is_asked = "since" in query or "until" in query
        super().__init__(query if is_asked else default_period())

    def read(self, customer: Customer) -> Statement | None:
        """Read the statement. If there is none, say why and return None."""
        if not self.is_valid():
            return None
        since, until = self.cleaned_data["since"], self.cleaned_data["until"]
        # Errors of the service are in English: what is often mistaken is said here.
        today = in_zone(timezone.now(), report_zone()).date()
        if until > today:
            self.add_error("until", _("This day has not come yet."))
        elif since > until:
            self.add_error("since", _("The period begins after its end."))
        else:
            try:
                return read_statement(customer.invoices, since, until)
            except OrbInputError as err:
                is_ancient = err.field == "day"
                text = (
                    _("This day is too long ago.") if is_ancient else recorded(str(err))
                )
                self.add_error("since", text)
        return None


def default_period() -> dict[str, date]:
    today = in_zone(timezone.now(), report_zone()).date()
    last_month = today.replace(day=1) - timedelta(days=1)
    return {"since": last_month.replace(day=1), "until": today}


def read_accounts(statement: Statement) -> list[AccountView]:
    return [_account_view(one) for one in statement.accounts]


def _account_view(account: Account) -> AccountView:
    return AccountView(
        account.currency,
        money(account.opening, account.currency),
        [_line(one, account.currency) for one in account.entries],
        money(account.closing, account.currency),
    )


def _line(entry: Entry, currency: str) -> Line:
    moment, invoice = entry.moment, entry.invoice
    texts = {
        "issued": gettext("Invoice"),
        "credited": gettext("Credit note %(number)s"),
        "credit_voided": gettext("Credit note %(number)s voided"),
        "paid": gettext("Payment"),
        "voided": gettext("Invoice voided"),
        "synced": gettext("Handed over to the provider"),
        "gone": gettext("Deleted in Orb"),
        "other": gettext("Other change, without a date"),
    }
    return Line(
        day=day(in_zone(moment, report_zone())) if moment else "",
        text=texts[entry.kind] % {"number": short(entry.number)},
        pk=invoice.pk if invoice else "",
        number=short(str(invoice)) if invoice else "",
        note=_note(entry.kind, invoice) if invoice else "",
        amount=money(entry.amount, currency),
        balance=money(entry.balance, currency),
    )


def _note(kind: str, invoice: Invoice) -> str:
    if kind == "issued":
        due = report_day(invoice.due_date)
        return joined(
            ", ",
            gettext("dated %(day)s") % {"day": report_day(invoice.invoice_date)},
            gettext("due %(day)s") % {"day": due} if due else "",
        )
    # The provider's day of the payment, which may be another than Orb's.
    received = invoice.payment_received_at if kind == "paid" else None
    if received and invoice.paid_at:
        shown = report_day(received)
        if shown != report_day(invoice.paid_at):
            return gettext("received %(day)s") % {"day": shown}
    return ""


def read_bill_to(customer: Customer) -> list[str]:
    """Return the lines of the latest invoice's billing address; one query."""
    # Only invoices have an address: the mirror has no customers of its own.
    latest = customer.invoices.order_by("-invoice_date").only("payload").first()
    payload = as_map(latest.payload) if latest else {}
    return read_address(payload.get("billing_address"))
