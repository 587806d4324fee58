from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.admin.templatetags.admin_list import result_headers
from django.db import models
from django.test import Client
from django.urls import reverse

from tests.admin.everything import WITHOUT_ROWS

pytestmark = pytest.mark.django_db

#: Lists of few rows. All others grow with the account.
SMALL = {"invoicefailure", "invoiceoperation", "syncrun"}
LARGE = [
    model
    for model in admin.site._registry
    if model._meta.app_label == "django_orb"
    and model._meta.model_name not in SMALL.union(WITHOUT_ROWS)
]


def column(model: type[models.Model], name: str) -> str:
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field.attname


def orders(model: type[models.Model]) -> set[tuple[str, ...]]:
    """The orders that an index has, from its first column to its last, either way."""
    found: set[tuple[str, ...]] = {(column(model, "pk"),)}
    for index in model._meta.indexes:
        signs = {name.startswith("-") for name in index.fields}
        if len(signs) == 1 and index.condition is None:
            found.add(tuple(column(model, name.lstrip("-")) for name in index.fields))
    return found


@pytest.mark.parametrize("model", LARGE)
def test_a_large_list_is_sorted_by_what_an_index_has(
    model: type[models.Model], finance: Client
) -> None:
    address = reverse(f"admin:django_orb_{model._meta.model_name}_changelist")
    headers = result_headers(finance.get(address).context["cl"])
    links = [str(header["url_primary"]) for header in headers if header["sortable"]]

    for link in ["", *links]:
        by = finance.get(address + link).context["cl"].queryset.query.order_by
        assert len({name.startswith("-") for name in by}) == 1, (link, by)
        # Django repeats the list's own order behind itself, which changes nothing.
        columns = tuple(dict.fromkeys(column(model, name.lstrip("-")) for name in by))
        assert columns in orders(model), (link, by)
