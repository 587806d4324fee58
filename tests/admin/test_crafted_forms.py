"""Forms that a user has changed before sending them, and odd texts from Orb."""

from __future__ import annotations

import json
from html import unescape

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from django_orb.models import InvoiceFailure, InvoiceOperation, WebhookEvent
from tests.admin.pages import fields_of, page_of
from tests.factories import make_invoice

SHOWN = {
    "deep": "[" * 100_000,
    "deep, closed": "[" * 100_000 + "]" * 100_000,
    "deep in a value": '{"a": ' * 5000 + "1" + "}" * 5000,
    "long number": f'{{"a": {"9" * 10_000}}}',
    "a NUL": json.dumps({"a\0b": "c", "d": "e\0"}),
    "half a pair": '{"\\ud800": "x", "y": "\\udfff"}',
    "a list": "[1, 2]",
    "not JSON": "{",
    "not a number": '{"a": NaN}',
}


def log_in() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("all"))
    return client


@pytest.mark.parametrize("name", SHOWN)
def test_what_the_edit_form_had_shown(any_database: str, name: str) -> None:
    client = log_in()
    url = page_of(make_invoice("draft").pk, "edit")
    form = fields_of(client.get(url))

    for step in ("preview", "edit"):
        sent = {**form, "shown": SHOWN[name], "metadata": "k = v", step: "yes"}
        response = client.post(url, sent)
        assert response.status_code == 200

    assert "\\u0000" not in response.text
    assert not InvoiceOperation.objects.exists()


@pytest.mark.parametrize("line", ["\0", "a\0b", "x" * 100_000, "\ud7ff", "%"])
def test_the_line_to_delete(any_database: str, line: str) -> None:
    client = log_in()
    url = page_of(make_invoice("draft").pk, "delete-line")

    response = client.post(url, {"line": line, "post": "yes"}, follow=True)

    assert response.status_code == 200
    assert "no longer has this line" in response.text


@pytest.mark.parametrize("name", SHOWN)
def test_what_orb_sent_that_could_not_be_read(db: None, name: str) -> None:
    client = log_in()
    InvoiceFailure.objects.create(
        invoice_id="odd",
        reason="r",
        payload_text=SHOWN[name],
        failed_at="2026-01-01T00:00Z",
    )

    response = client.get("/admin/django_orb/invoicefailure/odd/change/")

    assert response.status_code == 200


@pytest.mark.parametrize("name", SHOWN)
def test_the_body_of_an_event(db: None, name: str) -> None:
    client = log_in()
    WebhookEvent.objects.create(
        id="odd", type="t", body=SHOWN[name], received_at="2026-01-01T00:00Z"
    )

    response = client.get("/admin/django_orb/webhookevent/odd/change/")

    assert response.status_code == 200
    shown = "".join(unescape(response.text).split())
    assert "".join(SHOWN[name].split())[:9] in shown
