from __future__ import annotations

from datetime import date, datetime, timedelta

import orb as orb_sdk
import pytest

from django_orb.testing import OrbSandbox

from .conftest import NOW
from .exact import assert_exact, assert_sums
from .test_operations import add_line, kind


@pytest.fixture
def customer(orb):
    """A customer with an id of their own, who pays by card."""
    for invoice_id in orb.invoice_ids():
        invoice = orb.invoice(invoice_id)
        enabled = invoice["auto_collection"]["enabled"]
        if invoice["customer"]["external_customer_id"] and enabled:
            return {**invoice["customer"], "currency": invoice["currency"]}
    raise AssertionError


def one_off(customer, item_id, **changes):
    line = {
        "item_id": item_id,
        "name": "Workshop",
        "model_type": "unit",
        "quantity": 3,
        "unit_config": {"unit_amount": "125.50"},
        "start_date": "2026-11-01",
        "end_date": "2026-11-30",
    }
    return {
        "customer_id": customer["id"],
        "currency": customer["currency"],
        "invoice_date": "2026-12-24",
        "line_items": [line],
    } | changes


@pytest.fixture
def item_id(orb):
    return orb.invoice(orb.invoice_ids()[0])["line_items"][0]["price"]["item"]["id"]


# Creating


def test_create_through_the_sdk(orb, sdk, customer, item_id):
    body = one_off(
        customer,
        item_id,
        metadata={"po": "7", "none": None},
        memo="Thanks",
        net_terms=10,
    )
    invoice = sdk.invoices.create(**body)
    assert_exact(invoice)
    assert (invoice.status, invoice.invoice_source) == ("draft", "one_off")
    assert (invoice.total, invoice.memo) == ("376.50", "Thanks")
    assert invoice.metadata == {"po": "7"}
    assert invoice.due_date is None
    assert_sums(orb.invoice(invoice.id))
    assert [e["type"] for e in orb.webhook_events()] == []


def test_will_auto_issue(orb, api, customer, item_id):
    body = one_off(customer, item_id, will_auto_issue=True, net_terms=10)
    later = api.post("/invoices", json=body).json()
    assert (later["status"], later["will_auto_issue"]) == ("draft", True)
    assert later["scheduled_issue_at"] == later["invoice_date"]
    now = api.post("/invoices", json=body | {"invoice_date": "2026-11-20"}).json()
    assert now["status"] == "issued"
    orb.clock.set(datetime.fromisoformat(later["invoice_date"]))
    issued = orb.invoice(later["id"])
    assert issued["issued_at"] == later["invoice_date"]
    due = datetime.fromisoformat(issued["due_date"])
    assert due - datetime.fromisoformat(issued["invoice_date"]) == timedelta(days=10)


def test_by_external_id_with_a_due_date_and_a_discount(orb, api, customer, item_id):
    body = one_off(
        customer,
        item_id,
        external_customer_id=customer["external_customer_id"],
        due_date="2027-02-01",
        discount={"discount_type": "percentage", "percentage_discount": 0.2},
    )
    del body["customer_id"]
    invoice = api.post("/invoices", json=body).json()
    assert invoice["customer"]["id"] == customer["id"]
    assert invoice["total"] == "301.20"
    assert invoice["discount"] == invoice["discounts"][0]
    orb.issue(invoice["id"])
    issued = orb.invoice(invoice["id"])
    assert issued["due_date"].startswith(("2027-01-31", "2027-02-01"))
    assert_sums(issued)


def test_a_fixed_discount_is_taken_off_once(api, customer, item_id):
    body = one_off(
        customer,
        item_id,
        discount={"discount_type": "amount", "amount_discount": "76.50"},
    )
    body["line_items"] *= 2
    assert api.post("/invoices", json=body).json()["total"] == "676.50"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"currency": "XXX"}, "currency"),
        ({"currency": None}, "currency"),
        ({"invoice_date": "soon"}, "invoice_date"),
        ({"invoice_date": "2028-01-01"}, "invoice_date"),
        ({"line_items": None}, "line_items"),
        ({"line_items": [{}]}, "line_items[0].model_type"),
        ({"line_items": ["x"]}, "line_items"),
        ({"net_terms": 10, "due_date": "2027-01-01"}, "due_date"),
        ({"net_terms": 1.5}, "net_terms"),
        ({"net_terms": -1}, "net_terms"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"will_auto_issue": "yes"}, "will_auto_issue"),
        ({"external_customer_id": "x"}, "customer_id"),
        ({"customer_id": None}, "customer_id"),
        ({"discount": {"discount_type": "trial"}}, "discount.discount_type"),
        ({"discount": 3}, "discount"),
    ],
)
def test_an_invoice_that_is_wrong(orb, api, customer, item_id, changes, field):
    before = orb.status_counts()
    answer = api.post("/invoices", json=one_off(customer, item_id, **changes))
    assert kind(answer) == "400-request-validation-errors"
    assert any(e.startswith(field) for e in answer.json()["validation_errors"])
    assert orb.status_counts() == before


