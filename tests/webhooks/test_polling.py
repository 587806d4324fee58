from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from django.db.models import F
from werkzeug.wrappers import Response

from django_orb import mirror, services, tasks
from django_orb.db import Interval, primary
from django_orb.exceptions import OrbSyncFailedError
from django_orb.models import Invoice, SyncRun, SyncWindow, WebhookEvent, WebhookFeed
from django_orb.testing import OrbSandbox
from django_orb.webhooks import polling, processing
from django_orb.webhooks.payload import parse_event
from tests import crash_points, times
from tests.brokers import catch_messages
from tests.deliveries import as_bytes, deliver, event, event_of, now
from tests.sync.test_runs import assert_mirrors

State = WebhookEvent.State
EVENTS, LISTS = "list_webhook_events", "list_invoices"


@pytest.fixture(autouse=True)
def sweep_hourly(settings: Any, orb: OrbSandbox) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "SWEEP_MINUTES": 60}


@pytest.fixture
def filled(any_database: str, orb: OrbSandbox) -> OrbSandbox:
    """The mirror is full, what is open was swept, and the feed has shown something."""
    services.sync_invoices(mode="full")
    orb.mark_paid(orb.invoice_ids("issued")[0])
    services.sync_invoices()
    orb.clear_requests()
    return orb


def kinds(run: SyncRun) -> set[str]:
    return set(run.windows.values_list("kind", flat=True))


def pass_time(**step: float) -> None:
    """Let everything that was read have been read so much earlier."""
    for model, names in (
        (SyncRun, ["started_at", "finished_at"]),
        (WebhookFeed, ["read_until", "asked_at", "newest_at"]),
    ):
        earlier: Any = {name: F(name) - timedelta(**step) for name in names}
        model.objects.update(**earlier)


def test_one_page_suffices_when_nothing_changed(filled: OrbSandbox) -> None:
    run = services.sync_invoices()

    assert kinds(run) == {SyncWindow.Kind.FEED}
    assert filled.request_counts() == {EVENTS: 1}
    assert run.requests == 1


def test_what_changed_is_found_by_its_events(filled: OrbSandbox) -> None:
    paid, voided = filled.invoice_ids("issued")[:2]
    filled.mark_paid(paid)
    filled.void(voided)

    run = services.sync_invoices()

    assert_mirrors(filled)
    counts = filled.request_counts()
    assert set(counts) <= {EVENTS, "fetch_invoice"}
    assert counts["fetch_invoice"] <= 2
    assert run.requests == len(filled.requests)
    sources = set(WebhookEvent.objects.values_list("state", "source"))
    assert sources == {("processed", "feed")}


