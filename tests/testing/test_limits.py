from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_orb.testing import OrbSandbox

from .conftest import NOW, Api


@pytest.mark.parametrize(("mode", "writes"), [("test", 5), ("trial", 1)])
def test_writes(mode, writes):
    with OrbSandbox(invoices=1, now=NOW, rate_limits=mode) as orb, Api(orb) as api:
        answers = [api.post("/invoices/x/void") for _ in range(writes + 1)]
    assert [a.status_code for a in answers] == [404] * writes + [429]
    assert (
        answers[-1].json()["detail"] == f"Rate limit exceeded ({writes} per 1 second)"
    )
    assert "Retry-After" not in answers[-1].headers


def test_reads_have_a_budget_of_their_own():
    with OrbSandbox(invoices=1, now=NOW, rate_limits="trial") as orb, Api(orb) as api:
        api.post("/invoices/x/void")
        with ThreadPoolExecutor(4) as pool:
            seen = [*pool.map(lambda _: api.get("/ping").status_code, range(14))]
    assert seen.count(200) >= 10
    assert seen.count(429) >= 1


def test_it_passes(orb, api):
    orb.rate_limits = "trial"
    assert api.post("/invoices/x/void").status_code == 404
    assert api.post("/invoices/x/void").status_code == 429
    time.sleep(1.05)
    assert api.post("/invoices/x/void").status_code == 404
    orb.rate_limits = None
    assert api.post("/invoices/x/void").status_code == 404


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="trial"):
        OrbSandbox(invoices=1, rate_limits="unlimited")


def test_a_refused_request_does_not_use_its_key(orb, api):
    orb.rate_limits = "trial"
    path = f"/invoices/{orb.invoice_ids('issued')[0]}/void"
    api.post("/invoices/x/void")
    assert api.post(path, headers={"Idempotency-Key": "k"}).status_code == 429
    orb.rate_limits = None
    answer = api.post(path, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers
