from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from django_orb.models import InvoiceCreditNote, InvoicePaymentAttempt
from tests.factories import make_invoice
from tests.payloads import load_full

NOTES = "/admin/django_orb/invoicecreditnote/"
ATTEMPTS = "/admin/django_orb/invoicepaymentattempt/"


def text_of(client: Client, url: str) -> str:
    """The text that people read on a page."""
    html = client.get(url).content.decode()
    text = strip_tags(html.replace("<", " <"))
    return re.sub(r"\s+", " ", text)


@pytest.fixture(autouse=True)
def full(db: None) -> Any:
    return make_invoice(**load_full())


def test_credit_notes_are_listed_with_their_invoice(finance: Client) -> None:
    page = text_of(finance, NOTES)

    assert "CN-00007 QXWPLM-00042 Refund 50.10 USD Order change" in page
    assert "voided 2 Apr 2026, 10:00 UTC" in page


def test_payment_attempts_are_listed_newest_first(finance: Client) -> None:
    page = text_of(finance, ATTEMPTS)

    assert "20 Mar 2026, 15:02 UTC QXWPLM-00042 510.25 USD" in page
    assert "Paid Stripe pi_3EXAMPLE" in page.replace("✓ ", "")


@pytest.mark.parametrize(
    ("url", "query", "count"),
    [
        (NOTES, {"q": "CN-00008"}, 1),
        (NOTES, {"q": "inv5KqT9wLrX2ZbN"}, 2),
        (NOTES, {"q": "CN"}, 0),
        (NOTES, {"voided": "yes"}, 1),
        (NOTES, {"voided": "no"}, 1),
        (NOTES, {"type__exact": "refund"}, 2),
        (ATTEMPTS, {"q": "patFailedBefore1"}, 1),
        (ATTEMPTS, {"q": "inv5KqT9wLrX2ZbN"}, 2),
        (ATTEMPTS, {"succeeded": "yes"}, 1),
        (ATTEMPTS, {"succeeded": "no"}, 1),
    ],
)
def test_lists_are_searched_and_filtered(
    finance: Client, url: str, query: dict[str, str], count: int
) -> None:
    response: Any = finance.get(url, query)

    assert len(response.context["cl"].result_list) == count


@pytest.mark.parametrize("url", [NOTES, ATTEMPTS])
def test_lists_take_the_same_queries_at_any_length(finance: Client, url: str) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            finance.get(url)
        return len(captured)

    count()
    few = count()
    for n in range(5):
        make_invoice(**load_full(id=f"another{n}"))

    assert count() == few


@pytest.mark.parametrize("url", [NOTES, ATTEMPTS])
def test_lists_need_a_permission_and_nothing_can_be_changed(
    finance: Client, log_in: Any, url: str
) -> None:
    note, attempt = (
        InvoiceCreditNote.objects.all()[0],
        InvoicePaymentAttempt.objects.all()[0],
    )
    pk = note.pk if url == NOTES else attempt.pk

    assert log_in("view_invoice", name="other").get(url).status_code == 403
    assert finance.get(f"{url}{pk}/change/").status_code == 200
    assert finance.post(f"{url}{pk}/change/", {"orb_id": "x"}).status_code == 403
    assert finance.get(f"{url}add/").status_code == 403


def test_what_could_not_be_read_is_shown_as_nothing(finance: Client) -> None:
    make_invoice(
        **load_full(
            id="odd",
            credit_notes=[{"id": None, "total": "odd"}],
            payment_attempts=[
                {"id": "a", "succeeded": "odd", "receipt_pdf": "javascript:x"}
            ],
        )
    )
    attempt = InvoicePaymentAttempt.objects.get(orb_id="a")

    page = text_of(finance, f"{ATTEMPTS}{attempt.pk}/change/")

    assert "javascript" not in page
    assert "succeeded" in page  # named among what could not be read
    assert "(no id, item 0)" in text_of(finance, NOTES)
