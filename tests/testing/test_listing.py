from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from django_orb.testing import OrbSandbox

from .conftest import NOW, Api, make_sdk

ALL = {"status[]": ["draft", "issued", "paid", "synced", "void"], "limit": "100"}


@pytest.fixture(scope="module")
def api(account):
    with Api(account) as api:
        yield api


@pytest.fixture(scope="module")
def invoices(api):
    return api.all_invoices(**ALL)


def ids(invoices):
    return [invoice["id"] for invoice in invoices]


def test_newest_invoice_date_first(invoices):
    dates = [invoice["invoice_date"] for invoice in invoices]
    assert dates == sorted(dates, reverse=True)


def test_drafts_and_voids_must_be_asked_for(api):
    statuses = {invoice["status"] for invoice in api.all_invoices(limit=100)}
    assert statuses == {"issued", "paid", "synced"}


def test_twenty_by_default(api):
    assert len(api.get("/invoices").json()["data"]) == 20


@pytest.mark.parametrize("limit", [1, 7, 99, 100])
def test_pages_have_no_gap_and_no_repeat(account, limit):
    with (
        OrbSandbox(invoices=30 if limit == 1 else 150, now=NOW) as orb,
        Api(orb) as api,
    ):
        pages = api.all_pages(**ALL | {"limit": limit})
        seen = [i["id"] for page in pages for i in page["data"]]
        assert sorted(seen) == sorted(orb.invoice_ids())
        assert all(len(page["data"]) == limit for page in pages[:-1])


