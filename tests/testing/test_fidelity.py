"""Every route, through Orb's own SDK and as its first one called it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import orb as orb_sdk
import pytest

from django_orb import testing
from django_orb.testing.sandbox.routes import ROUTES

from .conftest import Api
from .exact import assert_exact

FOLDER = Path(testing.__file__).parent
TABLE = (FOLDER / "FIDELITY.md").read_text()

LINE: dict[str, Any] = {
    "amount": "12.00",
    "quantity": 1.5,
    "name": "Support",
    "start_date": date(2026, 1, 1),
    "end_date": date(2026, 1, 31),
}
ONE_OFF: dict[str, Any] = {
    "currency": "USD",
    "invoice_date": datetime(2026, 11, 1, tzinfo=timezone.utc),
    "net_terms": 30,
    "line_items": [
        {
            "item_id": "item",
            "model_type": "unit",
            "name": "Setup",
            "quantity": 2,
            "start_date": date(2026, 11, 1),
            "end_date": date(2026, 11, 1),
            "unit_config": {"unit_amount": "10.00"},
        }
    ],
}

# What is done to an SDK, sync or async, with the sandbox to look things up in.
Call = Callable[[Any, Any], Any]
CALLS: dict[str, Call] = {
    "ping": lambda sdk, orb: sdk.top_level.ping(),
    "list_invoices": lambda sdk, orb: sdk.invoices.list(
        status=["draft", "issued", "paid", "synced", "void"], limit=100
    ),
    "create_invoice": lambda sdk, orb: sdk.invoices.create(
        **{
            **ONE_OFF,
            "customer_id": orb.add_customer()["id"],
            "line_items": [{**ONE_OFF["line_items"][0], "item_id": an_item(orb)}],
        }
    ),
    "list_invoice_summaries": lambda sdk, orb: sdk.invoices.list_summary(limit=100),
    "issue_invoice_summary": lambda sdk, orb: sdk.invoices.issue_summary(due(orb)),
    "fetch_upcoming_invoice": lambda sdk, orb: sdk.invoices.fetch_upcoming(
        subscription_id=orb.subscription_ids(with_upcoming=True)[0]
    ),
    "fetch_invoice": lambda sdk, orb: sdk.invoices.fetch(orb.invoice_ids("void")[0]),
    "update_invoice": lambda sdk, orb: sdk.invoices.update(
        orb.invoice_ids("draft")[0], metadata={"po": "7"}, net_terms=14
    ),
    "issue_invoice": lambda sdk, orb: sdk.invoices.issue(due(orb), synchronous=True),
    "mark_invoice_paid": lambda sdk, orb: sdk.invoices.mark_paid(
        orb.invoice_ids("synced")[0], payment_received_date=date(2026, 11, 20)
    ),
    "pay_invoice": lambda sdk, orb: sdk.invoices.pay(
        orb.invoice_ids("issued")[0], shared_payment_token_id="token"
    ),
    "void_invoice": lambda sdk, orb: sdk.invoices.void(orb.invoice_ids("issued")[0]),
    "regenerate_invoice_pdf": lambda sdk, orb: sdk.invoices.regenerate_invoice_pdf(
        orb.invoice_ids("paid")[0]
    ),
    "regenerate_receipt_pdf": lambda sdk, orb: sdk.invoices.regenerate_receipt_pdf(
        orb.invoice_ids("paid")[0]
    ),
    "create_invoice_line_item": lambda sdk, orb: sdk.invoice_line_items.create(
        invoice_id=orb.invoice_ids("draft")[0], **LINE
    ),
    "delete_invoice_line_item": lambda sdk, orb: delete_line(sdk, orb, due(orb)),
    "list_customers": lambda sdk, orb: sdk.customers.list(limit=100),
    "fetch_customer_by_external_id": lambda sdk, orb: (
        sdk.customers.fetch_by_external_id(
            orb.add_customer("crm-1")["external_customer_id"]
        )
    ),
    "fetch_customer": lambda sdk, orb: sdk.customers.fetch(orb.customer_ids()[0]),
    "list_balance_transactions": lambda sdk, orb: (
        sdk.customers.balance_transactions.list(with_balance(orb))
    ),
    "create_balance_transaction": lambda sdk, orb: (
        sdk.customers.balance_transactions.create(
            orb.customer_ids()[0], amount="5.00", type="increment"
        )
    ),
    "create_portal_session": lambda sdk, orb: sdk.customers.create_portal_session(
        orb.customer_ids()[0], expires_in_minutes=180, invalidate_existing=False
    ),
    "create_portal_session_by_external_id": lambda sdk, orb: (
        sdk.customers.create_portal_session_by_external_id(
            orb.add_customer("crm-2")["external_customer_id"]
        )
    ),
    # Not in the SDK but by its plain requests.
    "list_webhook_events": lambda sdk, orb: sdk.get("/webhook_events", cast_to=object),
    "fetch_webhook_event": lambda sdk, orb: sdk.get(
        f"/webhook_events/{an_event(orb)}", cast_to=object
    ),
}


def an_item(orb: Any) -> str:
    return str(
        orb.invoice(orb.invoice_ids()[0])["line_items"][0]["price"]["item"]["id"]
    )


def due(orb: Any) -> str:
    """A draft that can be issued."""
    return str(orb.add_invoice(status="draft")["id"])


def delete_line(sdk: Any, orb: Any, draft: str) -> Any:
    line_id = orb.add_line(draft)["id"]
    return sdk.invoices.delete_line_item(line_item_id=line_id, invoice_id=draft)


def with_balance(orb: Any) -> str:
    customer_id = orb.add_customer()["id"]
    orb.set_balance(customer_id, "25.00")
    return str(customer_id)


def an_event(orb: Any) -> str:
    orb.void(orb.invoice_ids("issued")[0])
    return str(orb.webhook_events()[0]["id"])


def parts(answer: Any) -> list[Any]:
    return list(answer.data) if hasattr(answer, "pagination_metadata") else [answer]


def assert_answered(orb: Any, route: str, answer: Any) -> None:
    assert orb.request_counts() == {route: 1}
    for part in parts(answer):
        assert_exact(part)


def test_there_is_a_call_for_every_route():
    assert CALLS.keys() == ROUTES


@pytest.mark.parametrize("route", sorted(CALLS))
def test_every_route_answers_orbs_sdk(orb, sdk, route):
    assert_answered(orb, route, CALLS[route](sdk, orb))


def test_every_route_answers_the_asynchronous_one(orb):
    async def run() -> None:
        async with orb_sdk.AsyncOrb(
            api_key=orb.api_key,
            base_url=orb.base_url,
            http_client=orb_sdk.DefaultAsyncHttpxClient(verify=False),
            max_retries=0,
            _strict_response_validation=True,
        ) as sdk:
            for route, call in CALLS.items():
                orb.clear_requests()
                assert_answered(orb, route, await call(sdk, orb))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "error", "retry"),
    [
        (400, orb_sdk.BadRequestError, {}),
        (401, orb_sdk.AuthenticationError, {}),
        (404, orb_sdk.NotFoundError, {}),
        (409, orb_sdk.ConflictError, {}),
        (429, orb_sdk.RateLimitError, {"Retry-After": "0"}),
        (500, orb_sdk.InternalServerError, {"Transient-Error": "true"}),
        (502, orb_sdk.InternalServerError, {}),
    ],
)
def test_its_errors_are_those_of_the_sdk(orb, sdk, status, error, retry):
    orb.fail_next(status=status, headers=retry, html=status == 502)

    with pytest.raises(error) as caught:
        sdk.invoices.fetch(orb.invoice_ids()[0])

    assert caught.value.status_code == status
    for name, value in retry.items():
        assert caught.value.response.headers[name] == value


# The five operations as the first SDK called them: bare repeated `status`, no
# idempotency key, 201 on void.


def old(orb: Any, method: str, path: str, **options: Any) -> Any:
    with Api(orb) as api:
        answer = api.request(method, path, **options)
    assert "Idempotency-Key" not in answer.request.headers
    assert "Idempotency-Key" not in answer.headers
    return answer


def test_the_first_sdk_lists_by_bare_statuses(orb):
    several = old(orb, "GET", "/invoices?status=issued&status=draft").json()["data"]
    single = old(orb, "GET", "/invoices?status=void").json()["data"]

    assert {invoice["status"] for invoice in several} == {"issued", "draft"}
    assert {invoice["status"] for invoice in single} == {"void"}


def test_the_first_sdk_fetches(orb):
    invoice_id = orb.invoice_ids("paid")[0]
    answer = old(orb, "GET", f"/invoices/{invoice_id}")

    assert (answer.status_code, answer.json()["id"]) == (200, invoice_id)


def test_the_first_sdk_fetches_what_is_upcoming(orb):
    subscription_id = orb.subscription_ids(with_upcoming=True)[0]
    path = f"/invoices/upcoming?subscription_id={subscription_id}"
    upcoming = old(orb, "GET", path).json()

    assert upcoming["subscription"]["id"] == subscription_id
    assert "invoice_date" not in upcoming
    assert datetime.fromisoformat(upcoming["target_date"]).tzinfo


def test_the_first_sdk_adds_a_line(orb):
    body = {
        **LINE,
        "invoice_id": orb.invoice_ids("draft")[0],
        "start_date": "2026-01-01",
        "end_date": "2026-01-31",
    }
    first = old(orb, "POST", "/invoice_line_items", json=body)
    second = old(orb, "POST", "/invoice_line_items", json=body)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]  # nothing tells them apart


def test_the_first_sdk_voids(orb):
    answer = old(orb, "POST", f"/invoices/{orb.invoice_ids('issued')[0]}/void")

    assert (answer.status_code, answer.json()["status"]) == (201, "void")


# The table


def test_the_table_has_every_route():
    named = set(re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE))

    assert named == ROUTES


def test_the_table_names_every_module_that_decides_something_itself():
    deciding = {
        path.name
        for path in FOLDER.rglob("*.py")
        if re.search(r"own choice", path.read_text(), re.IGNORECASE)
    }
    named = set(re.findall(r"\| own choice \| `(\w+\.py)`", TABLE))

    assert named >= deciding
