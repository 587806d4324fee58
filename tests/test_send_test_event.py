from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from django_orb import tasks
from django_orb.models import Invoice, WebhookEvent
from django_orb.testing import OrbSandbox

from .brokers import catch_messages


@pytest.fixture
def url(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    catch_messages(monkeypatch)
    return f"{live_server.url}{reverse('django_orb:webhook')}"


def send(*arguments: str) -> str:
    output = StringIO()
    call_command("orb_send_test_event", *arguments, stdout=output)
    return output.getvalue()


@pytest.mark.django_db(databases=["default"], transaction=True)
def test_test_event_is_stored_and_ignored(url: str) -> None:
    assert "It answered 200" in send(url)

    stored = WebhookEvent.objects.get()
    tasks.process_webhook_event(stored.pk)
    stored.refresh_from_db()
    assert (stored.type, stored.state) == ("resource_event.test", "ignored")


@pytest.mark.django_db(databases=["default"], transaction=True)
def test_event_of_an_invoice_has_it_fetched(url: str, orb: OrbSandbox) -> None:
    invoice_id = orb.invoice_ids("issued")[0]

    send(url, "--invoice", invoice_id)

    tasks.process_webhook_event(WebhookEvent.objects.get().pk)
    assert Invoice.objects.get().pk == invoice_id


@pytest.mark.django_db(databases=["default"], transaction=True)
def test_refusal_ends_the_command(url: str, settings: Any) -> None:
    with pytest.raises(CommandError, match="answered 404"):
        send(f"{url}elsewhere/")
    with pytest.raises(CommandError, match="No answer"):
        send("http://127.0.0.1:9/orb/webhook/")
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_SECRETS": []}
    with pytest.raises(CommandError, match="WEBHOOK_SECRETS"):
        send(url)
    settings.DJANGO_ORB = {"WEBHOOK_SECRET": []}
    with pytest.raises(CommandError, match="unknown key"):
        send(url)
    assert not WebhookEvent.objects.exists()