@pytest.mark.parametrize("limit", ["0", "101", "-1", "ten", "1.5", "²"])
def test_a_limit_out_of_range(api, limit):
    answer = api.get("/invoices", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("#400-request-validation-errors")
    assert "limit" in answer.json()["validation_errors"][0]


@pytest.mark.parametrize(
    "cursor", ["nonsense", "WyJhIl0=", "é", "MQ==", "WzFlOTk5LCJhIl0="]
)
def test_a_cursor_of_somebody_else(api, cursor):
    assert api.get("/invoices", params={"cursor": cursor}).status_code == 400


def test_a_page_stays_in_place_while_newer_invoices_arrive():
    with OrbSandbox(invoices=60, now=NOW) as orb, Api(orb) as api:
        first = api.get("/invoices", params={"limit": 10}).json()
        expected = api.all_invoices(limit=100)[10:20]
        orb.add_invoice(days_ago=0)
        cursor = first["pagination_metadata"]["next_cursor"]
        second = api.get("/invoices", params={"limit": 10, "cursor": cursor}).json()
        assert ids(second["data"]) == ids(expected)


@pytest.mark.parametrize(
    "query",
    [
        "status=void",
        "status=void&status=draft",
        "status[]=void&status[]=draft",
        "status%5B%5D=void&status%5B%5D=draft",
        "status[]=void&status=draft",
    ],
)
def test_every_encoding_of_status(api, invoices, query):
    wanted = {"void", "draft"} if "draft" in query else {"void"}
    answer = api.get(f"/invoices?{query}&limit=100").json()["data"]
    assert ids(answer) == ids(i for i in invoices if i["status"] in wanted)


def test_an_unknown_status(api):
    assert api.get("/invoices?status=open").status_code == 400


def test_by_customer(account, api, invoices):
    invoice = next(i for i in invoices if i["customer"]["external_customer_id"])
    expected = ids(i for i in invoices if i["customer"] == invoice["customer"])
    for name, value in [
        ("customer_id", invoice["customer"]["id"]),
        ("external_customer_id", invoice["customer"]["external_customer_id"]),
    ]:
        assert ids(api.all_invoices(**ALL, **{name: value})) == expected
    both = {"customer_id": "a", "external_customer_id": "b"}
    assert api.get("/invoices", params=both).status_code == 400
    assert api.all_invoices(**ALL, customer_id="nobody") == []


def test_by_subscription(account, api, invoices):
    subscription_id = account.subscription_ids(with_upcoming=True)[0]
    expected = [
        i for i in invoices if (i["subscription"] or {}).get("id") == subscription_id
    ]
    found = api.all_invoices(**ALL, subscription_id=subscription_id)
    assert expected
    assert ids(found) == ids(expected)


@pytest.mark.parametrize("recurring", ["true", "false"])
def test_is_recurring(api, invoices, recurring):
    expected = [
        i for i in invoices if (i["subscription"] is not None) == (recurring == "true")
    ]
    assert ids(api.all_invoices(**ALL, is_recurring=recurring)) == ids(expected)
    assert api.get("/invoices?is_recurring=yes").status_code == 400


COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


@pytest.mark.parametrize("name", COMPARE)
def test_invoice_date(api, invoices, name):
    bound = invoices[len(invoices) // 2]["invoice_date"]
    expected = [i for i in invoices if COMPARE[name](i["invoice_date"], bound)]
    found = api.all_invoices(**ALL, **{f"invoice_date[{name}]": bound})
    assert ids(found) == ids(expected)
    for same in (bound.replace("+00:00", "Z"), bound.replace("+00:00", "")):
        assert ids(api.all_invoices(**ALL, **{f"invoice_date[{name}]": same})) == ids(
            expected
        )


def test_a_window_of_invoice_dates(api, invoices):
    start, end = "2026-03-01", "2026-05-01T00:00:00+02:00"
    found = api.all_invoices(
        **ALL, **{"invoice_date[gte]": start, "invoice_date[lt]": end}
    )
    edges = "2026-03-01T00:00:00+00:00", "2026-04-30T22:00:00+00:00"
    expected = [i for i in invoices if edges[0] <= i["invoice_date"] < edges[1]]
    assert expected
    assert ids(found) == ids(expected)


@pytest.mark.parametrize(
    "params",
    [
        {"invoice_date[gte]": "yesterday"},
        {"invoice_date[gte]": "2026-01-01T00:00:00 00:00"},
        {"due_date": "2026-1-1"},
        {"due_date[gt]": "20260101"},
        {"due_date_window": "2w"},
        {"date_type": "paid_at"},
        {"amount": "NaN"},
        {"amount[gt]": "1e3"},
        {"include_zero_quantity_line_items": "maybe"},
    ],
)
def test_parameters_that_cannot_be_read(api, params):
    answer = api.get("/invoices", params=params)
    assert answer.status_code == 400
    assert next(iter(params)) in answer.json()["detail"]


def test_due_date(api, invoices):
    day = next(i for i in invoices if i["status"] == "paid")["due_date"][:10]
    days = [(i, (i["due_date"] or "")[:10]) for i in invoices]
    same = [i for i, due in days if due == day]
    later = [i for i, due in days if due > day]
    earlier = [i for i, due in days if due and due < day]
    assert ids(api.all_invoices(**ALL, due_date=day)) == ids(same)
    assert ids(api.all_invoices(**ALL, **{"due_date[gt]": day})) == ids(later)
    assert ids(api.all_invoices(**ALL, **{"due_date[lt]": day})) == ids(earlier)


def test_due_date_window(api, invoices):
    now = NOW.isoformat()
    for window, start in {
        "30d": NOW - timedelta(days=30),
        "2m": NOW.replace(month=9),
    }.items():
        expected = [
            i for i in invoices if start.isoformat() <= (i["due_date"] or "") <= now
        ]
        assert expected
        assert ids(api.all_invoices(**ALL, due_date_window=window)) == ids(expected)


def test_bounds_of_the_due_date_by_date_type(api, invoices):
    bound = NOW.isoformat()
    found = api.all_invoices(
        **ALL, **{"date_type": "due_date", "invoice_date[gt]": bound}
    )
    assert ids(found) == ids(i for i in invoices if (i["due_date"] or "") > bound)


def test_amount(api, invoices):
    amount = next(i["total"] for i in invoices if i["status"] == "paid")
    for suffix, compare in {
        "": lambda a, b: a == b,
        "[gt]": lambda a, b: a > b,
        "[lt]": lambda a, b: a < b,
    }.items():
        expected = [i for i in invoices if compare(float(i["total"]), float(amount))]
        found = api.all_invoices(**ALL, **{f"amount{suffix}": amount})
        assert expected
        assert ids(found) == ids(expected)


def test_lines_of_zero_quantity_are_hidden_and_counted(account, api, invoices):
    full = next(
        i for i in invoices if any(not line["quantity"] for line in i["line_items"])
    )
    zero = [line for line in full["line_items"] if not line["quantity"]]
    params = {"include_zero_quantity_line_items": "false"}
    shown = api.get(f"/invoices/{full['id']}", params=params).json()
    assert shown["hidden_line_item_count"] == len(zero)
    assert shown["line_items"] == [li for li in full["line_items"] if li["quantity"]]
    listed = api.all_invoices(**ALL, **params)
    assert next(i for i in listed if i["id"] == full["id"]) == shown


def test_the_sdk_filters_with_its_own_encoding(account, invoices):
    with make_sdk(account) as sdk:
        found = sdk.invoices.list(
            status=["issued", "draft"],
            invoice_date_gte=datetime(2026, 9, 1, tzinfo=timezone.utc),
            invoice_date_lt=datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=-8))),
            limit=50,
        )
        seen = [invoice.id for invoice in found]
        expected = [
            i["id"]
            for i in invoices
            if i["status"] in {"issued", "draft"}
            and "2026-09-01" <= i["invoice_date"] < "2027-01-01T08:00:00+00:00"
        ]
        assert seen == expected
        due = sdk.invoices.list(due_date_lt=date(2026, 6, 1), is_recurring=True)
        assert all(invoice.subscription for invoice in due.data)
