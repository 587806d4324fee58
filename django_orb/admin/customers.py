"""Answer requests for the pages about one customer, below the list of invoices."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext

from django_orb.formatting import day, local_moment, report_zone

from .actions import obstacle
from .customer_links import customer_url, list_url
from .customer_page import (
    PeriodForm,
    PortalForm,
    change_erasure,
    find_customer,
    open_portal,
    read_accounts,
    read_bill_to,
    read_erasure,
    read_forecasts,
    read_page,
)
from .readonly import ReadOnlyAdmin, outside_transactions
from .sums import SUMS_VAR


class CustomerPages(ReadOnlyAdmin):
    """Adds the pages about customers to the admin of invoices."""

    def customer_urls(self) -> list[URLPattern]:
        """Return the addresses; they must come before those of invoices."""
        wrap, name = self.admin_site.admin_view, "django_orb_invoice_customer"
        views = {
            "": self.customer_view,
            "upcoming": self.forecasts_view,
            "portal": self.portal_view,
            "statement": self.statement_view,
            "erase": self.erase_view,
        }
        return [
            path(
                # A slash in an id is quoted, as in all keys of the admin, so `str`
                # takes any id.
                "/".join(["customer", "<str:customer_id>", *filter(None, [view]), ""]),
                wrap(function),
                name=f"{name}_{view}" if view else name,
            )
            for view, function in views.items()
        ]

    def has_portal_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.open_portal_invoice")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.erase_customer")

    def has_forecast_permission(self, request: HttpRequest) -> bool:
        # Each forecast is a request to Orb, as fetching an invoice is.
        return request.user.has_perm("django_orb.sync_invoice")

    def customer_view(self, request: HttpRequest, customer_id: str) -> HttpResponse:
        customer = self.find(request, customer_id)
        page = read_page(
            customer, self.admin_site.name, adds_up_all=SUMS_VAR in request.GET
        )
        context = {
            "page": page,
            "may_forecast": self.has_forecast_permission(request),
            "may_erase": self.has_erase_permission(request),
            "may_open_portal": self.has_portal_permission(request),
        }
        return self.show(request, customer, "customer.html", context)

    def statement_view(self, request: HttpRequest, customer_id: str) -> HttpResponse:
        """Show what was owed before and after a period, and what changed it."""
        customer = self.find(request, customer_id)
        form = PeriodForm(request.GET)
        statement = form.read(customer)
        context = {
            "title": gettext("Statement of account: %(name)s")
            % {"name": customer.name},
            "form": form,
            "statement": statement,
            "since": day(statement.since) if statement else "",
            "until": day(statement.until.day) if statement else "",
            "accounts": read_accounts(statement) if statement else [],
            "bill_to": read_bill_to(customer) if statement else [],
            "printed_at": local_moment(timezone.now()),
        }
        return self.show(request, customer, "customer_statement.html", context)

    @outside_transactions
    def forecasts_view(self, request: HttpRequest, customer_id: str) -> HttpResponse:
        self.require(request, self.has_forecast_permission(request))
        customer = self.find(request, customer_id)
        context = {
            "forecasts": read_forecasts(customer),
            "title": gettext("Upcoming invoices of %(name)s") % {"name": customer.name},
        }
        return self.show(request, customer, "customer_upcoming.html", context)

    @outside_transactions
    def portal_view(self, request: HttpRequest, customer_id: str) -> HttpResponse:
        """Ask how long a link should be valid. A POST creates one and shows it."""
        self.require(request, self.has_portal_permission(request))
        customer = self.find(request, customer_id)
        form = PortalForm(request.POST if request.method == "POST" else None)
        session = open_portal(request, customer, form) if form.is_valid() else None
        context = {
            "form": form,
            "session": session,
            "expires_at": local_moment(session.expires_at) if session else "",
            "obstacle": obstacle(),
            "title": gettext("Portal link for %(name)s") % {"name": customer.name},
        }
        response = self.show(request, customer, "customer_portal.html", context)
        # The page shows a link with which anyone can do what the customer can.
        add_never_cache_headers(response)
        return response

    @outside_transactions
    def erase_view(self, request: HttpRequest, customer_id: str) -> HttpResponse:
        """Say what an erasure removes. A POST erases the customer, or undoes that."""
        self.require(request, self.has_erase_permission(request))
        customer = self.find(request, customer_id)
        if request.method == "POST":
            change_erasure(request, customer.customer_id)
            # So that loading the page again does not send the form again.
            return HttpResponseRedirect(request.path)
        erasure = read_erasure(customer.customer_id)
        context = {
            "erasure": erasure,
            "erased_at": local_moment(erasure.erased_at) if erasure else "",
            "title": gettext("Erase the personal data of %(name)s")
            % {"name": customer.name},
        }
        return self.show(request, customer, "customer_erase.html", context)

    def require(self, request: HttpRequest, is_allowed: bool) -> None:
        if not (is_allowed and self.has_view_permission(request)):
            raise PermissionDenied

    def find(self, request: HttpRequest, customer_id: str) -> Any:
        self.require(request, is_allowed=True)
        invoices = self.get_queryset(request)
        customer = find_customer(invoices, unquote(customer_id))
        if customer is None:
            raise Http404(gettext("There is no invoice for such a customer."))
        return customer

    def show(
        self, request: HttpRequest, customer: Any, template: str, context: Any
    ) -> HttpResponse:
        site = self.admin_site
        request.current_app = site.name
        common = {
            **site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": gettext("Customer %(name)s") % {"name": customer.name},
            "subtitle": None,
            "customer": customer,
            "zone": report_zone().key,
            "links": {
                view: customer_url(site.name, customer.customer_id, f"customer{end}")
                for view, end in (
                    ("page", ""),
                    ("upcoming", "_upcoming"),
                    ("portal", "_portal"),
                    ("statement", "_statement"),
                    ("erase", "_erase"),
                )
            },
            "invoices_url": list_url(site.name, customer.customer_id),
        }
        template = f"admin/django_orb/invoice/{template}"
        return TemplateResponse(request, template, {**common, **context})
