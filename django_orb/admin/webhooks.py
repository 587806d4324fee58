from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_orb import exact_json, publishing, tasks
from django_orb.formatting import local_moment, short
from django_orb.models import WebhookEvent
from django_orb.webhooks import attempts

from .badges import event_badge
from .invoice_page import pretty
from .operations import code_block, invoice_link
from .readonly import ReadOnlyAdmin, outside_transactions

MAX_RETRIES = 1000


@admin.register(WebhookEvent)
class WebhookEventAdmin(ReadOnlyAdmin):
    """The events that Orb sent, and their outcome."""

    list_display = ("received_at", "kind", "invoice", "badge", "attempts", "why")
    # By what an index has: there may be millions of events.
    sortable_by = ("received_at",)
    list_filter = ("state", "source")
    search_fields = ("id__exact", "invoice_id__exact")
    search_help_text = _("The id of an event or of an invoice.")
    fields = (
        ("id", "type"),
        ("badge", "source"),
        "invoice",
        ("created_at", "received_at", "finished_at"),
        ("attempts", "next_attempt"),
        "trace",
        "sent",
    )
    readonly_fields = ("badge", "invoice", "next_attempt", "trace", "sent")
    actions = ("process_again",)

    def get_queryset(self, request: HttpRequest) -> Any:
        queryset = super().get_queryset(request)
        is_list = request.resolver_match and "changelist" in (
            request.resolver_match.url_name or ""
        )
        # A body may have megabytes.
        return queryset.defer("body") if is_list else queryset

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if term:
            queryset = queryset.filter(Q(pk=term) | Q(invoice_id=term))
        return queryset, False

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.retry_webhookevent")

    # The action wakes workers, which must see what it changed.
    @outside_transactions
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    @admin.action(permissions=["retry"], description=_("Process selected failed again"))
    def process_again(self, request: HttpRequest, queryset: Any) -> None:
        failed = queryset.filter(state=WebhookEvent.State.FAILED)
        chosen = list(failed.defer("body")[:MAX_RETRIES])
        ids = [event.pk for event in chosen]
        # Before any worker is woken, which must find it due.
        attempts.retry_now(ids)
        for event in chosen:
            publishing.wake(tasks.process_webhook_event, event.pk)
            self.log_change(request, event, _("Asked for it to be processed again."))
        if not ids:
            self.message_user(
                request, gettext("None of them failed."), messages.WARNING
            )
            return
        text = ngettext(
            "%d event is processed again.", "%d events are processed again.", len(ids)
        )
        self.message_user(request, text % len(ids), messages.SUCCESS)

    @admin.display(description=_("type"), ordering="type")
    def kind(self, event: WebhookEvent) -> str:
        return short(event.type)

    @admin.display(description=_("state"), ordering="state")
    def badge(self, event: WebhookEvent) -> SafeString:
        return event_badge(event)

    @admin.display(description=_("invoice"), ordering="invoice_id", empty_value="")
    def invoice(self, event: WebhookEvent) -> SafeString:
        return invoice_link(event.invoice_id, self.admin_site.name)

    @admin.display(description=_("error"), empty_value="")
    def why(self, event: WebhookEvent) -> str:
        # A traceback says in its last line what went wrong.
        return short((event.error.strip().splitlines() or [""])[-1])

    @admin.display(description=_("next attempt"))
    def next_attempt(self, event: WebhookEvent) -> str:
        is_open = event.state in attempts.OPEN
        return local_moment(event.next_attempt_at) if is_open else "-"

    @admin.display(description=_("traceback"), empty_value="")
    def trace(self, event: WebhookEvent) -> SafeString:
        return code_block(event.error) if event.error else SafeString()

    @admin.display(description=_("what Orb sent"))
    def sent(self, event: WebhookEvent) -> SafeString:
        try:
            text = pretty(exact_json.loads(event.body))
        except (ValueError, RecursionError):
            # What cannot be read, or is nested too deeply, is shown as it came.
            text = event.body
        return code_block(text)
