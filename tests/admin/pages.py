"""How tests ask for the admin's pages."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from django.contrib.messages import get_messages
from django.test import Client

LIST = "/admin/django_orb/invoice/"
OPERATIONS = "/admin/django_orb/invoiceoperation/"


def page_of(invoice_id: str, view: str = "change") -> str:
    return f"{LIST}{invoice_id}/{view}/"


def choose(action: str, *ids: str, **more: Any) -> dict[str, Any]:
    """What the list sends when an action is run on chosen rows."""
    return {"action": action, "_selected_action": list(ids), "index": "0", **more}


def fields_of(response: Any) -> dict[str, Any]:
    """The hidden fields of a rendered form, as a browser would send them."""
    content = response.content.decode()
    form = content[content.index('id="content-main"') :]
    fields: dict[str, Any] = {}
    for tag in re.findall(r'<input type="hidden"[^>]*>', form):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and value:
            fields.setdefault(unescape(name[1]), []).append(unescape(value[1]))
    fields.pop("csrfmiddlewaretoken", None)
    return fields


def told(response: Any) -> list[str]:
    """The messages that a redirect adds to those for the next page."""
    assert response.status_code == 302, response.status_code
    messages: Any = get_messages(response.wsgi_request)
    added = messages._queued_messages
    return [f"{message.level_tag}: {message}" for message in added]


def confirm_void(client: Client, invoice_id: str) -> Any:
    """Open the confirmation on an invoice's page and send it."""
    url = page_of(invoice_id, "void")
    return client.post(url, fields_of(client.get(url)))
