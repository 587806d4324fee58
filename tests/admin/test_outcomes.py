from __future__ import annotations

import inspect
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import exceptions
from django_orb.admin.actions.outcomes import explain
from django_orb.models import Invoice, InvoiceOperation
from tests.factories import make_invoice

from .pages import confirm_void, fields_of, page_of, told

pytestmark = pytest.mark.django_db

CLASSES = [
    one
    for _, one in inspect.getmembers(exceptions, inspect.isclass)
    if one.__module__ == exceptions.__name__
]


def make_error(kind: type[Exception]) -> Exception:
    if issubclass(kind, exceptions.OrbAPIError):
        return kind("It failed.", status_code=400, detail="The reason.")
    if issubclass(kind, exceptions.OrbRefusedError):
        return kind(InvoiceOperation(pk=7), "The reason.")
    if issubclass(kind, exceptions.OrbOutcomeUnknownError):
        return kind(InvoiceOperation(pk=7))
    return kind("The reason.")


def raising(error: Exception) -> Any:
    def call(*args: Any, **kwargs: Any) -> None:
        raise error

    return call


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_of_a_write_is_a_message(
    finance: Client, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    invoice = make_invoice()
    error = raising(make_error(kind))
    monkeypatch.setattr("django_orb.services.void_invoice", error)

    (message,) = told(confirm_void(finance, invoice.pk))

    assert message.startswith(("error: ", "warning: "))
    words = ("The reason.", "do not repeat it", "too many requests")
    assert any(piece in message for piece in words)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_of_a_line_item_is_a_message(
    finance: Client, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    invoice = make_invoice("draft")
    error = raising(make_error(kind))
    monkeypatch.setattr("django_orb.services.create_invoice_line_item", error)
    url = page_of(invoice.pk, "line-item")
    line = {
        "name": "Support",
        "quantity": "1",
        "amount": "1",
        "start_date": "2026-01-01",
        "end_date": "2026-01-01",
    }

    fields = {**fields_of(finance.get(url)), **line, "post": "yes"}
    (message,) = told(finance.post(url, fields))

    assert message.startswith(("error: ", "warning: "))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_of_a_read_is_a_message(
    finance: Client, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    invoice = make_invoice()
    error = raising(make_error(kind))
    monkeypatch.setattr("django_orb.services.fetch_invoice", error)
    monkeypatch.setattr("django_orb.services.fetch_upcoming_invoice", error)

    (message,) = told(finance.post(page_of(invoice.pk, "refresh")))
    assert message.startswith("error: ")
    message = told(finance.get(page_of(invoice.pk, "upcoming")))[-1]
    assert message.startswith(("error: ", "warning: "))
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.OrbInputError("amount is odd."), "amount is odd."),
        (exceptions.OrbTimeoutError("No answer."), "could not be reached"),
        (
            exceptions.OrbURLNotFoundError("Nope.", status_code=404),
            "check BASE_URL",
        ),
        (
            exceptions.OrbAuthenticationError("Nope.", status_code=401),
            "did not accept the API key",
        ),
    ],
)
def test_errors_in_words(error: Exception, words: str) -> None:
    assert words in explain(error)


def test_the_detail_of_an_unknown_outcome_is_told(
    finance: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = InvoiceOperation(pk=7, detail="The reason.")
    error = exceptions.OrbOutcomeUnknownError(operation)
    monkeypatch.setattr("django_orb.services.void_invoice", raising(error))

    (message,) = told(confirm_void(finance, make_invoice().pk))

    assert "operation 7" in message
    assert message.endswith("(The reason.)")
    assert Invoice.objects.get().status == "issued"
