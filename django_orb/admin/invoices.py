from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partialmethod
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.customer_labels import find_customers, label_customers
from django_orb.formatting import report_zone, short
from django_orb.models import Invoice
from django_orb.models.fields import search_key
from django_orb.models.operation_type import OperationType
from django_orb.models.operation_types import CREATE_INVOICE

from . import upcoming
from .actions import (
    ACTIONS,
    ACTIONS_BY_PAGE,
    ActionContext,
    InvoiceAction,
    change_url,
    create_invoice,
    fetch_again,
    invoice_url,
    open_document,
)
from .badges import invoice_badge, overdue_badge
from .changes import read_chapters
from .columns import InvoiceColumns
from .customer_links import customer_url
from .customers import CustomerPages
from .exporting import ExportingAdmin
from .filters import (
    AgeFilter,
    AttentionFilter,
    CurrencyFilter,
    CustomerFilter,
    InvoiceDateFilter,
    MissingFilter,
    OverdueFilter,
)
from .freshness import read_freshness
from .invoice_page import (
    operations_of,
    read_failures,
    read_invoice_view,
    read_operation_view,
)
from .readonly import outside_transactions
from .sums import SummedChangeList, SummingPaginator

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

Respond = Callable[[ActionContext], "HttpResponse | None"]


LIST_ACTIONS = {action.list_name: action for action in ACTIONS if action.list_name}


def on_list(action: InvoiceAction) -> Callable[..., HttpResponse | None]:
    """Turn an action into a function of the form that Django's lists take."""

    def respond(
        model_admin: InvoiceAdmin, request: HttpRequest, queryset: Any
    ) -> HttpResponse | None:
        return action.respond(model_admin.call_for(request, queryset, action.list_name))

    respond.__name__ = action.list_name
    mark = admin.action(permissions=[action.page], description=action.list_label)
    return mark(respond)


def may_do(request: HttpRequest, operation_type: OperationType) -> bool:
    codename, _name = operation_type.permission
    return request.user.has_perm(f"django_orb.{codename}")


@dataclass(frozen=True)
class Button:
    url: str
    label: StrOrPromise


