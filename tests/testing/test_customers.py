from __future__ import annotations

from datetime import timedelta

import orb as orb_sdk
import pytest

from .conftest import make_sdk
from .exact import assert_exact
from .test_operations import kind


def test_every_customer_strictly(account):
    with make_sdk(account) as sdk:
        customers = list(sdk.customers.list(limit=10))
        assert sorted(c.id for c in customers) == sorted(account.customer_ids())
        assert customers == sorted(customers, key=lambda c: c.created_at, reverse=True)
        for customer in customers:
            assert_exact(customer)
            assert sdk.customers.fetch(customer.id) == customer
            if customer.external_customer_id:
                name = customer.external_customer_id
                assert sdk.customers.fetch_by_external_id(name) == customer


def test_every_invoice_belongs_to_one(account):
    for invoice_id in account.invoice_ids():
        invoice = account.invoice(invoice_id)
        customer = account.customer(invoice["customer"]["id"])
        external_id = invoice["customer"]["external_customer_id"]
        assert customer["external_customer_id"] == external_id
        assert customer["currency"] == invoice["currency"]
        assert customer["created_at"] <= invoice["created_at"]


def test_nobody(sdk):
    for call in (
        sdk.customers.fetch,
        sdk.customers.fetch_by_external_id,
        sdk.customers.create_portal_session,
        sdk.customers.create_portal_session_by_external_id,
    ):
        with pytest.raises(orb_sdk.NotFoundError):
            call("nobody")


def test_a_portal_session_ends_when_it_was_asked_to(orb, sdk):
    customer_id = orb.customer_ids()[0]

    hour = sdk.customers.create_portal_session(customer_id)
    short = sdk.customers.create_portal_session(customer_id, expires_in_minutes=1)

    assert hour.expires_at - hour.created_at == timedelta(hours=1)
    assert short.expires_at - short.created_at == timedelta(minutes=1)
    assert hour.customer_id == customer_id
    assert hour.id != short.id
    assert hour.url != short.url


@pytest.mark.parametrize("minutes", [0, 181, -1, 1.5, "60"])
def test_a_portal_session_of_another_length_is_refused(orb, sdk, minutes):
    with pytest.raises(orb_sdk.BadRequestError, match="expires_in_minutes"):
        sdk.customers.create_portal_session(
            orb.customer_ids()[0], expires_in_minutes=minutes
        )


def test_the_balance_and_what_changed_it(orb, sdk):
    invoice = orb.add_invoice(status="draft", amount="80.00")
    customer_id = invoice["customer"]["id"]
    entry = sdk.customers.balance_transactions.create(
        customer_id, amount="50.00", type="increment", description="Gift"
    )
    assert_exact(entry)
    orb.advance(timedelta(seconds=1))
    orb.issue(invoice["id"])
    orb.advance(timedelta(seconds=1))
    assert sdk.customers.fetch(customer_id).balance == "0.00"
    orb.void(invoice["id"])
    assert sdk.customers.fetch(customer_id).balance == "50.00"
    entries = list(sdk.customers.balance_transactions.list(customer_id, limit=1))
    for entry in entries:
        assert_exact(entry)
    assert [entry.action for entry in entries][:3] == [
        "return_from_voiding",
        "applied_to_invoice",
        "manual_adjustment",
    ]
    since = entries[1].created_at
    later = sdk.customers.balance_transactions.list(
        customer_id, operation_time_gt=since
    )
    assert [entry.id for entry in later.data] == [entries[0].id]


def test_an_adjustment_that_is_wrong(orb, api):
    path = f"/customers/{orb.customer_ids()[0]}/balance_transactions"
    for body in ({"amount": 5, "type": "increment"}, {"amount": "5", "type": "gift"}):
        assert kind(api.post(path, json=body)) == "400-request-validation-errors"
    api.post(path, json={"amount": "5.00", "type": "decrement"})
    assert orb.customer(orb.customer_ids()[0])["balance"].startswith("-5")
    nobody = "/customers/nobody/balance_transactions"
    assert kind(api.get(nobody)) == "404-resource-not-found"
