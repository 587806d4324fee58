from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib import messages
from django.test import Client

from django_orb import exceptions, services
from django_orb.admin.actions.outcomes import attempt_read, attempt_write, explain
from django_orb.models import InvoiceOperation
from tests.factories import make_invoice, operate

from .pages import confirm_void, fields_of, page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

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


LEVELS = {messages.ERROR, messages.WARNING}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_of_a_write_is_a_message(kind: type[Exception]) -> None:
    invoice = make_invoice()

    outcome = attempt_write(
        invoice, raising(make_error(kind)), key="key", done="Done.", asked="Asked."
    )

    assert outcome.level in LEVELS
    words = ("The reason.", "do not repeat it", "too many requests")
    assert any(piece in outcome.text for piece in words)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_of_a_read_is_a_message(kind: type[Exception]) -> None:
    outcome = attempt_read(make_invoice(), raising(make_error(kind)), done="Done.")

    assert outcome.level in LEVELS
    assert outcome.text
    assert not outcome.log


LINE = {
    "name": "Support",
    "quantity": "1",
    "amount": "1",
    "start_date": "2026-01-01",
    "end_date": "2026-01-01",
}
FAILURES = (400, 401, 403, 404, 409, 413, 429, 500)
Trouble = Callable[["OrbSandbox", str], None]


def failing(status: int) -> Trouble:
    return lambda orb, route: orb.fail_next(9, status=status, route=route)


TROUBLES: dict[str, Trouble] = {
    **{str(status): failing(status) for status in FAILURES},
    "a proxy's": lambda orb, route: orb.fail_next(
        9, status=502, html=True, route=route
    ),
    "cut before": lambda orb, route: orb.cut_next(9, route=route),
    "cut after": lambda orb, route: orb.cut_next(9, when="after", route=route),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_trouble_with_orb_is_a_message(
    orb: OrbSandbox, finance: Client, trouble: str
) -> None:
    happen = TROUBLES[trouble]
    drafts = (orb.invoice(pk) for pk in orb.invoice_ids("draft"))
    draft = next(one["id"] for one in drafts if one["subscription"])
    issued = orb.invoice_ids("issued")[0]
    services.sync_invoices(invoice_ids=[draft, issued])
    url = page_of(draft, "line-item")
    form = {**fields_of(finance.get(url)), **LINE, "post": "yes"}

    for route in ("create_invoice_line_item", "void_invoice", "fetch_upcoming_invoice"):
        happen(orb, route)
    said = [*told(finance.post(url, form)), *told(confirm_void(finance, issued))]
    said.append(told(finance.get(page_of(draft, "upcoming")))[-1])
    orb.clear_faults()
    happen(orb, "fetch_invoice")
    said += told(finance.post(page_of(draft, "fetch")))

    assert len(said) == 4
    for message in said:
        assert message.startswith(("error: ", "warning: "))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.OrbInputError("amount is odd."), "amount is odd."),
        (exceptions.OrbTimeoutError("No answer."), "could not be reached"),
        (exceptions.OrbURLNotFoundError("Nope.", status_code=404), "check BASE_URL"),
        (
            exceptions.OrbAuthenticationError("Nope.", status_code=401),
            "did not accept the API key",
        ),
    ],
)
def test_errors_in_words(error: Exception, words: str) -> None:
    assert words in explain(error)


def test_what_fails_after_the_operation_was_done_does_not_undo_it() -> None:
    invoice = make_invoice()
    operate(invoice, idempotency_key="key")
    error = exceptions.OrbConnectionError("Gone.")

    outcome = attempt_write(
        invoice, raising(error), key="key", done="Done.", asked="Asked."
    )

    assert (outcome.level, outcome.log) == (messages.WARNING, "Done.")
    assert (
        outcome.text
        == "Done. The result could not be fetched yet; the next sync shows it."
    )


def test_the_detail_of_an_unknown_outcome_is_told() -> None:
    operation = InvoiceOperation(pk=7, detail="The reason.")
    error = exceptions.OrbOutcomeUnknownError(operation)

    outcome = attempt_write(
        make_invoice(), raising(error), key="key", done="Done.", asked="Asked."
    )

    assert "operation 7" in outcome.text
    assert outcome.text.endswith("(The reason.)")