def test_an_invoice_for_nobody(api, customer, item_id):
    for changes in ({"customer_id": "nobody"}, {"line_items": [_line("no-item")]}):
        answer = api.post("/invoices", json=one_off(customer, item_id, **changes))
        assert kind(answer) == "404-resource-not-found"


def _line(item_id):
    return one_off({"id": "", "currency": ""}, item_id)["line_items"][0]


# Updating


def test_metadata_is_merged_in_any_status(orb, sdk):
    for status in orb.status_counts():
        invoice_id = orb.invoice_ids(status)[0]
        orb.update_invoice(invoice_id, metadata={"keep": "1", "drop": "2"})
        body = {"new": "3", "drop": None}
        updated = sdk.invoices.update(invoice_id, metadata=body)
        assert_exact(updated)
        assert updated.metadata == {"keep": "1", "new": "3"}
        assert sdk.invoices.update(invoice_id, metadata=None).metadata == {}


def test_the_rest_is_for_drafts(orb, api):
    draft = orb.add_invoice(status="draft", days_ago=-10)
    path = f"/invoices/{draft['id']}"
    moved = api.put(path, json={"invoice_date": "2026-12-01", "net_terms": 45}).json()
    assert moved["invoice_date"][:10] in {"2026-11-30", "2026-12-01"}
    assert moved["eligible_to_issue_at"] == moved["invoice_date"]
    enabled = api.put(path, json={"auto_collection": True}).json()["auto_collection"]
    assert enabled["enabled"] is True
    issued = orb.issue(draft["id"])
    due = datetime.fromisoformat(issued["due_date"])
    assert due - datetime.fromisoformat(issued["invoice_date"]) == timedelta(days=45)
    for body in ({"net_terms": 1}, {"invoice_date": "2026-12-02"}):
        assert kind(api.put(path, json=body)) == "400-constraint-violation"
    subscribed = next(
        i for i in orb.invoice_ids("draft") if orb.invoice(i)["subscription"]
    )
    answer = api.put(f"/invoices/{subscribed}", json={"invoice_date": "2026-12-02"})
    assert kind(answer) == "400-constraint-violation"
    both = {"net_terms": 1, "due_date": "2027-01-01"}
    assert kind(api.put(f"/invoices/{subscribed}", json=both)).startswith("400-request")


def test_put_ignores_idempotency_keys(orb, api):
    path, key = f"/invoices/{orb.invoice_ids()[0]}", {"Idempotency-Key": "k"}
    for value in ("1", "2"):
        answer = api.put(path, json={"metadata": {"a": value}}, headers=key)
        assert answer.json()["metadata"]["a"] == value
        assert "Idempotency-Key" not in answer.headers


# Deleting lines


def test_delete_a_line(orb, sdk, api):
    invoice_id = orb.invoice_ids("draft")[0]
    before = orb.invoice(invoice_id)
    line_id = add_line(api, invoice_id).json()["id"]
    assert sdk.invoices.delete_line_item(line_id, invoice_id=invoice_id) is None
    assert orb.invoice(invoice_id) == before
    path = f"/invoices/{invoice_id}/invoice_line_items"
    assert kind(api.delete(f"{path}/{line_id}")) == "404-resource-not-found"


def test_only_one_off_lines_of_drafts_are_deleted(orb, api):
    for status, words in {"draft": "one-off", "paid": "draft"}.items():
        for invoice_id in orb.invoice_ids(status):
            invoice = orb.invoice(invoice_id)
            if invoice["invoice_source"] == "subscription":
                break
        line_id = invoice["line_items"][0]["id"]
        path = f"/invoices/{invoice['id']}/invoice_line_items/{line_id}"
        answer = api.delete(path)
        assert kind(answer) == "400-constraint-violation"
        assert words in answer.json()["detail"]


