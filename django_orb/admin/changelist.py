"""Lists that stay quick at any size."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import quote as urlquote

from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.http import HttpRequest
from django.urls import reverse

# No character in it is changed by the admin's quoting of keys.
ANY = "any-of-them"


class QuickChangeList(ChangeList):
    def get_queryset(self, *args: Any, **kwargs: Any) -> Any:
        return (
            super()
            .get_queryset(*args, **kwargs)
            # A payload has kilobytes, and a page has fifty rows.
            .defer(*getattr(self.model_admin, "heavy", ()))
        )

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        """
        Order by the column that was chosen last, then by the key; amounts by their
        currency first.

        All go in one direction, so that an index serves the order and its reverse. None
        has one column behind another, which Django's links ask for.
        """
        ordering = super().get_ordering(request, queryset)
        if not self.params.get(ORDER_VAR):
            return ordering
        # Django goes on with the list's own order, or with the key.
        default = queryset.query.order_by or ("-pk",)
        chosen = [str(one) for one in ordering[: len(ordering) - len(default)]][:1]
        if not chosen:
            return ordering
        sign = "-" if chosen[0].startswith("-") else ""
        if chosen[0].lstrip("-") in getattr(self.model_admin, "amounts", ()):
            chosen = [f"{sign}currency", *chosen]
        return [*chosen, f"{sign}pk"]

    def get_ordering_field_columns(self) -> Any:
        columns = list(super().get_ordering_field_columns().items())
        return dict(columns[:1] if ORDER_VAR in self.params else columns)

    def url_for_result(self, result: Any) -> str:
        """Return a row's address. Django resolves the URL again for each row."""
        return self._url_of_any.replace(ANY, urlquote(quote(str(result.pk))))

    @cached_property
    def _url_of_any(self) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return reverse(name, args=[ANY], current_app=self.model_admin.admin_site.name)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.model_admin.prepare(self.result_list)  # type: ignore[attr-defined]
        if self.paginator.is_capped:
            # Nor is "10000 results" said beside the search.
            self.full_result_count = self.result_count
