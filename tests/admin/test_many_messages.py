"""What is said of hundreds of invoices, which a cookie must have room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from django.utils import translation

from django_orb import services
from tests.admin.pages import LIST, choose, fields_of, told
from tests.factories import make_invoices

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db

IN_COOKIES = override_settings(
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"
)


def log_in() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("all"))
    return client


@pytest.mark.parametrize("language", ["en", "de"])
def test_five_hundred_skipped_invoices_fit_in_a_cookie(language: str) -> None:
    with IN_COOKIES, translation.override(language):
        client = log_in()
        ids = [invoice.pk for invoice in make_invoices(490, "paid")]
        ids += [invoice.pk for invoice in make_invoices(10, "void")]

        response = client.post(
            LIST, choose("issue_selected", *ids), headers={"accept-language": language}
        )

        said = told(response)
        assert sum(map(len, said)) < 2000
        assert all(
            len(cookie.OutputString()) < 4000 for cookie in response.cookies.values()
        )
        assert str(500 - (len(said) - 1)) in said[-1]
        assert LIST in client.get(LIST).text


def test_others_are_counted_with_the_reasons() -> None:
    client = log_in()
    ids = [invoice.pk for invoice in make_invoices(490, "paid")]
    ids += [invoice.pk for invoice in make_invoices(10, "void")]

    *alone, others = told(client.post(LIST, choose("issue_selected", *ids)))

    assert all("Skipped." in text for text in alone)
    assert f"And {500 - len(alone)} others" in others
    assert "“Paid”" in others
    assert "“Void”" in others


def test_a_few_are_told_of_one_by_one() -> None:
    client = log_in()
    ids = [invoice.pk for invoice in make_invoices(3, "paid")]

    said = told(client.post(LIST, choose("issue_selected", *ids)))

    assert [text.count("Skipped.") for text in said] == [1, 1, 1]


def test_failures_are_told_of_before_successes(orb: OrbSandbox) -> None:
    client = log_in()
    drafts = [services.fetch_invoice(pk) for pk in orb.invoice_ids("draft")[:8]]
    ids = [draft.pk for draft in drafts]
    line: dict[str, Any] = {
        "name": "Support",
        "quantity": "1",
        "amount": "1",
        "start_date": "2026-01-01",
        "end_date": "2026-01-31",
    }
    form = fields_of(client.post(LIST, choose("add_line_item", *ids)))
    confirmed = {**fields_of(client.post(LIST, {**form, **line})), **line}
    orb.fail_next(1, status=400, route="create_invoice_line_item")

    said = told(client.post(LIST, {**confirmed, "post": "yes"}))

    assert said[0].startswith("error: ")
    assert "others: Added" in said[-1]
