from __future__ import annotations

from datetime import timedelta

import pytest

from .test_operations import add_line, kind


def listed(api, **params):
    events, cursor = [], None
    while True:
        answer = api.get("/webhook_events", params=params | {"cursor": cursor})
        page = answer.json()
        events += page["data"]
        cursor = page["pagination_metadata"]["next_cursor"]
        assert page["pagination_metadata"]["has_more"] is (cursor is not None)
        if cursor is None:
            return events


@pytest.fixture
def story(orb, api):
    """Four events, a minute apart."""
    issued = orb.invoice_ids("issued")[0]
    draft = orb.invoice_ids("draft")[0]
    for step in (
        lambda: add_line(api, draft),
        lambda: orb.void(issued),
        lambda: orb.issue(draft),
        lambda: orb.mark_paid(orb.invoice_ids("synced")[0]),
    ):
        step()
        orb.advance(timedelta(minutes=1))
    return [event["id"] for event in orb.webhook_events()]


TYPES = [
    "invoice.edited",
    "invoice.manually_marked_as_void",
    "invoice.issued",
    "invoice.manually_marked_as_paid",
]


def test_newest_first(api, story):
    events = listed(api)
    assert [event["id"] for event in events] == story[::-1]
    assert [event["type"] for event in events] == TYPES[::-1]
    assert [event["id"] for event in listed(api, limit=1)] == story[::-1]


def test_the_payload_is_that_of_a_webhook(orb, api, story):
    event = listed(api)[2]
    payload = event["payload"]
    assert payload == orb.webhook_events()[1]
    assert payload["invoice"]["status"] == "void"
    assert payload["payload_style"] == "expanded"
    assert (event["is_delivered"], event["delivery_attempts"]) == (False, [])
    assert api.get(f"/webhook_events/{event['id']}").json() == event
    short = listed(api, include_payload="false")[2]["payload"]
    assert set(short) == {"id", "type", "created_at"}


def test_filters(orb, api, story):
    moments = [event["created_at"] for event in listed(api)][::-1]
    after = listed(api, **{"created_at[gt]": moments[1]})
    assert [event["id"] for event in after] == story[:1:-1]
    window = {"created_at[gte]": moments[1], "created_at[lt]": moments[2]}
    assert [event["id"] for event in listed(api, **window)] == [story[1]]
    assert len(listed(api, event_type="invoice.issued")) == 1
    assert listed(api, delivery_success="true") == []
    assert len(listed(api, delivery_success="false")) == 4


@pytest.mark.parametrize("params", ["limit=0", "cursor=x", "created_at[gt]=now"])
def test_parameters_that_cannot_be_read(api, params):
    assert kind(api.get(f"/webhook_events?{params}")) == "400-request-validation-errors"


def test_an_unknown_event(api):
    assert kind(api.get("/webhook_events/nothing")) == "404-resource-not-found"


def test_an_account_without_events(orb, api):
    orb.has_webhook_events = False
    for path in ("/webhook_events", "/webhook_events/x"):
        answer = api.get(path)
        assert (answer.status_code, kind(answer)) == (404, "404-feature-not-available")


def test_drafts_tell_what_they_were(orb, api, story):
    edited = orb.webhook_events()[0]
    previous = edited["properties"]["previous_attributes"]["line_items"]
    assert len(previous) == len(edited["invoice"]["line_items"]) - 1
