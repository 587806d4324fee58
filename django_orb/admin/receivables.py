"""Show what was owed on a day, by customer, currency and age, and on which invoices."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb import services
from django_orb.customer_labels import Customer, read_labels
from django_orb.db import uncompiled
from django_orb.formatting import (
    day,
    local_moment,
    money,
    report_day,
    report_zone,
    short,
)
from django_orb.models import Invoice, Receivables
from django_orb.models.invoice_status import days_late
from django_orb.reports import (
    AGES,
    FIRST_DAY,
    Ageing,
    AsOf,
    as_of,
    choose,
    customers_owing,
    owed,
    read_customers,
    read_receivables,
)
from django_orb.templatetags.orb_admin import address_of

from . import paginator
from .badges import invoice_badge
from .caching import keep
from .cells import Cell, amount_of
from .customer_links import customer_url
from .exporting import PERMISSION, FileForm, log_export, make_download
from .paginator import CappedPaginator
from .readonly import PageAdmin

CACHE_SECONDS = 300
ON_A_PAGE = 50
# No page number has more digits, and Python refuses to read very long numbers.
MAX_DIGITS = 4


class QuestionForm(forms.Form):
    """Reads the parameters in the page's address."""

    day = forms.DateField(
        label=_("As of the end of"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        input_formats=["%Y-%m-%d"],
        error_messages={"invalid": _("Enter a day such as 2026-01-31.")},
    )
    currency = forms.CharField(required=False, max_length=64)
    age = forms.ChoiceField(
        required=False, choices=[("", ""), *((one.name, one.title) for one in AGES)]
    )
    # As long as an id of Orb's may be.
    customer = forms.CharField(required=False, max_length=128)
    show = forms.ChoiceField(required=False, choices=[("", ""), ("invoices", "")])

    def clean_day(self) -> Any:
        chosen = self.cleaned_data["day"]
        today = as_of().day
        if chosen is not None and chosen > today:
            raise forms.ValidationError(
                gettext("%(day)s has not come yet. Choose today or a day before it.")
                % {"day": day(chosen)}
            )
        if chosen is not None and chosen < FIRST_DAY:
            raise forms.ValidationError(
                gettext("%(day)s is too long ago. Choose a later day.")
                % {"day": day(chosen)}
            )
        return chosen


@dataclass(frozen=True)
class Question:
    """The question that the page answers: all customers of a currency, or invoices."""

    at: AsOf
    currency: str = ""
    age: str = ""
    customer: str = ""
    is_of_invoices: bool = False

    def url(self, **changes: Any) -> str:
        """Return this page's address with other parameters; "" leaves one out."""
        given = {
            "day": "" if self.at.is_now else self.at.day.isoformat(),
            "currency": self.currency,
            "age": self.age,
            "customer": self.customer,
            "show": "invoices" if self.is_of_invoices else "",
            **changes,
        }
        return "?" + urlencode({name: one for name, one in given.items() if one})

    def invoices_url(self, currency: str, **chosen: str) -> str:
        """Return the address of the invoices that a cell of a table adds up."""
        return self.url(
            **{"currency": currency, "customer": "", **chosen, "show": "invoices"}
        )

    def rows(self) -> Any:
        return choose(
            Invoice.objects.all(),
            self.at,
            currency=self.currency,
            customer_id=self.customer,
            age=self.age,
        )


@dataclass(frozen=True)
class Line:
    """A row of amounts by age; `name` is the customer's, if it is about one."""

    currency: str
    cells: list[Cell]
    url: str
    name: str = ""

    @property
    def titled(self) -> list[tuple[str, Cell]]:
        """The cells, each with the title of its column."""
        titles = [*(str(one.title) for one in AGES), gettext("All")]
        return list(zip(titles, self.cells, strict=True))


@dataclass(frozen=True)
class InvoiceLine:
    """A row of the table of invoices."""

    number: str
    url: str
    customer: str
    customer_url: str
    dated: str
    due: str
    late: str
    amount: str
    state: SafeString


@dataclass(frozen=True)
class Figures:
    """The sums of a page, which are cached for a while."""

    totals: list[Ageing]
    customers: list[Ageing] = field(default_factory=list)
    count: int = 0
    is_capped: bool = False


@admin.register(Receivables)
class ReceivablesAdmin(PageAdmin):
    """Shows what its address asks for; a POST writes it to a file."""

    title = _("Receivables")
    template = "admin/django_orb/receivables.html"

    def answer(self, request: HttpRequest) -> dict[str, Any] | HttpResponseBase:
        form = QuestionForm(request.GET)
        if form.is_valid():
            question = _question(form.cleaned_data)
            file_form = FileForm(request.POST if request.method == "POST" else None)
            if request.method == "POST":
                response = self._export(request, question, file_form)
                if response is not None:
                    return response
            shown = self._shown(request, question, file_form)
        else:
            shown = {"day_text": ""}
        return {
            "form": form,
            "today": as_of().day.isoformat(),
            "errors": [text for texts in form.errors.values() for text in texts],
            **shown,
        }

    def may_export(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    def _export(
        self, request: HttpRequest, question: Question, form: FileForm
    ) -> HttpResponseBase | None:
        if not self.may_export(request):
            raise PermissionDenied
        if not form.is_valid():
            return None
        # The page of customers has a button for either file.
        are_invoices = question.is_of_invoices or "invoices" in request.POST

        def write(**file: Any) -> int:
            return services.export_receivables(
                None if question.at.is_now else question.at.day,
                invoices=are_invoices,
                currency=question.currency or None,
                customer_id=question.customer or None,
                age=question.age or None,
                **file,
            )

        made = make_download(form, write, f"receivables-{question.at.day}")
        if made is None:
            return None
        response, count = made
        what = "invoices" if are_invoices else "rows of customers"
        log_export(
            request,
            self.model,
            f"{count} {what} owed on {question.at.day}",
            form,
            f"filter: {question.url()[1:] or 'none'}",
        )
        return response

    def _shown(
        self, request: HttpRequest, question: Question, file_form: FileForm
    ) -> dict[str, Any]:
        at = question.at
        shown = {
            "question": question,
            "day_text": day(at.day),
            "is_now": at.is_now,
            "zone": report_zone().key,
            "ages": [str(one.title) for one in AGES],
            "file_form": file_form,
            "may_export": self.may_export(request),
            "all_url": question.url(age="", customer="", show=""),
        }
        number = _number(request.GET.get("p", ""))
        if question.is_of_invoices:
            return {**shown, **self._invoices(question, number)}
        return {**shown, **_customers(question, number, self.admin_site.name)}

    def _invoices(self, question: Question, number: int) -> dict[str, Any]:
        at = question.at
        figures, read_at = _keep(question, 0, lambda: _totals(question))
        pages = KnownPages(figures.count, figures.is_capped)
        page = pages.get_page(number)
        rows: Any = owed(question.rows(), at).defer("payload")
        first = (page.number - 1) * ON_A_PAGE
        # PostgreSQL would compile so many conditions for longer than they take.
        with uncompiled(rows):
            found = list(rows.order_by("due_date", "pk")[first : first + ON_A_PAGE])
        labels = _labels(
            [Customer(one.customer_id, one.external_customer_id) for one in found]
        )
        sums = [
            amount_of(one.all, one.currency) for one in figures.totals if one.all.count
        ]
        return {
            "sums": sums,
            "chosen": _chosen(question, next(iter(labels.values()), "")),
            "lines": [self._line(one, labels, at) for one in found],
            "page": page,
            "page_urls": _page_urls(question, page),
            "read_at": local_moment(read_at),
        }

    def _line(self, invoice: Any, labels: Any, at: AsOf) -> InvoiceLine:
        customer = Customer(invoice.customer_id, invoice.external_customer_id)
        url = address_of(self.admin_site.name, "invoice_change", quote(invoice.pk))
        late = days_late(invoice.due_date, at.moment)
        return InvoiceLine(
            number=short(str(invoice)),
            url=url,
            customer=labels[customer],
            customer_url=customer_url(self.admin_site.name, invoice.customer_id),
            dated=report_day(invoice.invoice_date),
            due=report_day(invoice.due_date),
            late=str(late) if late else "",
            amount=money(invoice.owed, invoice.currency),
            state=invoice_badge(invoice),
        )


def _number(text: str) -> int:
    """Return the number of a page; 1 if the text is not a number."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if is_number else 1


def _question(given: dict[str, Any]) -> Question:
    return Question(
        at=as_of(given["day"]),
        currency=given["currency"],
        age=given["age"],
        customer=given["customer"],
        is_of_invoices=bool(given["show"] or given["age"] or given["customer"]),
    )


def _customers(question: Question, number: int, site: str) -> dict[str, Any]:
    figures, read_at = _keep(
        question, number, lambda: _customer_figures(question, number)
    )
    currency = question.currency or _busiest(figures.totals)
    pages = KnownPages(figures.count, figures.is_capped)
    page = pages.get_page(number)
    labels = _labels([one.customer for one in figures.customers if one.customer])
    return {
        "totals": [
            _line_of(question, one, url=question.url(currency=one.currency))
            for one in figures.totals
        ],
        "currency": currency,
        "customers": [
            _line_of(
                question,
                one,
                url=customer_url(site, one.customer.customer_id),
                name=labels[one.customer],
            )
            for one in figures.customers
            if one.customer
        ],
        "page": page,
        "page_urls": _page_urls(question, page),
        "read_at": local_moment(read_at),
    }


def _customer_figures(question: Question, number: int) -> Figures:
    every = Invoice.objects.all()
    totals = read_receivables(every, question.at)
    currency = question.currency or _busiest(totals)
    pages = CappedPaginator(customers_owing(every, question.at, currency), ON_A_PAGE)
    with uncompiled(every):
        rows = list(pages.get_page(number).object_list)
    customers = read_customers(every, question.at, currency, rows)
    return Figures(totals, customers, pages.count, pages.is_capped)


def _totals(question: Question) -> Figures:
    totals = read_receivables(question.rows(), question.at)
    count = sum(one.all.count for one in totals)
    return Figures(
        totals, count=min(count, paginator.MOST), is_capped=count > paginator.MOST
    )


def _keep(question: Question, number: int, read: Any) -> tuple[Figures, datetime]:
    # An id in an address may have any length and any characters: the key is hashed.
    name = (
        f"receivables {question.at.day} {report_zone().key} {question.url()} {number}"
    )
    return keep(name, CACHE_SECONDS, read)


def _busiest(totals: list[Ageing]) -> str:
    return totals[0].currency if totals else ""


class KnownPages(CappedPaginator):
    """Pages of rows that have been read and counted."""

    def __init__(self, count: int, is_capped: bool) -> None:
        super().__init__(range(count), ON_A_PAGE)
        self._is_capped = is_capped

    @property
    def _counted(self) -> int:
        # Counted together with the sums, so that turning pages does not count again.
        return len(self.object_list) + self._is_capped


def _line_of(question: Question, one: Ageing, *, url: str, name: str = "") -> Line:
    customer = one.customer.customer_id if one.customer else ""
    cells = [
        amount_of(
            amount,
            "",
            question.invoices_url(one.currency, age=age.name, customer=customer),
        )
        for age, amount in zip(AGES, one.by_age, strict=True)
    ]
    every = question.invoices_url(one.currency, age="", customer=customer)
    return Line(one.currency, [*cells, amount_of(one.all, "", every)], url, name)


def _labels(customers: list[Customer]) -> dict[Customer, str]:
    given = read_labels(set(customers))
    return {
        one: short(given[one].name)
        if one in given
        else short(one.external_customer_id or one.customer_id)
        for one in customers
    }


def _chosen(question: Question, customer: str) -> list[tuple[str, str]]:
    """Say in words how the invoices were chosen."""
    titles = {one.name: str(one.title) for one in AGES}
    found = [
        (gettext("Currency"), question.currency),
        (gettext("Age"), titles.get(question.age, "")),
        (gettext("Customer"), question.customer and (customer or question.customer)),
    ]
    return [(name, value) for name, value in found if value]


def _page_urls(question: Question, page: Any) -> list[tuple[Any, str]]:
    """Return the numbers of pages, each with its address; "" for gaps and for this page."""
    numbers = page.paginator.get_elided_page_range(page.number, on_ends=1)
    return [
        (
            number,
            question.url(p=number)
            if isinstance(number, int) and number != page.number
            else "",
        )
        for number in numbers
    ]