# Issuing


def test_issue(orb, sdk):
    draft = orb.add_invoice(status="draft", days_ago=1, amount="500.00")
    issued = sdk.invoices.issue(draft["id"], synchronous=True)
    assert_exact(issued)
    assert (issued.status, issued.issued_at) == ("issued", NOW)
    assert issued.due_date is not None
    assert orb.webhook_events()[-1]["type"] == "invoice.issued"
    other = orb.add_invoice(status="draft", days_ago=1)
    summary = sdk.invoices.issue_summary(other["id"])
    assert_exact(summary)


def test_when_an_invoice_cannot_be_issued(orb, api):
    ahead = orb.add_invoice(status="draft", days_ago=-1)["id"]
    usage = next(i for i in orb.invoice_ids("draft") if orb.invoice(i)["subscription"])
    changes = {"will_auto_issue": False, "eligible_to_issue_at": NOW.isoformat()}
    orb.update_invoice(usage, **changes)
    automatic = next(
        i for i in orb.invoice_ids("draft") if orb.invoice(i)["will_auto_issue"]
    )
    for invoice_id, words in {
        ahead: "not eligible",
        automatic: "automatically",
        orb.invoice_ids("paid")[0]: "must be draft",
    }.items():
        answer = api.post(f"/invoices/{invoice_id}/issue", json={})
        assert kind(answer) == "400-constraint-violation"
        assert words in answer.json()["detail"]
    path = f"/invoices/{usage}/issue"
    assert "usage" in api.post(path, json={"synchronous": True}).json()["detail"]
    assert api.post(path).status_code == 200


def test_tax_is_worked_out_at_issue():
    with OrbSandbox(invoices=400, now=NOW) as orb:
        for draft_id in orb.invoice_ids("draft"):
            draft = orb.invoice(draft_id)
            assert not any(line["tax_amounts"] for line in draft["line_items"])
            issued = orb.issue(draft_id)
            assert issued["subtotal"] == draft["subtotal"]
            assert_sums(issued)


def test_the_balance_is_used_up_at_issue(orb):
    draft = orb.add_invoice(status="draft", amount="30.00")
    orb.set_balance(draft["customer"]["id"], "1000.00")
    issued = orb.issue(draft["id"])
    assert (issued["status"], issued["amount_due"]) == ("paid", "0.00")
    entry = issued["customer_balance_transactions"][0]
    assert (entry["action"], entry["type"]) == ("applied_to_invoice", "decrement")
    assert float(entry["ending_balance"]) == 1000 - float(issued["total"])


def test_a_small_amount_is_carried_over_and_asked_for_with_the_next(orb):
    customer_id = _untaxed_customer(orb)
    small = orb.add_invoice(amount="0.30", customer_id=customer_id)
    assert (small["status"], small["amount_due"]) == ("paid", "0.00")
    action = small["customer_balance_transactions"][0]["action"]
    assert action == "small_invoice_carryover"
    following = orb.add_invoice(amount="10.00", customer_id=customer_id)
    assert (following["total"], following["amount_due"]) == ("10.00", "10.30")
    for invoice in (small, following):
        assert_sums(invoice)


def _untaxed_customer(orb):
    for customer_id in orb.customer_ids():
        probe = orb.add_invoice(customer_id=customer_id, amount="100.00")
        if probe["total"] == "100.00" and probe["currency"] != "JPY":
            return customer_id
    raise AssertionError


def test_the_next_period_begins_with_a_draft(orb, api):
    subscription_id = orb.subscription_ids(with_upcoming=True)[0]
    params = {"subscription_id": subscription_id}
    seen = []
    for _ in range(4):
        upcoming = api.get("/invoices/upcoming", params=params).json()
        seen.append((upcoming["target_date"], upcoming["id"]))
        orb.clock.set(datetime.fromisoformat(upcoming["target_date"]))
        orb.advance(timedelta(hours=12))
    assert seen == sorted(seen)
    assert len({invoice_id for _, invoice_id in seen}) == 4
    for _, invoice_id in seen[:-1]:
        assert orb.invoice(invoice_id)["status"] in {"issued", "paid"}
        assert_sums(orb.invoice(invoice_id))


# Paying


