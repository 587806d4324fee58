from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import short, utc_moment
from django_orb.models import InvoiceCreditNote

from .badges import Look, badge
from .filters import VoidedFilter
from .of_invoices import OfInvoicesAdmin, amount_cell


@admin.register(InvoiceCreditNote)
class InvoiceCreditNoteAdmin(OfInvoicesAdmin):
    """The credit notes of all invoices."""

    list_display = ("number", "of_invoice", "kind", "total_cell", "why", "voided")
    list_filter = ("type", VoidedFilter)
    # By the key: many have no date, as Orb lists them without one.
    ordering = ("-id",)
    search_fields = ("credit_note_number",)
    search_help_text = _("The number of a credit note, or the id of an invoice.")
    searched_columns = ("credit_note_number", "invoice_id")
    fields = (
        "of_invoice",
        "credit_note_number",
        "orb_id",
        "kind",
        "total_cell",
        "reason",
        "memo",
        "voided",
        "rounded_fields",
    )
    readonly_fields = ("of_invoice", "kind", "total_cell", "voided")

    @admin.display(description=_("credit note number"))
    def number(self, note: InvoiceCreditNote) -> str:
        return short(str(note))

    @admin.display(description=_("type"))
    def kind(self, note: InvoiceCreditNote) -> str:
        return short(note.get_type_display())

    @admin.display(description=_("total"))
    def total_cell(self, note: InvoiceCreditNote) -> SafeString:
        return amount_cell(note.total, note.invoice.currency)

    @admin.display(description=_("reason"))
    def why(self, note: InvoiceCreditNote) -> str:
        return short(note.reason)

    @admin.display(description=_("voided at"))
    def voided(self, note: InvoiceCreditNote) -> SafeString | str:
        if note.voided_at is None:
            return ""
        moment = utc_moment(note.voided_at)
        return badge(
            Look("muted", "✕"), gettext("voided %(moment)s") % {"moment": moment}
        )
