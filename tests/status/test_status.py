"""What `read_status` says of an installation, and of each kind of trouble."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from celery import current_app
from celery.schedules import crontab
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from django.test.utils import CaptureQueriesContext

from django_orb import services, tasks
from django_orb.db import primary
from django_orb.db.clock import database_now
from django_orb.models import (
    InvoiceChange,
    InvoiceFailure,
    InvoiceOperation,
    LastOccurrence,
    MirroredAccount,
    SyncRun,
    SyncWindow,
    WebhookEvent,
)
from django_orb.status import Finding, Verdict, read_status
from django_orb.status import occurrences as noting
from django_orb.webhooks.inbox import store
from django_orb.webhooks.payload import parse_event
from tests import crash_points
from tests.deliveries import as_bytes, deliver, event, headers, post

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

SCHEDULE = {
    "open": {
        "task": "django_orb.tasks.sync_invoices",
        "schedule": timedelta(minutes=10),
    },
    "full": {
        "task": "django_orb.tasks.sync_invoices",
        "schedule": crontab(hour=3, minute=0),
        "kwargs": {"mode": "full"},
    },
    "recover": {"task": "django_orb.tasks.recover", "schedule": timedelta(minutes=1)},
    "prune": {"task": "django_orb.tasks.prune", "schedule": timedelta(days=1)},
    "another": {"task": "shop.tasks.mail", "schedule": timedelta(minutes=1)},
}


@pytest.fixture(autouse=True)
def _schedule() -> Iterator[None]:
    before = current_app.conf.beat_schedule
    current_app.conf.beat_schedule = SCHEDULE
    noting._noted_at.clear()
    yield
    noting._noted_at.clear()
    current_app.conf.beat_schedule = before


def ago(**span: float) -> datetime:
    return database_now(primary.alias()) - timedelta(**span)


def run(kind: str = "incremental", state: str = "succeeded", **values: Any) -> SyncRun:
    ended = {"finished_at": ago(minutes=3)} if state != "running" else {}
    given = {"started_at": ago(minutes=4), **ended, **values}
    return SyncRun.objects.create(kind=kind, state=state, **given)


def note(name: str, detail: str = "", **span: float) -> None:
    LastOccurrence.objects.update_or_create(
        pk=name, defaults={"at": ago(**span), "detail": detail}
    )


@pytest.fixture
def healthy(any_database: str) -> str:
    """An installation in which all is well; the alias of its database."""
    from django_orb.client import OrbClient

    with OrbClient.from_settings() as client:
        fingerprint = client.fingerprint
    MirroredAccount.objects.create(
        pk=1, fingerprint=fingerprint, confirmed_at=ago(days=90)
    )
    run()
    run("full")
    for name in noting.SCHEDULED:
        note(name, seconds=20)
    return any_database


def finding(name: str) -> Finding:
    (found,) = (one for one in read_status().findings if one.name == name)
    return found


def test_all_is_well(healthy: str) -> None:
    report = read_status()

    assert [(one.name, one.verdict) for one in report.findings] == [
        (name, Verdict.OK)
        for name in (
            "account",
            "mirror",
            "runs",
            "schedule",
            "webhooks",
            "backlog",
            "attention",
        )
    ]
    assert report.verdict is Verdict.OK
    assert not any(one.next_step for one in report.findings)


def test_it_takes_twelve_statements_at_most_and_leaves_orb_alone(healthy: str) -> None:
    active = run("full", "running", active_kind="full")
    SyncWindow.objects.create(run=active, position=0, kind="list", state="pending")
    deliver(event())

    with CaptureQueriesContext(connections[healthy]) as captured:
        read_status()

    told = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
    assert len(told) <= 12, told
    assert len(captured) <= len(told) + 2


def test_a_new_installation_is_told_how_to_begin(any_database: str) -> None:
    report = read_status()

    verdicts = {one.name: one.verdict for one in report.findings}
    assert verdicts["account"] is Verdict.WARNING
    assert verdicts["mirror"] is Verdict.FAILING
    assert "orb_sync_invoices --mode full" in finding("mirror").next_step


def test_a_missing_key_fails(healthy: str, settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "API_KEY": ""}

    assert finding("account").verdict is Verdict.FAILING


def test_another_key_is_a_warning(healthy: str, settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "API_KEY": "another"}

    assert finding("account").verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("hours", "verdict"), [(1, Verdict.OK), (3, Verdict.WARNING), (7, Verdict.FAILING)]
)
def test_the_mirrors_age_counts_from_the_last_success(
    healthy: str, hours: int, verdict: Verdict
) -> None:
    SyncRun.objects.update(finished_at=ago(hours=hours))
    run(state="failed")

    assert finding("mirror").verdict is verdict


def test_a_mirror_without_full_runs_is_a_warning(healthy: str) -> None:
    SyncRun.objects.filter(kind="full").update(finished_at=ago(days=9))

    assert finding("mirror").verdict is Verdict.WARNING


def test_a_run_that_stands_still_fails_and_one_at_work_does_not(healthy: str) -> None:
    active = run("full", "running", active_kind="full", started_at=ago(hours=5))
    window = SyncWindow.objects.create(
        run=active,
        position=0,
        kind="list",
        state="pending",
        heartbeat_at=ago(minutes=1),
    )
    assert finding("runs").verdict is Verdict.OK

    window.heartbeat_at = ago(minutes=30)
    window.save()
    found = finding("runs")
    assert found.verdict is Verdict.FAILING
    assert str(active.pk) in found.summary


def test_a_run_that_waits_for_orb_is_a_warning_with_orbs_words(healthy: str) -> None:
    active = run("full", "running", active_kind="full")
    SyncWindow.objects.create(
        run=active,
        position=0,
        kind="list",
        state="pending",
        heartbeat_at=ago(seconds=5),
        error="Orb answered 503.",
    )

    found = finding("runs")
    assert (found.verdict, found.details) == (Verdict.WARNING, ("Orb answered 503.",))


def test_only_the_newest_run_of_a_kind_may_have_failed(healthy: str) -> None:
    run(state="failed", error="Orb refused the key.")
    found = finding("runs")
    assert found.verdict is Verdict.WARNING
    assert found.details == ("Orb refused the key.",)

    run()
    assert finding("runs").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("task", "span", "verdict"),
    [
        ("recover", {"minutes": 4}, Verdict.OK),
        ("recover", {"minutes": 10}, Verdict.WARNING),
        ("recover", {"hours": 1}, Verdict.FAILING),
        ("sync_invoices incremental", {"minutes": 13}, Verdict.OK),
        ("sync_invoices incremental", {"minutes": 20}, Verdict.WARNING),
        ("sync_invoices full", {"days": 2}, Verdict.FAILING),
        ("prune", {"hours": 23}, Verdict.OK),
        ("prune", {"hours": 25}, Verdict.FAILING),
    ],
)
def test_a_task_is_late_by_its_own_schedule(
    healthy: str, task: str, span: dict[str, float], verdict: Verdict
) -> None:
    note(task, "", **span)

    assert finding("schedule").verdict is verdict


def test_a_task_that_has_never_run_is_late_in_its_turn(healthy: str) -> None:
    LastOccurrence.objects.filter(pk="prune").delete()
    assert finding("schedule").verdict is Verdict.FAILING

    MirroredAccount.objects.update(confirmed_at=ago(minutes=2))
    assert finding("schedule").verdict is Verdict.OK


@pytest.mark.parametrize("nothing", [None, (), [], {}])
def test_a_schedule_may_say_that_a_task_has_no_arguments(
    healthy: str, nothing: Any
) -> None:
    """Beat takes any of these, as does django-celery-beat's JSON."""
    current_app.conf.beat_schedule = {
        name: {"args": nothing, "kwargs": nothing, **entry}
        for name, entry in SCHEDULE.items()
    }

    assert finding("schedule").verdict is Verdict.OK


