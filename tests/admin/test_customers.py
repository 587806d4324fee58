"""What the host calls its customers, and how it finds them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.utils.translation import gettext_lazy

from django_orb import checks, customer_labels
from django_orb.admin.customer_links import customer_url
from django_orb.customer_labels import (
    Customer,
    CustomerLabel,
    ask_for_labels,
    label_customers,
    read_labels,
)
from django_orb.models import Invoice
from tests.factories import make_invoice, make_invoices

from .pages import LIST, page_of
from .test_list import found

HERE = __name__
CALLS: list[Any] = []


def labels(asked: list[Customer]) -> dict[str, Any]:
    CALLS.append(asked)
    return {
        "acme-001": ("Acme & Sons <b>Ltd</b>", "/accounts/7/"),
        "orb-1": "By Orb's id",
        "evil": ("Evil", "javascript:alert(1)"),
        "far": ("Far", "//elsewhere.test/"),
        "web": ("Web", "https://crm.test/web"),
        "nameless": (None, "/accounts/8/"),
        "empty": ("", "/accounts/9/"),
        "half": "Half \ud800",
        "broken": ("Broken", "http://["),
        "slashes": ("Slashes", "///evil.example"),
        "lazy": ("Lazy", gettext_lazy("/accounts/10/")),
    }


def find(text: str) -> Iterator[str]:
    return iter(["acme-001"] if text in "acme & sons" else [])


def failing(_: Any) -> Any:
    raise RuntimeError("the host's database is away")


def nonsense(_: Any) -> Any:
    return 7


@pytest.fixture
def named(settings: Any) -> Any:
    CALLS.clear()
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CUSTOMER_LABELS": f"{HERE}.labels",
        "CUSTOMER_SEARCH": f"{HERE}.find",
    }
    return settings


def customer(orb_id: str, external: str | None) -> dict[str, Any]:
    return {"id": orb_id, "external_customer_id": external}


def test_either_id_gives_a_name_and_only_pages_are_linked(named: Any) -> None:
    asked = {
        Customer("orb-1", "acme-001"),
        Customer("orb-1", ""),
        Customer("orb-2", "evil"),
        Customer("orb-3", "far"),
        Customer("orb-4", "web"),
        Customer("orb-5", "unknown"),
    }

    assert read_labels(asked) == {
        Customer("orb-1", "acme-001"): CustomerLabel(
            "Acme & Sons <b>Ltd</b>", "/accounts/7/"
        ),
        Customer("orb-1", ""): CustomerLabel("By Orb's id"),
        Customer("orb-2", "evil"): CustomerLabel("Evil"),
        Customer("orb-3", "far"): CustomerLabel("Far"),
        Customer("orb-4", "web"): CustomerLabel("Web", "https://crm.test/web"),
    }


def test_an_address_that_is_no_link_costs_no_customer_the_name(named: Any) -> None:
    asked = [Customer(f"orb-{one}", one) for one in ("broken", "slashes", "lazy")]

    assert list(read_labels(asked).values()) == [
        CustomerLabel("Broken"),
        CustomerLabel("Lazy", "/accounts/10/"),
        CustomerLabel("Slashes"),
    ]


def test_a_customer_without_a_name_is_called_by_the_id(named: Any) -> None:
    asked = [Customer(f"orb-{name}", name) for name in ("nameless", "empty", "half")]

    assert read_labels(asked) == dict(
        zip(
            asked,
            [
                CustomerLabel("nameless", "/accounts/8/"),
                CustomerLabel("empty", "/accounts/9/"),
                CustomerLabel("Half ?"),
            ],
            strict=True,
        )
    )
    # A file has a column for the name alone.
    assert {label.name for label in ask_for_labels(asked).values()} == {"", "Half ?"}


def test_a_list_asks_once_and_shows_names(named: Any, finance: Client) -> None:
    make_invoices(20)
    make_invoice(id="other", customer=customer("orb-9", "nobody"))

    text = finance.get(LIST).content.decode()

    assert len(CALLS) == 1
    assert len(CALLS[0]) == 2
    assert '<a href="/accounts/7/">' not in text
    assert "Acme &amp; Sons &lt;b&gt;Ltd&lt;/b&gt;" in text
    assert "nobody" in text


def test_pages_show_the_name_beside_the_ids(named: Any, finance: Client) -> None:
    invoice = make_invoice()

    page = finance.get(page_of(invoice.pk)).content.decode()
    url = customer_url("admin", invoice.customer_id)
    customers_own = finance.get(url).content.decode()
    confirmation = finance.get(page_of(invoice.pk, "void")).content.decode()

    assert f'<a href="{url}">Acme &amp; Sons' in page
    assert "acme-001" in page
    assert '<a href="/accounts/7/">Acme &amp; Sons' in customers_own
    assert "Acme &amp; Sons" in confirmation


def test_search_finds_what_the_host_finds(named: Any, finance: Client) -> None:
    make_invoice(id="one")
    make_invoice(id="other", customer=customer("orb-9", "nobody"))

    assert found(finance, q="sons") == ["one"]
    assert found(finance, q="nobody") == ["other"]
    assert found(finance, q="stranger") == []


@pytest.mark.parametrize("function", ["failing", "nonsense"])
def test_a_function_that_fails_leaves_the_ids(
    named: Any, finance: Client, caplog: Any, function: str
) -> None:
    path = f"{HERE}.{function}"
    named.DJANGO_ORB |= {"CUSTOMER_LABELS": path, "CUSTOMER_SEARCH": path}
    make_invoice(id="one")

    with caplog.at_level(logging.ERROR):
        assert found(finance, q="one") == ["one"]
        assert "acme-001" in finance.get(page_of("one")).content.decode()
    assert "CUSTOMER_LABELS failed" in caplog.text
    assert "CUSTOMER_SEARCH failed" in caplog.text


@pytest.mark.django_db
def test_without_functions_customers_are_called_by_their_ids() -> None:
    own, orbs = make_invoice(id="a"), make_invoice(id="b", customer=customer("x", None))

    label_customers([own, orbs])

    assert (own.customer_label.name, orbs.customer_label.name) == ("acme-001", "x")
    assert customer_labels.find_customers("acme") == []
    assert customer_labels.label_of(Invoice.objects.get(pk="a")).url == ""


@pytest.mark.parametrize("name", ["CUSTOMER_LABELS", "CUSTOMER_SEARCH"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.at_all", "cannot be imported"),
        ("plain", "cannot be imported"),
        (f"{HERE}.HERE", "is not a function"),
    ],
)
def test_E008_a_path_to_no_function(  # noqa: N802
    settings: Any, name: str, path: str, words: str
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, name: path}

    with pytest.raises(ImproperlyConfigured, match=words):
        customer_labels.host_function(name)
    (error,) = (e for e in checks.check_settings() if e.id == "django_orb.E008")
    assert path in error.msg
