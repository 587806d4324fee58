"""Send webhooks to the project's own endpoint, as Orb would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.test import Client, TestCase
from django.urls import NoReverseMatch, reverse

from django_orb.models import Invoice

from .environment import WEBHOOK_SECRET
from .sandbox import OrbSandbox, signed_headers

NO_ENDPOINT = (
    'No webhook endpoint: urls.py lacks path("orb/", include("django_orb.urls")).'
)


class OrbWebhook:
    """
    Sends signed webhooks to the endpoint in the project's URLs.

    They go through Django's test client, in the test's own transaction; the project's
    `on_commit` callbacks run before the call returns.
    """

    secret = WEBHOOK_SECRET

    def __init__(self, orb: OrbSandbox) -> None:
        self._orb = orb
        self._delivered: set[str] = {event["id"] for event in orb.webhook_events()}

    @property
    def path(self) -> str:
        """The path of the endpoint, such as "/orb/webhook/"."""
        try:
            return reverse("django_orb:webhook")
        except NoReverseMatch as error:
            raise NoReverseMatch(NO_ENDPOINT) from error

    def __call__(
        self,
        type: str,
        invoice: Invoice | Mapping[str, Any] | str,
        *,
        payload_style: str = "expanded",
        **changes: Any,
    ) -> HttpResponse:
        """
        Send one event, such as "invoice.issued", about an invoice of the sandbox.

        `payload_style` is that of `webhooks.deliver_to`; `changes` are set on the
        payload last, to send other values or nonsense.
        """
        invoice_id = _id_of(invoice)
        payload = self._orb.webhook_payload(type, invoice_id, payload_style)
        return self.send({**payload, **changes})

    def deliver(self) -> list[HttpResponse]:
        """Send the sandbox's events since the last call, in their order."""
        events = self._orb.webhook_events()
        waiting = [event for event in events if event["id"] not in self._delivered]
        return [self.send(event) for event in waiting]

    def send(
        self, payload: Mapping[str, Any], *, secret: str = WEBHOOK_SECRET
    ) -> HttpResponse:
        """Sign and send any payload; the endpoint refuses another `secret`."""
        self._delivered.add(str(payload.get("id")))
        # With spaces after colons and commas, as Orb writes it.
        body = json.dumps(payload).encode()
        headers = signed_headers(body, secret)
        with TestCase.captureOnCommitCallbacks(execute=True):
            response: Any = Client().post(
                self.path, body, content_type="application/json", headers=headers
            )
        answer: HttpResponse = response
        return answer

    def deliver_to(self, server_url: str, **options: Any) -> None:
        """
        Let the sandbox send all events from now on to a live server.

        `options` are those of `OrbSandbox.webhooks.deliver_to`.
        """
        url = server_url.rstrip("/") + self.path
        self._orb.webhooks.deliver_to(url, secret=self.secret, **options)


def _id_of(invoice: Invoice | Mapping[str, Any] | str) -> str:
    if isinstance(invoice, Invoice):
        return str(invoice.pk)
    return invoice if isinstance(invoice, str) else str(invoice["id"])
