"""Act on selected invoices after one confirmation: now, or queued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext

from django_orb import operations, publishing, tasks
from django_orb.admin.invoice_page import balance_applied
from django_orb.admin.texts import later
from django_orb.db import primary
from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.formatting import as_map, money, short
from django_orb.models import Invoice, InvoiceOperation
from django_orb.models.operation_type import OperationType
from django_orb.operations import Request
from django_orb.templatetags.orb_admin import address_of

from .action_context import ActionContext
from .outcomes import Outcome, attempt_all, attempt_write, explain
from .selection import HANDFUL, MAX_QUEUED, Batch, FormToken, sort_out


@dataclass(frozen=True)
class ConfirmedAction:
    """
    An action that needs only a confirmation, or a small form.

    `serve` is the service; `title`, `yes` and the like are its words.
    """

    operation_type: OperationType
    serve: Callable[..., Invoice]
    title: str
    yes_one: str
    yes_many: str
    done: str
    asked: str
    explanation: Sequence[str] = ()
    is_done: Callable[[Invoice], bool] = lambda invoice: True
    not_yet: str = ""
    form_class: type[forms.Form] = forms.Form
    body_of: Callable[[dict[str, Any]], dict[str, Any]] = field(default=dict)
    template: str = "action_confirmation.html"
    is_grave: bool = False


@dataclass(frozen=True)
class Effect:
    """An invoice in a confirmation."""

    invoice: Invoice
    total: str
    amount_due: str
    balance_returned: str


def respond(call: ActionContext, action: ConfirmedAction) -> HttpResponse | None:
    """Ask for confirmation; do what was confirmed and return None, or queue it."""
    if call.is_too_many(MAX_QUEUED):
        return None
    token, is_ours = call.token(action.operation_type.kind.value)
    ids = [invoice.pk for invoice in call.invoices]
    begun = token.begun(ids) if is_ours else set()
    batch = sort_out(call.invoices, action.operation_type.why_not, begun=begun)
    if not batch.chosen:
        call.report_skipped(batch.skipped)
        return None
    # Without the form's values, which are only filled in on the confirmation.
    is_confirmed = is_ours and call.confirms(token, batch.chosen)
    form = action.form_class(call.request.POST if is_confirmed else None)
    if not is_confirmed or not form.is_valid() or tells(call, batch, token, action):
        return confirm(call, batch, token, action, form)
    if len(batch.chosen) > HANDFUL:
        return queue(call, batch, token, action, form, begun)
    outcomes = do_all(call, batch, token, action, form)
    call.report(outcomes, logged=begun, skipped=batch.skipped)
    return None


def tells(
    call: ActionContext, batch: Batch, token: FormToken, action: ConfirmedAction
) -> bool:
    text = gettext("The same was asked for in the meantime.")
    return call.tells_of_others(
        batch.chosen, token, action.operation_type.kind.value, text
    )


def confirm(
    call: ActionContext,
    batch: Batch,
    token: FormToken,
    action: ConfirmedAction,
    form: forms.Form,
) -> TemplateResponse:
    count = len(batch.chosen)
    target = (
        gettext("%(count)s invoices") % {"count": count}
        if count > 1
        else short(str(batch.chosen[0]))
    )
    effects = [read_effect(invoice) for invoice in batch.chosen]
    yes = action.yes_many.format(count) if count > 1 else action.yes_one
    context = {
        "title": action.title.format(target),
        "token": call.seal(token, batch.chosen),
        "explanation": action.explanation,
        "form": form,
        "media": call.model_admin.media + form.media,
        "effects": effects,
        "returns_balance": any(effect.balance_returned for effect in effects),
        "yes": yes,
        "is_grave": action.is_grave,
        "is_queued": count > HANDFUL,
        "skipped": batch.skipped,
        **call.recent(),
    }
    return call.render(action.template, context)


def read_effect(invoice: Invoice) -> Effect:
    returned = balance_applied(as_map(invoice.payload))
    return Effect(
        invoice=invoice,
        total=money(invoice.total, invoice.currency),
        amount_due=money(invoice.amount_due, invoice.currency),
        balance_returned=money(returned, invoice.currency) if returned > 0 else "",
    )


def details_of(form: forms.Form) -> dict[str, Any]:
    """Return what the form holds for Orb."""
    # Orb does not get the note.
    return {name: v for name, v in form.cleaned_data.items() if name != "note"}


def do_all(
    call: ActionContext,
    batch: Batch,
    token: FormToken,
    action: ConfirmedAction,
    form: forms.Form,
) -> list[Outcome]:
    def attempt(invoice: Invoice) -> Outcome:
        key = token.key_for(invoice.pk)
        return attempt_write(
            invoice,
            lambda: action.is_done(
                action.serve(
                    invoice,
                    **form.cleaned_data,
                    idempotency_key=key,
                    actor=call.request.user,
                    origin=InvoiceOperation.Origin.ADMIN.value,
                )
            ),
            key=key,
            done=action.done,
            asked=action.asked,
            not_yet=action.not_yet,
        )

    return list(attempt_all(batch.chosen, attempt))


def say_queued(call: ActionContext, batch: str) -> None:
    """Wake a worker, and tell how many wait: what is confirmed again may have ended."""
    waiting = primary.rows(InvoiceOperation).filter(
        batch=batch, state=InvoiceOperation.State.PENDING
    )
    count = waiting.count()
    if not count:
        text = gettext(
            "Nothing was queued: this was confirmed before, and has finished."
        )
        call.say(messages.WARNING, text)
        return
    text = gettext(
        "%(count)s invoices are queued, and processed one after the other."
    ) % {"count": count}
    level = messages.SUCCESS
    if not publishing.wake(tasks.send_operations):
        text = gettext(
            "%(text)s The message broker cannot be reached: they start once it is back."
        ) % {"text": text}
        level = messages.WARNING
    call.say(level, text)


def queue(
    call: ActionContext,
    batch: Batch,
    token: FormToken,
    action: ConfirmedAction,
    form: forms.Form,
    begun: set[str],
) -> HttpResponse | None:
    """Record all of them, wake a worker, and show their progress."""
    requests = [
        Request(
            kind=action.operation_type.kind.value,
            invoice_id=invoice.pk,
            body=action.body_of(details_of(form)),
            note=form.cleaned_data.get("note"),
            idempotency_key=token.key_for(invoice.pk),
            actor=call.request.user,  # type: ignore[arg-type]
            origin=InvoiceOperation.Origin.ADMIN.value,
        )
        for invoice in batch.chosen
    ]
    try:
        # All or none, and before the history says that they were asked for.
        operations.queue(requests, batch=token.batch)
    except (OrbError, OrbConfigurationError) as err:
        call.say(messages.ERROR, explain(err))
        return None
    for invoice in batch.chosen:
        # A form that is sent twice is one entry in the history.
        if invoice.pk not in begun:
            text = later(
                lambda: (
                    gettext("%(asked)s It is queued with others.")
                    % {"asked": action.asked}
                )
            )
            call.model_admin.log_change(call.request, invoice, text)
    say_queued(call, token.batch)
    call.report_skipped(batch.skipped)
    # The page of the batch is for those who may see operations, on a site that has it;
    # others stay where they were.
    if not call.request.user.has_perm("django_orb.view_invoiceoperation"):
        return None
    site = call.model_admin.admin_site.name
    url = address_of(site, "invoiceoperation_batch", token.batch)
    return HttpResponseRedirect(url) if url else None
