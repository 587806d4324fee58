"""What every admin page of the mirror has in common: it can be looked at only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import admin
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse

View = TypeVar("View", bound=Callable[..., Any])


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """
    Lists and pages of rows that only the mirror writes.

    No adding, changing or deleting by anyone, whatever their permissions.
    """

    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    list_per_page = 50

    class Media:
        css = {"all": ["django_orb/admin.css"]}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = str(self.opts.verbose_name_plural).capitalize()
        return super().changelist_view(
            request, {"title": title, **(extra_context or {})}
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def outside_transactions(view: View) -> View:
    """
    Keep a view out of ATOMIC_REQUESTS on every database.

    What it records must be committed before a request to Orb leaves.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
