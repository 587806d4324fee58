from __future__ import annotations

from datetime import date

import orb as orb_sdk
import pytest

from django_orb.testing import OrbSandbox

from .conftest import NOW, Api, make_sdk
from .exact import assert_exact, assert_sums

LINE = {
    "name": "Onboarding workshop",
    "quantity": 2,
    "amount": "1500.00",
    "start_date": "2026-03-01",
    "end_date": "2026-04-01",
}


def add_line(api, invoice_id, /, **changes):
    return api.post(
        "/invoice_line_items", json=LINE | {"invoice_id": invoice_id} | changes
    )


def kind(answer):
    return answer.json()["type"].rpartition("#")[2]


def test_ping(sdk):
    assert sdk.top_level.ping().response == "pong"


def test_fetch(orb, sdk):
    for status in orb.status_counts():
        invoice_id = orb.invoice_ids(status)[0]
        invoice = sdk.invoices.fetch(invoice_id)
        assert_exact(invoice)
        assert (invoice.id, invoice.status) == (invoice_id, status)


@pytest.mark.parametrize("invoice_id", ["nobody", "inv 1/..x", "ü%", "a?b#c"])
def test_fetch_of_an_unknown_id(sdk, invoice_id):
    with pytest.raises(orb_sdk.NotFoundError) as error:
        sdk.invoices.fetch(invoice_id)
    body = error.value.body
    assert isinstance(body, dict)
    assert body["type"].endswith("#404-resource-not-found")


def test_upcoming(orb, api):
    subscription_id = orb.subscription_ids(with_upcoming=True)[0]
    upcoming = api.get(
        "/invoices/upcoming", params={"subscription_id": subscription_id}
    ).json()
    assert "invoice_date" not in upcoming
    assert upcoming["target_date"] > NOW.isoformat()
    assert upcoming["subscription"] == {"id": subscription_id}


def test_upcoming_of_nothing(api):
    assert kind(api.get("/invoices/upcoming")) == "400-request-validation-errors"
    answer = api.get("/invoices/upcoming?subscription_id=none")
    assert (answer.status_code, kind(answer)) == (404, "404-resource-not-found")


def test_create_a_line_item(orb, sdk):
    invoice_id = orb.invoice_ids("draft")[0]
    before = orb.invoice(invoice_id)
    line = sdk.invoice_line_items.create(
        invoice_id=invoice_id,
        amount="1500.00",
        quantity=2,
        start_date=date(2026, 3, 1),
        end_date=date(2026, 4, 1),
        name="Onboarding workshop",
    )
    assert_exact(line)
    assert (line.amount, line.price.unit_config.unit_amount) == ("1500.00", "750.00")
    after = orb.invoice(invoice_id)
    assert_sums(after)
    assert after["line_items"][-1]["id"] == line.id
    assert float(after["total"]) == pytest.approx(float(before["total"]) + 1500)


def test_a_line_items_dates_are_the_customers_midnight():
    starts = set()
    with OrbSandbox(invoices=400, now=NOW) as orb, Api(orb) as api:
        for invoice_id in orb.invoice_ids("draft"):
            line = add_line(
                api, invoice_id, start_date="2026-07-01", end_date="2026-07-01"
            ).json()
            starts.add(line["start_date"])
    # Tokyo is ahead of UTC, Los Angeles behind it and on daylight saving time.
    assert "2026-06-30T15:00:00+00:00" in starts
    assert "2026-07-01T07:00:00+00:00" in starts


def test_the_item_of_a_line(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    by_name = add_line(api, invoice_id, name="Training").json()["price"]["item"]
    again = add_line(api, invoice_id, name="Training").json()["price"]["item"]
    assert by_name == again
    both = add_line(api, invoice_id, name="Shown", item_id=by_name["id"]).json()
    assert (both["name"], both["price"]["item"]) == ("Shown", by_name)
    only_id = add_line(api, invoice_id, name=None, item_id=by_name["id"]).json()
    assert only_id["name"] == "Training"
    assert kind(add_line(api, invoice_id, item_id="x")) == "404-resource-not-found"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 1500),
        ("amount", "a lot"),
        ("amount", "Infinity"),
        ("quantity", "2"),
        ("quantity", True),
        ("quantity", None),
        ("start_date", "2026-3-1"),
        ("start_date", "2026-03-01T00:00:00"),
        ("end_date", "2026-02-01"),
        ("end_date", None),
        ("name", None),
        ("name", 3),
        ("invoice_id", None),
    ],
)
def test_a_line_item_that_is_wrong(orb, api, field, value):
    invoice_id = orb.invoice_ids("draft")[0]
    answer = add_line(api, invoice_id, **{field: value})
    assert answer.status_code == 400
    assert field in answer.json()["validation_errors"][0]
    with make_sdk(orb) as sdk, pytest.raises(orb_sdk.BadRequestError):
        sdk.post("/invoice_line_items", cast_to=object, body={})


