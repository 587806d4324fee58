"""Show a month that is being closed: open tasks, later changes, and its sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.utils import dateformat
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb import services
from django_orb.customer_labels import label_customers, label_of
from django_orb.db import snapshot, uncompiled
from django_orb.exceptions import OrbInputError
from django_orb.formatting import (
    MOMENT,
    day,
    in_zone,
    joined,
    local_moment,
    money,
    report_day,
    report_zone,
    short,
)
from django_orb.models import Invoice, InvoiceChange, MonthEnd
from django_orb.models.failure_reasons import FailureKind
from django_orb.parsing import parse_month
from django_orb.reports import (
    CHANGES,
    CREDIT_NOTES,
    DRAFTS,
    FAILURES,
    Amount,
    Credited,
    Item,
    Month,
    Totals,
    as_of,
    items_of,
    month_of,
    read_totals,
    rows_of,
)
from django_orb.templatetags.orb_admin import address_of

from .badges import invoice_badge, status_label
from .caching import keep
from .cells import Cell, amount_of
from .customer_links import customer_url
from .exporting import PERMISSION, FileForm, log_export, make_download
from .readonly import PageAdmin

CACHE_SECONDS = 300
SHOWN = 25
MOST = 1000
# What a line shows of an invoice. The cache has nothing else of it.
SHOWN_COLUMNS = (
    "id",
    "invoice_number",
    "status",
    "currency",
    "customer_id",
    "external_customer_id",
    "invoice_date",
)

# What Orb's guide asks to look at before a month is closed:
# https://docs.withorb.com/revenue-reporting/month-end-close
PARTS: dict[str, tuple[Any, Any, Any]] = {
    DRAFTS: (
        _("Drafts that are not issued"),
        _("Every draft of this month is issued."),
        _("To be issued"),
    ),
    FAILURES: (_("Failures"), _("No invoice of this month fails."), _("Failed at")),
    CHANGES: (
        _("Changed afterwards"),
        _("No invoice of this month changed after this day."),
        _("When"),
    ),
    CREDIT_NOTES: (
        _("Credit notes"),
        _("No credit note is dated in this month."),
        _("Dated"),
    ),
}


class MonthForm(forms.Form):
    """Reads the month from the page's address."""

    month = forms.CharField(label=_("Month"), required=False)
    closed_on = forms.DateField(
        label=_("Changes after"),
        required=False,
        input_formats=["%Y-%m-%d"],
        error_messages={"invalid": _("Enter a day such as 2026-01-31.")},
    )

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        if self.errors:
            return given
        try:
            given["chosen"] = month_of(given["month"], closed_on=given["closed_on"])
        except OrbInputError as err:
            # Errors of services are in English, and this page may not be.
            raise forms.ValidationError(_refused(err, given)) from err
        return given


def _refused(err: OrbInputError, given: dict[str, Any]) -> str:
    if err.field == "closed_on":
        first, today = month_of(given["month"]).first, as_of().day
        return gettext("Choose a day from %(first)s to %(today)s.") % {
            "first": day(first),
            "today": day(today),
        }
    try:
        first = parse_month(given["month"])
    except ValueError:
        return gettext("Enter a month such as 2026-01.")
    if first > as_of().day:
        return gettext("%(month)s has not begun yet.") % {"month": given["month"]}
    return gettext("%(month)s is too long ago.") % {"month": given["month"]}


@dataclass(frozen=True)
class Line:
    """An item of a part, formatted."""

    number: str
    url: str
    customer: str
    customer_url: str
    state: SafeString
    dated: str
    when: str
    what: str
    who: str
    amount: str


@dataclass(frozen=True)
class Part:
    title: str
    nothing: str
    when_title: str
    count: str
    lines: list[Line]
    has_more: bool
    has_what: bool
    has_who: bool