def test_a_task_that_failed_or_is_not_scheduled_is_a_warning(healthy: str) -> None:
    note("prune", "ValueError: no", minutes=1)
    found = finding("schedule")
    assert found.verdict is Verdict.WARNING
    assert "ValueError: no" in found.details

    note("prune", minutes=1)
    rest = {name: entry for name, entry in SCHEDULE.items() if name != "prune"}
    current_app.conf.beat_schedule = rest
    assert finding("schedule").verdict is Verdict.WARNING


def test_without_beat_cron_may_do_it(healthy: str) -> None:
    current_app.conf.beat_schedule = {}
    LastOccurrence.objects.exclude(pk__in=["recover", noting.INCREMENTAL]).delete()
    assert finding("schedule").verdict is Verdict.OK

    note(noting.INCREMENTAL, hours=3)
    found = finding("schedule")
    assert found.verdict is Verdict.FAILING
    assert "cron" in found.next_step


def test_webhooks_that_were_not_set_up_are_no_trouble(
    healthy: str, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_SECRETS": []}
    note(noting.REFUSED, "There is no secret.", minutes=1)

    assert finding("webhooks").verdict is Verdict.OK


def test_a_refused_webhook_is_told_until_one_is_taken(healthy: str) -> None:
    body = as_bytes(event())
    assert post(body, headers(body, secret="old")).status_code == 400

    found = finding("webhooks")
    assert found.verdict is Verdict.WARNING
    assert "No signature matches the body." in found.details[0]
    assert "WEBHOOK_SECRETS" in found.next_step

    deliver(event())
    assert finding("webhooks").verdict is Verdict.OK


def test_a_stranger_changes_no_verdict_and_writes_one_row_a_minute(
    healthy: str,
) -> None:
    deliver(event())
    with CaptureQueriesContext(connections[healthy]) as captured:
        for _ in range(20):
            assert post(b"{}", {}).status_code == 400

    assert len(captured) <= 3
    assert finding("webhooks").verdict is Verdict.OK
    row = LastOccurrence.objects.get(pk=noting.REFUSED_UNSIGNED)

    noting._noted_at.clear()  # another process
    LastOccurrence.objects.filter(pk=row.pk).update(detail="The first.")
    post(b"{}", {})
    assert LastOccurrence.objects.get(pk=row.pk).detail == "The first."

    noting._noted_at.clear()
    note(row.pk, "The first.", minutes=2)
    post(b"{}", {})
    assert LastOccurrence.objects.get(pk=row.pk).detail != "The first."
    assert LastOccurrence.objects.count() == len(noting.SCHEDULED) + 1


@pytest.mark.parametrize(
    ("type", "listed", "verdict"),
    [
        ("invoice.issued", {"hours": 1}, Verdict.WARNING),
        ("invoice.issued", {"hours": 3}, Verdict.OK),  # hardly later than the webhook
        ("invoice.issued", {"hours": 30}, Verdict.OK),
        ("customer.created", {"hours": 1}, Verdict.OK),  # endpoints may leave it out
    ],
)
def test_events_about_invoices_that_only_orbs_list_has_are_told(
    healthy: str, type: str, listed: dict[str, float], verdict: Verdict
) -> None:
    deliver(event(created_at=ago(hours=3, minutes=30).isoformat()))
    assert finding("webhooks").verdict is Verdict.OK

    body = as_bytes(event(type, created_at=ago(**listed).isoformat()))
    store(parse_event(body), body.decode(), source=WebhookEvent.Source.FEED)

    assert finding("webhooks").verdict is verdict


@pytest.mark.parametrize("table", ["syncrun", "syncwindow"])
def test_runs_that_cannot_be_read_hold_up_nothing_else(
    healthy: str, table: str
) -> None:
    run("full", "running", active_kind="full")
    note("prune", days=40)

    def spoil(execute: Any, sql: str, *args: Any) -> Any:
        named = f"django_orb_{table}"
        return execute(sql.replace(named, "no_such_table"), *args)

    with connections[healthy].execute_wrapper(spoil):
        report = read_status()
        shown, error = command()

    found = {one.name: one for one in report.findings}
    assert found["mirror"].verdict is found["runs"].verdict is Verdict.FAILING
    assert "not known" in found["mirror"].summary
    assert "no_such_table" in found["runs"].details[0]
    assert found["schedule"].verdict is Verdict.FAILING  # prune
    assert found["account"].verdict is found["attention"].verdict is Verdict.OK
    assert "They cannot be read." in shown
    assert error == "Failing: Mirror, Sync runs, Schedule and workers."


@pytest.mark.parametrize(
    ("span", "verdict"),
    [
        ({"minutes": 2}, Verdict.OK),
        ({"minutes": 20}, Verdict.WARNING),
        ({"hours": 2}, Verdict.FAILING),
    ],
)
@pytest.mark.parametrize("what", ["event", "operation", "change"])
def test_what_waits_is_judged_by_the_age_of_the_oldest(
    healthy: str, what: str, span: dict[str, float], verdict: Verdict
) -> None:
    at = ago(**span)
    if what == "event":
        WebhookEvent.objects.create(id="whk", type="x", received_at=at, body="{}")
    elif what == "operation":
        InvoiceOperation.objects.create(
            kind="void_invoice", invoice_id="in", idempotency_key="k", created_at=at
        )
    else:
        InvoiceChange.objects.create(
            invoice_id="in", kind="updated", status="paid", created_at=at
        )

    found = finding("backlog")
    assert found.verdict is verdict
    assert found.summary.startswith("1 ")


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ({}, Verdict.WARNING),
        ({"minutes": 0}, Verdict.WARNING),  # traffic is nothing to look into
        ({"minutes": 20}, Verdict.WARNING),
        ({"hours": 2}, Verdict.FAILING),
    ],
)
def test_what_waits_on_purpose_is_not_judged_by_what_else_waits(
    healthy: str, settings: Any, others: dict[str, float], verdict: Verdict
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}
    InvoiceOperation.objects.create(
        kind="void_invoice",
        invoice_id="in",
        idempotency_key="k",
        created_at=ago(hours=2),
    )
    if others:
        WebhookEvent.objects.create(
            id="whk", type="x", received_at=ago(**others), body="{}"
        )

    found = finding("backlog")

    is_late = bool(others) and ago(minutes=10) > ago(**others)
    assert found.verdict is verdict
    assert ("READ_ONLY" in found.next_step) is True
    assert ("workers are running" in found.next_step) is is_late


