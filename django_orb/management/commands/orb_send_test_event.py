from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import requests
from django.core.management.base import CommandError, CommandParser

from django_orb import exact_json
from django_orb.conf import get_settings
from django_orb.exceptions import OrbConfigurationError
from django_orb.management.printing import PrintingCommand
from django_orb.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

# Orb waits as long for an answer.
TIMEOUT_SECONDS = 5.0


class Command(PrintingCommand):
    help = "Send a signed test event to a running webhook endpoint, as Orb would."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "url", help="such as https://example.com/orb/webhook/ of this project"
        )
        parser.add_argument(
            "--invoice",
            metavar="ID",
            help="name this invoice, so that the endpoint's worker fetches it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        body = exact_json.dumps(_event(options["invoice"])).encode()
        try:
            answer = requests.post(
                options["url"],
                data=body,
                headers=_headers(body),
                timeout=TIMEOUT_SECONDS,
                # `requests` follows a 301 or 302 with a GET, whose
                # answer would tell nothing.
                allow_redirects=False,
            )
        except requests.RequestException as err:
            raise CommandError(f"No answer from {options['url']}: {err}") from err
        took = f"{answer.elapsed.total_seconds():.2f} s"
        if not 200 <= answer.status_code < 300:
            raise CommandError(
                f"It answered {answer.status_code} after {took}. 400: its secrets are "
                'not DJANGO_ORB["WEBHOOK_SECRETS"] here, or a clock is wrong. '
                "404: the path is wrong. 301 or 302: use the final address."
            )
        self.stdout.write(
            f"It answered {answer.status_code} after {took}: the event is stored there."
        )


def _event(invoice_id: str | None) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    event: dict[str, Any] = {
        # Another one each time, since an event whose id is known is not stored again.
        "id": f"test-{uuid.uuid4().hex}",
        "created_at": now.isoformat(timespec="seconds"),
        "type": "resource_event.test",
        "properties": {},
    }
    if invoice_id:
        # The only type whose `invoice` is just the id.
        event.update(type="invoice.cost_data_exported", invoice=invoice_id)
    return event


def _headers(body: bytes) -> dict[str, str]:
    try:
        secrets = get_settings().WEBHOOK_SECRETS
    except OrbConfigurationError as err:
        raise CommandError(str(err)) from err
    if not secrets:
        raise CommandError(
            'There is no secret to sign with: set DJANGO_ORB["WEBHOOK_SECRETS"], or '
            "ORB_WEBHOOK_SECRET in the environment."
        )
    # Without a zone, as Orb sends it.
    naive = datetime.now(timezone.utc).replace(tzinfo=None)
    timestamp = naive.isoformat(timespec="milliseconds")
    return {
        "Content-Type": "application/json",
        TIMESTAMP_HEADER: timestamp,
        # Any of them is accepted: there are several only while one replaces another.
        SIGNATURE_HEADER: sign(body, timestamp, secrets[0]),
    }
