"""Add a line item to chosen drafts: the form, the confirmation, the calls."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext

from django_orb import services
from django_orb.admin.texts import later
from django_orb.formatting import day, money, quantity, short, span, to_decimal
from django_orb.models import Invoice, InvoiceOperation
from django_orb.models.operation_types import CREATE_LINE_ITEM

from .action_context import ActionContext
from .forms import LineItemForm
from .outcomes import Outcome, attempt_all, attempt_write
from .selection import Batch, FormToken, sort_out

KIND = CREATE_LINE_ITEM.kind.value


@dataclass(frozen=True)
class Preview:
    """An invoice's total as it is, and as it will be."""

    invoice: Invoice
    before: str
    line: str
    after: str


def respond(call: ActionContext) -> HttpResponse | None:
    """Show the form, then the confirmation; do what was confirmed, return None."""
    if call.is_too_many():
        return None
    token, is_ours = call.token(KIND)
    ids = [invoice.pk for invoice in call.invoices]
    begun = token.begun(ids) if is_ours else set()
    batch = sort_out(call.invoices, CREATE_LINE_ITEM.why_not, begun=begun)
    if not batch.chosen:
        call.report_skipped(batch.skipped)
        return None
    post = call.request.POST
    # Choosing drafts in the list is a POST as well, without any of these buttons.
    is_filled_in = is_ours and any(name in post for name in ("preview", "edit", "post"))
    given = post if is_filled_in else None
    form = LineItemForm(given, currencies=read_currencies(batch))
    if not form.is_bound or not form.is_valid() or "edit" in post:
        return ask(call, batch, token, form)
    told = gettext("A line item was added in the meantime.")
    is_confirmed = call.confirms(token, batch.chosen, form.body)
    if not is_confirmed or call.tells_of_others(batch.chosen, token, KIND, told):
        return confirm(call, batch, token, form)
    outcomes = add_all(call, batch, token, form)
    call.report(outcomes, logged=begun, skipped=batch.skipped)
    return None


def ask(
    call: ActionContext, batch: Batch, token: FormToken, form: LineItemForm
) -> TemplateResponse:
    context = {
        "title": (
            gettext("Add a line item to %(target)s") % {"target": read_target(batch)}
        ),
        "token": call.seal(token, batch.chosen),
        "form": form,
        "media": call.model_admin.media + form.media,
        "previews": read_previews(batch, None),
        "currencies": read_currencies(batch),
        "skipped": batch.skipped,
        **call.recent(),
    }
    return call.render("line_item_form.html", context)


def confirm(
    call: ActionContext, batch: Batch, token: FormToken, form: LineItemForm
) -> TemplateResponse:
    context = {
        "title": (
            gettext("Add this line item to %(target)s?")
            % {"target": read_target(batch)}
        ),
        "token": call.seal(token, batch.chosen, form.body),
        "form": form,
        "quantity": quantity(form.body["quantity"]),
        "amount": money(to_decimal(form.body["amount"])),
        "period": span(
            day(form.cleaned_data["start_date"]), day(form.cleaned_data["end_date"])
        ),
        "previews": read_previews(batch, form),
        "currencies": read_currencies(batch),
        "skipped": batch.skipped,
        **call.recent(),
    }
    return call.render("line_item_confirmation.html", context)


def read_target(batch: Batch) -> str:
    count = len(batch.chosen)
    return (
        gettext("%(count)s drafts") % {"count": count}
        if count > 1
        else short(str(batch.chosen[0]))
    )


def read_previews(batch: Batch, form: LineItemForm | None) -> list[Preview]:
    amount = to_decimal(form.body["amount"]) if form else None
    return [
        Preview(
            invoice=invoice,
            before=money(invoice.total, invoice.currency),
            line=money(amount, invoice.currency) if amount is not None else "",
            after=money(invoice.total + amount, invoice.currency)
            if amount is not None
            else "",
        )
        for invoice in batch.chosen
    ]


def read_currencies(batch: Batch) -> list[str]:
    # Orb takes the amount in the currency of each draft: more than one is warned of.
    return sorted({invoice.currency for invoice in batch.chosen})


def add_all(
    call: ActionContext, batch: Batch, token: FormToken, form: LineItemForm
) -> list[Outcome]:
    label = form.cleaned_data["name"] or form.cleaned_data["item_id"]

    def attempt(invoice: Invoice) -> Outcome:
        key = token.key_for(invoice.pk)
        amount = later(lambda: money(to_decimal(form.body["amount"]), invoice.currency))

        def add() -> bool:
            line = services.create_invoice_line_item(
                invoice,
                **form.arguments(),
                note=form.cleaned_data["note"],
                idempotency_key=key,
                actor=call.request.user,  # type: ignore[arg-type]
                origin=InvoiceOperation.Origin.ADMIN.value,
            )
            return line.pk is not None

        return attempt_write(
            invoice,
            add,
            key=key,
            done=later(
                lambda: (
                    gettext("Added “%(label)s” %(amount)s in Orb.")
                    % {"label": short(label), "amount": amount}
                )
            ),
            asked=later(
                lambda: (
                    gettext("Asked Orb to add “%(label)s” %(amount)s.")
                    % {"label": short(label), "amount": amount}
                )
            ),
        )

    return list(attempt_all(batch.chosen, attempt))
