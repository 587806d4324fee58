"""The count and the sums of the invoices in a list."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from django_orb.admin import paginator
from django_orb.models import Invoice
from tests.factories import make_invoice, make_invoices

from .pages import LIST


def shown(client: Client, **query: str) -> list[list[str]]:
    """The cells of the table of sums."""
    text = client.get(LIST, query).content.decode()
    table = re.search(r'aria-labelledby="orb-list-sums">.*?</table>', text, re.DOTALL)
    assert table, "There are no sums."
    rows = re.findall("<tr>(.*?)</tr>", table[0], re.DOTALL)[1:]
    cells = (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)
    return [[unescape(cell) for cell in row] for row in cells]


@pytest.fixture
def invoices(any_database: str) -> None:
    amounts = [
        ("USD", "1000000.10", "0.10"),
        ("USD", "0.20", "0.20"),
        ("JPY", "5000", "0"),
        ("EUR", "-0.000000000000000001", "12.5"),
    ]
    for number, (currency, total, due) in enumerate(amounts):
        make_invoice(id=f"i{number}", currency=currency, total=total, amount_due=due)


@pytest.fixture
def client(invoices: None) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("finance"))
    return client


def test_each_currency_is_added_up_by_itself(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [
        ["EUR", "1", "12.50 EUR", "-0.000000000000000001 EUR"],
        ["JPY", "1", "0.00 JPY", "5,000.00 JPY"],
        ["USD", "2", "0.30 USD", "1,000,000.30 USD"],
    ]
    assert shown(client) == everything
    assert shown(client, currency="JPY") == [everything[1]]
    assert shown(client, q="i0") == [["USD", "1", "0.10 USD", "1,000,000.10 USD"]]

    def add_up(most: int) -> None:
        monkeypatch.setattr(paginator, "MOST", most)

    add_up(4)
    assert shown(client) == everything

    add_up(3)
    text = client.get(LIST).content.decode()
    assert "More than 3 invoices are listed." in text
    assert 'aria-labelledby="orb-list-sums"' not in text
    link = re.search(r'<a href="([^"]+)">Add up all', text)
    assert link
    assert link[1] == "?sums=all"
    assert shown(client, sums="all") == everything
    assert shown(client, sums="all", currency="USD") == [everything[2]]
    # Another choice does not wait for all sums again.
    chosen = client.get(LIST, {"sums": "all"}).context["cl"]
    assert "sums" not in chosen.get_query_string({"currency": "USD"})


def test_no_sums_of_nothing(client: Client) -> None:
    Invoice.objects.all().delete()

    assert "orb-list-sums" not in client.get(LIST).content.decode()


def test_pages_of_the_list_show_the_same_sums(client: Client) -> None:
    make_invoices(60)

    assert shown(client, p="2") == shown(client, p="1")
