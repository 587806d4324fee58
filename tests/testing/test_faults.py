from __future__ import annotations

import json
import time

import pytest
import requests
from werkzeug.wrappers import Response

from .conftest import Api
from .test_operations import LINE, add_line


def test_status_and_headers(orb, api):
    orb.fail_next(2, status=429, headers={"Retry-After": "3"})
    for _ in range(2):
        answer = api.get("/invoices")
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "3"
        assert answer.json()["type"].endswith("#429-too-many-requests")
    assert api.get("/invoices").status_code == 200


def test_html(orb, api):
    orb.fail_next(status=502, html=True)
    answer = api.get("/invoices")
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (
        502,
        "text/html",
    )


def test_one_route_only_and_after_others(orb, api):
    orb.fail_next(status=503, route="fetch_invoice", skip=1)
    invoice_id = orb.invoice_ids()[0]
    assert api.get("/invoices").status_code == 200
    seen = [api.get(f"/invoices/{invoice_id}").status_code for _ in range(3)]
    assert seen == [200, 503, 200]
    assert orb.waiting_faults == 0


def test_in_the_order_they_were_asked_for(orb, api):
    orb.fail_next(status=500)
    orb.fail_next(status=503)
    assert [api.get("/ping").status_code for _ in range(3)] == [500, 503, 200]


def test_an_unknown_route_or_moment(orb):
    with pytest.raises(ValueError, match="list_invoices"):
        orb.fail_next(route="list")
    with pytest.raises(ValueError, match="during"):
        orb.fail_next(when="during")


@pytest.mark.parametrize(
    ("when", "lines"), [("before", 0), ("after", 1), ("during", 1)]
)
def test_cut(orb, api, when, lines):
    invoice_id = orb.invoice_ids("draft")[0]
    before = len(orb.invoice(invoice_id)["line_items"])
    orb.cut_next(when=when)
    with pytest.raises(
        (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
    ):
        add_line(api, invoice_id)
    assert len(orb.invoice(invoice_id)["line_items"]) == before + lines
    assert orb.requests[-1].status == 0
    assert add_line(api, invoice_id).status_code == 201


def test_delay(orb, api):
    orb.delay_next(1, 0.2, route="ping")
    started = time.monotonic()
    api.get("/ping")
    assert time.monotonic() - started >= 0.2


def test_slow(orb, api):
    orb.slow_next(1, 0.3)
    started = time.monotonic()
    answer = api.get("/invoices", stream=True)
    head = time.monotonic() - started
    assert len(answer.json()["data"]) == 20
    assert time.monotonic() - started >= 0.29
    assert head < 0.2


def test_latency(orb, api):
    orb.latency_ms = 100
    started = time.monotonic()
    api.get("/ping")
    assert time.monotonic() - started >= 0.1


def test_repeated_page(orb, api):
    first = api.get("/invoices?limit=5").json()["pagination_metadata"]["next_cursor"]
    orb.repeat_next()
    page = api.get("/invoices", params={"limit": 5, "cursor": first}).json()
    assert page["pagination_metadata"]["next_cursor"] == first
    assert page["data"]
    orb.repeat_next()
    page = api.get("/invoices?limit=5").json()
    assert page["pagination_metadata"]["next_cursor"] == first


def test_clear(orb, api):
    orb.fail_next(5)
    orb.clear_faults()
    assert api.get("/ping").status_code == 200


def test_links_signed_anew(orb, api):
    draft, paid = orb.invoice_ids("draft")[0], orb.invoice_ids("paid")[0]
    invoice_id = orb.invoice_ids("issued")[0]
    orb.update_invoice(invoice_id, memo="changed")
    links = ("hosted_invoice_url", "invoice_pdf")
    for known in (paid, invoice_id):
        steady = [api.get(f"/invoices/{known}").json() for _ in range(2)]
        assert steady[0] == steady[1]
    orb.sign_links = True
    for known in (paid, invoice_id):
        first, second = (api.get(f"/invoices/{known}").json() for _ in range(2))
        for name in links:
            assert first.pop(name) != second.pop(name)
        assert first == second
    listed = [api.get("/invoices?limit=3").json()["data"] for _ in range(2)]
    assert all(
        a["invoice_pdf"] != b["invoice_pdf"] for a, b in zip(*listed, strict=True)
    )
    orb.update_invoice(draft, memo="changed")
    assert api.get(f"/invoices/{draft}").json()["invoice_pdf"] is None


def test_reads_lag_behind_writes(orb, api):
    invoice_id = orb.invoice_ids("issued")[0]
    orb.lag_reads(2)
    assert api.post(f"/invoices/{invoice_id}/void").json()["status"] == "void"
    listed = api.all_invoices(status="issued")
    assert invoice_id in [invoice["id"] for invoice in listed]
    seen = [api.get(f"/invoices/{invoice_id}").json()["status"] for _ in range(2)]
    assert seen == ["issued", "void"]
    assert invoice_id in [i["id"] for i in api.all_invoices(status="void")]


def test_writes_do_not_lag(orb, api):
    orb.lag_reads(100)
    invoice_id = orb.invoice_ids("issued")[0]
    api.post(f"/invoices/{invoice_id}/void")
    assert api.post(f"/invoices/{invoice_id}/void").status_code == 400
    draft = orb.invoice_ids("draft")[0]
    before = api.get(f"/invoices/{draft}").json()
    add_line(api, draft)
    add_line(api, draft)
    assert api.get(f"/invoices/{draft}").json() == before
    names = [line["name"] for line in orb.invoice(draft)["line_items"]]
    assert names.count(LINE["name"]) == 2


def test_the_journal(orb, api):
    api.get("/invoices?status=paid")
    api.post("/invoices/x/void", headers={"Idempotency-Key": "k"})
    api.get("/nothing")
    listed, void, nothing = orb.requests
    assert listed[:5] == ("GET", "/v1/invoices", "status=paid", 200, "list_invoices")
    assert (void.route, void.status, void.idempotency_key) == ("void_invoice", 404, "k")
    assert nothing.route == "unknown"
    assert orb.request_counts() == {"list_invoices": 1, "void_invoice": 1, "unknown": 1}
    orb.clear_requests()
    assert orb.requests == []


class Control(Api):
    def __init__(self, sandbox):
        super().__init__(sandbox)
        self.base_url = sandbox.base_url.removesuffix("/v1") + "/_sandbox"


@pytest.fixture
def control(orb):
    with Control(orb) as control:
        yield control


def test_faults_of_other_processes(orb, api, control):
    control.post("/faults/fail", json={"count": 1, "status": 503, "route": "ping"})
    control.post("/faults/cut", json={"count": 1, "skip": 0})
    assert control.get("/").json()["waiting_faults"] == 2
    assert api.get("/ping").status_code == 503
    control.delete("/faults")
    assert api.get("/ping").status_code == 200
    assert control.get("/requests").json()[-1]["path"] == "/v1/ping"
    control.delete("/requests")
    assert control.get("/").json()["request_counts"] == {}


def test_changes_of_other_processes(orb, api, control):
    invoice = control.post(
        "/invoices", json={"status": "issued", "amount": "9.00"}
    ).json()
    path = f"/invoices/{invoice['id']}"
    assert control.patch(path, json={"memo": "Hello"}).json()["memo"] == "Hello"
    assert control.post(f"{path}/mark_paid").json()["status"] == "paid"
    assert api.get(path).json()["memo"] == "Hello"
    draft = f"/invoices/{orb.invoice_ids('draft')[0]}"
    control.delete(draft)
    assert api.get(draft).status_code == 404


def test_options_and_clock_of_other_processes(orb, control):
    control.put("/options", json={"sign_links": True, "lag_reads": 1, "latency_ms": 1})
    assert (orb.sign_links, orb.latency_ms) == (True, 1)
    before = orb.clock.now()
    now = control.post("/clock", json={"advance_seconds": 60}).json()["now"]
    assert (orb.clock.now() - before).total_seconds() == 60
    assert orb.clock.now().isoformat() == now
    control.post("/clock", json={"set": "2027-01-01T00:00:00+00:00"})
    assert orb.clock.now().year == 2027


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/faults/explode", {}, 400),
        ("POST", "/faults/fail", {"route": "nowhere"}, 400),
        ("POST", "/faults/fail", {"often": 1}, 400),
        ("POST", "/faults/fail", [], 400),
        ("PUT", "/options", {"speed": 1}, 400),
        ("PATCH", "/invoices/nobody", {"memo": ""}, 404),
        ("POST", "/invoices/nobody/void", {}, 404),
        ("POST", "/invoices/nobody/explode", {}, 400),
        ("POST", "/invoices", {"status": "open"}, 400),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/invoices", None, 405),
    ],
)
def test_what_control_refuses(control, method, path, body, status):
    answer = control.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_changes_between_pages(orb, api):
    first, *_ = orb.invoice_ids("issued")
    orb.then(lambda: orb.void(first), skip=1)
    seen = [
        api.get("/invoices", params={"limit": 1, "status": "void"}).json()["data"]
        for _ in range(3)
    ]
    assert seen[0] == seen[1]
    assert first in [i["id"] for i in api.all_invoices(status="void")]


