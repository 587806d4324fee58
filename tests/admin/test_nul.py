"""A NUL character in an address, which PostgreSQL takes in no text."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from django_orb.models import Invoice

LISTS = [
    "invoice",
    "invoicelineitem",
    "invoiceoperation",
    "invoicechange",
    "invoicefailure",
    "webhookevent",
    "syncrun",
]


def log_in_as_superuser() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("finance"))
    return client


QUERIES = [
    "age",
    "currency",
    "date",
    "e",
    "invoice",
    "kind",
    "missing",
    "o",
    "p",
    "q",
    "source",
    "state",
    "status",
    "type",
]


@pytest.mark.parametrize("query", QUERIES)
def test_list_takes_no_harm(any_database: str, query: str) -> None:
    client = log_in_as_superuser()
    for name in LISTS:
        response = client.get(f"/admin/django_orb/{name}/?{query}=%00", follow=True)
        assert response.status_code == 200, (name, query)


@pytest.mark.parametrize("name", LISTS)
def test_page_takes_no_harm(any_database: str, name: str) -> None:
    client = log_in_as_superuser()
    for page in ("change", "history"):
        path = f"/admin/django_orb/{name}/%00/{page}/"
        assert client.get(path).status_code == 404, path


def test_customer_of_such_an_id_has_nothing(any_database: str) -> None:
    assert not Invoice.objects.for_customer(customer_id="a\0").exists()
    assert not Invoice.objects.for_customer(external_customer_id="a\0").exists()
