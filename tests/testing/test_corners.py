"""What is hard to reach through the API, and lines that only threads or processes run."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from importlib import import_module

import pytest

from django_orb import testing
from django_orb.testing import OrbSandbox, __main__
from django_orb.testing.account import render
from django_orb.testing.account.calendars import zone
from django_orb.testing.account.clock import Clock
from django_orb.testing.account.templates import Template, slot, text_slot

from .conftest import NOW, Api
from .test_idempotency import post_line


def test_a_large_account_is_priced_at_the_start():
    with OrbSandbox(invoices=5_001, now=NOW) as orb, Api(orb) as api:
        orb.warm()
        assert len(api.get("/invoices?limit=100").json()["data"]) == 100
        assert sum(orb.status_counts().values()) == 5_001


def test_what_does_not_fit_is_rendered_each_time(monkeypatch):
    monkeypatch.setattr(render, "KEPT_BYTES", 100_000)
    with OrbSandbox(invoices=60, now=NOW) as orb, Api(orb) as api:
        orb.warm()
        first, second = (api.all_invoices(limit=100) for _ in range(2))
        assert first == second


@pytest.mark.parametrize(
    "payload", [[], [slot("a")], [slot("a"), text_slot("b") + "c"]]
)
def test_templates(payload):
    values = {"a": b"1", "b": b"x%", "c": b"unused"}
    text = b"[%b]" % b",".join([b"1", b'"x%c"'][: len(payload)])
    assert Template(payload).render(values) == text
    assert Template(payload, list(values)).render([*values.values()]) == text


def test_a_clock_takes_naive_times_for_utc():
    naive = datetime.fromisoformat("2026-01-01T12:00:00")
    assert Clock(naive).now() == naive.replace(tzinfo=timezone.utc)


def test_the_clock_of_a_running_sandbox_can_be_set():
    clock = Clock()
    clock.set(datetime(2030, 1, 1, tzinfo=timezone.utc))
    ahead = clock.now() - datetime(2030, 1, 1, tzinfo=timezone.utc)
    assert timedelta() <= ahead < timedelta(seconds=5)


def test_an_unknown_time_zone_is_utc():
    assert zone("Mars/Olympus").utcoffset(None) == timedelta()


def test_a_fault_of_the_sandbox_itself(orb, api, caplog):
    broken = {"fetch_invoice", "create_invoice_line_item"}

    def explode(route, request, go_on):
        if route in broken:
            raise RuntimeError("a bug")
        return go_on()

    orb.answer_through(explode)
    key = {"Idempotency-Key": "k"}
    invoice_id = orb.invoice_ids()[0]
    with caplog.at_level(logging.ERROR, "django_orb.testing"):
        answer = api.get(f"/invoices/{invoice_id}")
    assert answer.status_code == 500
    assert answer.json()["type"].endswith("#500-internal-server-error")
    assert "a bug" in caplog.text
    draft = orb.invoice_ids("draft")[0]
    assert post_line(api, draft, **key).status_code == 500
    broken.clear()
    assert post_line(api, draft, **key).status_code == 201


@pytest.mark.parametrize("status", [401, 408, 503, 504])
def test_statuses_that_orb_has_no_type_for(orb, api, status):
    orb.fail_next(status=status)
    answer = api.get("/ping")
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.json()["type"]


def test_outside_of_v1(orb):
    with Api(orb) as api:
        api.base_url = api.base_url.removesuffix("/v1")
        answer = api.get("/invoices")
    assert answer.json()["type"].endswith("#404-url-not-found")


def test_only_a_unit_price_is_possible(orb, api):
    body = {
        "customer_id": orb.customer_ids()[0],
        "line_items": [{"model_type": "tiered"}],
    }
    errors = api.post("/invoices", json=body).json()["validation_errors"]
    assert any("only unit" in error for error in errors)


def test_a_deleted_draft_is_not_issued(orb):
    draft = next(i for i in orb.invoice_ids("draft") if orb.invoice(i)["subscription"])
    orb.delete_draft(draft)
    orb.advance(timedelta(days=60))
    assert draft not in orb.invoice_ids()


def test_an_empty_account_gets_somebody_to_bill():
    with OrbSandbox(invoices=0) as orb:
        first, second = orb.add_invoice(), orb.add_invoice()
        assert first["customer"] == second["customer"]
        assert orb.customer_ids() == [first["customer"]["id"]]


def test_nobody_of_that_id_to_bill(orb):
    with pytest.raises(Exception, match="Customer"):
        orb.add_invoice(customer_id="nobody")


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="OrbSandboxx"):
        assert testing.OrbSandboxx


def test_a_broken_dependency_is_not_hidden(monkeypatch):
    monkeypatch.delitem(sys.modules, "django_orb.testing.sandbox.orb_sandbox")
    monkeypatch.setitem(sys.modules, "dateutil.tz", None)
    for name in [n for n in sys.modules if n.startswith("django_orb.testing.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match="dateutil"):
        print(testing.OrbSandbox)


def test_without_werkzeug(monkeypatch, capsys):
    for name in [n for n in sys.modules if n.startswith("django_orb.testing.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.partition(".")[0] == "werkzeug"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "werkzeug", None)
    monkeypatch.setattr(sys, "argv", ["django_orb.testing"])
    assert import_module("django_orb.testing.__main__").main() == 1
    assert capsys.readouterr().err == f"{testing.MISSING}\n"


@pytest.mark.parametrize("warmed", [0, 20_000])
def test_main_runs_until_it_is_told_to_stop(capsys, monkeypatch, warmed):
    monkeypatch.setattr(__main__, "WARMED", warmed)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def stop():
        while signal.getsignal(signal.SIGTERM) is before[1]:
            time.sleep(0.01)
        time.sleep(0.7)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    try:
        assert __main__.main(["--invoices", "3", "--seed", "2"]) == 0
    finally:
        stopper.join()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    "nonsense",
    [
        {"total": "a lot"},
        {"total": None},
        {"due_date": "soon"},
        {"invoice_date": 5},
        {"auto_collection": None},
        {"line_items": None},
        {"status": "escrow"},
        {"status": None},
    ],
)
def test_nonsense_is_shown(orb, api, nonsense):
    invoice_id = orb.invoice_ids("issued")[0]
    orb.update_invoice(invoice_id, **nonsense)
    assert api.get(f"/invoices/{invoice_id}").json().items() >= nonsense.items()
    everything = {"status[]": ["draft", "issued", "paid", "synced", "void"]}
    listed = {i["id"]: i for i in api.all_invoices(**everything, limit=7)}
    assert listed[invoice_id].items() >= nonsense.items()
    orb.advance(timedelta(days=60))
    assert sum(orb.status_counts().values()) == len(orb.invoice_ids())


def test_nonsense_is_not_billed(orb, api, caplog):
    orb.advance(timedelta(hours=13))
    drafts = [i for i in orb.invoice_ids("draft") if orb.invoice(i)["will_auto_issue"]]
    orb.update_invoice(drafts[0], line_items=None)
    with caplog.at_level(logging.WARNING, "django_orb.testing"):
        orb.advance(timedelta(days=60))
        assert api.get("/ping").status_code == 200
        still = set(orb.invoice_ids("draft"))
    assert set(drafts) & still == {drafts[0]}
    assert drafts[0] in caplog.text