def test_what_needs_attention_is_counted(healthy: str) -> None:
    now = ago()
    InvoiceFailure.objects.create(invoice_id="odd", reason="No total.", failed_at=now)
    WebhookEvent.objects.create(
        id="whk", type="x", state="failed", received_at=now, body="{}"
    )
    InvoiceOperation.objects.create(
        kind="void_invoice",
        state="needs_attention",
        invoice_id="in",
        idempotency_key="k",
        created_at=now,
    )
    InvoiceChange.objects.create(
        invoice_id="in", kind="updated", status="paid", created_at=now, failed_at=now
    )

    found = finding("attention")
    assert found.verdict is Verdict.WARNING
    assert found.summary.count("1 ") == 4


@pytest.mark.django_db(transaction=True)
def test_orb_is_asked_only_when_told_to(orb: OrbSandbox) -> None:
    services.sync_invoices(mode="full")
    orb.clear_requests()
    read_status()
    assert orb.requests == []

    account = read_status(ask_orb=True).findings[0]
    assert account.verdict is Verdict.OK
    assert [one.path for one in orb.requests] == ["/v1/ping"]

    orb.fail_next(status=503)
    account = read_status(ask_orb=True).findings[0]
    assert account.verdict is Verdict.FAILING
    assert "503" in account.details[0]


