from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import humanized, joined, safe_link, short, utc_moment
from django_orb.models import InvoicePaymentAttempt

from .badges import payment_badge
from .filters import SucceededFilter
from .of_invoices import OfInvoicesAdmin, amount_cell


@admin.register(InvoicePaymentAttempt)
class InvoicePaymentAttemptAdmin(OfInvoicesAdmin):
    """The attempts to collect the payments of all invoices."""

    list_display = ("when", "of_invoice", "amount_cell", "outcome", "provider")
    list_filter = (SucceededFilter,)
    ordering = ("-created_at", "-id")
    search_fields = ("invoice__exact",)
    search_help_text = _("The id of an invoice, or Orb's of an attempt.")
    fields = (
        "when",
        "of_invoice",
        "amount_cell",
        "outcome",
        "provider",
        "receipt",
        "orb_id",
        "rounded_fields",
    )
    readonly_fields = (
        "when",
        "of_invoice",
        "amount_cell",
        "outcome",
        "provider",
        "receipt",
    )

    @admin.display(description=_("created at"), ordering="created_at")
    def when(self, attempt: InvoicePaymentAttempt) -> str:
        # The list's link to the row is in this column, so it is never empty.
        return utc_moment(attempt.created_at) or short(attempt.orb_id)

    @admin.display(description=_("amount"))
    def amount_cell(self, attempt: InvoicePaymentAttempt) -> SafeString:
        return amount_cell(attempt.amount, attempt.invoice.currency)

    @admin.display(description=_("outcome"))
    def outcome(self, attempt: InvoicePaymentAttempt) -> SafeString | str:
        if attempt.succeeded is None:
            return ""
        return payment_badge(attempt.succeeded)

    @admin.display(description=_("payment provider"))
    def provider(self, attempt: InvoicePaymentAttempt) -> str:
        name = humanized(attempt.payment_provider)
        return joined(" ", name, short(attempt.payment_provider_id))

    @admin.display(description=_("receipt"))
    def receipt(self, attempt: InvoicePaymentAttempt) -> SafeString | str:
        url = safe_link(attempt.receipt_pdf)
        if not url:
            return ""
        return format_html(
            # The other site gets neither this page's address nor hold of its window.
            '<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>',
            url,
            gettext("Receipt"),
        )
