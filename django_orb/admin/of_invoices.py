"""The base of the lists of an invoice's parts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import money, short
from django_orb.templatetags.orb_admin import address_of, linked

from .readonly import ReadOnlyAdmin


class OfInvoicesAdmin(ReadOnlyAdmin):
    """Rows that belong to an invoice and are in its currency."""

    list_select_related = ("invoice",)
    #: A search is about the first of these columns that has the text.
    searched_columns: tuple[str, ...] = ("orb_id", "invoice_id")

    def get_queryset(self, request: HttpRequest) -> Any:
        # The join would otherwise read the payload once for each row.
        return super().get_queryset(request).defer("invoice__payload")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        # One column can be read in its index's order, one of several only in full.
        *first, last = self.searched_columns
        for column in first:
            found = {column: term}
            if self.model._default_manager.filter(**found).exists():
                return queryset.filter(**found), False
        return queryset.filter(**{last: term}), False

    @admin.display(description=_("invoice"))
    def of_invoice(self, row: Any) -> SafeString:
        page = address_of(self.admin_site.name, "invoice_change", quote(row.invoice_id))
        return linked(page, short(str(row.invoice)))


def amount_cell(amount: Decimal | None, currency: str) -> SafeString:
    return format_html('<span class="orb-amount">{}</span>', money(amount, currency))
