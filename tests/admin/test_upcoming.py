from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache
from django.test import Client
from werkzeug.wrappers import Response

from django_orb import services
from django_orb.models import Invoice
from tests.factories import make_invoice

from .pages import page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def current(orb: OrbSandbox) -> Invoice:
    """An invoice whose subscription goes on."""
    going_on = set(orb.subscription_ids(with_upcoming=True))
    for invoice_id in orb.invoice_ids("issued") + orb.invoice_ids("paid"):
        subscription = orb.invoice(invoice_id)["subscription"]
        if subscription and subscription["id"] in going_on:
            return services.fetch_invoice(invoice_id)
    raise AssertionError("no invoice of a subscription that goes on")


def test_the_upcoming_invoice_is_marked_as_not_final(
    finance: Client, current: Invoice
) -> None:
    assert (
        page_of(current.pk, "upcoming")
        in finance.get(page_of(current.pk)).content.decode()
    )

    text = finance.get(page_of(current.pk, "upcoming")).content.decode()

    expected = services.fetch_upcoming_invoice(current.subscription_id)
    assert "Not final, and not stored." in text
    assert current.subscription_id in text
    assert expected.line_items[0].name in text
    assert Invoice.objects.count() == 1


def test_looking_again_soon_does_not_ask_orb_again(
    orb: OrbSandbox, finance: Client, current: Invoice
) -> None:
    for _ in range(2):
        finance.get(page_of(current.pk, "upcoming"))

    assert orb.request_counts()["fetch_upcoming_invoice"] == 1


def test_a_subscription_that_has_ended_has_nothing_upcoming(
    orb: OrbSandbox, finance: Client
) -> None:
    services.fetch_invoice(orb.invoice_ids("paid")[0])
    invoice = make_invoice(
        subscription={"id": "ended"}, invoice_date="2020-01-01T00:00:00+00:00"
    )

    (message,) = told(finance.get(page_of(invoice.pk, "upcoming")))

    assert message.startswith("warning: ")
    assert "Nothing is upcoming." in message


def test_an_invoice_without_subscription_has_none(finance: Client) -> None:
    invoice = make_invoice(subscription=None)

    assert "Upcoming" not in finance.get(page_of(invoice.pk)).content.decode()
    (message,) = told(finance.get(page_of(invoice.pk, "upcoming")))
    assert "does not belong to a subscription" in message


def test_orbs_trouble_is_told(finance: Client) -> None:
    invoice = make_invoice()

    (message,) = told(finance.get(page_of(invoice.pk, "upcoming")))

    assert "could not be reached" in message


def test_an_address_that_orb_does_not_have_does_not_say_that_nothing_is_upcoming(
    orb: OrbSandbox, finance: Client, current: Invoice
) -> None:
    orb.fail_next(1, status=404, html=True, route="fetch_upcoming_invoice")

    (message,) = told(finance.get(page_of(current.pk, "upcoming")))

    assert "check BASE_URL" in message
    assert "Nothing is upcoming" not in message


def test_the_sparse_answer_of_older_accounts_is_shown(
    orb: OrbSandbox, finance: Client, current: Invoice
) -> None:
    answer: dict[str, Any] = {
        "currency": "USD",
        "amount_due": None,
        "subtotal": "8.00",
        "target_date": "2026-05-01",
        "line_items": [{"name": "Seats", "quantity": 1, "amount": "8.00"}],
    }
    orb.answer_through(
        lambda route, request, go_on: Response(
            json.dumps(answer), content_type="application/json"
        )
    )

    text = finance.get(page_of(current.pk, "upcoming")).content.decode()

    assert "8.00 USD" in text
    assert "Other" not in text
    assert "1 May 2026" in text


def test_it_needs_the_permission_to_read_from_orb(
    log_in: Callable[..., Client],
) -> None:
    client = log_in("view_invoice", "void_invoice", "create_invoicelineitem")
    invoice = make_invoice()

    assert client.get(page_of(invoice.pk, "upcoming")).status_code == 403
    assert "Upcoming" not in client.get(page_of(invoice.pk)).content.decode()