@admin.register(Invoice)
class InvoiceAdmin(InvoiceColumns, CustomerPages, ExportingAdmin):
    """
    Shows the mirror's invoices, with the actions that ask Orb to change something.
    """

    list_display = (
        "number",
        "customer",
        "state",
        "due_amount",
        "total_amount",
        "dated",
        "due",
    )
    # None of them reads rows to offer its choices: those of "status" and of
    # "invoice_source" are the model's.
    list_filter = (
        CustomerFilter,
        "status",
        OverdueFilter,
        AgeFilter,
        AttentionFilter,
        InvoiceDateFilter,
        CurrencyFilter,
        "invoice_source",
        MissingFilter,
    )
    heavy = ("payload", "memo", "hosted_invoice_url", "invoice_pdf", "rounded_fields")
    amounts = ("amount_due", "total")
    most_at_once = fetch_again.MAX_FETCHED
    has_lines = True
    paginator = SummingPaginator
    fields = ("id",)
    ordering = ("-invoice_date", "-id")
    # Only shows the field for searching: `get_search_results` does the work.
    search_fields = ("id",)
    search_help_text = _(
        "The beginning of a number or of your customer's id, or an id of Orb's."
    )
    actions = (*map(on_list, LIST_ACTIONS.values()), "fetch_from_orb")

    def prepare(self, rows: Any) -> None:
        label_customers(rows)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SummedChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        # By the beginning, or the whole of an id, as indexes find it: Django's
        # `icontains` takes seconds with a million invoices.
        key = search_key(term)
        found = (
            Q(pk=term)
            | Q(customer_id=term)
            | Q(subscription_id=term)
            | Q(invoice_number_key__startswith=key)
            | Q(external_customer_key__startswith=key)
        )
        if customers := find_customers(term):
            keys = [search_key(one) for one in customers]
            found |= Q(customer_id__in=customers) | Q(external_customer_key__in=keys)
        return queryset.filter(found), False

    # The list's actions are sent to its own address, and ask Orb.
    @outside_transactions
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {
            "may_sync": self.has_sync_permission(request),
            "may_create": may_do(request, CREATE_INVOICE),
            "create_label": CREATE_INVOICE.button,
            "zone": report_zone().key,
        }
        if request.method == "GET":
            context["freshness"] = read_freshness()
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # Page

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context.update(self.page_context(request, kwargs["obj"]))
        return super().render_change_form(request, context, *args, **kwargs)

    def page_context(self, request: HttpRequest, invoice: Invoice) -> dict[str, Any]:
        """Return what the invoice's own page shows, and its buttons."""
        views = (*ACTIONS_BY_PAGE, "fetch", "upcoming", *open_document.NAMES)
        links = {view: invoice_url(self, view, invoice.pk) for view in views}
        possible = [
            action
            for action in ACTIONS
            if self.may(request, action) and not action.operation_type.why_not(invoice)
        ]
        return {
            "title": (
                gettext("Invoice %(invoice)s") % {"invoice": short(str(invoice))}
            ),
            "subtitle": None,
            "invoice": invoice,
            "shown": read_invoice_view(
                invoice, customer_url(self.admin_site.name, invoice.customer_id)
            ),
            "failures": read_failures(invoice),
            "state": invoice_badge(invoice),
            "overdue": overdue_badge(invoice.days_overdue),
            "operations": [
                read_operation_view(operation, invoice.currency)
                for operation in operations_of([invoice.pk])
            ],
            "chapters": read_chapters(invoice),
            "links": links,
            "buttons": [
                Button(links[action.page], action.operation_type.button)
                for action in possible
                if action.operation_type.button
            ],
            "may_delete_line": any(action.page == "delete_line" for action in possible),
            "may_fetch": self.has_sync_permission(request),
        }

    # Permissions

    def may(self, request: HttpRequest, action: InvoiceAction) -> bool:
        return may_do(request, action.operation_type)

    def has_sync_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.sync_invoice")

    # Actions

    @admin.action(
        permissions=["sync"], description=_("Fetch selected invoices again from Orb")
    )
    def fetch_from_orb(self, request: HttpRequest, queryset: Any) -> None:
        fetch_again.respond(self.call_for(request, queryset, "fetch_from_orb"))

    def call_for(
        self, request: HttpRequest, queryset: Any, action: str
    ) -> ActionContext:
        """Return a call for the invoices that were chosen, in the order of the list."""
        # One more than are taken tells that too many were chosen. The payload, which
        # the list leaves out, is what a confirmation says the amounts by.
        most = fetch_again.MAX_FETCHED + 1
        invoices = list(queryset.order_by(*self.ordering).defer(None)[:most])
        return ActionContext(self, request, invoices, action, request.get_full_path())

    # The same for one invoice, from its own page

    def get_urls(self) -> list[URLPattern]:
        opts, wrap = self.opts, self.admin_site.admin_view
        name = f"{opts.app_label}_{opts.model_name}"
        views: dict[str, Callable[..., HttpResponse]] = {
            "fetch": self.fetch_view,
            "upcoming": self.upcoming_view,
        }
        own = [
            path("sync/", wrap(self.sync_view), name=f"{name}_sync"),
            path("create/", wrap(self.create_view), name=f"{name}_create"),
        ]
        for view, function in views.items():
            route = f"<path:object_id>/{view.replace('_', '-')}/"
            own.append(path(route, wrap(function), name=f"{name}_{view}"))
        for document in open_document.NAMES:
            route, function = f"<path:object_id>/{document}/", wrap(self.open_view)
            kwargs = {"document": document}
            own.append(path(route, function, kwargs, name=f"{name}_{document}"))
        for page in ACTIONS_BY_PAGE:
            route = f"<path:object_id>/{page.replace('_', '-')}/"
            function = wrap(self.action_view)
            own.append(path(route, function, {"page": page}, name=f"{name}_{page}"))
        # Django's last address takes any path for a key, and
        # `<path:object_id>/upcoming/` takes a customer's.
        return [*self.customer_urls(), *own, *super().get_urls()]

    @outside_transactions
    def action_view(
        self, request: HttpRequest, object_id: str, page: str
    ) -> HttpResponse:
        action = ACTIONS_BY_PAGE[page]
        return self.act(request, object_id, action.respond, self.may(request, action))

    @outside_transactions
    def fetch_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        is_allowed = self.has_sync_permission(request)
        may_view = self.has_view_permission(request)
        if request.method != "POST" and is_allowed and may_view:
            return HttpResponseNotAllowed(["POST"])
        return self.act(request, object_id, fetch_again.respond, is_allowed)

    @outside_transactions
    def open_view(
        self, request: HttpRequest, object_id: str, document: str
    ) -> HttpResponse:
        """Lead to the invoice's page at Orb or to its PDF, by a link that works."""

        def respond(call: ActionContext) -> HttpResponse | None:
            return open_document.respond(call, document)

        return self.act(request, object_id, respond, is_allowed=True)

    @outside_transactions
    def upcoming_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        is_allowed = self.has_sync_permission(request)
        return self.act(request, object_id, upcoming.respond, is_allowed)

    def act(
        self, request: HttpRequest, object_id: str, respond: Respond, is_allowed: bool
    ) -> HttpResponse:
        """Do what the list's action does for one invoice, and end on its own page."""
        invoice = self.get_object(request, unquote(object_id))
        # Before the 404, which would tell who may not look whether there is such an
        # invoice.
        if not is_allowed or not self.has_view_permission(request, invoice):
            raise PermissionDenied
        if invoice is None:
            raise Http404(gettext("There is no such invoice."))
        back_url = change_url(self, invoice.pk)
        response = respond(ActionContext(self, request, [invoice], "", back_url))
        return response or HttpResponseRedirect(back_url)

    @outside_transactions
    def sync_view(self, request: HttpRequest) -> HttpResponse:
        may_view = self.has_view_permission(request)
        if not (may_view and self.has_sync_permission(request)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        fetch_again.sync_now(ActionContext(self, request, [], "", self.list_url))
        return HttpResponseRedirect(self.list_url)

    @outside_transactions
    def create_view(self, request: HttpRequest) -> HttpResponse:
        may_view = self.has_view_permission(request)
        if not (may_view and may_do(request, CREATE_INVOICE)):
            raise PermissionDenied
        response = create_invoice.respond(
            ActionContext(self, request, [], "", self.list_url)
        )
        return response or HttpResponseRedirect(self.list_url)

    @property
    def list_url(self) -> str:
        opts = self.opts
        return reverse(
            f"admin:{opts.app_label}_{opts.model_name}_changelist",
            current_app=self.admin_site.name,
        )


# By these names Django asks who may run an action of the list.
for _action in ACTIONS:
    _may = partialmethod(InvoiceAdmin.may, action=_action)
    setattr(InvoiceAdmin, f"has_{_action.page}_permission", _may)
