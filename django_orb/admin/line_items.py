from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import money, quantity, short, span, utc_day
from django_orb.models import InvoiceLineItem

from .filters import PriceTypeFilter
from .readonly import ReadOnlyAdmin


@admin.register(InvoiceLineItem)
class InvoiceLineItemAdmin(ReadOnlyAdmin):
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
    list_filter = (PriceTypeFilter,)
    list_select_related = ("invoice",)
    ordering = ("-id",)
    search_fields = ("item_id",)
    search_help_text = _("The id of an item, of a price or of an invoice.")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("invoice__payload")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        # One column has its index's order; one of several would have every line read.
        for column in ("item_id", "price_id"):
            found = {column: term}
            if InvoiceLineItem.objects.filter(**found).exists():
                return queryset.filter(**found), False
        return queryset.filter(invoice_id=term), False

    @admin.display(description=_("name"))
    def title(self, line: InvoiceLineItem) -> str:
        return short(str(line))

    @admin.display(description=_("invoice"))
    def of_invoice(self, line: InvoiceLineItem) -> SafeString:
        url = reverse(
            "admin:django_orb_invoice_change",
            args=[quote(line.invoice_id)],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', url, short(str(line.invoice)))

    @admin.display(description=_("quantity"))
    def quantity_cell(self, line: InvoiceLineItem) -> SafeString:
        text = quantity(line.quantity)
        return format_html('<span class="orb-amount">{}</span>', text)

    @admin.display(description=_("amount"))
    def amount_cell(self, line: InvoiceLineItem) -> SafeString:
        text = money(line.amount, line.invoice.currency)
        return format_html('<span class="orb-amount">{}</span>', text)

    @admin.display(description=_("period (UTC)"), ordering="start_date")
    def period(self, line: InvoiceLineItem) -> str:
        return span(utc_day(line.start_date), utc_day(line.end_date))
