from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb import services
from django_orb.exports import OPERATION_COLUMNS
from django_orb.formatting import local_moment, recorded, short
from django_orb.models import Invoice, InvoiceOperation
from django_orb.templatetags.orb_admin import address_of, linked

from .actions import resolve_operation
from .badges import operation_badge
from .exporting import Exported, ExportingAdmin
from .invoice_page import Fact, pretty, tell, who_in_full
from .progress import read_progress
from .readonly import outside_transactions


def invoice_link(invoice_id: str, site: str) -> SafeString:
    if not invoice_id:
        return SafeString()
    return linked(address_of(site, "invoice_change", quote(invoice_id)), invoice_id)


@admin.register(InvoiceOperation)
class InvoiceOperationAdmin(ExportingAdmin):
    """The audit trail: who asked Orb for what, and what came of it."""

    list_display = ("created_at", "what", "invoice", "badge", "origin", "why")
    list_filter = ("state", "kind", "origin")
    search_fields = ("invoice_id",)
    search_help_text = _("An invoice's id, or an idempotency key.")
    fields = ("kind",)

    @admin.display(description=_("detail"), empty_value="")
    def why(self, operation: InvoiceOperation) -> str:
        return short(recorded(operation.detail))

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        # Whole, as the indexes of both columns have them.
        if term:
            queryset = queryset.filter(Q(invoice_id=term) | Q(idempotency_key=term))
        return queryset, False

    @admin.display(description=_("what"))
    def what(self, operation: InvoiceOperation) -> str:
        return tell(operation)

    @admin.display(description=_("outcome"), ordering="state")
    def badge(self, operation: InvoiceOperation) -> SafeString:
        return operation_badge(operation)

    @admin.display(description=_("invoice"), ordering="invoice_id")
    def invoice(self, operation: InvoiceOperation) -> SafeString:
        return invoice_link(operation.invoice_id, self.admin_site.name)

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.resolve_invoiceoperation")

    def exported(self, lines: bool) -> Exported:
        return Exported(
            "operations",
            gettext("Export operations"),
            OPERATION_COLUMNS,
            [one.name for one in OPERATION_COLUMNS if one.is_default],
            services.export_operations,
        )

    # Page

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context.update(self.page_context(request, kwargs["obj"]))
        return super().render_change_form(request, context, *args, **kwargs)

    def page_context(
        self, request: HttpRequest, operation: InvoiceOperation
    ) -> dict[str, Any]:
        needs_person = operation.state == InvoiceOperation.State.NEEDS_ATTENTION
        invoice = (
            # From where the operation was read: a replica may not have the invoice yet.
            Invoice.objects.using(operation._state.db)
            .filter(pk=operation.invoice_id)
            .first()
        )
        return {
            "title": ": ".join(
                filter(
                    None,
                    [
                        str(operation.get_kind_display()),
                        short(str(invoice or operation.invoice_id)),
                    ],
                )
            ),
            "subtitle": None,
            "operation": operation,
            "what": tell(operation, invoice.currency if invoice else ""),
            "detail": recorded(operation.detail),
            "state": operation_badge(operation),
            "invoice": invoice,
            "facts_by_column": [read_circumstances(operation), read_times(operation)],
            "sent": pretty(operation.body) if operation.body else "",
            "before": pretty(operation.before) if operation.before else "",
            "answered": pretty(operation.result) if operation.result else "",
            "batch_url": batch_url(self, operation.batch) if operation.batch else "",
            "needs_person": needs_person,
            "may_resolve": needs_person and self.has_resolve_permission(request),
            "resolve_url": operation_url(self, "resolve", operation.pk),
        }

    # What a user does about an operation that needs attention, and about a queue

    def get_urls(self) -> list[URLPattern]:
        wrap, name = self.admin_site.admin_view, "django_orb_invoiceoperation"
        own = [
            # Before Django's own, whose last one takes any path for a key.
            path("batch/<str:batch>/", wrap(self.batch_view), name=f"{name}_batch"),
            path("batch/<str:batch>/stop/", wrap(self.stop_view), name=f"{name}_stop"),
            path(
                "<path:object_id>/resolve/",
                wrap(self.resolve_view),
                name=f"{name}_resolve",
            ),
        ]
        return own + super().get_urls()

    def batch_view(self, request: HttpRequest, batch: str) -> HttpResponse:
        """Show the progress of the operations that were queued together."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        progress = read_progress(batch)
        if not progress.total:
            raise Http404(gettext("There is no such batch."))
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "subtitle": None,
            "title": progress.title,
            "progress": progress,
            "may_stop": progress.waiting and self.has_resolve_permission(request),
            "stop_url": operation_url(self, "stop", batch),
        }
        template = "admin/django_orb/invoiceoperation/batch.html"
        return TemplateResponse(request, template, context)

    @outside_transactions
    def stop_view(self, request: HttpRequest, batch: str) -> HttpResponse:
        self.require_resolver(request)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        resolve_operation.stop(self, request, batch)
        return HttpResponseRedirect(batch_url(self, batch))

    @outside_transactions
    def resolve_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require_resolver(request)
        operation = self.get_object(request, unquote(object_id))
        if operation is None:
            raise Http404(gettext("There is no such operation."))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        resolve_operation.resolve(self, request, operation)
        return HttpResponseRedirect(operation_url(self, "change", operation.pk))

    def require_resolver(self, request: HttpRequest) -> None:
        checks: list[Callable[[HttpRequest], bool]] = [
            self.has_view_permission,
            self.has_resolve_permission,
        ]
        if not all(check(request) for check in checks):
            raise PermissionDenied


def batch_url(model_admin: Any, batch: str) -> str:
    return operation_url(model_admin, "batch", batch)


def operation_url(model_admin: Any, view: str, argument: Any) -> str:
    return reverse(
        f"admin:django_orb_invoiceoperation_{view}",
        args=[argument],
        current_app=model_admin.admin_site.name,
    )


def read_circumstances(operation: InvoiceOperation) -> list[Fact]:
    return [
        Fact(gettext("Asked by"), who_in_full(operation)),
        Fact(gettext("From"), operation.get_origin_display()),
        Fact(gettext("Sent"), times(operation.attempts)),
        Fact(gettext("Idempotency key"), operation.idempotency_key),
    ]


def times(count: int) -> str:
    return {0: gettext("not yet"), 1: gettext("once"), 2: gettext("twice")}.get(
        count, gettext("%(count)s times") % {"count": count}
    )


def read_times(operation: InvoiceOperation) -> list[Fact]:
    rows = [
        (gettext("Asked"), operation.created_at),
        (gettext("First sent"), operation.first_sent_at),
        (gettext("Ended"), operation.finished_at),
        (gettext("Shown by Orb"), operation.mirrored_at),
    ]
    return [Fact(label, local_moment(moment)) for label, moment in rows if moment]


def code_block(text: str) -> SafeString:
    """
    Show a text as it came, with halves of surrogate pairs escaped: no page can have
    them.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return format_html('<pre class="orb-json">{}</pre>', text)
