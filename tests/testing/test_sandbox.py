from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
import requests

from django_orb.testing import OrbSandbox

from .conftest import NOW, Api
from .exact import assert_sums


def test_connections_stay_open(orb, api):
    for _ in range(3):
        api.get("/ping")
        api.post("/invoice_line_items", data=b"{}")
        api.get("/nothing")
    pool = api.get_adapter(orb.base_url).poolmanager
    [key] = pool.pools.keys()
    assert pool.pools[key].num_connections == 1


def test_requests_run_at_the_same_time(orb):
    orb.latency_ms = 200

    def ping(_):
        with Api(orb) as api:
            return api.get("/ping").elapsed

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ping, range(8))) < timedelta(seconds=1.2)


def test_a_stopped_sandbox_does_not_answer():
    with OrbSandbox(invoices=1) as orb, Api(orb) as api:
        api.get("/ping")
        orb.stop()
        with pytest.raises(requests.ConnectionError):
            api.get("/ping")
    with pytest.raises(RuntimeError, match="not running"):
        assert orb.base_url


def test_it_can_be_started_again():
    orb = OrbSandbox(invoices=1)
    for _ in range(2):
        with orb, Api(orb) as api:
            assert api.get("/ping").status_code == 200


def test_an_own_key_and_port():
    with OrbSandbox(invoices=1, api_key="my-key") as first:
        port = first.port
    with OrbSandbox(invoices=1, api_key="my-key", port=port) as orb, Api(orb) as api:
        assert orb.base_url == f"http://127.0.0.1:{port}/v1"
        assert api.get("/ping").status_code == 200


def test_unknown_ids_and_statuses(orb):
    with pytest.raises(KeyError):
        orb.invoice("nobody")
    with pytest.raises(ValueError, match="draft"):
        orb.invoice_ids("open")
    with pytest.raises(ValueError, match="draft"):
        orb.add_invoice(status="open")
    with pytest.raises(KeyError, match="colour"):
        orb.update_invoice(orb.invoice_ids()[0], colour="red")


def test_what_orbs_own_side_does(orb):
    draft = orb.invoice_ids("draft")[0]
    issued = orb.issue(draft)
    assert (issued["status"], issued["issued_at"]) == ("issued", NOW.isoformat())
    assert issued["due_date"] is not None
    assert issued["invoice_pdf"] is not None
    assert_sums(issued)
    paid = orb.mark_paid(draft)
    assert (paid["status"], paid["paid_at"]) == ("paid", NOW.isoformat())
    assert orb.invoice(draft) == paid
    voided = orb.void(orb.invoice_ids("issued")[0])
    assert voided["status"] == "void"
    gone = orb.invoice_ids("draft")[0]
    orb.delete_draft(gone)
    assert gone not in orb.invoice_ids()
    with pytest.raises(Exception, match="must be draft"):
        orb.delete_draft(draft)
    orb.delete_invoice(draft)
    assert draft not in orb.invoice_ids()


@pytest.mark.parametrize("status", ["draft", "issued", "paid", "synced", "void"])
def test_an_added_invoice(orb, api, status):
    added = orb.add_invoice(status=status, amount="12.50", days_ago=3, memo="Hi")
    assert (added["status"], added["memo"]) == (status, "Hi")
    assert added["invoice_date"] == (NOW - timedelta(days=3)).isoformat()
    assert_sums(added)
    assert api.get(f"/invoices/{added['id']}").json() == added
    assert orb.invoice(added["id"]) == added
    assert added["id"] in orb.invoice_ids(status)


def test_drafts_are_issued_when_their_time_comes(orb, api):
    drafts = [orb.invoice(invoice_id) for invoice_id in orb.invoice_ids("draft")]
    waiting = [draft for draft in drafts if draft["will_auto_issue"]]
    first = min(waiting, key=lambda draft: draft["scheduled_issue_at"])
    moment = datetime.fromisoformat(first["scheduled_issue_at"])
    orb.clock.set(moment - timedelta(seconds=1))
    assert api.get(f"/invoices/{first['id']}").json()["status"] == "draft"
    orb.advance(timedelta(seconds=1))
    issued = api.get(f"/invoices/{first['id']}").json()
    assert issued["status"] in {"issued", "paid"}
    assert issued["issued_at"] == first["scheduled_issue_at"]
    orb.advance(timedelta(days=90))
    manual = {d["id"] for d in drafts if not d["will_auto_issue"]}
    assert set(orb.invoice_ids("draft")) & {d["id"] for d in drafts} == manual


def test_nothing_to_pay_is_paid_at_issue(orb):
    draft = orb.add_invoice(status="draft", amount="0.00")
    issued = orb.issue(draft["id"])
    assert (issued["status"], issued["paid_at"]) == ("paid", issued["issued_at"])


def test_real_time_by_default():
    with OrbSandbox(invoices=1) as orb:
        assert abs(orb.clock.now() - datetime.now(timezone.utc)) < timedelta(seconds=5)
        orb.advance(timedelta(days=1))
        ahead = orb.clock.now() - datetime.now(timezone.utc)
        assert abs(ahead - timedelta(days=1)) < timedelta(seconds=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command(number):
    command = [sys.executable, "-m", "django_orb.testing", "--invoices", "30"]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("DJANGO")
    }
    with subprocess.Popen(
        [*command, "--api-key", "k"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        try:
            headers = {"Authorization": "Bearer k"}
            answer = requests.get(f"{base_url}/invoices", headers=headers, timeout=5)
        finally:
            process.send_signal(number)
            out, err = process.communicate(timeout=5)
    assert base_url.startswith("http://127.0.0.1:")
    assert answer.status_code == 200
    assert (process.returncode, out, err) == (0, "", "")


def test_without_werkzeug_one_line_names_the_command():
    code = (
        "import sys; sys.modules['werkzeug'] = None;"
        "sys.argv = ['testing']; import runpy;"
        "runpy.run_module('django_orb.testing', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        'The sandbox needs werkzeug: pip install "django-orb[testing]"\n'
    )
