from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.core.management import call_command
from django.db import connections

from django_orb import operations, services, tasks
from django_orb.client.orb_client import OrbClient
from django_orb.db import clock, primary
from django_orb.db.clock import DatabaseClock, database_epoch, database_now
from django_orb.exceptions import OrbError, OrbOutcomeUnknownError, OrbRefusedError
from django_orb.models import Invoice, InvoiceOperation, RequestBudget
from django_orb.operations import recovery
from django_orb.operations.ledger import Request
from tests import crash_points, databases, times

from .test_api import LINE, OPERATIONS, add, on_postgresql

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

DAY = date(2026, 1, 31)
# What changes something that can be looked at afterwards.
VISIBLE = sorted(OPERATIONS.keys() - {"regenerate_invoice_pdf"})


@pytest.fixture(autouse=True)
def impatient(one_try: None, waits: list[float]) -> None:
    """One try for each request, no waiting."""


def age(hours: float = 24) -> None:
    """Let time pass for what is recorded."""
    past = database_now(databases.current_alias) - timedelta(hours=hours)
    InvoiceOperation.objects.update(lease_expires_at=past)
    InvoiceOperation.objects.exclude(first_sent_at=None).update(first_sent_at=past)


def do_in_vain(orb: OrbSandbox, name: str, invoice_id: str, when: str) -> None:
    orb.cut_next(1, when=when, route=name)
    with pytest.raises(OrbOutcomeUnknownError):
        OPERATIONS[name][1](invoice_id)


def the_operation() -> InvoiceOperation:
    return InvoiceOperation.objects.get()