@pytest.mark.django_db(transaction=True)
def test_a_key_that_orb_refuses_is_told_apart(orb: OrbSandbox, settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "API_KEY": "wrong"}

    account = read_status(ask_orb=True).findings[0]

    assert account.verdict is Verdict.FAILING
    assert "API_KEY" in account.next_step
    assert "wrong" not in " ".join(account.details)


def test_a_task_notes_its_run_in_one_statement(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    tasks.sync_invoices()
    tasks.sync_invoices("full")
    tasks.recover()
    tasks.prune()
    assert set(LastOccurrence.objects.values_list("pk", "detail")) == {
        (name, "") for name in noting.SCHEDULED
    }

    with CaptureQueriesContext(connections[any_committed_database]) as captured:
        tasks.prune()
    ours = [one for one in captured if "lastoccurrence" in one["sql"]]
    assert len(ours) == 1


def test_a_task_that_fails_notes_why(any_committed_database: str) -> None:
    def is_pruning(sql: str, params: Any) -> bool:
        return "orb_invoicechange" in sql

    dying = crash_points.dying_at_statement(
        any_committed_database, is_pruning, ValueError
    )
    with dying, pytest.raises(ValueError):  # noqa: PT011  it says nothing
        tasks.prune()

    assert LastOccurrence.objects.get().detail == "ValueError: "


@pytest.mark.django_db(transaction=True)
def test_a_run_since_a_date_or_of_one_invoice_is_no_sign_of_the_schedule(
    orb: OrbSandbox, sent: list[Any]
) -> None:
    tasks.sync_invoices(since="2026-01-01T00:00:00+00:00")
    tasks.sync_invoice(orb.invoice_ids()[0])
    call_command("orb_sync_invoices", invoice=[orb.invoice_ids()[0]], stdout=StringIO())
    assert not LastOccurrence.objects.exists()

    call_command("orb_sync_invoices", in_process=True, stdout=StringIO())
    names = set(LastOccurrence.objects.values_list("pk", flat=True))
    assert names == {noting.INCREMENTAL, noting.RECOVER}


def command(**options: Any) -> tuple[str, str]:
    """What the command prints, and its error, or ""."""
    out = StringIO()
    try:
        call_command("orb_status", stdout=out, **options)
    except CommandError as err:  # its exit status is 1
        return out.getvalue(), str(err)
    return out.getvalue(), ""


def test_the_command_says_it_in_words_and_exits_with_1_if_something_fails(
    healthy: str,
) -> None:
    assert command()[1] == ""
    run(state="failed", error="A line\x1b[2J of Orb's.")
    shown, error = command()
    assert error == ""  # warnings do not fail
    assert "WARNING" in shown
    assert "\x1b" not in shown

    note("recover", hours=1)
    shown, error = command()
    assert error == "Failing: Schedule and workers."
    assert "-> Check that a Celery worker and beat are running." in shown


def test_the_commands_json_is_for_machines(healthy: str) -> None:
    note("recover", hours=1)

    shown, error = command(json=True)

    told = json.loads(shown)
    assert error
    assert told["verdict"] == "failing"
    by_name = {one["name"]: one for one in told["findings"]}
    assert by_name["schedule"]["verdict"] == "failing"
    assert told["facts"]["events_waiting"] == {"count": 0, "oldest_at": None}
    assert "fingerprint" not in told["facts"]


@pytest.mark.django_db
def test_the_command_says_it_if_the_database_cannot_be_read() -> None:
    with crash_points.dying_at_statement("default", lambda *_: True, DatabaseError):
        assert "migrate" in command()[1]
