from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from .conftest import Api
from .test_operations import LINE, add_line, kind

KEY = {"Idempotency-Key": "a-key"}


def post_line(api, invoice_id, **options):
    body = LINE | {"invoice_id": invoice_id} | options.pop("changes", {})
    return api.post("/invoice_line_items", json=body, headers=KEY | options)


def test_a_replay_is_the_same_answer_and_no_second_line(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    first, second = post_line(api, invoice_id), post_line(api, invoice_id)
    assert (second.status_code, second.content) == (201, first.content)
    assert first.headers["Idempotency-Key"] == "a-key"
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotency-Key"] == "a-key"
    assert second.headers["Idempotent-Replayed"] == "true"
    names = [line["name"] for line in orb.invoice(invoice_id)["line_items"]]
    assert names.count(LINE["name"]) == 1


def test_a_retried_void_replays(orb, api):
    path = f"/invoices/{orb.invoice_ids('issued')[0]}/void"
    first, second = (api.post(path, headers=KEY) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert api.post(path).status_code == 400


def test_without_a_key_nothing_is_remembered(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    assert (
        add_line(api, invoice_id).json()["id"] != add_line(api, invoice_id).json()["id"]
    )


def test_another_body_or_path_conflicts(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    post_line(api, invoice_id)
    other = post_line(api, invoice_id, changes={"amount": "1.00"})
    assert (other.status_code, kind(other)) == (409, "409-resource-conflict")
    path = f"/invoices/{orb.invoice_ids('issued')[0]}/void"
    assert api.post(path, headers=KEY).status_code == 409


def test_a_conflict_is_not_remembered(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    first = post_line(api, invoice_id)
    post_line(api, invoice_id, changes={"amount": "1.00"})
    assert post_line(api, invoice_id).content == first.content


def test_a_refusal_is_remembered(orb, api):
    path = f"/invoices/{orb.invoice_ids('paid')[0]}/void"
    api.post(path, headers=KEY)
    again = api.post(path, headers=KEY)
    assert again.status_code == 400
    assert again.headers["Idempotent-Replayed"] == "true"


def test_after_48_hours_it_is_done_again(orb, api):
    invoice_id = orb.add_invoice(status="draft", days_ago=-300)["id"]
    first = post_line(api, invoice_id).json()
    orb.advance(timedelta(hours=47, minutes=59))
    assert post_line(api, invoice_id).json() == first
    orb.advance(timedelta(minutes=1))
    assert post_line(api, invoice_id).json()["id"] != first["id"]


def test_a_key_in_flight_conflicts(orb):
    invoice_id = orb.invoice_ids("draft")[0]
    orb.delay_next(1, 0.5, route="create_invoice_line_item")

    def post(_):
        with Api(orb) as api:
            return post_line(api, invoice_id).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(post, range(2))) == [201, 409]


def test_64_characters_at_most(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    for length, status in {64: 201, 65: 400}.items():
        headers = {"Idempotency-Key": "x" * length}
        assert post_line(api, invoice_id, **headers).status_code == status


def test_ignored_on_get(orb, api):
    first = api.get("/invoices?limit=1", headers=KEY)
    second = api.get("/invoices?limit=2", headers=KEY)
    assert "Idempotency-Key" not in first.headers
    assert len(second.json()["data"]) == 2


def test_not_kept_when_it_never_ran(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    orb.fail_next(status=500)
    assert post_line(api, invoice_id).status_code == 500
    answer = post_line(api, invoice_id)
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers


def test_kept_when_only_the_answer_was_lost(orb, api):
    invoice_id = orb.invoice_ids("draft")[0]
    orb.fail_next(status=502, when="after", html=True)
    assert post_line(api, invoice_id).status_code == 502
    answer = post_line(api, invoice_id)
    assert answer.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("field", ["amount", "name"])
def test_a_wrong_body_is_refused_with_a_key_as_well(orb, api, field):
    answer = post_line(api, orb.invoice_ids("draft")[0], changes={field: 3})
    assert answer.status_code == 400
    assert answer.headers["Idempotency-Key"] == "a-key"