@pytest.mark.proof
@on_postgresql
@pytest.mark.parametrize("when", ["before", "after", "during"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_deed_that_got_no_answer_ends_once(
    orb: OrbSandbox, name: str, when: str
) -> None:
    invoice_id = add(orb, OPERATIONS[name][0])
    before = orb.invoice(invoice_id)
    if name == "delete_invoice_line_item" and when == "during":
        pytest.skip("there is no body to cut")
    do_in_vain(orb, name, invoice_id, when)

    age()
    tasks.recover()
    tasks.recover()

    assert the_operation().state == "succeeded"
    assert Invoice.objects.get().payload == orb.invoice(invoice_id)
    if name != "delete_invoice_line_item":  # of a line that never was
        assert orb.invoice(invoice_id) != before


@on_postgresql
@pytest.mark.parametrize("name", VISIBLE)
def test_what_orb_forgot_is_looked_at_and_not_sent(orb: OrbSandbox, name: str) -> None:
    invoice_id = add(orb, OPERATIONS[name][0])
    do_in_vain(orb, name, invoice_id, "after")
    age(hours=48)
    orb.clear_requests()

    tasks.recover()

    assert the_operation().state == "succeeded"
    assert "shows that it happened" in the_operation().detail
    assert name not in orb.request_counts()
    assert Invoice.objects.get().payload == orb.invoice(invoice_id)


@on_postgresql
@pytest.mark.parametrize(
    "name", sorted(OPERATIONS.keys() - {"delete_invoice_line_item"})
)
def test_where_looking_does_not_tell_a_person_is_asked(
    orb: OrbSandbox, name: str
) -> None:
    invoice_id = add(orb, OPERATIONS[name][0])
    do_in_vain(orb, name, invoice_id, "before")
    age(hours=48)
    orb.clear_requests()

    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "Check in Orb" in the_operation().detail
    assert name not in orb.request_counts()


def test_two_lines_that_could_be_it_tell_nothing(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    with OrbClient.from_settings() as client:
        for _ in range(2):
            client.create_invoice_line_item(
                **{**LINE, "invoice_id": draft, "amount": "12.00"}
            )
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    age(hours=48)

    tasks.recover()

    assert the_operation().state == "needs_attention"


def test_line_of_another_operation_is_not_taken_for_it(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    services.create_invoice_line_item(draft, **LINE)
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    age(hours=48)

    tasks.recover()

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "needs_attention"]


def test_another_that_asked_for_nearly_the_same_line_may_be_its_maker(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    orb.cut_next(1, when="after", route="create_invoice_line_item")
    start = LINE["start_date"] - timedelta(days=1)
    with pytest.raises(OrbOutcomeUnknownError):
        services.create_invoice_line_item(draft, **{**LINE, "start_date": start})
    age(hours=48)

    tasks.recover()

    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert {*states} == {"needs_attention"}


@pytest.mark.parametrize(
    "change", [{"name": "Other"}, {"amount": "12.01"}, {"start_date": date(2025, 1, 1)}]
)
def test_another_line_is_not_taken_for_it(
    any_committed_database: str, orb: OrbSandbox, change: dict[str, Any]
) -> None:
    draft = add(orb, "draft")
    with OrbClient.from_settings() as client:
        client.create_invoice_line_item(**{**LINE, "invoice_id": draft, **change})
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    age(hours=48)

    tasks.recover()

    assert the_operation().state == "needs_attention"


def test_invoice_that_is_gone_needs_a_person(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    do_in_vain(orb, "create_invoice_line_item", draft, "after")
    orb.delete_draft(draft)
    age(hours=48)

    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "no longer knows" in the_operation().detail


@pytest.mark.parametrize("when", ["before", "after"])
def test_late_edit_does_not_undo_somebody_elses(
    any_committed_database: str, orb: OrbSandbox, when: str
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "update_invoice", issued, when)
    orb.update_invoice(issued, metadata={"note": "somebody else's"})
    age()

    tasks.recover()

    assert orb.invoice(issued)["metadata"] == {"note": "somebody else's"}
    assert the_operation().state == "needs_attention"
    assert "edit again" in the_operation().detail


def test_edit_that_cannot_be_seen_needs_a_person(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    orb.cut_next(1, when="after", route="update_invoice")
    with pytest.raises(OrbOutcomeUnknownError):
        services.update_invoice(draft, net_terms=10)
    age()

    tasks.recover()

    assert the_operation().state == "needs_attention"


def test_deletion_answered_no_such_line_is_looked_at(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """The line went with the first try; the draft was issued before the second."""
    draft = add(orb, "draft")
    line = services.create_invoice_line_item(draft, **LINE)
    orb.cut_next(1, when="after", route="delete_invoice_line_item")
    with pytest.raises(OrbOutcomeUnknownError):
        services.delete_invoice_line_item(draft, line)
    orb.issue(draft)
    age()

    tasks.recover()

    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert {*states} == {"succeeded"}


def test_deletion_that_came_too_late_is_refused(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    line = orb.invoice(draft)["line_items"][0]["id"]
    orb.cut_next(1, when="before", route="delete_invoice_line_item")
    with pytest.raises(OrbOutcomeUnknownError):
        services.delete_invoice_line_item(draft, line)
    orb.issue(draft)
    age()

    tasks.recover()

    assert the_operation().state == "refused"


def test_key_that_orb_has_for_another_request_needs_a_person(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    one, two = add(orb, "issued"), add(orb, "issued")
    with OrbClient.from_settings() as client:
        client.void_invoice(one, idempotency_key="mine")

    with pytest.raises(OrbOutcomeUnknownError):
        services.void_invoice(two, idempotency_key="mine")
    age(hours=0.5)
    tasks.recover()
    assert the_operation().state == "pending"  # it may still be in flight
    age(hours=2)
    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "belongs to another request" in the_operation().detail
    with pytest.raises(OrbOutcomeUnknownError, match="It needs attention: Orb says"):
        services.void_invoice(two, idempotency_key="mine")
    assert orb.invoice(two)["status"] == "issued"


@on_postgresql
@pytest.mark.parametrize("status", [401, 403, 429])
def test_door_that_is_shut_later_does_not_tell_what_happened(
    orb: OrbSandbox, status: int
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "after")
    age()
    orb.fail_next(1, status=status, route="void_invoice")

    tasks.recover()
    assert the_operation().state == "pending"

    age()
    tasks.recover()
    assert the_operation().state == "succeeded"


@pytest.mark.parametrize("status", [401, 429])
def test_try_without_answer_and_a_refusal_leave_it_open(
    any_committed_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.undo()
    times.rule(monkeypatch, sleep=lambda seconds: None)
    issued = add(orb, "issued")
    orb.cut_next(1, when="after", route="void_invoice")
    orb.fail_next(2, status=status, route="void_invoice")

    with pytest.raises(OrbError) as caught:
        services.void_invoice(issued)

    assert isinstance(caught.value, OrbOutcomeUnknownError)
    assert orb.invoice(issued)["status"] == "void"


def test_copy_of_production_sends_nothing(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "before")
    age()
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    tasks.recover()

    assert the_operation().state == "pending"
    assert orb.invoice(issued)["status"] == "issued"


def test_what_was_done_is_read_back_later_if_its_doer_died(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = services.fetch_invoice(add(orb, "issued"))

    with monkeypatch.context() as patch:
        crash_points.dies_at_request(patch, f"/invoices/{invoice.pk}", SystemExit)
        with pytest.raises(SystemExit):
            services.void_invoice(invoice)
    tasks.recover()  # not yet: whoever did it is looking
    invoice.refresh_from_db()
    assert invoice.status == "issued"
    ago = database_now(any_committed_database) - timedelta(minutes=2)
    InvoiceOperation.objects.update(finished_at=ago)

    tasks.recover()

    invoice.refresh_from_db()
    assert invoice.status == "void"
    assert the_operation().mirrored_at


def test_what_was_undone_is_not_looked_for_for_ever(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    line = services.create_invoice_line_item(draft, **LINE)
    services.delete_invoice_line_item(draft, line)
    ago = database_now(any_committed_database) - timedelta(minutes=2)
    InvoiceOperation.objects.update(finished_at=ago, mirrored_at=None)

    tasks.recover()

    assert not InvoiceOperation.objects.filter(mirrored_at=None).exists()


def test_of_two_that_take_it_up_at_once_one_sends(
    orb: OrbSandbox, any_committed_database: str
) -> None:
    do_in_vain(orb, "void_invoice", add(orb, "issued"), "before")
    age()
    is_taken: list[bool] = []

    def take_before(sql: str, params: Any) -> None:
        """Another user is quicker."""
        if sql.startswith("UPDATE") and "orb_invoiceoperation" in sql and not is_taken:
            is_taken.append(True)
            soon = database_now(any_committed_database) + timedelta(minutes=5)
            InvoiceOperation.objects.update(lease_expires_at=soon)

    orb.clear_requests()

    with crash_points.before_statements(any_committed_database, take_before):
        tasks.recover()

    assert is_taken

    assert "void_invoice" not in orb.request_counts()
    assert the_operation().state == "pending"


@pytest.mark.parametrize("answer", [None, 401, 400])
def test_an_answer_that_comes_after_the_outcome_changes_nothing(
    orb: OrbSandbox,
    any_committed_database: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: int | None,
) -> None:
    """A sender that slept so long that `recover` sent it meanwhile."""
    invoice_id = add(orb, "issued")
    is_asleep: list[bool] = []

    def sleep(request: requests.PreparedRequest) -> None:
        if is_asleep or not request.path_url.endswith("/void"):
            return
        is_asleep.append(True)
        age()
        tasks.recover()
        if answer is None:
            raise requests.ConnectionError
        orb.fail_next(1, status=answer, route="void_invoice")

    crash_points.before_requests(monkeypatch, sleep)

    assert services.void_invoice(invoice_id).status == "void"

    operation = the_operation()
    assert (operation.state, operation.detail) == ("succeeded", "")
    assert orb.request_counts()["void_invoice"] == (2 if answer else 1)


# What is queued


@pytest.fixture
def batch(orb: OrbSandbox, any_committed_database: str) -> Callable[..., list[str]]:
    def queue(count: int = 3) -> list[str]:
        ids = [add(orb, "issued") for _ in range(count)]
        requests = [
            Request("void_invoice", one, idempotency_key=f"key {one}") for one in ids
        ]
        for _ in range(2):  # a double click
            operations.queue(requests, batch="batch")
        return ids

    return queue


def test_queued_operations_are_sent_when_somebody_wakes(
    orb: OrbSandbox, batch: Callable[..., list[str]]
) -> None:
    ids = batch()
    assert "void_invoice" not in orb.request_counts()

    tasks.send_operations()

    assert orb.request_counts()["void_invoice"] == len(ids)
    assert {orb.invoice(one)["status"] for one in ids} == {"void"}
    assert Invoice.objects.filter(status="void").count() == len(ids)


def test_queued_operations_are_sent_by_a_worker_that_reads_the_clock_more_exactly(
    orb: OrbSandbox, any_committed_database: str, batch: Callable[..., list[str]]
) -> None:
    ids = batch(1)
    exact = primary.clock()
    try:
        clock._clocks[any_committed_database] = slow = DatabaseClock("no database")
        now = time.monotonic()
        slow.compare(now - 30, database_epoch(connections[any_committed_database]), now)
        ids += batch(2)
    finally:
        clock._clocks[any_committed_database] = exact

    tasks.send_operations()

    assert {orb.invoice(one)["status"] for one in ids} == {"void"}


def test_queue_goes_on_after_a_refusal_which_brings_the_mirror_up_to_date(
    orb: OrbSandbox, batch: Callable[..., list[str]]
) -> None:
    first, *others = batch()
    services.fetch_invoice(first)
    orb.mark_paid(first)

    tasks.send_operations()

    assert Invoice.objects.get(pk=first).status == "paid"
    assert {orb.invoice(one)["status"] for one in others} == {"void"}


def test_queue_is_worked_off_by_recover_alone(
    orb: OrbSandbox, batch: Callable[..., list[str]]
) -> None:
    ids = batch()

    tasks.recover()

    assert {orb.invoice(one)["status"] for one in ids} == {"void"}


def test_queue_is_worked_off_by_the_command_where_there_are_no_workers(
    orb: OrbSandbox, batch: Callable[..., list[str]]
) -> None:
    ids = batch()

    call_command("orb_sync_invoices", "--in-process", stdout=StringIO())

    assert {orb.invoice(one)["status"] for one in ids} == {"void"}
    assert Invoice.objects.filter(pk__in=ids, status="void").count() == len(ids)


def test_turn_ends_and_is_handed_on(
    orb: OrbSandbox,
    batch: Callable[..., list[str]],
    sent: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch()
    with monkeypatch.context() as patch:
        times.hurry(patch, recovery)
        tasks.send_operations()
    assert sent == [("send_operations", ())]
    tasks.send_operations()

    assert len(sent) == 1
    assert {*InvoiceOperation.objects.values_list("state", flat=True)} == {"succeeded"}


def test_queue_waits_while_orb_is_busy(
    orb: OrbSandbox, batch: Callable[..., list[str]]
) -> None:
    batch()
    orb.fail_next(1, status=429, route="void_invoice")

    tasks.send_operations()

    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert [*states] == ["pending"] * 3
    assert orb.request_counts()["void_invoice"] == 1
    age()
    tasks.send_operations()
    assert {*states.all()} == {"succeeded"}


def test_queue_keeps_to_the_budget_of_writes(
    orb: OrbSandbox,
    batch: Callable[..., list[str]],
    any_committed_database: str,
    settings: Any,
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WRITES_PER_SECOND": 20}
    ids = batch()
    begin = database_now(any_committed_database)

    tasks.send_operations()

    budget = RequestBudget.objects.get(pk="writes")
    assert budget.next_at >= begin + timedelta(seconds=len(ids) / 20)


def test_turn_ends_when_orb_gives_no_answer(
    orb: OrbSandbox, batch: Callable[..., list[str]], sent: list[Any]
) -> None:
    batch(recovery.MAX_UNANSWERED + 1)
    orb.cut_next(9, when="before", route="void_invoice")

    tasks.send_operations()

    assert orb.request_counts()["void_invoice"] == recovery.MAX_UNANSWERED
    assert sent == []


def fail_at(patch: pytest.MonkeyPatch, ids: list[str]) -> None:
    """Orb never answers to voids of these, such as those of one customer."""

    def fail(request: requests.PreparedRequest) -> None:
        if any(f"/{one}/void" in request.path_url for one in ids):
            raise requests.ConnectionError

    crash_points.before_requests(patch, fail)


def test_operations_that_never_get_an_answer_keep_no_other_from_its_turn(
    orb: OrbSandbox, batch: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = recovery.MAX_UNANSWERED
    bad = batch(2 * most + 1)
    good = batch(2)
    fail_at(monkeypatch, bad)

    for _ in range(3):
        tasks.recover()
        # As many are free again as would end the turn.
        oldest = InvoiceOperation.objects.filter(invoice_id__in=bad[:most])
        oldest.update(lease_expires_at=database_now(databases.current_alias))

    assert {orb.invoice(one)["status"] for one in good} == {"void"}
    assert InvoiceOperation.objects.filter(state="pending").count() == len(bad)


def test_one_that_gets_no_answer_does_not_end_the_turn(
    orb: OrbSandbox, batch: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = batch(2 * recovery.MAX_UNANSWERED)
    fail_at(monkeypatch, ids[::2])

    tasks.send_operations()

    assert {orb.invoice(one)["status"] for one in ids[1::2]} == {"void"}


def test_cancelled_operations_are_not_sent(
    orb: OrbSandbox, batch: Callable[..., list[str]], any_committed_database: str
) -> None:
    ids = batch()
    first = InvoiceOperation.objects.earliest("pk")
    InvoiceOperation.objects.filter(pk=first.pk).update(first_sent_at=first.created_at)

    count = operations.cancel("batch", detail="Enough.")
    tasks.recover()

    assert count == len(ids) - 1
    voided = [one for one in ids if orb.invoice(one)["status"] == "void"]
    assert voided == [first.invoice_id]
    with pytest.raises(OrbRefusedError, match="Enough"):
        services.void_invoice(ids[1], idempotency_key=f"key {ids[1]}")


def test_operation_that_was_cancelled_meanwhile_is_not_sent(
    orb: OrbSandbox, batch: Callable[..., list[str]], any_committed_database: str
) -> None:
    batch(1)
    taken = the_operation()
    operations.cancel("batch", detail="Enough.")

    with OrbClient.from_settings() as client:
        recovery.recover_one(taken, client=client)

    assert "void_invoice" not in orb.request_counts()


@pytest.mark.parametrize("first", ["after", "before"])
def test_a_proxys_404_tells_nothing_about_what_was_done(
    any_committed_database: str, orb: OrbSandbox, first: str
) -> None:
    draft = add(orb, "draft")
    line = services.create_invoice_line_item(draft, **LINE)
    orb.cut_next(1, when=first, route="delete_invoice_line_item")
    with pytest.raises(OrbOutcomeUnknownError):
        services.delete_invoice_line_item(draft, line)
    orb.issue(draft)
    age()
    orb.fail_next(1, route="fetch_invoice", status=404, html=True)

    tasks.recover()

    deletion = InvoiceOperation.objects.get(kind="delete_invoice_line_item")
    assert deletion.state == "pending"