def test_run_counts_each_time_that_orb_is_asked(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one of two invoices another worker learns something while Orb is asked."""
    first, second = filled.invoice_ids("issued")[:2]
    filled.mark_paid(first)
    filled.mark_paid(second)
    others: list[str] = []

    def learn(request: Any) -> None:
        if request.path_url.endswith(f"/invoices/{first}") and not others:
            others.append(first)
            this_moment = Interval(primary.now(), primary.now() + timedelta(seconds=9))
            seen = mirror.read_page(
                [{**filled.invoice(first), "memo": "new"}], this_moment
            )
            mirror.write(seen)

    crash_points.before_requests(monkeypatch, learn)

    run = services.sync_invoices()

    assert others
    assert_mirrors(filled)
    assert run.requests == len(filled.requests)


def test_an_event_that_was_delivered_is_not_processed_again(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.void(filled.invoice_ids("issued")[0])
    catch_messages(monkeypatch)
    payload = filled.webhook_events()[-1]
    deliver(payload)
    tasks.process_webhook_event(payload["id"])
    filled.clear_requests()

    services.sync_invoices()

    assert filled.request_counts() == {EVENTS: 1}
    stored = WebhookEvent.objects.get(pk=payload["id"])
    assert (stored.source, stored.attempts) == ("webhook", 1)


def give_two_at_once(
    route: str, request: Any, go_on: Callable[[], Response]
) -> Response:
    """Orb may give fewer than it is asked for."""
    if route == EVENTS:
        given = {**request.args.to_dict(flat=False), "limit": ["2"]}
        request.args = type(request.args)(given)
    return go_on()


def test_pages_of_events_are_read_to_the_end(filled: OrbSandbox) -> None:
    filled.answer_through(give_two_at_once)
    ids = filled.invoice_ids("issued")[:5]
    for invoice_id in ids:
        filled.mark_paid(invoice_id)

    services.sync_invoices()

    assert set(Invoice.objects.filter(pk__in=ids).values_list("status", flat=True)) == {
        "paid"
    }
    assert filled.request_counts()[EVENTS] >= 3


def test_reading_goes_on_where_the_last_one_ended(filled: OrbSandbox) -> None:
    services.sync_invoices()
    before = WebhookFeed.objects.get().read_until
    run = services.sync_invoices()

    assert WebhookFeed.objects.get().read_until == run.started_at - polling.OVERLAP
    assert before < run.started_at - polling.OVERLAP
    last = [one for one in filled.requests if one.route == EVENTS][-1]
    assert before.isoformat() in unquote(last.query)


def test_what_is_open_is_swept_once_an_hour(filled: OrbSandbox) -> None:
    added = filled.add_invoice(status="draft")["id"]
    services.sync_invoices()
    assert not Invoice.objects.filter(pk=added).exists()  # drafts have no events

    pass_time(minutes=61)
    run = services.sync_invoices()

    assert SyncWindow.Kind.LIST in kinds(run)
    assert Invoice.objects.filter(pk=added).exists()


def test_reading_events_alone_is_no_sweep(filled: OrbSandbox) -> None:
    pass_time(minutes=40)
    assert kinds(services.sync_invoices()) == {SyncWindow.Kind.FEED}

    pass_time(minutes=25)

    assert SyncWindow.Kind.LIST in kinds(services.sync_invoices())


def test_sweep_that_failed_is_made_up_for(filled: OrbSandbox) -> None:
    pass_time(minutes=61)
    filled.fail_next(1, status=401, route=LISTS)
    with pytest.raises(OrbSyncFailedError):
        services.sync_invoices()

    assert SyncWindow.Kind.LIST in kinds(services.sync_invoices())


def test_run_since_a_date_is_no_sweep(filled: OrbSandbox) -> None:
    pass_time(minutes=61)
    services.sync_invoices(since=now() - timedelta(days=1))

    assert SyncWindow.Kind.LIST in kinds(services.sync_invoices())


def test_clock_that_was_set_back_leaves_nothing_unread(filled: OrbSandbox) -> None:
    """Times that were noted before are in the future now."""
    pass_time(days=-2)
    paid = filled.invoice_ids("issued")[0]
    filled.mark_paid(paid)

    run = services.sync_invoices()

    assert SyncWindow.Kind.LIST in kinds(run)
    assert WebhookEvent.objects.get(invoice_id=paid).state == State.PROCESSED


def test_sweep_can_be_asked_for(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    catch_messages(monkeypatch)

    run = SyncRun.objects.get(pk=tasks.sync_invoices(sweep=True))

    assert SyncWindow.Kind.LIST in kinds(run)


def test_feed_that_went_quiet_is_not_trusted_to_tell_all(filled: OrbSandbox) -> None:
    WebhookFeed.objects.update(newest_at=F("newest_at") - timedelta(hours=25))
    filled.advance(timedelta(days=2))

    assert SyncWindow.Kind.LIST in kinds(services.sync_invoices())


@pytest.mark.parametrize("has_events", [True, False])
def test_late_payment_of_an_old_invoice_is_found(
    any_database: str, orb: OrbSandbox, *, has_events: bool
) -> None:
    """By its event, or by the next full run: no list of what is open shows it."""
    orb.has_webhook_events = has_events
    old = orb.add_invoice(days_ago=400)["id"]
    orb.update_invoice(old, status="synced")
    services.sync_invoices(mode="full")
    orb.mark_paid(old)

    services.sync_invoices()
    found = Invoice.objects.get(pk=old).status
    services.sync_invoices(mode="full")

    assert found == ("paid" if has_events else "synced")
    assert Invoice.objects.get(pk=old).status == "paid"


def test_account_without_a_list_is_swept_each_time(
    any_database: str, orb: OrbSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    orb.has_webhook_events = False
    caplog.set_level("INFO")

    runs = [services.sync_invoices() for _ in range(3)]

    assert all(run.state == SyncRun.State.SUCCEEDED for run in runs)
    lists = [run.windows.filter(kind=SyncWindow.Kind.LIST).count() for run in runs]
    assert lists == [2, 2, 2]
    assert orb.request_counts()[EVENTS] == 1
    assert caplog.text.count("list of webhook events cannot be used") == 1

    orb.has_webhook_events = True
    pass_time(hours=23)
    services.sync_invoices()
    assert orb.request_counts()[EVENTS] == 1
    pass_time(hours=2)
    services.sync_invoices()
    assert orb.request_counts()[EVENTS] == 2
    assert WebhookFeed.objects.get().is_offered


def test_account_without_a_list_is_asked_for_it_after_its_clock_was_set_back(
    any_database: str, orb: OrbSandbox
) -> None:
    orb.has_webhook_events = False
    services.sync_invoices()
    pass_time(days=-2)

    services.sync_invoices()

    assert orb.request_counts()[EVENTS] == 2


@pytest.mark.parametrize(
    "fault",
    [{"status": 404, "html": True}, {"status": 403}, {"status": 400}, {"status": 503}],
    ids=str,
)
def test_list_that_fails_is_made_up_for_and_asked_for_again(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    """Only Orb itself can say that there is no list, and not a proxy or a key."""
    waits: list[float] = []
    times.rule(monkeypatch, sleep=waits.append)
    filled.fail_next(100, route=EVENTS, **fault)

    run = services.sync_invoices()

    # Four times for a second each, to ask for less, and once for 16.
    assert round(sum(waits)) == (20 if fault["status"] == 503 else 0)
    assert run.state == SyncRun.State.SUCCEEDED
    assert SyncWindow.Kind.LIST in kinds(run)
    assert "could not be read to its end" in run.error
    assert WebhookFeed.objects.get().is_offered
    filled.clear_faults()
    filled.clear_requests()
    services.sync_invoices()
    assert filled.request_counts()[EVENTS] == 1


def test_run_that_reads_only_events_does_not_succeed_while_orb_is_away(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orb comes back after half a minute; what changed by then is found."""
    changed = filled.invoice_ids("issued")[0]
    filled.mark_paid(changed)
    filled.fail_next(10_000, status=503)
    waited = 0.0

    def wait(seconds: float) -> None:
        nonlocal waited
        if threading.current_thread() is not threading.main_thread():
            return  # it waits for its turn
        assert SyncRun.objects.latest("pk").is_active
        waited += seconds
        if waited > 30:
            filled.clear_faults()

    times.rule(monkeypatch, sleep=wait)

    run = services.sync_invoices()

    assert waited > 30
    assert run.state == SyncRun.State.SUCCEEDED
    assert Invoice.objects.get(pk=changed).status == "paid"
    assert WebhookFeed.objects.get().is_offered


def test_events_behind_a_page_that_failed_are_found_by_the_next_run(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [filled.add_invoice(days_ago=400)["id"] for _ in range(5)]
    for invoice_id in old:
        filled.update_invoice(invoice_id, status="synced")
    services.sync_invoices(mode="full")
    for invoice_id in old:
        filled.mark_paid(invoice_id)
    times.rule(monkeypatch, sleep=lambda seconds: None)
    filled.answer_through(give_two_at_once)
    monkeypatch.setattr(polling, "OVERLAP", timedelta(0))
    filled.fail_next(100, status=500, route=EVENTS, skip=1)
    services.sync_invoices()
    assert Invoice.objects.filter(pk__in=old, status="synced").exists()
    filled.clear_faults()

    services.sync_invoices()

    assert not Invoice.objects.filter(pk__in=old).exclude(status="paid").exists()


def test_event_that_failed_is_not_tried_again_by_each_reading(
    filled: OrbSandbox,
) -> None:
    bad = filled.invoice_ids("issued")[0]
    filled.update_invoice(bad, memo="a\0b")
    filled.mark_paid(bad)
    services.sync_invoices()
    attempts = WebhookEvent.objects.get(invoice_id=bad).attempts
    filled.clear_requests()

    services.sync_invoices()

    assert filled.request_counts() == {EVENTS: 1}
    assert WebhookEvent.objects.get(invoice_id=bad).attempts == attempts


def test_invoice_that_no_database_takes_fails_its_event_alone(
    filled: OrbSandbox,
) -> None:
    bad, good = filled.invoice_ids("issued")[:2]
    filled.update_invoice(bad, memo="a\0b")
    filled.mark_paid(bad)
    filled.mark_paid(good)

    services.sync_invoices()

    assert Invoice.objects.get(pk=good).status == "paid"
    assert WebhookEvent.objects.get(invoice_id=bad).state == State.FAILED


def test_event_that_is_none_is_passed_over(filled: OrbSandbox) -> None:
    # An event that has lost its invoice would stand in for itself if it is delivered.
    nonsense = [None, 7, {}, {"payload": None}, {"payload": {"id": "whk1"}}]
    list_too(filled, [*nonsense, {"payload": event_of(None)}])
    invoice_id = filled.invoice_ids("issued")[0]
    filled.mark_paid(invoice_id)

    assert services.sync_invoices().state == SyncRun.State.SUCCEEDED
    assert Invoice.objects.get(pk=invoice_id).status == "paid"
    assert not WebhookEvent.objects.filter(invoice_id="").exists()


def list_too(orb: OrbSandbox, items: list[Any]) -> None:
    """Have Orb's list of events show these, too."""

    def add(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        answer = go_on()
        if route == EVENTS:
            page = answer.get_json()
            answer.set_data(as_bytes({**page, "data": [*items, *page["data"]]}))
        return answer

    orb.answer_through(add)


def test_event_about_no_invoice_is_told_of_as_if_it_had_been_delivered(
    filled: OrbSandbox,
) -> None:
    of_customer = event("customer.created")
    list_too(filled, [{"payload": of_customer}])

    services.sync_invoices()

    assert WebhookEvent.objects.get(pk=of_customer["id"]).state == State.IGNORED


def test_events_that_take_too_long_are_left_to_recover(
    filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = filled.invoice_ids("issued")[:3]
    for invoice_id in ids:
        filled.mark_paid(invoice_id)
    with monkeypatch.context() as patch:
        times.hurry(patch, polling)
        services.sync_invoices()
    waiting = WebhookEvent.objects.filter(invoice_id__in=ids)
    assert {one.state for one in waiting} == {State.RECEIVED}
    WebhookEvent.objects.update(next_attempt_at=F("received_at"))

    processing.process_due()

    assert_mirrors(filled)


def test_an_event_of_the_future_does_not_make_the_list_lively(
    filled: OrbSandbox,
) -> None:
    event = filled.webhook_events()[-1]
    later = {**event, "id": "whk-later", "created_at": "2150-01-01T00:00:00Z"}
    parsed = parse_event(as_bytes(later))
    assert parsed.created_at is not None
    until = parsed.created_at - timedelta(days=1)

    assert polling._newest([parsed.created_at], None, until) is None


# What is asked for without payloads


@pytest.fixture
def arriving(filled: OrbSandbox, monkeypatch: pytest.MonkeyPatch) -> OrbSandbox:
    """Webhooks arrive here: one was delivered and processed."""
    filled.void(filled.invoice_ids("issued")[0])
    catch_messages(monkeypatch)
    payload = filled.webhook_events()[-1]
    deliver(payload)
    tasks.process_webhook_event(payload["id"])
    filled.clear_requests()
    return filled


def asked(orb: OrbSandbox) -> list[str]:
    """How the list of events was asked for: by ids, for what is undelivered, whole."""
    names = {"include_payload=false": "ids", "delivery_success=false": "undelivered"}
    queries = [one.query for one in orb.requests if one.route == EVENTS]
    return [
        next((name for part, name in names.items() if part in query), "whole")
        for query in queries
    ]


def test_payloads_of_events_that_are_stored_are_not_read_again(
    arriving: OrbSandbox,
) -> None:
    run = services.sync_invoices()

    assert asked(arriving) == ["ids"]
    assert run.requests == 1
    latest = WebhookEvent.objects.latest("created_at")
    assert WebhookFeed.objects.get().newest_at == latest.created_at


def test_without_webhooks_events_are_read_at_once(filled: OrbSandbox) -> None:
    filled.mark_paid(filled.invoice_ids("issued")[0])

    services.sync_invoices()

    assert asked(filled) == ["whole"]


def test_what_orb_could_not_deliver_is_asked_for(arriving: OrbSandbox) -> None:
    paid = arriving.invoice_ids("issued")[:2]
    for invoice_id in paid:
        arriving.mark_paid(invoice_id)

    run = services.sync_invoices()

    assert asked(arriving) == ["ids", "undelivered"]
    assert run.requests == len(arriving.requests)
    assert_mirrors(arriving)
    events = WebhookEvent.objects.filter(invoice_id__in=paid)
    assert {*events.values_list("state", "source")} == {("processed", "feed")}


def test_unknown_event_is_read_although_orb_says_that_it_was_delivered(
    arriving: OrbSandbox,
) -> None:
    """To another endpoint, or before a backup of this database."""
    paid = arriving.invoice_ids("issued")[0]
    arriving.mark_paid(paid)

    def deny(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        answer = go_on()
        if route == EVENTS and request.args.get("delivery_success") == "false":
            page = {**answer.get_json(), "data": []}
            return Response(json.dumps(page), content_type="application/json")
        return answer

    arriving.answer_through(deny)

    run = services.sync_invoices()

    assert asked(arriving) == ["ids", "undelivered", "whole"]
    assert run.requests == len(arriving.requests)
    assert Invoice.objects.get(pk=paid).status == "paid"


@pytest.mark.parametrize("how", ["refuses", "ignores", "spoils"])
def test_list_that_cannot_leave_payloads_out_is_read_whole(
    arriving: OrbSandbox, how: str
) -> None:
    paid = arriving.invoice_ids("issued")[0]
    arriving.mark_paid(paid)

    def answer(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route != EVENTS or request.args.get("include_payload") != "false":
            return go_on()
        if how == "refuses":
            return Response(status=400)
        if how == "ignores":
            values = request.args.to_dict(flat=False)
            del values["include_payload"]
            request.args = type(request.args)(values)
            return go_on()
        page = go_on().get_json()
        page["data"] = [{**one, "payload": None} for one in page["data"]]
        return Response(json.dumps(page), content_type="application/json")

    arriving.answer_through(answer)

    run = services.sync_invoices()

    assert kinds(run) == {SyncWindow.Kind.FEED}
    assert Invoice.objects.get(pk=paid).status == "paid"


def test_event_that_slips_in_between_two_requests_is_not_passed_over(
    arriving: OrbSandbox,
) -> None:
    """The pages move on by it, and each page gives no more than two events."""
    paid = arriving.invoice_ids("issued")[:4]
    for invoice_id in paid[:3]:
        arriving.mark_paid(invoice_id)
    late = [paid[3]]

    def answer(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        if route == EVENTS and late and "include_payload" not in request.args:
            arriving.mark_paid(late.pop())
        return give_two_at_once(route, request, go_on)

    arriving.answer_through(answer)

    services.sync_invoices()
    services.sync_invoices()

    assert_mirrors(arriving)
