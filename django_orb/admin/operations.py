from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_orb.models import InvoiceOperation

from .badges import operation_badge
from .history import tell, who
from .readonly import ReadOnlyAdmin
from .sheet import pretty


def invoice_link(invoice_id: str) -> SafeString:
    url = reverse("admin:django_orb_invoice_change", args=[quote(invoice_id)])
    return format_html('<a href="{}">{}</a>', url, invoice_id)


@admin.register(InvoiceOperation)
class InvoiceOperationAdmin(ReadOnlyAdmin):
    """Who asked Orb for what, and what came of it: the audit trail."""

    list_display = ("created_at", "what", "invoice", "badge", "origin", "detail")
    list_filter = ("state", "kind", "origin")
    list_select_related = ("actor",)
    search_fields = ("invoice_id",)
    search_help_text = "An invoice's id, or an idempotency key."
    fields = (
        ("what", "badge"),
        ("person", "origin"),
        "invoice",
        "detail",
        ("created_at", "first_sent_at", "finished_at"),
        ("attempts", "idempotency_key"),
        "sent",
        "answered",
    )
    readonly_fields = ("what", "badge", "person", "invoice", "sent", "answered")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if term:
            queryset = queryset.filter(Q(invoice_id=term) | Q(idempotency_key=term))
        return queryset, False

    @admin.display(description="what")
    def what(self, operation: InvoiceOperation) -> str:
        return tell(operation)

    @admin.display(description="who")
    def person(self, operation: InvoiceOperation) -> str:
        return who(operation)

    @admin.display(description="outcome", ordering="state")
    def badge(self, operation: InvoiceOperation) -> SafeString:
        return operation_badge(operation)

    @admin.display(description="invoice", ordering="invoice_id")
    def invoice(self, operation: InvoiceOperation) -> SafeString:
        return invoice_link(operation.invoice_id)

    @admin.display(description="what was sent")
    def sent(self, operation: InvoiceOperation) -> SafeString:
        return code_block(pretty(operation.body or {}))

    @admin.display(description="what Orb answered")
    def answered(self, operation: InvoiceOperation) -> SafeString:
        return code_block(pretty(operation.result or {}))


def code_block(text: str) -> SafeString:
    return format_html('<pre class="orb-json">{}</pre>', text)
