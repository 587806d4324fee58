"""Pages that cannot be read, lists that do not end, and keys that Orb refuses."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from django.db import connections
from werkzeug.wrappers import Response

from django_orb import mirror, services, tasks
from django_orb.client.orb_client import OrbClient
from django_orb.db.clock import database_now
from django_orb.exceptions import (
    OrbResponseError,
    OrbSyncFailedError,
    OrbSyncRunningError,
)
from django_orb.models import Invoice, InvoiceFailure, SyncRun, SyncWindow
from django_orb.sync import runs, windows
from tests import crash_points
from tests.brokers import catch_messages

from .test_runs import assert_mirrors, start, step_once, take

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

LIST, SUMMARIES, FETCH = "list_invoices", "list_invoice_summaries", "fetch_invoice"
FORTY = pytest.mark.parametrize("orb", [{"invoices": 40}], indirect=True)
ODD = {
    "half an emoji": rb'"\ud83d"',
    "NaN": b"NaN",
    "too deep": b"[" * 100_000 + b"]" * 100_000,
    "not UTF-8": b'"\xff"',
}


@pytest.fixture(autouse=True)
def quick(one_try: None, waits: list[float]) -> None:
    """Nothing here is tried again within a call, and no wait takes time."""


def answer(orb: OrbSandbox, change: Callable[[str, Any, Response], Response]) -> None:
    """Let the sandbox's answers be changed, by route and request."""
    orb.answer_through(lambda route, request, go_on: change(route, request, go_on()))


def spoil(orb: OrbSandbox, invoice_id: str, odd: bytes | None) -> None:
    """One invoice makes each answer with it unreadable, or, with None, a 504."""
    first = re.compile(rb'("id":\s*"%s",)' % invoice_id.encode())

    def change(route: str, request: Any, response: Response) -> Response:
        if route not in (LIST, FETCH) or not first.search(response.get_data()):
            return response
        if odd is None:
            return Response("<h1>504</h1>", status=504, content_type="text/html")
        body = first.sub(lambda found: found[1] + b'"odd":' + odd + b",", response.data)
        return Response(body, content_type="application/json")

    answer(orb, change)


def limits(orb: OrbSandbox) -> list[int]:
    return [
        int(parse_qs(request.query)["limit"][0])
        for request in orb.requests
        if request.route == LIST
    ]


def since(using: str) -> Any:
    return database_now(using) - timedelta(days=9999)


@FORTY
@pytest.mark.parametrize("odd", [None, *ODD.values()], ids=["504", *ODD])
def test_page_that_can_never_be_read_loses_one_invoice(
    any_database: str, orb: OrbSandbox, odd: bytes | None
) -> None:
    bad = orb.invoice_ids()[11]
    spoil(orb, bad, odd)

    run = services.sync_invoices(mode="full")

    assert run.state == SyncRun.State.SUCCEEDED
    assert run.failed == 1
    assert run.error == "1 could not be mirrored; see their reasons."
    assert InvoiceFailure.objects.get().pk == bad
    assert set(orb.invoice_ids()) - set(
        Invoice.objects.values_list("pk", flat=True)
    ) == {bad}
    # These do not hinder cutting a page up.
    if odd not in (ODD["not UTF-8"], ODD["half an emoji"]):
        assert {100, 50, 20, 5, 1} <= set(limits(orb))


@FORTY
def test_what_is_read_ahead_is_stored_and_fails_as_what_is_not(
    any_database: str, orb: OrbSandbox, settings: Any
) -> None:
    """New pages are mapped before it is their turn."""
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5}
    unmapped, precise = (orb.invoice_ids()[place] for place in (22, 24))
    totals = {unmapped: {}, precise: "12345678901234.123456"}

    def change(route: str, request: Any, response: Response) -> Response:
        if route != LIST:
            return response
        page = json.loads(response.get_data())
        for invoice in page["data"]:
            invoice["total"] = totals.get(invoice["id"], invoice["total"])
        return Response(json.dumps(page), content_type="application/json")

    answer(orb, change)

    run = services.sync_invoices(since=since(any_database))

    assert (run.state, run.failed) == (SyncRun.State.SUCCEEDED, 1)
    assert InvoiceFailure.objects.get().pk == unmapped
    is_rounded = "total" in Invoice.objects.get(pk=precise).rounded_fields
    assert is_rounded == (connections[any_database].vendor == "sqlite")
    assert {*limits(orb)} == {5}  # no page had to be asked for in parts


