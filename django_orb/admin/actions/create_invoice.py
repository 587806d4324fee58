"""Create a one-off invoice of one line: the form, the confirmation, the call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext

from django_orb import services
from django_orb.admin.invoice_page import RECENT, newest, read_operation_view
from django_orb.admin.texts import lazy as _
from django_orb.customer_labels import label_customers
from django_orb.db import primary
from django_orb.formatting import day, money, quantity, short, span
from django_orb.models import Invoice, InvoiceOperation
from django_orb.models.operation_types import CREATE_INVOICE

from .action_context import ActionContext, change_url, read_pk
from .forms import InvoiceForm
from .outcomes import Outcome, attempt_write
from .selection import FormToken, new_token

KIND = CREATE_INVOICE.kind.value
# The invoices whose customers the form suggests.
NEWEST = 300


@dataclass(frozen=True)
class Suggestion:
    """A customer that the mirror has seen lately."""

    customer_id: str
    name: str


def respond(call: ActionContext) -> HttpResponse | None:
    """Show the form, then the confirmation; make what was confirmed, and show it."""
    token, is_ours = call.token(KIND)
    post = call.request.POST
    is_filled_in = is_ours and any(name in post for name in ("preview", "edit", "post"))
    chosen = {"customer_id": call.request.GET.get("customer_id", "")}
    form = InvoiceForm(post if is_filled_in else None, initial=chosen)
    if not form.is_bound or not form.is_valid() or "edit" in post:
        return ask(call, token, form)
    others = read_others(form, token)
    if not call.confirms(token, [], form.body):
        return confirm(call, token, form, others)
    seen = read_pk(post.get("newest_operation", ""))
    if any(one.pk > seen for one in others):
        text = gettext(
            "An invoice for this customer was asked for in the meantime. See below. "
            "Nothing was sent: confirm again if you still want yours."
        )
        call.say(messages.WARNING, text)
        return confirm(call, token, form, others)
    return create(call, token, form)


def ask(call: ActionContext, token: FormToken, form: InvoiceForm) -> TemplateResponse:
    context = {
        "title": gettext("Create an invoice"),
        "token": call.seal(token, []),
        "form": form,
        "media": call.model_admin.media + form.media,
        "suggestions": read_suggestions(),
    }
    return call.render("new_invoice_form.html", context)


def confirm(
    call: ActionContext,
    token: FormToken,
    form: InvoiceForm,
    others: list[InvoiceOperation],
) -> TemplateResponse:
    values = form.cleaned_data
    customer = Invoice(
        customer_id=values["customer_id"],
        external_customer_id=values["external_customer_id"],
    )
    known = find_customer(customer)
    label_customers([known or customer])
    name = (known or customer).customer_label.name
    context = {
        "title": gettext("Create this invoice?"),
        # There is no invoice yet: its values are all that is confirmed.
        "token": call.seal(token, [], form.body),
        "form": form,
        "customer": name,
        "is_known": known is not None,
        "line": read_line(form),
        "terms": read_terms(values),
        "invoice_date": day(values["invoice_date"]),
        "issued": is_issued(values),
        "recent": [(name, read_operation_view(one)) for one in others],
        "newest_operation": str(newest(others)),
    }
    return call.render("new_invoice_confirmation.html", context)


def create(
    call: ActionContext, token: FormToken, form: InvoiceForm
) -> HttpResponse | None:
    made: list[Invoice] = []
    # In the place of the invoice's id, which Orb has yet to give.
    key = token.key_for(KIND)
    is_first = not token.begun([KIND])

    def make() -> bool:
        invoice = services.create_invoice(
            **form.arguments(),
            idempotency_key=key,
            actor=call.request.user,  # type: ignore[arg-type]
            origin=InvoiceOperation.Origin.ADMIN.value,
        )
        made.append(invoice)
        return True

    outcome: Outcome = attempt_write(
        # Messages are about an invoice, and there is none yet.
        Invoice(),
        make,
        key=key,
        done=_("Created in Orb."),
        asked=_("Asked Orb to create it."),
    )
    if outcome.level == messages.ERROR:
        # A new form is a new intention; what was filled in stays.
        call.say(outcome.level, outcome.text)
        return ask(call, new_token(user_id=call.user_id, kind=KIND), form)
    if not made:
        call.say(outcome.level, outcome.text)
        return None
    (invoice,) = made
    call.say(outcome.level, outcome.text, invoice)
    if is_first:
        call.model_admin.log_change(call.request, invoice, outcome.log)
    return HttpResponseRedirect(change_url(call.model_admin, invoice.pk))


def is_issued(values: dict[str, Any]) -> str:
    """
    Tell when Orb issues it: "never" by itself, "now", "later", or "unknown".

    Its date is a day in the customer's time zone, which the mirror does not know: there
    it may be half a day earlier, or more than half a day later, than in UTC.
    """
    if not values["will_auto_issue"]:
        return "never"
    now = timezone.now()  # in UTC
    # Time zones reach from UTC-12 to UTC+14.
    if values["invoice_date"] <= (now - timedelta(hours=12)).date():
        return "now"
    has_begun = values["invoice_date"] <= (now + timedelta(hours=14)).date()
    return "unknown" if has_begun else "later"


def read_line(form: InvoiceForm) -> dict[str, str]:
    values, currency = form.cleaned_data, form.body["currency"]
    count, price = Decimal(values["quantity"]), Decimal(values["unit_amount"])
    return {
        "name": short(values["name"]),
        "item": short(values["item_id"]),
        "quantity": quantity(count),
        "unit_amount": money(price, currency),
        "amount": money(count * price, currency),
        "period": span(day(values["start_date"]), day(values["end_date"])),
    }


def read_terms(values: dict[str, Any]) -> str:
    if values["due_date"]:
        return gettext("due %(day)s") % {"day": day(values["due_date"])}
    if values["net_terms"] is None:
        return gettext("as set for the customer")
    return gettext("%(days)s days") % {"days": values["net_terms"]}


def read_suggestions() -> list[Suggestion]:
    """Return the customers of the newest invoices, by the host's names for them."""
    newest_first = primary.rows(Invoice).order_by("-invoice_date", "-id")
    rows = newest_first.only("customer_id", "external_customer_id")[:NEWEST]
    invoices = list({one.customer_id: one for one in rows}.values())
    label_customers(invoices)
    found = [Suggestion(one.customer_id, one.customer_label.name) for one in invoices]
    return sorted(found, key=lambda one: one.name)


def find_customer(customer: Invoice) -> Invoice | None:
    """Return an invoice of the same customer, if the mirror has one."""
    stored = Invoice.objects.using(primary.alias())
    if customer.customer_id:
        return stored.filter(customer_id=customer.customer_id).first()
    return stored.for_customer(
        external_customer_id=customer.external_customer_id
    ).first()


def read_others(form: InvoiceForm, token: FormToken) -> list[InvoiceOperation]:
    """Return what else was asked for lately for this customer: it may be the same."""
    asked = primary.rows(InvoiceOperation).filter(
        kind=KIND, created_at__gte=timezone.now() - RECENT
    )
    # Without an invoice, only the customer tells that two requests may be for the same.
    names = ("customer_id", "external_customer_id")
    mine = token.key_for(KIND)
    return [
        one
        for one in asked.exclude(state=InvoiceOperation.State.REFUSED)
        if one.idempotency_key != mine
        and all(one.body.get(name) == form.body.get(name) for name in names)
    ]
