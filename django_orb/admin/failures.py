from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_orb import mirror
from django_orb.formatting import short
from django_orb.models import InvoiceFailure

from .actions import ActionContext, fetch_again
from .operations import code_block
from .readonly import ReadOnlyAdmin, outside_transactions


@admin.register(InvoiceFailure)
class InvoiceFailureAdmin(ReadOnlyAdmin):
    """Invoices that Orb sent and that could not be mirrored."""

    list_display = ("invoice_id", "why", "failed_at")
    search_fields = ("invoice_id__exact",)
    fields = ("invoice_id", "reason", "failed_at", "run_id", "sent")
    readonly_fields = ("sent",)
    actions = ("try_again",)

    def has_sync_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.sync_invoice")

    @admin.action(permissions=["sync"], description=_("Fetch selected again from Orb"))
    def try_again(self, request: HttpRequest, queryset: Any) -> None:
        """Start a run for them; one that can be read is removed from the failures."""
        # Those were given a key here: Orb cannot be asked for them.
        known = queryset.exclude(pk__startswith=mirror.NO_ID)
        failures = list(known.defer("payload_text")[: self.most_at_once])
        if not failures:
            waits = _("Orb gave no id for them; the next sync reads them again.")
            self.message_user(request, waits, messages.WARNING)
            return
        fetch_again.read_later(
            ActionContext(self, request, [], "", ""),
            [failure.pk for failure in failures],
        )
        for failure in failures:
            self.log_change(request, failure, _("Asked for it to be fetched again."))

    # The action sends a message about a run, which a worker must be able to see.
    @outside_transactions
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    @admin.display(description=_("reason"))
    def why(self, failure: InvoiceFailure) -> str:
        return short(failure.reason)

    @admin.display(description=_("what Orb sent"))
    def sent(self, failure: InvoiceFailure) -> SafeString:
        """
        Orb's answer. It stays escaped, since the database may have refused a part of
        it.
        """
        try:
            text = json.dumps(json.loads(failure.payload_text), indent=2)
        except (ValueError, RecursionError):
            # Also what is nested too deeply is shown as it came.
            text = failure.payload_text
        return code_block(text)
