"""Lost answers, refusals after them, and what a person does: nothing happens twice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.db import OperationalError
from werkzeug.wrappers import Request as HTTPRequest
from werkzeug.wrappers import Response

from django_orb import maintenance, operations, services, tasks
from django_orb.account import open_account
from django_orb.db.clock import database_now
from django_orb.exceptions import (
    OrbInputError,
    OrbOutcomeUnknownError,
    OrbRefusedError,
    OrbResponseError,
)
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations import recovery
from django_orb.operations.arguments import payment_body
from django_orb.operations.ledger import Request
from tests import crash_points, databases, times

from .test_api import LINE, OPERATIONS, add, on_postgresql
from .test_backups import queue_line
from .test_recovery import age, do_in_vain, impatient, the_operation

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

__all__ = ["impatient"]


def test_of_two_that_asked_for_the_same_line_neither_takes_the_others(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    do_in_vain(orb, "create_invoice_line_item", draft, "after")
    age(hours=48)

    tasks.recover()
    tasks.recover()

    states = InvoiceOperation.objects.values_list("state", flat=True)
    assert [*states] == ["needs_attention"] * 2


# A success that is not Orb's

MAINTENANCE = {"message": "maintenance"}


def answer_instead(orb: OrbSandbox, body: object, *routes: str) -> None:
    """What stands before Orb answers these requests itself, and Orb does not get them."""

    def answer(
        route: str, request: HTTPRequest, go_on: Callable[[], Response]
    ) -> Response:
        if route not in routes:
            return go_on()
        return Response(json.dumps(body), content_type="application/json")

    orb.answer_through(answer)


def do(name: str, invoice_id: str, line: str) -> None:
    if name == "delete_invoice_line_item":
        services.delete_invoice_line_item(invoice_id, line)
    else:
        OPERATIONS[name][1](invoice_id)


@on_postgresql
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"regenerate_invoice_pdf"}))
@pytest.mark.parametrize("body", [MAINTENANCE, {}, {"id": "other"}, [MAINTENANCE]])
def test_success_of_a_proxy_is_no_answer(
    orb: OrbSandbox, name: str, body: object
) -> None:
    invoice_id = add(orb, OPERATIONS[name][0])
    line = orb.invoice(invoice_id)["line_items"][0]["id"]
    before = orb.invoice(invoice_id)
    if name == "create_invoice_line_item" and body == {"id": "other"}:
        pytest.skip("a new line has an id of its own")
    answer_instead(orb, body, name)

    with pytest.raises(OrbOutcomeUnknownError):
        do(name, invoice_id, line)

    assert the_operation().state == "pending"
    assert orb.invoice(invoice_id) == before


@on_postgresql
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"regenerate_invoice_pdf"}))
@pytest.mark.parametrize("strip", ["id", "status", "line_items", ""])
def test_what_is_not_the_whole_invoice_shows_nothing(
    orb: OrbSandbox, name: str, strip: str
) -> None:
    invoice_id = add(orb, OPERATIONS[name][0])
    line = orb.invoice(invoice_id)["line_items"][0]["id"]
    orb.cut_next(1, when="before", route=name)
    with pytest.raises(OrbOutcomeUnknownError):
        do(name, invoice_id, line)
    age(hours=48)
    odd = {**orb.invoice(invoice_id), strip: None} if strip else MAINTENANCE
    answer_instead(orb, odd, "fetch_invoice")

    tasks.recover()

    assert the_operation().state == "pending"
    assert "Orb's answer is" in the_operation().detail


@on_postgresql
@pytest.mark.parametrize("body", [MAINTENANCE, {**MAINTENANCE, "id": "other"}])
def test_what_is_not_the_invoice_does_not_show_the_change(
    orb: OrbSandbox, body: object
) -> None:
    draft = add(orb, "draft")
    services.fetch_invoice(draft)
    answer_instead(orb, body, "fetch_invoice")

    services.issue_invoice(draft)

    assert the_operation().state == "succeeded"
    assert the_operation().mirrored_at is None


@pytest.mark.parametrize("body", ["odd", None])
def test_where_no_look_can_be_read_a_person_is_asked_in_the_end(
    any_committed_database: str, orb: OrbSandbox, body: str | None
) -> None:
    """Such as an Orb that fails at one invoice for ever."""
    issued = add(orb, "issued")
    do_in_vain(orb, "update_invoice", issued, "before")
    if body:
        odd = {**orb.invoice(issued), "metadata": ["odd"]}
        answer_instead(orb, odd, "fetch_invoice")
    else:
        orb.fail_next(99, status=503, route="fetch_invoice")

    age(hours=48)
    tasks.recover()
    assert the_operation().state == "pending"
    age(hours=72)
    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "Check in Orb" in the_operation().detail


def test_deletion_that_is_answered_with_content_is_looked_at(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    draft = add(orb, "draft")
    line = orb.invoice(draft)["line_items"][0]["id"]
    orb.fail_next(1, status=200, when="after", route="delete_invoice_line_item")

    services.delete_invoice_line_item(draft, line)

    assert the_operation().state == "succeeded"


def test_what_is_not_the_invoice_tells_nothing_of_what_an_edit_replaces(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    issued = add(orb, "issued")
    answer_instead(orb, MAINTENANCE, "fetch_invoice")

    with pytest.raises(OrbResponseError, match="is not the invoice"):
        services.update_invoice(issued, metadata={"note": "a"})

    assert not InvoiceOperation.objects.exists()


# Refusals


@on_postgresql
@pytest.mark.parametrize(
    "answer",
    [{"status": 401}, {"status": 403}, {"status": 404, "html": True}, {"status": 413}],
    ids=lambda answer: str(answer["status"]),
)
def test_door_that_is_shut_at_once_is_a_refusal(
    orb: OrbSandbox, answer: dict[str, Any]
) -> None:
    issued = add(orb, "issued")
    orb.fail_next(1, route="void_invoice", **answer)

    with pytest.raises(OrbRefusedError):
        services.void_invoice(issued)

    assert the_operation().state == "refused"


@on_postgresql
@pytest.mark.parametrize("status", [401, 403, 413])
def test_door_that_is_shut_after_a_lost_answer_tells_nothing(
    orb: OrbSandbox, status: int
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "before")
    age()
    orb.fail_next(1, route="void_invoice", status=status)
    tasks.recover()
    assert the_operation().state == "pending"
    age()

    tasks.recover()

    assert the_operation().state == "succeeded"


@on_postgresql
def test_queued_operation_waits_a_minute_if_orb_has_too_many_requests(
    orb: OrbSandbox,
) -> None:
    issued = add(orb, "issued")
    void = Request("void_invoice", issued, {}, idempotency_key="key")
    operations.queue([void], batch="batch")
    orb.fail_next(1, status=429, route="void_invoice")
    tasks.recover()
    waiting = the_operation()
    assert waiting.state == "pending"
    assert "sent again automatically" in waiting.detail
    assert waiting.lease_expires_at is not None
    wait = waiting.lease_expires_at - database_now(databases.current_alias)
    assert timedelta(seconds=30) < wait <= timedelta(seconds=61)
    age(hours=0.1)

    tasks.recover()

    assert the_operation().state == "succeeded"


@on_postgresql
def test_line_that_is_not_there_may_have_been_deleted_since(orb: OrbSandbox) -> None:
    draft = add(orb, "draft")
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    InvoiceOperation.objects.update(state="needs_attention", lease_expires_at=None)

    with open_account(retries=0) as client:
        assert recovery.look_again(the_operation(), client=client) == ""

    assert the_operation().state == "needs_attention"


# Refusals after doubt

SEEN = sorted(OPERATIONS.keys() - {"regenerate_invoice_pdf"})


@on_postgresql
@pytest.mark.parametrize("name", SEEN)
def test_refusal_after_a_lost_answer_is_not_believed(
    orb: OrbSandbox, name: str
) -> None:
    do_in_vain(orb, name, add(orb, OPERATIONS[name][0]), "after")
    age()
    orb.fail_next(1, status=400, route=name)

    tasks.recover()

    assert the_operation().state == "succeeded"


@on_postgresql
@pytest.mark.parametrize("name", ["void_invoice", "create_invoice_line_item"])
def test_refusal_of_what_did_not_happen_is_believed(orb: OrbSandbox, name: str) -> None:
    do_in_vain(orb, name, add(orb, OPERATIONS[name][0]), "before")
    age()
    orb.fail_next(1, status=400, route=name)

    tasks.recover()

    assert the_operation().state == "refused"


@on_postgresql
@pytest.mark.parametrize("name", ["void_invoice", "create_invoice_line_item"])
def test_reads_that_may_lag_do_not_confirm_a_refusal(
    orb: OrbSandbox, name: str
) -> None:
    do_in_vain(orb, name, add(orb, OPERATIONS[name][0]), "before")
    InvoiceOperation.objects.update(
        lease_expires_at=database_now(databases.current_alias) - timedelta(seconds=1)
    )
    orb.fail_next(1, status=400, route=name)

    tasks.recover()

    assert the_operation().state == "pending"


@on_postgresql
def test_reads_may_lag_behind_the_last_try_although_the_first_is_old(
    orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_in_vain(orb, "void_invoice", add(orb, "issued"), "before")
    age()
    monkeypatch.undo()
    times.rule(monkeypatch, sleep=lambda seconds: None)
    orb.cut_next(1, when="before", route="void_invoice")
    orb.fail_next(1, status=400, route="void_invoice")

    tasks.recover()

    assert the_operation().state == "pending"


@on_postgresql
def test_refusal_of_an_edit_that_cannot_be_seen_asks_a_person(orb: OrbSandbox) -> None:
    do_in_vain(orb, "regenerate_invoice_pdf", add(orb, "issued"), "after")
    age()
    orb.fail_next(1, status=400, route="regenerate_invoice_pdf")

    tasks.recover()

    assert the_operation().state == "needs_attention"


def test_void_whose_answer_was_lost_within_one_call_is_done(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    times.rule(monkeypatch, sleep=lambda seconds: None)
    issued = add(orb, "issued")
    orb.cut_next(1, when="after", route="void_invoice")
    orb.fail_next(1, status=400, route="void_invoice")

    assert services.void_invoice(issued).status == "void"
    assert the_operation().state == "succeeded"


@pytest.mark.parametrize("name", ["issue_invoice", "void_invoice"])
def test_of_two_without_an_answer_the_one_that_orb_obeyed_is_done(
    any_committed_database: str, orb: OrbSandbox, name: str
) -> None:
    invoice_id = add(orb, OPERATIONS[name][0])
    do_in_vain(orb, name, invoice_id, "before")
    do_in_vain(orb, name, invoice_id, "after")
    age(hours=0.5)

    tasks.recover()  # the first is refused: whose doing is it?
    tasks.recover()  # Orb answers the second
    age(hours=0.5)
    tasks.recover()

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["refused", "succeeded"]


@on_postgresql
def test_what_is_only_queued_is_not_waited_for(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "after")
    operations.queue([Request("void_invoice", issued)], batch="a")
    age(hours=0.5)
    orb.fail_next(1, status=400, route="void_invoice")

    tasks.recover()

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "refused"]


@on_postgresql
def test_two_whose_doing_cannot_be_told_wait_for_an_hour_at_most(
    orb: OrbSandbox,
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "before")
    do_in_vain(orb, "void_invoice", issued, "before")
    orb.void(issued)
    age(hours=0.5)
    tasks.recover()
    tasks.recover()
    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["pending", "pending"]
    age(hours=1.5)

    tasks.recover()

    assert "pending" not in states.all()


@on_postgresql
def test_void_of_another_that_orb_forgot_is_not_taken_for_it(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "before")
    services.void_invoice(issued)
    age(hours=48)

    tasks.recover()

    operation = InvoiceOperation.objects.earliest("pk")
    assert operation.state == "refused"
    assert "for another operation" in operation.detail


@on_postgresql
def test_void_that_was_seen_before_another_was_asked_for_is_not_its_doing(
    orb: OrbSandbox,
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "after")
    orb.fail_next(1, status=400, route="void_invoice")
    age()
    tasks.recover()
    assert the_operation().detail.endswith("shows that it happened.")
    do_in_vain(orb, "void_invoice", issued, "before")
    age()

    tasks.recover()

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "refused"]


@on_postgresql
def test_void_that_was_seen_before_another_was_sent_is_not_its_doing(
    orb: OrbSandbox,
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "after")
    later = Request("void_invoice", issued, {}, idempotency_key="later")
    operations.queue([later], batch="batch")
    age()
    orb.fail_next(1, status=400, route="void_invoice")
    orb.cut_next(1, when="before", route="void_invoice")
    tasks.recover()
    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "pending"]
    InvoiceOperation.objects.update(lease_expires_at=None)

    tasks.recover()

    assert [*states.all()] == ["succeeded", "refused"]


@on_postgresql
def test_refusal_that_another_operation_explains_is_believed_at_once(
    orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    times.rule(monkeypatch, sleep=lambda seconds: None)
    issued = add(orb, "issued")
    services.void_invoice(issued)
    orb.cut_next(1, when="before", route="void_invoice")

    with pytest.raises(OrbRefusedError, match="is void"):
        services.void_invoice(issued)


@on_postgresql
def test_void_by_another_is_not_taken_for_a_payment(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "mark_invoice_paid", issued, "before")
    orb.void(issued)
    age()

    tasks.recover()

    assert the_operation().state == "refused"


# What a person does


def test_looking_again_with_orb_away_sends_nothing_later(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "before")
    age()
    operation = the_operation()
    InvoiceOperation.objects.update(state="needs_attention", detail="Look.")
    orb.fail_next(1, status=503, route="fetch_invoice")

    with open_account(retries=0) as client:
        trouble = recovery.look_again(operation, client=client)
    tasks.recover()

    assert trouble
    assert (the_operation().state, the_operation().detail) == (
        "needs_attention",
        "Look.",
    )
    assert orb.invoice(issued)["status"] == "issued"


@on_postgresql
def test_only_a_person_decides_that_it_never_happened(orb: OrbSandbox) -> None:
    """Also where whoever took it up slept until its lease had ended."""
    do_in_vain(orb, "void_invoice", add(orb, "issued"), "before")
    age(hours=48)

    with open_account(retries=0) as client:
        recovery.recover_one(the_operation(), client=client)
        assert the_operation().state == "needs_attention"

        recovery.look_again(the_operation(), client=client)
        assert the_operation().state == "refused"


@on_postgresql
def test_of_two_persons_that_end_it_the_first_is_believed(orb: OrbSandbox) -> None:
    do_in_vain(orb, "void_invoice", add(orb, "issued"), "before")
    InvoiceOperation.objects.update(state="needs_attention")
    ends = [
        recovery.close(the_operation(), was_done=was_done, detail=who)
        for who, was_done in [("Ada", True), ("Bob", False)]
    ]

    assert ends == [True, False]
    assert (the_operation().state, the_operation().detail) == ("succeeded", "Ada")


# The same key for something else


@on_postgresql
def test_key_that_belongs_to_another_request_and_an_invoice_that_is_gone(
    orb: OrbSandbox,
) -> None:
    draft = add(orb, "draft")
    do_in_vain(orb, "create_invoice_line_item", draft, "before")
    orb.delete_draft(draft)
    age(hours=2)
    orb.fail_next(1, status=409, route="create_invoice_line_item")

    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "another request" in the_operation().detail


@on_postgresql
def test_key_that_belongs_to_another_request_does_not_hide_that_it_was_done(
    orb: OrbSandbox,
) -> None:
    issued = add(orb, "issued")
    do_in_vain(orb, "void_invoice", issued, "after")
    age(hours=2)
    orb.fail_next(1, status=409, route="void_invoice")
    orb.fail_next(3, status=502, html=True, route="fetch_invoice")

    tasks.recover()
    assert the_operation().state == "pending"  # Orb could not be looked at
    assert "502" in the_operation().detail

    orb.clear_faults()
    age(hours=2)
    orb.fail_next(1, status=409, route="void_invoice")
    tasks.recover()
    assert the_operation().state == "succeeded"


def test_queue_with_another_body_under_the_same_key_records_nothing(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    def request(invoice_id: str, day: int) -> Request:
        body = payment_body(
            payment_received_date=date(2026, 1, day), external_id=None, notes=None
        )
        key = f"key {invoice_id}"
        return Request("mark_invoice_paid", invoice_id, body, idempotency_key=key)

    first, second = add(orb, "issued"), add(orb, "issued")
    operations.queue([request(first, 1)], batch="a")

    with pytest.raises(OrbInputError, match="used before"):
        operations.queue([request(second, 2), request(first, 2)], batch="a")

    assert the_operation().body["payment_received_date"] == "2026-01-01"


def test_what_a_person_says_was_done_comes_into_the_mirror(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    synced = add(orb, "synced")
    services.fetch_invoice(synced)
    do_in_vain(orb, "mark_invoice_paid", synced, "after")
    InvoiceOperation.objects.update(state="needs_attention")

    recovery.close(the_operation(), was_done=True, detail="Looked up.")
    tasks.recover()

    assert Invoice.objects.get().status == "paid"


# The queue


def test_queue_is_recorded_again_after_a_deadlock(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    ids = sorted((add(orb, "issued") for _ in range(3)), reverse=True)
    claims: list[Any] = []

    def collide(sql: str, params: Any) -> None:
        if "orb_invoiceobservation" in sql:
            claims.append(sorted(ids, key=str(params).index))
            if len(claims) == 1:
                raise OperationalError(1213, "Deadlock found")

    with crash_points.before_statements(any_committed_database, collide):
        operations.queue([Request("void_invoice", one) for one in ids], batch="a")

    # In the order in which pages lock them.
    assert claims == [sorted(ids)] * 2
    assert InvoiceOperation.objects.count() == 3


@pytest.mark.parametrize("call", ["queue", "ask"])
def test_keys_that_differ_in_case_are_two(
    any_committed_database: str, orb: OrbSandbox, call: str
) -> None:
    draft = add(orb, "draft")
    for key in ("key", "KEY"):
        if call == "ask":
            services.create_invoice_line_item(draft, **LINE, idempotency_key=key)
        else:
            body = {**LINE, "start_date": "2026-01-31", "end_date": "2026-01-31"}
            asked = Request(
                "create_invoice_line_item", draft, body, idempotency_key=key
            )
            operations.queue([asked], batch="a")
    tasks.recover()

    shown = orb.invoice(draft)["line_items"]
    assert [line["name"] for line in shown].count("Support") == 2


def test_queued_operation_that_only_met_a_busy_orb_can_be_cancelled(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    issued = add(orb, "issued")
    operations.queue([Request("void_invoice", issued)], batch="a")
    orb.fail_next(1, status=429, route="void_invoice")
    tasks.send_operations()

    assert operations.cancel("a", detail="Enough.") == 1
    age()
    tasks.recover()
    assert orb.invoice(issued)["status"] == "issued"


def test_queued_operation_that_got_no_answer_before_orb_was_busy_is_not_cancelled(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    operations.queue([Request("void_invoice", add(orb, "issued"))], batch="a")
    orb.cut_next(1, when="after", route="void_invoice")
    tasks.send_operations()
    age(hours=1)
    orb.fail_next(1, status=429, route="void_invoice")
    tasks.send_operations()

    assert operations.cancel("a", detail="Enough.") == 0


@pytest.mark.parametrize("point", ["before it begins", "before it is sent"])
def test_refusal_for_what_recover_did_meanwhile_is_looked_at(
    any_committed_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    """A sender that slept for longer than its lease; what woke got no answer."""
    issued = add(orb, "issued")
    naps: list[object] = []

    def sleep() -> None:
        if naps:
            return
        naps.append(point)
        age()
        orb.cut_next(1, when="after", route="void_invoice")
        tasks.recover()
        orb.fail_next(1, status=400, route="void_invoice")

    def before_it_begins(sql: str, params: Any) -> None:
        if sql.startswith("UPDATE") and "first_sent_at" in sql:
            sleep()

    def before_it_is_sent(request: requests.PreparedRequest) -> None:
        if request.path_url.endswith("/void"):
            sleep()

    with monkeypatch.context() as patch:
        if point == "before it is sent":
            crash_points.before_requests(patch, before_it_is_sent)
            services.void_invoice(issued)
        else:
            with crash_points.before_statements(
                any_committed_database, before_it_begins
            ):
                services.void_invoice(issued)

    assert naps
    assert the_operation().state == "succeeded"
    assert "shows that it happened" in the_operation().detail


def test_turn_whose_time_is_over_tries_one(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    for _ in range(2):
        queue = Request("void_invoice", add(orb, "issued"))
        operations.queue([queue], batch="a")

    maintenance.finish_operations(seconds=-1)

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "pending"]


@on_postgresql
def test_turn_goes_on_until_its_time_is_over(
    orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        queue = Request("void_invoice", add(orb, "issued"))
        operations.queue([queue], batch="a")
    moments = itertools.count(1000.0, 15)  # each one takes 15 seconds
    times.rule(monkeypatch, among=recovery.__name__, monotonic=lambda: next(moments))

    maintenance.finish_operations(seconds=20)

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "succeeded", "pending"]


def test_queue_of_an_installation_that_only_reads_does_not_hand_itself_on(
    any_committed_database: str, orb: OrbSandbox, settings: Any, sent: list[Any]
) -> None:
    queue_line(add(orb, "draft"))
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    tasks.send_operations()

    assert sent == []
    assert the_operation().state == "pending"
