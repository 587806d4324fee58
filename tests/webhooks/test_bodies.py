from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
from datetime import datetime, timezone
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory
from django.urls import reverse

from django_orb import views
from django_orb.models import WebhookEvent

SECRET = "secret-of-the-endpoint"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def secret(settings):
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_SECRETS": [SECRET]}


def deliver(sent, signed, **environ):
    now = datetime.now(timezone.utc).isoformat()
    text = f"v1:{now}:".encode() + signed
    signature = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    request = RequestFactory().post("/")
    path = reverse("django_orb:webhook")
    given = {
        **request.environ,
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(sent)),
        "CONTENT_TYPE": "application/json",
        "HTTP_X_ORB_TIMESTAMP": now,
        "HTTP_X_ORB_SIGNATURE": f"v1={signature}",
        "wsgi.input": io.BytesIO(sent),
        **environ,
    }
    statuses = []
    application: Any = WSGIHandler()
    application(given, lambda status, headers: statuses.append(int(status[:3])))
    return statuses[0]


@pytest.fixture
def body():
    created_at = datetime.now(timezone.utc).isoformat()
    event = {"id": "evt1", "type": "resource_event.test", "created_at": created_at}
    return json.dumps(event).encode()


CHUNKED = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
ENDED = {**CHUNKED, "wsgi.input_terminated": True}
GZIP = {"HTTP_CONTENT_ENCODING": "gzip"}


@pytest.mark.parametrize("how", [{}, ENDED])
def test_a_body_with_and_without_a_length_is_stored(body, how):
    assert deliver(body, body, **how) == 200
    assert WebhookEvent.objects.count() == 1


def test_a_body_whose_end_the_server_does_not_mark_is_refused(body):
    assert deliver(body, body, **CHUNKED) == 411
    assert WebhookEvent.objects.count() == 0


@pytest.mark.parametrize("how", [GZIP, {**GZIP, **ENDED}])
@pytest.mark.parametrize("is_packed_signed", [True, False])
def test_a_packed_body_is_stored(body, how, is_packed_signed):
    packed = gzip.compress(body)
    assert deliver(packed, packed if is_packed_signed else body, **how) == 200
    assert WebhookEvent.objects.count() == 1


def test_what_cannot_be_unpacked_is_refused(body):
    packed = gzip.compress(body)
    assert deliver(body, body, HTTP_CONTENT_ENCODING="br") == 415
    assert deliver(body, body, **GZIP) == 400
    assert deliver(packed[:-3], packed[:-3], **GZIP) == 400
    large = b" " * (views.MAX_BODY_BYTES + 1)
    bomb = gzip.compress(large)
    assert deliver(bomb, bomb, **GZIP) == 413
    assert deliver(large, large, **ENDED) == 413
    assert WebhookEvent.objects.count() == 0


class Broken(io.BytesIO):
    """A body whose server raises an error of its own kind, as Gunicorn does."""

    def read(self, size: int | None = -1) -> bytes:
        raise RuntimeError


@pytest.mark.parametrize("how", [ENDED, {}], ids=["chunked", "length"])
def test_a_body_that_the_server_cannot_read_is_refused(body, how, caplog):
    assert deliver(body, body, **{**how, "wsgi.input": Broken()}) == 400
    assert "The body broke off" in caplog.text


def test_a_body_that_is_shorter_than_announced_is_refused(body, caplog):
    assert deliver(body, body, CONTENT_LENGTH=str(len(body) + 1)) == 400
    assert "The body broke off" in caplog.text
    assert WebhookEvent.objects.count() == 0


def test_a_body_whose_length_is_no_number_is_refused(body):
    assert deliver(body, body, CONTENT_LENGTH="many") == 400
