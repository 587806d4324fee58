"""Edit an invoice's metadata and terms: the form, the confirmation, the call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext

from django_orb import exact_json, services
from django_orb.admin.invoice_page import edited_in_words
from django_orb.admin.texts import later
from django_orb.admin.texts import lazy as _
from django_orb.formatting import as_map, as_text, day, short
from django_orb.models import Invoice, InvoiceOperation
from django_orb.models.operation_types import UPDATE

from .action_context import ActionContext
from .forms import EditForm
from .outcomes import Outcome, attempt_write
from .selection import FormToken, sort_out

KIND = UPDATE.kind.value
# Orb's invoices have no net terms, and drafts no due date.
NOT_SHOWN = _("not shown by Orb")


@dataclass(frozen=True)
class Change:
    """A value as it is, and as it will be."""

    name: str
    before: str
    after: str


def respond(call: ActionContext) -> HttpResponse | None:
    """Show the form, then the confirmation; do what was confirmed, return None."""
    token, is_ours = call.token(KIND)
    ids = [invoice.pk for invoice in call.invoices]
    begun = token.begun(ids) if is_ours else set()
    batch = sort_out(call.invoices, UPDATE.why_not, begun=begun)
    if not batch.chosen:
        call.report_skipped(batch.skipped)
        return None
    invoice, post = batch.chosen[0], call.request.POST
    is_filled_in = is_ours and any(name in post for name in ("preview", "edit", "post"))
    # As it was when the form was opened, so that what another user has edited since is
    # neither undone nor taken for this user's wish.
    shown = read_shown(post.get("shown", "")) if is_filled_in else metadata_of(invoice)
    form = EditForm(
        post if is_filled_in else None,
        shown=shown,
        # Orb changes metadata in any status, and everything else on drafts only.
        is_draft=invoice.status == Invoice.Status.DRAFT,
    )
    if not form.is_bound or not form.is_valid() or "edit" in post:
        return ask(call, invoice, token, form)
    told = gettext("It was edited in the meantime.")
    is_confirmed = call.confirms(token, [invoice], form.body)
    if not is_confirmed or call.tells_of_others([invoice], token, KIND, told):
        return confirm(call, invoice, token, form)
    call.report([edit(call, invoice, token, form)], logged=begun)
    return None


def metadata_of(invoice: Invoice) -> dict[str, str]:
    metadata = as_map(as_map(invoice.payload).get("metadata"))
    return {str(key): as_text(value) for key, value in metadata.items()}


def read_shown(raw: str) -> dict[str, str]:
    """Return what the form showed, as the browser sends it back."""
    try:
        shown = exact_json.loads(raw)
    except ValueError:
        return {}
    return {
        key: value
        for key, value in as_map(shown).items()
        # What this page never wrote, and what a database would fail at.
        if isinstance(value, str) and is_storable(key) and is_storable(value)
    }


def is_storable(text: str) -> bool:
    """Tell whether a text has neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def ask(
    call: ActionContext, invoice: Invoice, token: FormToken, form: EditForm
) -> TemplateResponse:
    context = {
        "title": gettext("Edit %(invoice)s") % {"invoice": short(str(invoice))},
        "token": call.seal(token, [invoice]),
        "form": form,
        "shown": json.dumps(form.shown),
        "is_draft": "net_terms" in form.fields,
        "media": call.model_admin.media + form.media,
        **call.recent(),
    }
    return call.render("edit_form.html", context)


def confirm(
    call: ActionContext, invoice: Invoice, token: FormToken, form: EditForm
) -> TemplateResponse:
    context = {
        "title": gettext("Edit %(invoice)s?") % {"invoice": short(str(invoice))},
        "token": call.seal(token, [invoice], form.body),
        "form": form,
        "shown": json.dumps(form.shown),
        "changes": read_changes(form),
        **call.recent(),
    }
    return call.render("edit_confirmation.html", context)


def read_changes(form: EditForm) -> list[Change]:
    body: Mapping[str, object] = form.body
    changes = [
        Change(key, form.shown.get(key, ""), as_text(value))
        for key, value in as_map(body.get("metadata")).items()
    ]
    if "net_terms" in body:
        changes.append(
            Change(
                gettext("Net terms"),
                NOT_SHOWN,
                gettext("%(days)s days") % {"days": body["net_terms"]},
            )
        )
    if "due_date" in body:
        due_date = day(form.cleaned_data["due_date"])
        changes.append(Change(gettext("Due date"), NOT_SHOWN, due_date))
    return changes


def edit(
    call: ActionContext, invoice: Invoice, token: FormToken, form: EditForm
) -> Outcome:
    key, body = token.key_for(invoice.pk), form.body

    def update() -> bool:
        services.update_invoice(
            invoice,
            **form.arguments(),
            note=form.cleaned_data["note"],
            idempotency_key=key,
            actor=call.request.user,  # type: ignore[arg-type]
            origin=InvoiceOperation.Origin.ADMIN.value,
        )
        return True

    return attempt_write(
        invoice,
        update,
        key=key,
        done=later(
            lambda: (
                gettext("Edited in Orb: %(what)s.") % {"what": edited_in_words(body)}
            )
        ),
        asked=later(
            lambda: (
                gettext("Asked Orb to edit its %(what)s.")
                % {"what": edited_in_words(body)}
            )
        ),
    )
