from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orb import Orb
from orb.types.shared import Invoice as SDKInvoice

from django_orb.exceptions import OrbError, OrbPayloadError, OrbWebhookVerificationError
from django_orb.webhooks.payload import (
    FULL_KEYS,
    FULL_LINE_KEYS,
    FULL_TYPES,
    parse_event,
)
from django_orb.webhooks.signature import sign, verify_signature
from tests import deliveries, payloads
from tests.deliveries import SECRET, as_bytes, event, event_of, headers

# The vector of Orb's own SDK (tests/api_resources/test_webhooks.py in orb-python).
NOON = datetime(2024, 3, 27, 15, 42, 29, tzinfo=timezone.utc)
STAMP = "2024-03-27T15:42:29.551"
BODY = as_bytes(event())


def signed(timestamp: str = STAMP, secret: str = SECRET) -> dict[str, str]:
    return headers(BODY, secret=secret, timestamp=timestamp)


def verify(
    sent: dict[str, str], *, secrets: Any = (SECRET,), body: bytes = BODY
) -> None:
    verify_signature(body, sent, secrets, now=NOON)


def test_a_signature_is_the_digest_that_orb_describes():
    expected = hmac.new(b"key", b"v1:2024:{}", hashlib.sha256).hexdigest()

    assert sign(b"{}", "2024", "key") == f"v1={expected}"


@pytest.mark.parametrize(
    "timestamp",
    [
        STAMP,
        STAMP + "Z",
        STAMP + "+00:00",
        "2024-03-27T08:42:29.551-07:00",
        "2024-03-27T15:42:29",
        "2024-03-27T15:42:29.551000",
        "2024-03-27T15:37:30",
        "2024-03-27T15:47:28Z",
    ],
)
def test_a_signature_of_these_minutes_is_good(timestamp):
    verify(signed(timestamp))


@pytest.mark.parametrize(
    "timestamp",
    [
        "2024-03-27T15:37:28",
        "2024-03-27T15:47:30",
        "2024-03-27T15:42:29+02:00",
        "yesterday",
        "1711554149",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "é",
    ],
)
def test_a_signature_of_other_times_is_refused(timestamp):
    with pytest.raises(OrbWebhookVerificationError):
        verify(signed(timestamp))


def test_names_of_headers_may_be_in_any_case():
    verify({name.lower(): value for name, value in signed().items()})


def test_one_of_several_signatures_is_enough():
    sent = signed()
    sent["X-Orb-Signature"] = f"v0=ab v1=é {sent['X-Orb-Signature']} v1="

    verify(sent)


def test_each_of_several_secrets_is_good():
    for secret in ("old", "new"):
        verify(signed(secret=secret), secrets=["old", "new"])


@pytest.mark.parametrize("secrets", [[], (), "", SECRET, "t", [""], [SECRET, ""]])
def test_nothing_is_good_where_secrets_are_not_a_list_of_some(secrets):
    with pytest.raises(OrbWebhookVerificationError, match="WEBHOOK_SECRETS"):
        verify(signed(secret=secrets[0] if secrets else ""), secrets=secrets)


@pytest.mark.parametrize(
    "change",
    [
        {"X-Orb-Signature": ""},
        {"X-Orb-Signature": "v1="},
        {"X-Orb-Signature": signed()["X-Orb-Signature"][3:]},
        {"X-Orb-Signature": signed()["X-Orb-Signature"].replace("v1", "v2")},
        {"X-Orb-Signature": signed()["X-Orb-Signature"].upper()},
        {"X-Orb-Signature": signed()["X-Orb-Signature"][:-1]},
        {"X-Orb-Timestamp": "2024-03-27T15:42:29.552"},
        {"X-Orb-Timestamp": ""},
        {"x-orb-timestamp": STAMP},
    ],
)
def test_headers_that_were_tampered_with_are_refused(change):
    with pytest.raises(OrbWebhookVerificationError):
        verify({**signed(), **change})


def test_a_body_that_was_tampered_with_is_refused():
    with pytest.raises(OrbWebhookVerificationError) as caught:
        verify(signed(), body=BODY.replace(b"void", b"paid"))

    assert isinstance(caught.value, OrbError)
    assert SECRET not in str(caught.value)


@given(body=st.binary(), cut=st.integers(0, 9), secret=st.text(min_size=1))
@settings(max_examples=50)
def test_only_what_was_signed_is_good(body, cut, secret):
    secret = secret.encode("utf-8", "replace").decode()
    sent = headers(body, secret=secret, timestamp=STAMP)
    verify(sent, secrets=[secret], body=body)
    for other in (body + b" ", body[:cut] + b"x" + body[cut:]):
        with pytest.raises(OrbWebhookVerificationError):
            verify(sent, secrets=[secret], body=other)


# The SDK of Orb, both ways


@pytest.fixture
def sdk():
    return Orb(api_key="none", webhook_secret=SECRET).webhooks


def test_the_sdk_takes_our_signature_and_no_other(sdk):
    sent = headers(BODY)
    sdk.verify_signature(BODY, sent)

    with pytest.raises(ValueError, match="signature"):
        sdk.verify_signature(BODY + b" ", sent)


