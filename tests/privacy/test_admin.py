"""A customer is erased from the customer's page, by whoever has the permission."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_orb import maintenance
from django_orb.models import CustomerErasure, Invoice
from tests.factories import make_staff, store

from .poison import CUSTOMER, WORD, logged, personal, places

pytestmark = pytest.mark.django_db(databases=["default"])


def address(view: str = "_erase") -> str:
    return reverse(f"admin:django_orb_invoice_customer{view}", args=[CUSTOMER])


@pytest.fixture
def officer() -> Client:
    client = Client()
    client.force_login(make_staff("view_invoice", "erase_customer", name="dpo"))
    return client


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_page_leads_to_it_and_says_what_will_happen(officer: Client) -> None:
    store(personal())

    assert address() in officer.get(address("")).content.decode()
    text = officer.get(address()).content.decode()

    assert "cannot be brought back" in text
    assert "Undo the erasure" not in text
    assert not CustomerErasure.objects.exists()


def test_post_erases_and_says_so(officer: Client) -> None:
    store(personal())

    response = officer.post(address(), follow=True)

    assert messages_of(response) == ["The personal data of this customer was erased."]
    assert "dpo asked for it." in response.content.decode()
    assert places() == []
    erasure = CustomerErasure.objects.get()
    assert (erasure.erased_by, erasure.origin) == ("dpo", "admin")


def test_undoing_and_erasing_again(officer: Client) -> None:
    store(personal())
    officer.post(address(), follow=True)

    again = messages_of(officer.post(address(), follow=True))
    undone = messages_of(officer.post(address(), {"undo": "1"}, follow=True))
    twice = messages_of(officer.post(address(), {"undo": "1"}, follow=True))

    assert again == ["The personal data of this customer was erased."]
    assert "no longer erased" in undone[0]
    assert twice == ["This customer is not erased. Nothing was changed."]
    assert CustomerErasure.objects.get().undone_by == "dpo"


def test_what_takes_longer_is_left_to_recover(officer: Client) -> None:
    from django_orb.maintenance.erasing import erase_customer

    store(personal())

    erasure = erase_customer(CUSTOMER, seconds=-1.0)

    assert erasure.stage
    text = officer.get(address()).content.decode()
    assert "is still being erased" in text
    maintenance.finish_operations()
    assert places() == []
    assert Invoice.objects.get().memo == ""


def test_portal_links_that_were_made_lose_the_name() -> None:
    store(personal())
    user = make_staff(name="seller")
    logged(user, Invoice, f"Opened the portal of customer {CUSTOMER} for 60 minutes.")
    LogEntry.objects.update(object_repr=WORD)

    maintenance.erase_customer(CUSTOMER)

    assert places() == []
    entry = LogEntry.objects.get()
    assert entry.object_repr == CUSTOMER
    assert entry.change_message.endswith("for 60 minutes.")


@pytest.mark.parametrize("permissions", [["view_invoice"], ["erase_customer"]])
def test_it_takes_its_own_permission_and_that_to_see_invoices(
    permissions: list[str], client: Client
) -> None:
    store(personal())
    client.force_login(make_staff(*permissions, name="other"))

    assert client.get(address()).status_code == 403
    assert client.post(address()).status_code == 403

    assert not CustomerErasure.objects.exists()
