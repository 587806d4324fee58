"""Delete one line of a draft: the confirmation, then the call."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext

from django_orb import services
from django_orb.admin.texts import later
from django_orb.admin.texts import lazy as _
from django_orb.db import primary
from django_orb.formatting import as_map, money, quantity, short
from django_orb.models import Invoice, InvoiceLineItem, InvoiceOperation
from django_orb.models.operation_types import DELETE_LINE_ITEM

from .action_context import ActionContext
from .forms import NoteForm
from .outcomes import Outcome, attempt_write
from .selection import FormToken, sort_out

KIND = DELETE_LINE_ITEM.kind.value


def is_deletable(line: InvoiceLineItem) -> bool:
    """Return whether Orb deletes it: one-off lines only."""
    # Source: the SDK's resources/invoices.py, at `delete_line_item`.
    price = as_map(as_map(line.payload).get("price"))
    return bool(price.get("cadence") == "one_time")


def respond(call: ActionContext) -> HttpResponse | None:
    """Ask for confirmation, or do what was confirmed and return None."""
    line_id = call.request.POST.get("line") or call.request.GET.get("line", "")
    # With the line, so that the forms of two lines of a draft have different keys.
    token, is_ours = call.token(f"{KIND} {line_id}")
    ids = [invoice.pk for invoice in call.invoices]
    begun = token.begun(ids) if is_ours else set()
    batch = sort_out(call.invoices, DELETE_LINE_ITEM.why_not, begun=begun)
    if not batch.chosen:
        call.report_skipped(batch.skipped)
        return None
    invoice = batch.chosen[0]
    line = stored_line(invoice, line_id)
    # If this form was sent before, the line may be gone because of it.
    if not begun and (line is None or not is_deletable(line)):
        text = (
            gettext("The draft no longer has this line.")
            if line is None
            else gettext(
                "The draft keeps this line: only one-off lines can be deleted."
            )
        )
        call.say(messages.WARNING, text, invoice)
        return None
    is_confirmed = is_ours and call.confirms(token, [invoice])
    form = NoteForm(call.request.POST if is_confirmed else None)
    if not form.is_valid():
        return confirm(call, invoice, line, token, form) if line else None
    told = gettext("A line was deleted in the meantime.")
    if line and call.tells_of_others([invoice], token, KIND, told):
        return confirm(call, invoice, line, token, form)
    call.report([delete(call, invoice, line_id, line, token, form)], logged=begun)
    return None


def stored_line(invoice: Invoice, line_id: str) -> InvoiceLineItem | None:
    # Whoever sends the form may have changed it; PostgreSQL fails at a NUL.
    if "\0" in line_id:
        return None
    lines = invoice.line_items.using(primary.alias())
    return lines.filter(orb_id=line_id).first()


def confirm(
    call: ActionContext,
    invoice: Invoice,
    line: InvoiceLineItem,
    token: FormToken,
    form: NoteForm,
) -> TemplateResponse:
    amount = line.amount
    context = {
        "title": (
            gettext("Delete “%(line)s” from %(invoice)s?")
            % {"line": short(str(line)), "invoice": short(str(invoice))}
        ),
        "token": call.seal(token, [invoice]),
        "line": line,
        "form": form,
        "media": call.model_admin.media + form.media,
        "quantity": quantity(line.quantity),
        "amount": money(amount, invoice.currency),
        "before": money(invoice.total, invoice.currency),
        "after": money(invoice.total - amount, invoice.currency),
        **call.recent(),
    }
    return call.render("line_item_deletion.html", context)


def delete(
    call: ActionContext,
    invoice: Invoice,
    line_id: str,
    line: InvoiceLineItem | None,
    token: FormToken,
    form: NoteForm,
) -> Outcome:
    key = token.key_for(invoice.pk)
    label = f"“{short(str(line))}”" if line else _("the line")

    def remove() -> bool:
        services.delete_invoice_line_item(
            invoice,
            line_id,
            note=form.cleaned_data["note"],
            idempotency_key=key,
            actor=call.request.user,  # type: ignore[arg-type]
            origin=InvoiceOperation.Origin.ADMIN.value,
        )
        return stored_line(invoice, line_id) is None

    return attempt_write(
        invoice,
        remove,
        key=key,
        done=later(lambda: gettext("Deleted %(label)s in Orb.") % {"label": label}),
        asked=later(
            lambda: gettext("Asked Orb to delete %(label)s.") % {"label": label}
        ),
    )
