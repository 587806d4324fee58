from __future__ import annotations

import json

from django.contrib import admin
from django.utils.safestring import SafeString

from django_orb.models import InvoiceFailure

from .formats import short
from .operations import json_block
from .readonly import ReadOnlyAdmin


@admin.register(InvoiceFailure)
class InvoiceFailureAdmin(ReadOnlyAdmin):
    """Invoices that Orb sent and that could not be mirrored."""

    list_display = ("invoice_id", "why", "failed_at")
    search_fields = ("invoice_id__exact",)
    fields = ("invoice_id", "reason", "failed_at", "run_id", "sent")
    readonly_fields = ("sent",)

    @admin.display(description="reason")
    def why(self, failure: InvoiceFailure) -> str:
        return short(failure.reason)

    @admin.display(description="what Orb sent")
    def sent(self, failure: InvoiceFailure) -> SafeString:
        try:
            return json_block(json.loads(failure.payload_text))
        except ValueError:
            return json_block(failure.payload_text)
