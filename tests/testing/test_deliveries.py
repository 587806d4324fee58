from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
import requests

from django_orb.webhooks.payload import parse_event
from django_orb.webhooks.signature import verify_signature
from tests.loopback import Answer, loopback

from .test_events import listed

SECRET = "whsec"


@pytest.fixture
def endpoint():
    with loopback() as server:
        yield server


def url_of(endpoint):
    return f"http://127.0.0.1:{endpoint.port}/orb/webhook/"


@pytest.fixture
def deliver(orb, endpoint):
    """Start deliveries, void so many invoices, and wait; the bodies that came."""

    def deliver(invoices=1, **options):
        options = {"retry_seconds": [0, 0], **options}
        orb.webhooks.deliver_to(url_of(endpoint), secret=SECRET, **options)
        for invoice_id in orb.invoice_ids("issued")[:invoices]:
            orb.void(invoice_id)
        assert orb.webhooks.wait()
        return [json.loads(request.body) for request in endpoint.requests]

    return deliver


def ids(payloads):
    return [payload["id"] for payload in payloads]


def test_what_happens_is_delivered_and_signed(orb, endpoint, deliver):
    (payload,) = deliver()

    (request,) = endpoint.requests
    assert request.method == "POST"
    assert request.target == "/orb/webhook/"
    now = datetime.now(timezone.utc)
    verify_signature(request.body, request.headers, ["old", SECRET], now=now)
    assert payload == orb.webhook_events()[-1]
    assert payload["invoice"]["status"] == "void"


def test_what_happened_before_is_not_delivered(orb, deliver):
    orb.void(orb.invoice_ids("issued")[-1])

    assert len(deliver()) == 1


def test_it_is_sent_again_until_it_is_taken(api, endpoint, deliver):
    endpoint.answers = [Answer(status=500), Answer(is_cut=True), Answer(status=204)]

    payloads = deliver()

    assert len(payloads) == 3
    assert len(set(ids(payloads))) == 1
    (event,) = listed(api, delivery_success="true")
    assert event["is_delivered"] is True
    attempts = event["delivery_attempts"]
    assert [one["response_status_code"] for one in attempts] == [500, None, 204]
    assert [one["is_success"] for one in attempts] == [False, False, True]
    assert {one["endpoint_url"] for one in attempts} == {url_of(endpoint)}
    assert listed(api, delivery_success="false") == []


def test_after_the_last_pause_it_is_given_up(api, endpoint, deliver):
    endpoint.answers = [Answer(status=302)] * 9

    assert len(deliver()) == 3

    (event,) = listed(api, delivery_success="false")
    assert event["is_delivered"] is False


def test_an_answer_that_takes_too_long_is_none(endpoint, deliver):
    endpoint.answers = [Answer(seconds=0.5)]

    assert len(deliver(timeout_seconds=0.1)) == 2


def test_duplicates(orb, deliver):
    payloads = deliver(5, duplicates=1.0)

    assert len({attempt["id"] for attempt in orb.webhooks.attempts()}) == 10

    assert len(payloads) == 10
    assert sorted(ids(payloads)) == sorted(ids(orb.webhook_events()) * 2)


def test_shuffled(orb, deliver):
    payloads = deliver(8, shuffle_seconds=0.3)

    assert sorted(ids(payloads)) == sorted(ids(orb.webhook_events()))
    assert ids(payloads) != ids(orb.webhook_events())


@pytest.mark.parametrize("style", ["standard", "id"])
def test_reduced_payloads_show_no_invoice_whole(deliver, style):
    (payload,) = deliver(payload_style=style)

    assert "line_items" not in payload["invoice"]
    event = parse_event(json.dumps(payload).encode())
    assert event.invoice is None
    assert event.invoice_id == payload["invoice"]["id"]


def test_old_payloads_lack_what_came_later(deliver):
    (payload,) = deliver(payload_style="old")

    assert "payload_style" not in payload
    for line in payload["invoice"]["line_items"]:
        assert "adjusted_subtotal" not in line
        assert "discount" in line


def test_options_that_make_no_sense_are_refused(orb):
    with pytest.raises(ValueError, match="'full' is not one of"):
        orb.webhooks.deliver_to("http://x/", secret=SECRET, payload_style="full")
    with pytest.raises(ValueError, match="a share"):
        orb.webhooks.deliver_to("http://x/", secret=SECRET, duplicates=2)
    with pytest.raises(ValueError, match="not negative"):
        orb.webhooks.deliver_to("http://x/", secret=SECRET, retry_seconds=[1, -1])


def test_from_another_process(orb, endpoint):
    url = orb.base_url.removesuffix("/v1") + "/_sandbox/endpoints"
    answer = requests.post(
        url, timeout=5, json={"url": url_of(endpoint), "secret": SECRET}
    )
    assert answer.json() == {"delivers_to": url_of(endpoint)}

    orb.void(orb.invoice_ids("issued")[0])

    assert orb.webhooks.wait()
    assert len(endpoint.requests) == 1


def test_stopping_gives_up_what_waits(orb, endpoint):
    orb.webhooks.deliver_to(url_of(endpoint), secret=SECRET, delay_seconds=60)
    orb.void(orb.invoice_ids("issued")[0])
    assert not orb.webhooks.wait(0.01)

    orb.webhooks.stop()

    assert orb.webhooks.wait(0.01)
    assert endpoint.requests == []