def test_a_body_that_is_not_an_object(api):
    for data in (b"[]", b"{", b""):
        answer = api.post("/invoice_line_items", data=data)
        assert kind(answer) == "400-request-validation-errors"


def test_a_body_that_is_too_large(api):
    answer = api.post("/invoice_line_items", data=b" " * 1_000_001)
    assert (answer.status_code, kind(answer)) == (413, "413-request-too-large")


@pytest.mark.parametrize("status", ["issued", "paid", "synced", "void"])
def test_only_a_draft_gets_line_items(orb, api, status):
    answer = add_line(api, orb.invoice_ids(status)[0])
    assert kind(answer) == "400-constraint-violation"
    assert kind(add_line(api, "nobody")) == "404-resource-not-found"


def test_void(orb, sdk):
    invoice_id = orb.invoice_ids("issued")[0]
    invoice = sdk.invoices.void(invoice_id)
    assert_exact(invoice)
    assert invoice.status == "void"
    assert invoice.voided_at == NOW
    assert orb.invoice(invoice_id)["status"] == "void"
    assert invoice_id in orb.invoice_ids("void")


def test_void_answers_201_for_clients_made_from_the_first_document(orb, api):
    answer = api.post(f"/invoices/{orb.invoice_ids('issued')[0]}/void")
    assert answer.status_code == 201


def test_void_returns_the_balance(orb, api):
    applied = orb.add_invoice(amount="80.00", status="draft")
    orb.set_balance(applied["customer"]["id"], "50.00")
    issued = orb.issue(applied["id"])
    assert float(issued["amount_due"]) == pytest.approx(float(issued["total"]) - 50)
    voided = api.post(f"/invoices/{applied['id']}/void").json()
    returned = voided["customer_balance_transactions"][-1]
    assert (returned["action"], returned["type"]) == (
        "return_from_voiding",
        "increment",
    )
    assert (returned["starting_balance"], returned["ending_balance"]) == (
        "0.00",
        "50.00",
    )
    assert voided["amount_due"] == issued["amount_due"]
    assert_sums(voided)


@pytest.mark.parametrize("status", ["draft", "paid", "synced", "void"])
def test_only_an_issued_invoice_can_be_voided(orb, api, status):
    answer = api.post(f"/invoices/{orb.invoice_ids(status)[0]}/void")
    assert kind(answer) == "400-constraint-violation"
    assert status in answer.json()["detail"]


def test_void_of_an_unknown_invoice(sdk):
    with pytest.raises(orb_sdk.NotFoundError):
        sdk.invoices.void("nobody")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer wrong", "sandbox-key", "Bearer ü"]
)
def test_a_key_that_is_missing_or_wrong(orb, header):
    with Api(orb) as api:
        api.headers.pop("Authorization")
        headers = {} if header is None else {"Authorization": header.encode()}
        answer = api.get("/invoices", headers=headers)
    assert (answer.status_code, kind(answer)) == (401, "401-authentication-error")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/plans"),
        ("PUT", "/ping"),
        ("DELETE", "/invoices/x"),
        ("GET", "/invoices/x/y/z"),
        ("GET", ""),
    ],
)
def test_a_route_that_does_not_exist(api, method, path):
    answer = api.request(method, path)
    assert (answer.status_code, kind(answer)) == (404, "404-url-not-found")


def test_the_sdks_errors_come_out_right(orb):
    with make_sdk(orb) as sdk:
        paid, draft = orb.invoice_ids("paid")[0], orb.invoice_ids("draft")[0]
        with pytest.raises(orb_sdk.BadRequestError, match="constraint-violation"):
            sdk.invoices.void(paid)
        with pytest.raises(orb_sdk.BadRequestError, match="request-validation-errors"):
            sdk.invoices.list(limit=1000)
        for status, error in {
            409: orb_sdk.ConflictError,
            413: orb_sdk.APIStatusError,
            429: orb_sdk.RateLimitError,
            500: orb_sdk.InternalServerError,
            502: orb_sdk.InternalServerError,
        }.items():
            orb.fail_next(status=status)
            with pytest.raises(error):
                sdk.invoices.fetch(draft)
    wrong = make_sdk(orb, api_key="wrong")
    with wrong as sdk, pytest.raises(orb_sdk.AuthenticationError):
        sdk.top_level.ping()


@pytest.mark.parametrize("name", ["unit", "tiered", "package", "matrix"])
def test_price_models_have_their_own_config(name):
    with OrbSandbox(invoices=300, now=NOW) as orb:
        payloads = (orb.invoice(i) for i in orb.invoice_ids())
        prices = (line["price"] for p in payloads for line in p["line_items"])
        price = next(p for p in prices if p["model_type"] == name)
        assert f"{name}_config" in price
