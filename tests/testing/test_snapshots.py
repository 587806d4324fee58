from __future__ import annotations

import json
from datetime import timedelta

import pytest

from django_orb.testing import OrbSandbox

from .conftest import Api
from .test_idempotency import post_line
from .test_operations import add_line


def whole(sandbox):
    return {i: sandbox.invoice(i) for i in sandbox.invoice_ids()}


def test_everything_comes_back(orb, api, tmp_path):
    draft, issued = orb.invoice_ids("draft")[0], orb.invoice_ids("issued")[0]
    replayed = post_line(api, draft)
    orb.void(issued)
    added = orb.add_invoice(status="draft", amount="50.00")
    orb.set_balance(added["customer"]["id"], "20.00")
    orb.delete_draft(orb.add_invoice(status="draft")["id"])
    orb.delete_invoice(orb.invoice_ids("paid")[-1])
    orb.advance(timedelta(hours=40))
    before, events = whole(orb), orb.webhook_events()
    orb.save(tmp_path / "state.json")
    with OrbSandbox.load(tmp_path / "state.json", api_key="other") as again:
        assert whole(again) == before
        assert again.invoice_ids() == orb.invoice_ids()
        assert again.status_counts() == orb.status_counts()
        assert again.clock.now() == orb.clock.now()
        assert again.webhook_events() == events
        assert again.api_key == "other"
        with Api(again) as other:
            again_replayed = post_line(other, draft)
            assert again_replayed.content == replayed.content
            assert again_replayed.headers["Idempotent-Replayed"] == "true"
        for sandbox in (orb, again):
            sandbox.advance(timedelta(days=40))
            sandbox.issue(added["id"])
            sandbox.add_invoice()
        assert whole(again) == whole(orb)


def test_lagging_reads_come_back(orb, api, tmp_path):
    invoice_id = orb.invoice_ids("issued")[0]
    orb.lag_reads(1)
    api.post(f"/invoices/{invoice_id}/void")
    orb.save(tmp_path / "state.json")
    with OrbSandbox.load(tmp_path / "state.json") as again, Api(again) as other:
        seen = [other.get(f"/invoices/{invoice_id}").json()["status"] for _ in range(2)]
    assert seen == ["issued", "void"]


def test_items_come_back(orb, api, tmp_path):
    draft = orb.invoice_ids("draft")[0]
    item_id = add_line(api, draft, name="Rare").json()["price"]["item"]["id"]
    orb.save(tmp_path / "state.json")
    with OrbSandbox.load(tmp_path / "state.json") as again, Api(again) as other:
        line = add_line(other, draft, name=None, item_id=item_id)
        assert line.json()["name"] == "Rare"


def test_a_clock_that_runs_goes_on(tmp_path):
    orb = OrbSandbox(invoices=1)
    orb.advance(timedelta(days=100))
    orb.save(tmp_path / "state.json")
    again = OrbSandbox.load(tmp_path / "state.json")
    assert abs(again.clock.now() - orb.clock.now()) < timedelta(seconds=5)


def test_another_version(orb, tmp_path):
    path = tmp_path / "state.json"
    orb.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match="version"):
        OrbSandbox.load(path)
