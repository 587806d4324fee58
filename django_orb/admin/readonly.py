"""The base of the mirror's pages in the admin: nothing can be edited on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.admin.views.main import (
    ERROR_FLAG,
    ORDER_VAR,
    PAGE_VAR,
    SEARCH_VAR,
    ChangeList,
)
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connections, transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import translation
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext

from django_orb.db import primary
from django_orb.formatting import recorded

from .changelist import QuickChangeList
from .paginator import CappedPaginator

# Before Django 6.1 the box that checks all is this column's title.
CHECKBOX_TITLE = getattr(admin.ModelAdmin.action_checkbox, "short_description", None)

# Themes that place filters and buttons elsewhere than Django does.
LOOKS = ("jazzmin", "unfold")

View = TypeVar("View", bound=Callable[..., Any])


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """
    Lists and pages of rows that only the mirror writes.

    No user may add, change or delete any, whatever their permissions.
    """

    # A count beside each choice of a filter would be a query over the whole list.
    show_facets = admin.ShowFacets.NEVER
    # Django would count the whole table beside each filtered list.
    show_full_result_count = False
    list_per_page = 50
    paginator = CappedPaginator
    #: Columns that a list does not show and that may be large.
    heavy: tuple[str, ...] = ()
    #: Columns of money, which can be compared only within one currency.
    amounts: tuple[str, ...] = ()
    #: How many rows of a list actions take.
    most_at_once = 1000

    class Media:
        css = {"all": ["django_orb/admin.css"]}

    @property
    def urls(self) -> list[URLPattern]:
        # Here and not in `get_urls`, which subclasses extend, so that no view is left
        # out.
        patterns = self.get_urls()
        for pattern in patterns:
            pattern.callback = without_nul(pattern.callback)
        return patterns

    @admin.display(description=CHECKBOX_TITLE)
    def action_checkbox(self, obj: Any) -> SafeString:
        """Render Django's box without its widget, which takes a third of a list's time."""
        label = gettext("Select this object for an action - {}").format(obj)
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" '
            'aria-label="{}">',
            ACTION_CHECKBOX_NAME,
            obj.pk,
            label,
        )

    def get_queryset(self, request: HttpRequest) -> Any:
        """
        Rows of the mirror's own database, except for lists that are only shown.

        What is done to a row is decided by what is read here, and a replica may lag.
        """
        queryset = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("_changelist")
        if is_list and request.method == "GET":
            return queryset
        return queryset.using(primary.alias())

    def get_paginator(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> Any:
        paginator: Any = super().get_paginator(request, queryset, *args, **kwargs)
        # The history's pages are rows of another model.
        if getattr(queryset, "model", None) is not self.model:
            return paginator
        chosen = request.GET.keys() - {ORDER_VAR, PAGE_VAR, ERROR_FLAG, "sums"}
        # With one filter there is an index on its column and then the list's order. With
        # more filters, or with a search, there is none.
        if SEARCH_VAR not in chosen and len(chosen) <= 1:
            paginator.count_by = self.get_ordering(request)
        return paginator

    def prepare(self, rows: Any) -> None:
        """Add what the columns of these rows need, for all of them at once."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QuickChangeList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # Django's own title would ask to select a row.
        title = capfirst(str(self.opts.verbose_name_plural))
        context = {
            "title": title,
            "most_at_once": self.most_at_once,
            "look": find_look(),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def history_view(
        self,
        request: HttpRequest,
        object_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        response = super().history_view(request, object_id, extra_context)
        for entry in getattr(response, "context_data", {}).get("action_list", ()):
            entry.change_message = recorded(entry.change_message)
        return response

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        """Record in English, as all that is stored; so the text must be a lazy one."""
        with translation.override(None):
            return super().log_change(request, obj, str(message))

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["look"] = find_look()
        return super().render_change_form(request, context, *args, **kwargs)

    def response_action(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """
        Do as Django's does, for all rows that were chosen.

        Django leaves out rows that have left a filtered list meanwhile, and runs the
        action on none if all of them have.
        """
        post = request.POST
        # Read as Django's form reads it, to which "0" is false.
        if not forms.BooleanField(required=False).clean(post.get("select_across")):
            queryset = self.get_queryset(request)
            chosen = post.getlist(ACTION_CHECKBOX_NAME)
            # Whoever sends the form may have changed it: text among numbers, or a
            # number that is too large for the column, would be an error of the
            # database.
            are_keys = all(map(self._is_key, chosen))
            if not are_keys or not queryset.filter(pk__in=chosen).exists():
                text = gettext("The selected rows no longer exist. Nothing was done.")
                self.message_user(request, text, messages.WARNING)
                return HttpResponseRedirect(request.get_full_path())
        # Django 6.1 also gives the page that the form was on.
        return super().response_action(request, queryset, *args, **kwargs)

    def _is_key(self, text: str) -> bool:
        try:
            self.opts.pk.clean(text, None)
        except ValidationError:
            return False
        return "\0" not in text

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PageAdmin(ReadOnlyAdmin):
    """A page in the place of a list; users with the permission `needed` may see it."""

    needed = "django_orb.view_invoice"
    title: Any = ""
    template = ""

    def answer(self, request: HttpRequest) -> dict[str, Any] | HttpResponseBase:
        """Return what the template shows, or a response in its place."""
        raise NotImplementedError

    # A proxy has no permissions of its own.
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(self.needed)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        # The list's address alone: there are no rows to add, change or delete.
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def changelist_view(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        # So that links in the template stay in this site, if a project has two.
        request.current_app = self.admin_site.name
        answer = self.answer(request)
        if isinstance(answer, HttpResponseBase):
            return answer
        context = {
            **self.admin_site.each_context(request),
            "title": self.title,
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            **answer,
        }
        return TemplateResponse(request, self.template, context)


def find_look() -> str:
    """Return which theme of the admin is installed, or "" if it is Django's own."""
    return next((name for name in LOOKS if apps.is_installed(name)), "")


def without_nul(view: View) -> View:
    """
    Keep NUL characters in addresses out of a view, as Django keeps them out of forms.

    No name contains one, and PostgreSQL fails at a query with one.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if any("\0" in str(value) for value in kwargs.values()):
            raise Http404
        if any("\0" in text for _, texts in request.GET.lists() for text in texts):
            # As Django answers a filter that cannot be right.
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        return view(request, *args, **kwargs)

    return guarded  # type: ignore[return-value]


def outside_transactions(view: View) -> View:
    """
    Keep a view out of ATOMIC_REQUESTS on every database.

    What it records must be committed before a request to Orb leaves.
    """
    # ATOMIC_REQUESTS is a setting of each database.
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
