"""Webhooks as Orb sends them: signed JSON, with spaces after its marks."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timezone
from typing import Any

from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from orb import types

from django_orb.webhooks.signature import sign

from . import payloads

SECRET = "test-secret"  # as in tests/settings.py

_serials = itertools.count(1)


def now() -> datetime:
    return datetime.now(timezone.utc)


def event(
    type: str = "invoice.manually_marked_as_void", **changes: Any
) -> dict[str, Any]:
    """A webhook of the sample's form, of now and with an id of its own."""
    return {
        **payloads.load("webhook_invoice_voided"),
        "id": f"whk{next(_serials):013}",
        "created_at": now().isoformat(timespec="seconds"),
        "type": type,
        **changes,
    }


def event_of(invoice: Any, type: str = "invoice.issued", **changes: Any) -> Any:
    return event(type, invoice=invoice, **changes)


def as_bytes(payload: Any) -> bytes:
    return json.dumps(payload, default=float).encode()  # short numbers: exact


def headers(
    body: bytes, *, secret: str = SECRET, timestamp: str | None = None
) -> dict[str, str]:
    if timestamp is None:
        naive = now().replace(tzinfo=None)
        timestamp = naive.isoformat(timespec="milliseconds")
    return {
        "X-Orb-Timestamp": timestamp,
        "X-Orb-Signature": sign(body, timestamp, secret),
    }


def post(
    body: bytes, sent: dict[str, str] | None = None, client: Client | None = None
) -> HttpResponse:
    client = client or Client(raise_request_exception=True)
    return client.post(  # type: ignore[return-value]
        reverse("django_orb:webhook"),
        body,
        content_type="application/json",
        headers=headers(body) if sent is None else sent,
    )


def deliver(payload: Any, client: Client | None = None) -> HttpResponse:
    return post(as_bytes(payload), client=client)


def sdk_events() -> list[Any]:
    """The expanded events of Orb's SDK."""
    names = [name for name in vars(types) if name.endswith("WebhookEvent")]
    found = [getattr(types, name) for name in names]
    return [one for one in found if hasattr(one, "model_fields")]