@FORTY
def test_more_is_asked_for_again_when_it_goes_well(
    any_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 5}
    orb.fail_next(1, status=504, route=LIST)

    services.sync_invoices(since=since(any_database))

    asked = limits(orb)
    assert asked[:2] == [5, 1]
    assert asked[-1] == 5
    assert_mirrors(orb)


@FORTY
@pytest.mark.django_db
def test_invoice_is_left_behind_after_a_minute_and_more_is_asked_for_again(
    orb: OrbSandbox, settings: Any, waits: list[float]
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    spoil(orb, orb.invoice_ids()[11], None)
    waited: list[float] = []

    def note(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route == SUMMARIES:
            waited.append(sum(waits))
        return go_on()

    orb.answer_through(note)

    services.sync_invoices(since=since("default"))

    assert waited[0] > 60
    assert sum(waits) - waited[0] > 60  # it is asked for by its id, too
    sizes = [size for size, _ in itertools.groupby(limits(orb))]
    assert sizes == [10, 5, 1, 5, 10]
    window = SyncWindow.objects.get()
    assert window.requests == window.pages + 2  # with its page, and its summary


@FORTY
@pytest.mark.django_db
@pytest.mark.parametrize(
    "summaries",
    [
        {"pagination_metadata": {"has_more": True, "next_cursor": None}},
        {"pagination_metadata": {"has_more": True, "next_cursor": "the same"}},
        {"data": []},
        {"data": [{"id": None}]},
    ],
    ids=["no cursor", "the same cursor", "no invoice", "no id"],
)
def test_summary_that_does_not_tell_what_follows_is_not_followed(
    orb: OrbSandbox, summaries: dict[str, Any]
) -> None:
    bad = orb.add_invoice(days_ago=100)["id"]
    needle = re.compile(rb'"id":\s*"%s",' % bad.encode())
    asked: list[str] = []

    def change(route: str, request: Any, response: Response) -> Response:
        if route == SUMMARIES:
            asked.append(route)
            changed = {**response.get_json(), **summaries}
            cursor = json.dumps(request.args.get("cursor"))
            body = json.dumps(changed).replace('"the same"', cursor)
            status = 200 if len(asked) < 20 else 401  # so that it ends
            return Response(body, status, content_type="application/json")
        if route == LIST and needle.search(response.get_data()):
            return Response(status=504)
        return response

    answer(orb, change)

    with pytest.raises(OrbSyncFailedError, match="A part of Orb's list could not"):
        services.sync_invoices(mode="full")

    stored = set(Invoice.objects.values_list("pk", flat=True))
    assert set(orb.invoice_ids()) - stored == {bad}


@FORTY
def test_timeout_asks_for_less_at_once_and_the_row_remembers(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TIMEOUT_SECONDS": 0.3}

    def change(route: str, request: Any, response: Response) -> Response:
        if route == LIST and int(request.args["limit"]) > 20:
            threading.Event().wait(0.6)
        return response

    answer(orb, change)
    start("partial", since=since(any_committed_database))
    window = SyncWindow.objects.get()
    lease = take(window)
    for _ in range(2):
        step_once(window, lease)
    window.refresh_from_db()
    assert window.page_size == 20
    assert window.deferrals == 2
    windows.release_window(window.pk, lease)

    services.sync_invoices(since=window.run.since)

    assert limits(orb)[:2] == [100, 50]
    assert set(limits(orb)[2:]) == {20}
    assert_mirrors(orb)


@FORTY
def test_page_that_is_too_large_is_asked_for_in_parts(
    any_database: str, orb: OrbSandbox
) -> None:
    def too_large(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        answer = go_on()
        if route == LIST and int(request.args["limit"]) > 20:
            answer.content_length = 129 * 1024 * 1024
        return answer

    orb.answer_through(too_large)

    run = services.sync_invoices(since=since(any_database))

    assert limits(orb)[:3] == [100, 50, 20]
    assert (run.state, run.failed) == (SyncRun.State.SUCCEEDED, 0)
    assert_mirrors(orb)


@FORTY
def test_run_that_had_to_pass_over_a_part_of_the_list_does_not_succeed(
    any_database: str, orb: OrbSandbox
) -> None:
    """Neither the page nor its summary comes: others of its date may be hidden."""
    bad = orb.add_invoice(days_ago=100)["id"]
    needle = bad.encode()

    is_away = threading.Event()
    is_away.set()

    def change(route: str, request: Any, response: Response) -> Response:
        is_hit = is_away.is_set() and needle in response.get_data()
        return Response(status=504) if is_hit else response

    answer(orb, change)

    with pytest.raises(OrbSyncFailedError, match="A part of Orb's list could not"):
        services.sync_invoices(mode="full")

    assert set(orb.invoice_ids()) - set(
        Invoice.objects.values_list("pk", flat=True)
    ) == {bad}
    reason = InvoiceFailure.objects.get().reason
    assert "may not have been read" in reason
    dates = re.findall(r"\d{4}-\d\d-\d\d \S+\+00:00", reason)
    first, last = map(datetime.fromisoformat, dates)
    assert last - first <= timedelta(seconds=1)
    is_away.clear()
    assert services.sync_invoices(mode="full").error == ""
    assert not InvoiceFailure.objects.exists()


@FORTY
@pytest.mark.parametrize("failures", [15, 20, 22, 24, 26])
def test_orb_that_was_away_for_long_hides_nothing(
    any_database: str, orb: OrbSandbox, failures: int
) -> None:
    """It comes back while a window looks for a date that can be read."""
    services.sync_invoices(invoice_ids=orb.invoice_ids()[:1])  # the key is known
    orb.fail_next(failures, status=503)

    run = services.sync_invoices(since=since(any_database))

    assert (run.state, run.error) == (SyncRun.State.SUCCEEDED, "")
    assert_mirrors(orb)


@FORTY
def test_orb_that_goes_away_again_hides_nothing(
    any_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers once while a window looks for a date that can be read."""
    asked: list[str] = []

    def change(route: str, request: Any, response: Response) -> Response:
        asked.append(route)
        since_then = len(asked) - asked.index(SUMMARIES) if SUMMARIES in asked else 0
        is_there = since_then == 5 or since_then > 20
        return response if is_there else Response(status=503)

    services.sync_invoices(invoice_ids=orb.invoice_ids()[:1])  # the key is known
    answer(orb, change)

    run = services.sync_invoices(since=since(any_database))

    assert (run.state, run.error) == (SyncRun.State.SUCCEEDED, "")
    assert_mirrors(orb)


@pytest.mark.parametrize("failures", [30, 31])
def test_orb_that_was_away_for_long_fails_no_invoice_that_is_fetched(
    any_database: str, orb: OrbSandbox, failures: int
) -> None:
    wanted = orb.invoice_ids()[:3]
    services.sync_invoices(invoice_ids=wanted[:1])  # the key is known
    orb.fail_next(failures, status=503)

    run = services.sync_invoices(invoice_ids=wanted)

    assert (run.state, run.failed, run.error) == (SyncRun.State.SUCCEEDED, 0, "")
    assert Invoice.objects.count() == 3


def test_orb_that_is_away_during_the_search_hides_no_more_than_the_bad_page(
    any_database: str, orb: OrbSandbox
) -> None:
    """The dates that were asked for meanwhile may well be readable."""
    orb.add_invoice(days_ago=99)
    bad = orb.add_invoice(days_ago=100)["id"]
    for days in (101, 102, 103):
        orb.add_invoice(days_ago=days)
    asked: list[str] = []

    def change(route: str, request: Any, response: Response) -> Response:
        if bad.encode() in response.get_data():
            asked.append(route)
            return Response(status=504)
        if SUMMARIES in asked and len(asked) < asked.index(SUMMARIES) + 13:
            asked.append(route)
            return Response(status=503)
        return response

    answer(orb, change)

    with pytest.raises(OrbSyncFailedError, match="A part of Orb's list could not"):
        services.sync_invoices(since=since(any_database))

    stored = set(Invoice.objects.values_list("pk", flat=True))
    assert set(orb.invoice_ids()) - stored == {bad}


def _circle(route_in_circle: str) -> Callable[[str, Any, Response], Response]:
    first_pages: dict[str, bytes] = {}

    def change(route: str, request: Any, response: Response) -> Response:
        if route != route_in_circle:
            return response
        data = first_pages.setdefault("data", response.get_data())
        following = "B" if request.args.get("cursor") == "A" else "A"
        body = re.sub(
            rb'"pagination_metadata":\s*\{[^}]*\}',
            b'"pagination_metadata":{"has_more":true,"next_cursor":"%s"}'
            % following.encode(),
            data,
        )
        return Response(body, content_type="application/json")

    return change


def _ignore_cursors(orb: OrbSandbox) -> None:
    def changed(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route not in (LIST, "list_webhook_events"):
            return go_on()
        cursor = request.args.get("cursor")
        if cursor in ("A", "B"):
            values = request.args.to_dict(flat=False)
            del values["cursor"]
            request.args = type(request.args)(values)
        response = go_on()
        request.args = type(request.args)(
            {
                **request.args.to_dict(flat=False),
                **({"cursor": [cursor]} if cursor else {}),
            }
        )
        return response

    orb.answer_through(changed)


@FORTY
def test_cursors_in_a_circle_end_in_words(any_database: str, orb: OrbSandbox) -> None:
    _ignore_cursors(orb)
    answer(orb, _circle(LIST))

    with pytest.raises(OrbSyncFailedError, match="repeated a cursor"):
        services.sync_invoices(mode="full")
    with pytest.raises(OrbResponseError, match="twice"):
        list(services.list_invoices())
    with pytest.raises(OrbResponseError, match="twice"):
        list(services.verify_invoices())
    with OrbClient.from_settings() as client, pytest.raises(OrbResponseError):
        list(client.list_invoices())
    assert len(orb.requests) < 60


@FORTY
@pytest.mark.parametrize("is_dated", [True, False])
def test_summaries_in_a_circle_end_in_words(
    any_database: str, orb: OrbSandbox, is_dated: bool
) -> None:
    """Nothing but the summaries of the list can be read."""
    serials = itertools.count()

    def change(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route == LIST:
            return Response(status=504)
        if route != SUMMARIES:
            return go_on()
        values = request.args.to_dict(flat=False)
        values.pop("cursor", None)
        request.args = type(request.args)(values)
        page = go_on()
        body = page.get_json()
        if not is_dated:
            del body["data"][0]["invoice_date"]
        following = {"has_more": True, "next_cursor": "ABC"[next(serials) % 3]}
        page.set_data(json.dumps({**body, "pagination_metadata": following}))
        return page

    orb.answer_through(change)

    with pytest.raises(OrbSyncFailedError, match="repeated a cursor"):
        services.sync_invoices(since=since(any_database))
    assert next(serials) < 30


@FORTY
def test_summaries_that_lead_no_further_end_in_words(
    any_database: str, orb: OrbSandbox
) -> None:
    serials = itertools.count()

    def change(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route == LIST:
            return Response(status=504)
        values = request.args.to_dict(flat=False)
        values.pop("cursor", None)
        request.args = type(request.args)(values)
        page = go_on()
        if route == SUMMARIES:
            following = {"has_more": True, "next_cursor": f"new {next(serials)}"}
            body = {**page.get_json(), "pagination_metadata": following}
            page.set_data(json.dumps(body))
        return page

    orb.answer_through(change)
    run = start("partial", since=since(any_database))
    SyncWindow.objects.update(stalled_pages=9_998, last_invoice_date=run.since)

    with pytest.raises(OrbSyncFailedError, match="does not end: 10000 pages"):
        services.sync_invoices(since=run.since)
    assert next(serials) < 10


@FORTY
def test_events_in_a_circle_are_made_up_for(
    any_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "SWEEP_MINUTES": 60}
    services.sync_invoices(mode="full")
    orb.mark_paid(orb.invoice_ids("issued")[0])
    _ignore_cursors(orb)
    answer(orb, _circle("list_webhook_events"))

    run = services.sync_invoices()

    assert run.state == SyncRun.State.SUCCEEDED
    assert "repeated a cursor" in run.error
    assert_mirrors(orb)


def test_answers_that_never_have_a_usable_cursor_end_in_words(
    any_database: str, orb: OrbSandbox
) -> None:
    def change(route: str, request: Any, response: Response) -> Response:
        body = response.get_data().replace(b'"has_more"', b'"had_more"')
        body = re.sub(rb'"next_cursor":\s*[^}]*', b'"next_cursor":7', body)
        return Response(body, content_type="application/json")

    answer(orb, change)

    with pytest.raises(OrbSyncFailedError, match="next_cursor"):
        services.sync_invoices(mode="full")

    assert not SyncRun.objects.get().is_active


@FORTY
def test_list_that_leads_no_further_ends_in_words(
    any_database: str, orb: OrbSandbox
) -> None:
    """Each of its pages has a new cursor, and shows what the first one did."""
    serials = itertools.count()

    def show_the_first(
        route: str, request: Any, go_on: Callable[[], Response]
    ) -> Response:
        if route == LIST:
            values = request.args.to_dict(flat=False)
            values.pop("cursor", None)
            request.args = type(request.args)(values)
        page = go_on()
        if route == LIST:
            following = {"has_more": True, "next_cursor": f"new {next(serials)}"}
            body = {**page.get_json(), "pagination_metadata": following}
            page.set_data(json.dumps(body))
        return page

    orb.answer_through(show_the_first)
    run = start("partial", since=since(any_database))
    # As if thousands of pages had been read.
    SyncWindow.objects.update(stalled_pages=9_990, last_invoice_date=run.since)

    with pytest.raises(OrbSyncFailedError, match="does not end: 10000 pages"):
        services.sync_invoices(since=run.since)

    assert len(limits(orb)) <= 12


@FORTY
def test_list_that_orb_refuses_from_the_first_page_ends_in_orbs_words(
    any_database: str, orb: OrbSandbox
) -> None:
    orb.fail_next(99, status=400, route=LIST)

    with pytest.raises(OrbSyncFailedError, match="Asked for by a test") as caught:
        services.sync_invoices(since=since(any_database))

    assert "cursor" not in str(caught.value)


REFUSALS = [{"status": 401}, {"status": 403}, {"status": 404, "html": True}]


@pytest.mark.parametrize("way", ["service", "task"])
@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: str(fault["status"]))
def test_refusal_in_the_middle_of_a_run_ends_it_with_its_reason(
    any_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    way: str,
    fault: dict[str, Any],
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    sent = catch_messages(monkeypatch)
    orb.fail_next(10_000, skip=2, route=LIST, **fault)
    if way == "service":
        with pytest.raises(OrbSyncFailedError, match=str(fault["status"])):
            services.sync_invoices(mode="full")
    else:
        tasks.sync_invoices(mode="full")
        work_off(sent)
        tasks.recover()

    run = SyncRun.objects.get()
    assert run.state == SyncRun.State.FAILED
    assert str(fault["status"]) in run.error
    orb.clear_faults()
    services.sync_invoices(mode="full")
    assert_mirrors(orb)


def work_off(sent: list[tuple[str, tuple[Any, ...]]]) -> None:
    for _ in range(100):
        if not sent:
            return
        name, args = sent.pop(0)
        if name == "sync_page":
            tasks.sync_page(*args)
    pytest.fail("the messages do not end")


@pytest.mark.parametrize("way", ["service", "task"])
def test_programming_error_ends_the_run_with_its_reason(
    any_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    sent = catch_messages(monkeypatch)

    def fail(execute: Any, sql: str, *args: Any) -> Any:
        if "orb_invoiceobservation" in sql:  # by which a page's writing begins
            raise ZeroDivisionError("of ours")
        return execute(sql, *args)

    with connections[any_database].execute_wrapper(fail):
        if way == "service":
            with pytest.raises(OrbSyncFailedError, match="of ours"):
                services.sync_invoices(mode="full")
        else:
            tasks.sync_invoices(mode="full")
            work_off(sent)
    run = SyncRun.objects.get()
    assert run.state == SyncRun.State.FAILED
    assert "ZeroDivisionError: of ours" in run.error

    services.sync_invoices(mode="full")

    assert_mirrors(orb)


def test_what_a_caller_raises_between_steps_reaches_the_caller(
    any_database: str, orb: OrbSandbox
) -> None:
    def stop(run: SyncRun) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        services.sync_invoices(mode="full", on_step=stop)


@pytest.mark.parametrize("failure", ["kills", "504", "403"])
def test_single_fetch_that_always_fails_costs_one_invoice(
    any_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """In the check of a full run, and for invoices that were chosen."""
    services.sync_invoices(mode="full")
    drafts = orb.invoice_ids("draft")
    bad = drafts[0]

    def change(route: str, request: Any, response: Response) -> Response:
        if route == LIST:
            payload = response.get_json()
            payload["data"] = [one for one in payload["data"] if one["id"] != bad]
            return Response(json.dumps(payload), content_type="application/json")
        if route == FETCH and request.path.endswith(bad) and failure != "kills":
            return Response(status=int(failure))
        return response

    answer(orb, change)
    if failure == "kills":
        crash_points.dies_at_request(monkeypatch, f"/invoices/{bad}", MemoryError)

    run = services.sync_invoices(mode="full")
    assert (run.state, run.failed) == (SyncRun.State.SUCCEEDED, 1)
    assert InvoiceFailure.objects.get().pk == bad
    assert Invoice.objects.get(pk=bad).missing_since is None

    run = services.sync_invoices(invoice_ids=[bad, *drafts[1:3]])
    assert (run.state, run.failed) == (SyncRun.State.SUCCEEDED, 1)


def test_only_what_was_marked_counts_as_missing(
    any_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    first, second = orb.invoice_ids("draft")[:2]
    orb.delete_draft(first)
    orb.delete_draft(second)
    assert services.sync_invoices().missing == 2

    with pytest.raises(OrbSyncFailedError):
        services.sync_invoices(invoice_ids=[first, "unknown"])

    assert SyncRun.objects.latest("pk").missing == 0


def test_failure_without_an_id_goes_when_a_full_run_read_everything(
    any_database: str, orb: OrbSandbox
) -> None:
    bad = orb.invoice_ids("paid")[0].encode()

    def change(route: str, request: Any, response: Response) -> Response:
        if not is_odd.is_set():
            return response
        body = response.get_data().replace(b'"%s"' % bad, b"7", 1)
        return Response(body, content_type="application/json")

    is_odd = threading.Event()
    is_odd.set()
    answer(orb, change)
    assert services.sync_invoices(mode="full").failed == 1
    is_odd.clear()
    assert InvoiceFailure.objects.get().pk.startswith(mirror.NO_ID)

    services.sync_invoices(mode="full")

    assert not InvoiceFailure.objects.exists()


def test_worker_of_a_run_that_was_cancelled_asks_orb_for_nothing_more(
    any_database: str, orb: OrbSandbox
) -> None:
    run = start("full")
    window = SyncWindow.objects.filter(run=run, kind="list").latest("position")
    lease = take(window)
    runs.cancel_run(run)

    assert step_once(window, lease).is_lost
    assert not orb.requests
    assert not SyncWindow.objects.filter(run=run).exclude(lease="").exists()


@pytest.mark.parametrize("option", ["accept_missing", "announce", "since"])
def test_run_that_does_otherwise_is_not_taken_up(
    any_database: str, orb: OrbSandbox, option: str
) -> None:
    start("partial", since=since(any_database))
    options: dict[str, Any] = {"since": SyncRun.objects.get().since, option: True}
    if option == "since":
        options = {"since": since(any_database) + timedelta(days=1)}

    with pytest.raises(OrbSyncRunningError):
        runs.start_or_resume("partial", **options)
