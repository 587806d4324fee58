from __future__ import annotations

import threading
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from django_orb import services
from django_orb.client.orb_client import OrbClient
from django_orb.db.clock import database_now
from django_orb.exceptions import OrbOutcomeUnknownError, OrbRefusedError
from django_orb.models import InvoiceOperation
from django_orb.operations import recovery, sending
from tests import crash_points

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

LINE: dict[str, Any] = {
    "name": "Support",
    "quantity": 1,
    "amount": "12.00",
    "start_date": date(2026, 1, 1),
    "end_date": date(2026, 1, 31),
}


@pytest.fixture(autouse=True)
def impatient(one_try: None, waits: list[float]) -> None:
    """One try for each request, no waiting."""


@pytest.fixture
def draft(orb: OrbSandbox) -> str:
    return orb.invoice_ids("draft")[0]


def expire_leases() -> None:
    InvoiceOperation.objects.update(
        lease_expires_at=database_now("default") - timedelta(days=1)
    )


def recover() -> list[InvoiceOperation]:
    with OrbClient.from_settings() as client:
        return list(recovery.recover_operations(client=client))


def added_lines(orb: OrbSandbox, invoice_id: str) -> int:
    lines = orb.invoice(invoice_id)["line_items"]
    return sum(line["name"] == "Support" for line in lines)


@pytest.mark.parametrize("when", ["before", "after", "during"])
def test_cut_connection_leaves_it_pending_and_recover_ends_it_once(
    any_committed_database: str, orb: OrbSandbox, draft: str, when: str
) -> None:
    orb.cut_next(1, when=when, route="create_invoice_line_item")

    with pytest.raises(OrbOutcomeUnknownError, match="do not send it again"):
        services.create_invoice_line_item(draft, **LINE)
    assert InvoiceOperation.objects.get().state == "pending"
    assert recover() == []

    expire_leases()
    recover()

    assert InvoiceOperation.objects.get().state == "succeeded"
    assert added_lines(orb, draft) == 1


@pytest.mark.parametrize("status", [408, 409, 500, 503])
def test_answers_that_leave_the_outcome_open_keep_it_pending(
    any_committed_database: str, orb: OrbSandbox, status: int
) -> None:
    issued = orb.invoice_ids("issued")[0]
    orb.fail_next(1, status=status, when="after", route="void_invoice")

    with pytest.raises(OrbOutcomeUnknownError):
        services.void_invoice(issued)
    assert InvoiceOperation.objects.get().detail == "Asked for by a test."

    expire_leases()
    recover()
    operation = InvoiceOperation.objects.get()
    assert (operation.state, operation.attempts) == ("succeeded", 2)
    assert orb.invoice(issued)["status"] == "void"


def test_too_many_requests_is_an_outcome(
    any_committed_database: str, orb: OrbSandbox, draft: str
) -> None:
    orb.fail_next(1, status=429, route="create_invoice_line_item")

    with pytest.raises(OrbRefusedError, match="Try again in a minute"):
        services.create_invoice_line_item(draft, **LINE)

    assert added_lines(orb, draft) == 0


def test_process_that_dies_after_recording_is_recovered(
    any_committed_database: str, orb: OrbSandbox, draft: str
) -> None:
    with dying(any_committed_database, _is_update), pytest.raises(SystemExit):
        services.create_invoice_line_item(draft, **LINE)
    assert added_lines(orb, draft) == 0

    expire_leases()
    recover()

    assert added_lines(orb, draft) == 1


def test_edit_that_cannot_be_seen_is_sent_if_it_was_not_yet(
    any_committed_database: str, orb: OrbSandbox, draft: str
) -> None:
    with dying(any_committed_database, _is_update), pytest.raises(SystemExit):
        services.update_invoice(draft, net_terms=10)

    expire_leases()
    recover()

    assert InvoiceOperation.objects.get().state == "succeeded"
    assert orb.request_counts()["update_invoice"] == 1


def test_process_that_dies_before_noting_the_answer_is_recovered(
    any_committed_database: str, orb: OrbSandbox, draft: str
) -> None:
    with dying(any_committed_database, _is_end), pytest.raises(SystemExit):
        services.create_invoice_line_item(draft, **LINE)
    assert added_lines(orb, draft) == 1

    expire_leases()
    recover()

    assert added_lines(orb, draft) == 1
    assert InvoiceOperation.objects.get().state == "succeeded"


dying = partial(crash_points.dying_at_statement, error=SystemExit)


def _is_update(sql: str, params: Any) -> bool:
    """The first of these notes that the request is about to be sent."""
    return sql.startswith("UPDATE") and "orb_invoiceoperation" in sql


def _is_end(sql: str, params: Any) -> bool:
    return _is_update(sql, params) and "succeeded" in params


def test_two_clicks_at_once_are_one_line(
    any_committed_database: str, orb: OrbSandbox, draft: str
) -> None:
    orb.delay_next(1, 0.3, route="create_invoice_line_item")
    lines: list[Any] = []

    def click() -> None:
        try:
            lines.append(
                services.create_invoice_line_item(
                    draft, **LINE, idempotency_key="form"
                ).orb_id
            )
        except Exception as err:  # noqa: BLE001 - whatever it is, the test shows it
            lines.append(err)
        finally:
            connections[any_committed_database].close()

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert added_lines(orb, draft) == 1


def test_operation_says_who_asked_and_from_where(
    any_committed_database: str, orb: OrbSandbox, draft: str, django_user_model: Any
) -> None:
    ada = django_user_model.objects.create_user("ada")

    services.create_invoice_line_item(draft, **LINE, actor=ada, origin="admin")

    operation = InvoiceOperation.objects.get()
    assert (operation.find_actor(), operation.origin) == (ada, "admin")
    assert str(operation) == f"Add line item {draft}"


def test_outcome_never_changes_again(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    issued = orb.invoice_ids("issued")[0]
    services.void_invoice(issued)
    operation = InvoiceOperation.objects.get()

    with OrbClient.from_settings() as client:
        orb.fail_next(1, status=400, route="void_invoice")
        sending.send(operation, client=client)

    assert InvoiceOperation.objects.get().state == "succeeded"
