"""Errors are for developers: they read the same whatever language is active."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import translation

from django_orb import services
from django_orb.admin.actions.outcomes import explain
from django_orb.client import OrbClient
from django_orb.exceptions import (
    OrbConfigurationError,
    OrbError,
    OrbInputError,
    OrbOutcomeUnknownError,
)
from django_orb.models import InvoiceOperation
from django_orb.sync import runs
from django_orb.webhooks import parse_event, verify_signature

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

DAY = date(2026, 1, 1)
LINE: dict[str, Any] = {
    "name": "Support",
    "quantity": 1,
    "amount": "1.00",
    "start_date": DAY,
    "end_date": DAY,
}
WRONG_LINES: list[dict[str, Any]] = [
    {"name": " "},
    {"end_date": date(2025, 1, 1)},
    {"start_date": datetime(2026, 1, 1)},  # noqa: DTZ001
    {"amount": 1.5},
    {"amount": "much"},
    {"quantity": "9" * 101},
    {"name": "\ud83d"},
]
WRONG_EDITS: list[dict[str, Any]] = [
    {},
    {"metadata": {}},
    {"metadata": {"a": 1}},
    {"net_terms": -1},
    {"net_terms": 30, "due_date": DAY},
]
OF_ORB = {
    400: "OrbConstraintViolationError",
    401: "OrbAuthenticationError",
    403: "OrbPermissionError",
    409: "OrbConflictError",
    413: "OrbTooLargeError",
    429: "OrbRateLimitError",
    500: "OrbServerError",
}


def raised(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except (OrbError, OrbConfigurationError, CommandError) as err:
        return type(err).__name__, re.sub(r"\d+", "#", str(err))
    return "", ""


def reads_the_same(call: Callable[[], object]) -> str:
    """Return the class of the error."""
    read = {}
    for language in ("en", "de"):
        with translation.override(language):
            read[language] = raised(call)
    assert read["de"] == read["en"] != ("", "")
    return read["en"][0]


@pytest.mark.parametrize("wrong", WRONG_LINES)
def test_line_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    name = reads_the_same(
        lambda: services.create_invoice_line_item("inv1", **{**LINE, **wrong})
    )
    assert name == "OrbInputError"


@pytest.mark.parametrize("wrong", WRONG_EDITS)
def test_edit_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    name = reads_the_same(lambda: services.update_invoice("inv1", **wrong))
    assert name == "OrbInputError"


@pytest.mark.parametrize(("status", "expected"), OF_ORB.items())
def test_error_of_orb(orb: OrbSandbox, status: int, expected: str) -> None:
    orb.fail_next(2, status=status)
    with OrbClient.from_settings(retries=0) as client:
        assert reads_the_same(client.ping) == expected


def test_what_is_wrong_before_orb_is_asked(settings: Any) -> None:
    assert reads_the_same(lambda: parse_event(b"[]")) == "OrbPayloadError"
    name = reads_the_same(lambda: verify_signature(b"", {}, ["secret"]))
    assert name == "OrbWebhookVerificationError"
    with OrbClient.from_settings(retries=0) as client:
        assert reads_the_same(client.ping) == "OrbConnectionError"
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TIMEOUT": 1}
    name = reads_the_same(lambda: services.fetch_invoice("inv1"))
    assert name == "OrbConfigurationError"


@pytest.mark.django_db(transaction=True)
def test_error_of_an_operation(orb: OrbSandbox, settings: Any) -> None:
    draft = orb.invoice_ids("draft")[0]
    issued = services.fetch_invoice(orb.invoice_ids("issued")[0])

    assert reads_the_same(lambda: services.void_invoice(draft)) == "OrbRefusedError"
    services.void_invoice(issued, idempotency_key="used")
    name = reads_the_same(
        lambda: services.issue_invoice(issued, idempotency_key="used")
    )
    assert name == "OrbInputError"

    def inside() -> None:
        with transaction.atomic():
            services.void_invoice(draft)

    assert reads_the_same(inside) == "OrbTransactionError"
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}
    assert reads_the_same(lambda: services.void_invoice(draft)) == "OrbReadOnlyError"


@pytest.mark.parametrize("state", ["pending", "needs_attention"])
def test_operation_without_an_answer(state: str) -> None:
    def fail() -> None:
        operation = InvoiceOperation(
            pk=7, kind=InvoiceOperation.Kind.VOID, invoice_id="inv1", state=state
        )
        raise OrbOutcomeUnknownError(operation)

    assert reads_the_same(fail) == "OrbOutcomeUnknownError"


@pytest.mark.django_db
def test_error_of_a_run(orb: OrbSandbox) -> None:
    orb.fail_next(100, status=403)
    name = reads_the_same(services.sync_invoices)
    assert name == "OrbSyncFailedError"
    orb.clear_faults()

    start = partial(runs.start_run, "incremental")
    start()
    assert reads_the_same(start) == "OrbSyncRunningError"
    assert reads_the_same(lambda: call_command("orb_sync_invoices")) == "CommandError"


def test_people_see_an_error_in_their_language() -> None:
    error = OrbInputError("There is nothing to change.")
    with translation.override("de"):
        assert explain(error) == "Es gibt nichts zu ändern."