@admin.register(MonthEnd)
class MonthEndAdmin(PageAdmin):
    """Shows one month; a POST writes it to a file."""

    title = _("Month end")
    template = "admin/django_orb/month_end.html"

    def answer(self, request: HttpRequest) -> dict[str, Any] | HttpResponseBase:
        form = MonthForm(request.GET)
        file_form = FileForm(request.POST if request.method == "POST" else None)
        shown: dict[str, Any] = {}
        if form.is_valid():
            month: Month = form.cleaned_data["chosen"]
            if request.method == "POST":
                response = self._export(request, month, file_form)
                if response is not None:
                    return response
            shown = self._shown(month)
        return {
            "form": form,
            "file_form": file_form,
            "may_export": request.user.has_perm(PERMISSION),
            "today": as_of().day.isoformat(),
            "errors": [text for texts in form.errors.values() for text in texts],
            **shown,
        }

    def _export(
        self, request: HttpRequest, month: Month, form: FileForm
    ) -> HttpResponseBase | None:
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        if not form.is_valid():
            return None

        def write(**file: Any) -> int:
            return services.export_month(month.name, closed_on=month.closed_on, **file)

        made = make_download(form, write, f"month-{month.name}")
        if made is None:
            return None
        response, count = made
        what = f"{count} rows of the month {month.name}"
        log_export(request, self.model, what, form, f"changes after {month.closed_on}")
        return response

    def _shown(self, month: Month) -> dict[str, Any]:
        # What is owed now is not what will have been owed at the end of today.
        when = "now" if month.at.is_now else "then"
        name = f"month {month.first} {month.closed_on} {when} {report_zone().key}"
        (totals, parts), read_at = keep(name, CACHE_SECONDS, lambda: _read(month))
        # Names are the project's to change, and so are not kept.
        label_customers([item.invoice for _, _, items in parts for item in items])
        site, titles = self.admin_site.name, _titles(totals)
        return {
            "month": month,
            "month_name": dateformat.format(month.first, "F Y"),
            "day_text": day(month.at.day),
            "closed_on": day(month.closed_on),
            "is_now": month.at.is_now,
            "zone": report_zone().key,
            "previous": _url(month.first - timedelta(days=1)),
            "totals": [_cells(one, titles) for one in totals],
            "titles": titles,
            "parts": [_part(kind, count, items, site) for kind, count, items in parts],
            "read_at": local_moment(read_at),
        }


def _url(first: date) -> str:
    return "?" + urlencode({"month": f"{first:%Y-%m}"})


Read = tuple[list[Totals], list[tuple[str, int, list[Item]]]]


def _read(month: Month) -> Read:
    invoices = Invoice.objects.all()
    # PostgreSQL would compile so many conditions for longer than they take.
    with snapshot(invoices), uncompiled(invoices):
        totals = read_totals(invoices, month)
        parts = []
        for kind in PARTS:
            rows = rows_of(kind, invoices, month)
            count = rows.order_by()[: MOST + 1].count()
            items = items_of(kind, list(rows[:SHOWN]))
            parts.append((kind, count, [_as_shown(item) for item in items]))
    return totals, parts


def _as_shown(item: Item) -> Item:
    columns = {name: getattr(item.invoice, name) for name in SHOWN_COLUMNS}
    return replace(item, invoice=Invoice(**columns))


def _titles(totals: list[Totals]) -> list[str]:
    titles = [
        gettext("Invoiced"),
        gettext("Credited"),
        gettext("Paid"),
        gettext("Outstanding"),
    ]
    if any(one.undated.count for one in totals):
        titles.append(gettext("Credit notes without a date"))
    return titles


def _cells(one: Totals, titles: list[str]) -> tuple[str, list[tuple[str, Cell]]]:
    amounts: list[Amount | Credited] = [
        one.invoiced,
        one.credited,
        one.paid,
        one.outstanding,
        one.undated,
    ]
    cells = [amount_of(amount, "") for amount in amounts]
    return one.currency, list(zip(titles, cells, strict=False))


def _part(kind: str, count: int, items: list[Item], site: str) -> Part:
    title, nothing, when = PARTS[kind]
    number = number_format(min(count, MOST), force_grouping=True)
    lines = [_line(item, site) for item in items]
    return Part(
        title=str(title),
        nothing=str(nothing),
        when_title=str(when),
        count=number if count <= MOST else f"> {number}",
        lines=lines,
        has_more=count > len(items),
        has_what=any(line.what for line in lines),
        has_who=kind == CHANGES,
    )


def _line(item: Item, site: str) -> Line:
    invoice = item.invoice
    url = address_of(site, "invoice_change", quote(invoice.pk))
    return Line(
        number=short(str(invoice)),
        url=url,
        customer=short(label_of(invoice).name),
        customer_url=customer_url(site, invoice.customer_id),
        state=invoice_badge(invoice),
        dated=report_day(invoice.invoice_date),
        when=_moment(item.moment),
        what=_what(item),
        who=_who(item.who),
        amount=money(item.amount, invoice.currency),
    )


def _moment(value: datetime | None) -> str:
    """Format a time in the time zone of the months."""
    if value is None:
        return ""
    return dateformat.format(in_zone(value, report_zone()), f"{MOMENT} T")


def _what(item: Item) -> str:
    if item.kind == FAILURES:
        failing = [str(FailureKind(one).label) for one in item.fields]
        return joined(" · ", *failing, short(item.note))
    if item.kind == CHANGES:
        moved = ""
        if not item.before:
            moved = gettext("First seen: %(status)s") % {
                "status": status_label(item.after)
            }
        elif item.before != item.after:
            moved = f"{status_label(item.before)} → {status_label(item.after)}"
        return joined(" · ", moved, short(", ".join(item.fields)))
    voided = gettext("voided") if item.is_void else ""
    return joined(" · ", short(item.note), voided)


def _who(who: str) -> str:
    origins = dict(InvoiceChange.Origin.choices)
    return str(origins[who]) if who in origins else who
