from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from django_orb.testing import OrbSandbox

from .conftest import NOW, Api, make_sdk
from .exact import assert_exact, assert_sums

STATUSES = ["draft", "issued", "paid", "synced", "void"]


@pytest.fixture(scope="module")
def invoices(account):
    with Api(account) as api:
        return api.all_invoices(**{"status[]": STATUSES, "limit": 100})


def test_the_sdk_reads_the_whole_account_strictly(account):
    with make_sdk(account) as sdk:
        seen = list(sdk.invoices.list(status=STATUSES, limit=100))
    assert len(seen) == 600
    for invoice in seen:
        assert_exact(invoice)


@pytest.mark.parametrize("size", [0, 1, 7, 120])
@pytest.mark.parametrize("hour", [0, 9, 18, 23])
def test_there_are_as_many_as_asked_for_at_any_time_of_the_month(size, hour):
    """Drafts that fell due since midnight are issued, and others take their place."""
    for day in (1, 2, 15, 25, 28):
        now = datetime(2026, 12, day, hour, 50, tzinfo=timezone.utc)
        orb = OrbSandbox(invoices=size, now=now)
        assert sum(orb.status_counts().values()) == size, now


def test_the_sdk_reads_every_upcoming_invoice_strictly(account):
    with make_sdk(account) as sdk:
        for subscription_id in account.subscription_ids(with_upcoming=True):
            upcoming = sdk.invoices.fetch_upcoming(subscription_id=subscription_id)
            assert_exact(upcoming)
            assert upcoming.status == "draft"


def test_sums(invoices):
    for invoice in invoices:
        assert_sums(invoice)


def test_all_that_an_account_may_hold_is_there(invoices):
    statuses = Counter(invoice["status"] for invoice in invoices)
    assert set(statuses) == set(STATUSES)
    assert statuses["paid"] > 0.6 * len(invoices)
    assert {i["invoice_source"] for i in invoices} == {
        "subscription",
        "partial",
        "one_off",
    }
    assert len({i["currency"] for i in invoices}) >= 5
    lines = [line for invoice in invoices for line in invoice["line_items"]]
    kinds = {line["price"]["model_type"] for line in lines}
    assert kinds == {"unit", "tiered", "package", "matrix"}
    adjustments = {a["adjustment_type"] for line in lines for a in line["adjustments"]}
    assert adjustments == {"percentage_discount", "amount_discount"}
    assert any(float(line["amount"]) < 0 for line in lines)
    assert any(float(line["credits_applied"]) for line in lines)
    assert any(float(line["partially_invoiced_amount"]) for line in lines)
    assert any(len(line["tax_amounts"]) == 2 for line in lines)
    assert any(len(line["name"]) > 255 for line in lines)
    assert any(not line["name"].isascii() for line in lines)
    assert any(line["quantity"] != int(line["quantity"]) for line in lines)
    assert any(invoice["discounts"] for invoice in invoices)
    assert any(invoice["credit_notes"] for invoice in invoices)
    assert any(invoice["customer_balance_transactions"] for invoice in invoices)
    assert any(invoice["total"] == "0.00" for invoice in invoices)
    assert any(i["customer"]["external_customer_id"] is None for i in invoices)
    assert any(i["invoice_date"] > NOW.isoformat() for i in invoices)
    overdue = [i for i in invoices if i["status"] == "issued"]
    assert any(i["due_date"] < NOW.isoformat() for i in overdue)


def test_times_agree_with_the_status(invoices):
    for invoice in invoices:
        status = invoice["status"]
        assert (invoice["paid_at"] is not None) == (status == "paid")
        assert (invoice["voided_at"] is not None) == (status == "void")
        assert (invoice["issued_at"] is None) == (status == "draft")
        assert (invoice["due_date"] is None) == (status == "draft")
        assert invoice["created_at"] <= (invoice["issued_at"] or NOW.isoformat())
        for moment in ("issued_at", "paid_at", "voided_at", "created_at"):
            assert (invoice[moment] or "") <= NOW.isoformat()


def test_ids_are_unique_and_two_differ_by_case_only(invoices):
    ids = [invoice["id"] for invoice in invoices]
    assert len(set(ids)) == len(ids)
    assert len({i.lower() for i in ids}) == len(ids) - 1
    lines = [line["id"] for invoice in invoices for line in invoice["line_items"]]
    assert len(set(lines)) == len(lines)
    numbers = {invoice["invoice_number"] for invoice in invoices}
    assert len(numbers) == len(ids)


def test_same_seed_same_account(account, invoices):
    later = OrbSandbox(invoices=600, seed=7, now=NOW + timedelta(hours=2))
    with later, Api(later) as api:
        again = api.all_invoices(**{"status[]": STATUSES, "limit": 100})
    assert again == invoices


def test_another_seed_another_account(account):
    with OrbSandbox(invoices=600, seed=8, now=NOW) as other:
        assert not set(other.invoice_ids()) & set(account.invoice_ids())


@pytest.mark.parametrize("size", [0, 1, 5, 20, 99])
def test_small_accounts(size):
    with OrbSandbox(invoices=size, now=NOW) as orb:
        assert sum(orb.status_counts().values()) == size
        if size >= 20:
            assert all(orb.status_counts().values())
        for invoice_id in orb.invoice_ids():
            assert_sums(orb.invoice(invoice_id))


def test_it_is_what_the_api_shows(account):
    invoice_id = account.invoice_ids("paid")[0]
    with Api(account) as api:
        body = api.get(f"/invoices/{invoice_id}").content
    assert json.loads(body) == account.invoice(invoice_id)