def test_pages_that_shift(orb, api):
    orb.shift_pages(3)
    before = len(orb.invoice_ids())
    pages = api.all_pages(limit=10)
    assert len(orb.invoice_ids()) == before + 3
    ids = [i["id"] for page in pages for i in page["data"]]
    assert len(ids) == len(set(ids))


def test_shifting_pages_and_payments_of_other_processes(orb, api, control):
    control.post("/faults/shift_pages", json={"count": 1})
    before = len(orb.invoice_ids())
    api.get("/invoices")
    assert len(orb.invoice_ids()) == before + 1
    invoice_id = orb.invoice_ids("issued")[0]
    path = f"/invoices/{invoice_id}/attempt_payment"
    assert control.post(path, json={"succeeds": False}).json()["status"] == "issued"
    control.put("/options", json={"rate_limits": "trial", "has_webhook_events": False})
    assert (orb.rate_limits, orb.has_webhook_events) == ("trial", False)


def test_answers_that_a_test_makes(orb, api):
    def renamed(route, request, go_on):
        answer = go_on()
        if route == "fetch_invoice":
            changed = {**answer.get_json(), "memo": request.method}
            answer.set_data(json.dumps(changed))
        return answer

    def teapot(route, request, go_on):
        return go_on() if "tea" not in request.args else Response(status=418)

    orb.answer_through(renamed)
    orb.answer_through(teapot)

    invoice_id = orb.invoice_ids()[0]
    assert api.get(f"/invoices/{invoice_id}").json()["memo"] == "GET"
    assert orb.invoice(invoice_id)["memo"] != "GET"
    assert api.get("/invoices", params={"tea": 1}).status_code == 418
    assert [one.status for one in orb.requests] == [200, 418]
