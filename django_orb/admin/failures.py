from __future__ import annotations

import json

from django.contrib import admin
from django.utils.safestring import SafeString

from django_orb.formats import short
from django_orb.models import InvoiceFailure

from .operations import code_block
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
        """Escaped as it is stored: what a database refused may be in it."""
        try:
            text = json.dumps(json.loads(failure.payload_text), indent=2)
        except ValueError:
            text = failure.payload_text
        return code_block(text)
