from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from django_orb.testing import OrbSandbox
from django_orb.testing.account.problems import Problem

from .conftest import NOW, Api
from .exact import assert_sums

LINE = {"name": "Extra", "quantity": 1, "start_date": "2026-11-01"} | {
    "end_date": "2026-11-30"
}


def steps(orb, chance):
    """One thing that may happen; most of them are refused now and then."""
    invoice_id = chance.choice(orb.invoice_ids())
    amount = f"{chance.choice(['0.00', '0.20', '12.34', '-5.00', '900.10'])}"
    line = LINE | {"invoice_id": invoice_id, "amount": amount}
    return chance.choice(
        [
            lambda: orb.issue(invoice_id),
            lambda: orb.void(invoice_id),
            lambda: orb.mark_paid(invoice_id),
            lambda: orb.sync(invoice_id),
            lambda: orb.undo_mark_paid(invoice_id),
            lambda: orb.attempt_payment(invoice_id, succeeds=chance.random() < 0.5),
            lambda: orb.delete_draft(invoice_id),
            lambda: orb.add_invoice(status=chance.choice(["draft", "issued", "paid"])),
            lambda: orb.set_balance(chance.choice(orb.customer_ids()), amount),
            lambda: orb._operations.create_line_item(line),
            lambda: orb.advance(timedelta(hours=chance.randint(1, 400))),
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_everything_adds_up(seed):
    chance = random.Random(seed)
    with OrbSandbox(invoices=40, seed=seed, now=NOW) as orb:
        for _ in range(150):
            step = steps(orb, chance)
            try:
                step()
            except Problem:
                continue
        counts = dict.fromkeys(orb.status_counts(), 0)
        for invoice_id in orb.invoice_ids():
            invoice = orb.invoice(invoice_id)
            counts[invoice["status"]] += 1
            assert_sums(invoice)
            assert (invoice["voided_at"] is not None) == (invoice["status"] == "void")
            assert (invoice["due_date"] is None) == (invoice["status"] == "draft")
        assert counts == orb.status_counts()
        assert max(e["created_at"] for e in orb.webhook_events()) <= (
            orb.clock.now().isoformat()
        )


def test_readers_and_writers_at_once(orb):
    everything = {"status[]": ["draft", "issued", "paid", "synced", "void"]}

    def read(_):
        with Api(orb) as api:
            pages = api.all_invoices(**everything, limit=7)
        assert len({i["id"] for i in pages}) == len(pages)
        for invoice in pages:
            assert_sums(invoice)
        return len(pages)

    def write(_):
        for _ in range(20):
            orb.void(orb.add_invoice(days_ago=-1)["id"])

    before = len(orb.invoice_ids())
    with ThreadPoolExecutor(6) as pool:
        reading, writing = pool.map(read, range(4)), pool.map(write, range(2))
        sizes = [*reading, *writing]
    assert len(orb.invoice_ids()) == before + 40
    assert all(before <= size <= before + 40 for size in sizes if size is not None)
