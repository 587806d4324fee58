"""Voiding chosen invoices: the confirmation, then the calls."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpResponse
from django.template.response import TemplateResponse

from django_orb import services
from django_orb.models import Invoice, InvoiceOperation

from .batches import Batch, FormToken, sort_out, why_not_void
from .formats import as_map, money, short
from .outcomes import Outcome, attempt_all, attempt_write
from .pages import Call
from .sheet import balance_applied

KIND = InvoiceOperation.Kind.VOID.value


@dataclass(frozen=True)
class Effect:
    """What voiding one invoice does, for the confirmation."""

    invoice: Invoice
    total: str
    amount_due: str
    balance_returned: str


def respond(call: Call) -> HttpResponse | None:
    """Ask for confirmation, or do what was confirmed and return None."""
    if call.is_too_many():
        return None
    token, is_ours = call.token(KIND)
    ids = [invoice.pk for invoice in call.invoices]
    begun = token.begun(ids) if is_ours else set()
    batch = sort_out(call.invoices, why_not_void, begun=begun)
    if not batch.chosen:
        call.report_skipped(batch.skipped)
        return None
    if call.is_confirmed and is_ours:
        call.report(void_all(call, batch, token), logged=begun)
        call.report_skipped(batch.skipped)
        return None
    return confirm(call, batch, token)


def confirm(call: Call, batch: Batch, token: FormToken) -> TemplateResponse:
    count = len(batch.chosen)
    target = f"{count} invoices" if count > 1 else short(str(batch.chosen[0]))
    effects = [read_effect(invoice) for invoice in batch.chosen]
    context = {
        "title": f"Void {target}?",
        "token": token.value,
        "effects": effects,
        "returns_balance": any(effect.balance_returned for effect in effects),
        "skipped": batch.skipped,
        **call.recent(),
    }
    return call.render("void_confirmation.html", context)


def read_effect(invoice: Invoice) -> Effect:
    returned = balance_applied(as_map(invoice.payload))
    return Effect(
        invoice=invoice,
        total=money(invoice.total, invoice.currency),
        amount_due=money(invoice.amount_due, invoice.currency),
        balance_returned=money(returned, invoice.currency) if returned > 0 else "",
    )


def void_all(call: Call, batch: Batch, token: FormToken) -> list[Outcome]:
    def attempt(invoice: Invoice) -> Outcome:
        key = token.key_for(invoice.pk)

        def void() -> bool:
            stored = services.void_invoice(
                invoice,
                idempotency_key=key,
                actor=call.request.user,  # type: ignore[arg-type]
                origin=InvoiceOperation.Origin.ADMIN.value,
            )
            return stored.status == Invoice.Status.VOID

        return attempt_write(
            invoice,
            void,
            key=key,
            done="Voided in Orb.",
            asked="Asked Orb to void it.",
        )

    return list(attempt_all(batch.chosen, attempt))
