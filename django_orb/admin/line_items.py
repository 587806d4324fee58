from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import quantity, report_day, report_zone, short, span
from django_orb.models import InvoiceLineItem

from .exporting import ExportingAdmin
from .filters import PriceTypeFilter
from .of_invoices import OfInvoicesAdmin, amount_cell


@admin.register(InvoiceLineItem)
class InvoiceLineItemAdmin(ExportingAdmin, OfInvoicesAdmin):
    """All lines of all invoices, to find what was charged for an item or a price."""

    list_display = (
        "title",
        "of_invoice",
        "quantity_cell",
        "amount_cell",
        "period",
        "item_id",
        "price_id",
    )
    # There may be millions, and of one item or price alone a large part of them.
    sortable_by = ()
    list_filter = (PriceTypeFilter,)
    # By the key, because their invoices' dates are in another table.
    ordering = ("-id",)
    search_fields = ("item_id",)
    search_help_text = _("The id of an item, of a price or of an invoice.")

    searched_columns = ("item_id", "price_id", "invoice_id")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"zone": report_zone().key, **(extra_context or {})}
        return super().changelist_view(request, context)

    @admin.display(description=_("name"))
    def title(self, line: InvoiceLineItem) -> str:
        return short(str(line))

    @admin.display(description=_("quantity"))
    def quantity_cell(self, line: InvoiceLineItem) -> SafeString:
        text = quantity(line.quantity)
        return format_html('<span class="orb-amount">{}</span>', text)

    @admin.display(description=_("amount"))
    def amount_cell(self, line: InvoiceLineItem) -> SafeString:
        return amount_cell(line.amount, line.invoice.currency)

    @admin.display(description=_("period"))
    def period(self, line: InvoiceLineItem) -> str:
        return span(report_day(line.start_date), report_day(line.end_date))