def test_mark_paid(orb, sdk):
    for status in ("issued", "synced"):
        invoice_id = orb.invoice_ids(status)[0]
        paid = sdk.invoices.mark_paid(
            invoice_id, payment_received_date=date(2026, 11, 20), external_id="wire-7"
        )
        assert_exact(paid)
        assert (paid.status, paid.paid_at) == ("paid", NOW)
        assert paid.payment_received_at.date() == date(2026, 11, 20)
        event = orb.webhook_events()[-1]
        assert event["type"] == "invoice.manually_marked_as_paid"
        assert event["properties"] == {
            "payment_received_date": "2026-11-20",
            "external_id": "wire-7",
            "notes": None,
        }


def test_mark_paid_refuses(orb, api):
    path = f"/invoices/{orb.invoice_ids('draft')[0]}/mark_paid"
    body = {"payment_received_date": "2026-11-20"}
    assert kind(api.post(path, json=body)) == "400-constraint-violation"
    assert kind(api.post(path, json={})) == "400-request-validation-errors"


def test_pay(orb, sdk):
    invoice = orb.add_invoice(amount="70.00")
    paid = sdk.invoices.pay(invoice["id"], shared_payment_token_id="spt")
    assert_exact(paid)
    [attempt] = paid.payment_attempts
    assert (attempt.succeeded, attempt.amount) == (True, invoice["amount_due"])
    with pytest.raises(orb_sdk.BadRequestError):
        sdk.invoices.pay(invoice["id"])


def test_a_card_is_charged_an_hour_after_issue(orb, customer):
    invoice = orb.add_invoice(customer_id=customer["id"])
    assert invoice["auto_collection"]["next_attempt_at"] is not None
    orb.advance(timedelta(minutes=59))
    assert orb.invoice(invoice["id"])["status"] == "issued"
    orb.advance(timedelta(minutes=1))
    paid = orb.invoice(invoice["id"])
    assert (paid["status"], paid["auto_collection"]["num_attempts"]) == ("paid", 1)
    assert orb.webhook_events()[-1]["type"] == "invoice.payment_succeeded"


def test_dunning_ends_after_four_attempts(orb, customer):
    invoice = orb.add_invoice(customer_id=customer["id"])
    orb.attempt_payment(invoice["id"], succeeds=False)
    orb.advance(timedelta(days=30))
    failed = orb.invoice(invoice["id"])
    assert failed["status"] == "issued"
    assert failed["auto_collection"]["num_attempts"] == 4
    assert failed["auto_collection"]["next_attempt_at"] is None
    assert failed["payment_failed_at"] is not None
    assert not any(a["succeeded"] for a in failed["payment_attempts"])


def test_sync_and_undo(orb, api):
    invoice = orb.add_invoice()
    assert orb.sync(invoice["id"])["status"] == "synced"
    assert orb.mark_paid(invoice["id"])["status"] == "paid"
    undone = orb.undo_mark_paid(invoice["id"])
    assert (undone["status"], undone["paid_at"]) == ("issued", None)
    types = [event["type"] for event in orb.webhook_events()]
    assert types == [
        "invoice.issued",
        "invoice.sync_succeeded",
        "invoice.manually_marked_as_paid",
        "invoice.undo_mark_as_paid",
    ]


def test_regenerated_documents(orb, sdk):
    paid = orb.add_invoice()["id"]
    sdk.invoices.pay(paid)
    before = orb.invoice(paid)
    invoice = sdk.invoices.regenerate_invoice_pdf(paid)
    assert_exact(invoice)
    assert invoice.invoice_pdf != before["invoice_pdf"]
    receipt = sdk.invoices.regenerate_receipt_pdf(paid).payment_attempts[-1].receipt_pdf
    assert receipt != before["payment_attempts"][-1]["receipt_pdf"]
    for status, call in {
        "draft": sdk.invoices.regenerate_invoice_pdf,
        "issued": sdk.invoices.regenerate_receipt_pdf,
    }.items():
        with pytest.raises(orb_sdk.BadRequestError):
            call(orb.invoice_ids(status)[0])


# Summaries


def test_summaries(account):
    from .conftest import make_sdk

    with make_sdk(account) as sdk:
        summaries = list(sdk.invoices.list_summary(status="paid", limit=100))
    assert [summary.id for summary in summaries] == account.invoice_ids("paid")
    for summary in summaries:
        assert_exact(summary)