def test_what_the_sdk_takes_is_taken_here_too(sdk):
    """Signed by neither: by hand, as the SDK computes it."""
    stamp = datetime.now(timezone.utc).replace(tzinfo=None).isoformat()
    text = f"v1:{stamp}:{BODY.decode()}".encode()
    digest = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    for value, is_good in ((digest, True), (digest[::-1], False)):
        sent = {"X-Orb-Timestamp": stamp, "X-Orb-Signature": f"v1=ab v1={value}"}
        for check in (
            lambda sent: sdk.verify_signature(BODY, sent),
            lambda sent: verify_signature(BODY, sent, [SECRET]),
        ):
            if is_good:
                check(sent)
            else:
                with pytest.raises(
                    (ValueError, OrbWebhookVerificationError), match="ignature"
                ):
                    check(sent)


# What an event says


def test_a_whole_invoice_is_found():
    payload = event()

    found = parse_event(as_bytes(payload))

    assert (found.id, found.type) == (payload["id"], payload["type"])
    assert found.created_at == datetime.fromisoformat(payload["created_at"])
    assert found.invoice_id == payload["invoice"]["id"]
    assert found.invoice == payload["invoice"]


def test_an_event_of_earlier_days_names_no_style():
    payload = event()
    del payload["payload_style"]

    assert parse_event(as_bytes(payload)).invoice == payload["invoice"]


INVOICE = payloads.load("invoice_issued")
WITHOUT_LINES = {key: value for key, value in INVOICE.items() if key != "line_items"}
OLD_LINES = {
    **INVOICE,
    "line_items": [
        {k: v for k, v in line.items() if k != "adjusted_subtotal"}
        for line in INVOICE["line_items"]
    ],
}


def balance_event(transaction: Any) -> dict[str, Any]:
    properties = {"balance_transaction": transaction}
    return event("customer.balance_transaction_created", properties=properties)


@pytest.mark.parametrize(
    "payload",
    [
        event_of(INVOICE, payload_style="standard"),
        event_of(INVOICE, type="invoice.issued_summary"),
        event_of(INVOICE, type="invoice.of_tomorrow"),
        event_of(WITHOUT_LINES),
        event_of(OLD_LINES),
        event_of({**INVOICE, "line_items": None}),
        event_of({**INVOICE, "line_items": ["one"]}),
        event_of({"id": INVOICE["id"]}, type="invoice.invoice_date_elapsed"),
        event_of(INVOICE["id"], type="invoice.cost_data_exported"),
        event_of(INVOICE["id"], type="invoice_due_date_recalculation.started"),
        event("credit_note.issued", credit_note={"invoice_id": INVOICE["id"]}),
        balance_event({"invoice": {"id": INVOICE["id"]}}),
    ],
)
def test_what_shows_less_than_an_invoice_only_names_it(payload):
    found = parse_event(as_bytes(payload))

    assert found.invoice_id == INVOICE["id"]
    assert found.invoice is None


@pytest.mark.parametrize(
    "payload",
    [
        event("resource_event.test", invoice=None),
        event("customer.created"),
        event("subscription.started", invoice=INVOICE),
        event("unheard_of"),
        event_of(None),
        event_of([]),
        event_of({"id": 7}),
        event_of({"id": ""}),
        event_of({"id": "a\0b"}),
        event_of({"id": "x" * 129}),
        event("credit_note.issued", credit_note=None),
        balance_event({"invoice": None}),
        balance_event({}),
        balance_event(None),
        event("customer.balance_transaction_created", properties=[]),
    ],
)
def test_what_names_no_invoice_is_about_none(payload):
    found = parse_event(as_bytes(payload))

    assert (found.invoice_id, found.invoice) == ("", None)


@pytest.mark.parametrize(
    "created_at", [None, 7, "", "soon", "0001-01-01", "9999", {"a": 1}, [1, 2, 3, 4]]
)
def test_a_creation_that_cannot_be_is_none(created_at):
    assert parse_event(as_bytes(event(created_at=created_at))).created_at is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b'{"id": "1", "type": "a", "x": NaN}',
        b"[" * 100_000,
        as_bytes({"type": "invoice.issued"}),
        as_bytes({"id": "whk1"}),
        as_bytes(event(id=7)),
        as_bytes(event(id="")),
        as_bytes(event(id="x" * 129)),
        as_bytes(event(id="a\0b")),
        as_bytes(event(id="\ud800")),
        as_bytes(event(type="x" * 256)),
        BODY.decode().encode("utf-16"),
    ],
)
def test_what_is_no_event_is_said_so(body):
    with pytest.raises(OrbPayloadError):
        parse_event(body)


# What the SDK knows


def test_a_whole_invoice_is_what_the_sdk_calls_one():
    fields = set(SDKInvoice.model_fields)

    assert fields >= FULL_KEYS
    assert fields - FULL_KEYS == {"discount", "maximum_amount", "minimum_amount"}
    (line,) = get_args(SDKInvoice.model_fields["line_items"].annotation)
    assert set(line.model_fields) >= FULL_LINE_KEYS


def test_the_types_that_show_a_whole_invoice_are_those_of_the_sdk():
    whole = set()
    for kind in deliveries.sdk_events():
        field = kind.model_fields.get("invoice")
        if field is not None and field.annotation is SDKInvoice:
            (name,) = get_args(kind.model_fields["type"].annotation)
            whole.add(name)

    assert {one for one in whole if one.startswith("invoice.")} == FULL_TYPES
