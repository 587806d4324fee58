"""Our work in a backend of Django's tasks, which `TASK_BACKEND` names."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.management import call_command

from django_orb import tasks
from django_orb.checks import check_settings
from django_orb.models import SyncRun, SyncWindow, WebhookEvent
from django_orb.testing import OrbSandbox
from tests import brokers
from tests.deliveries import deliver, event_of
from tests.host_project import drive_project, write_project

ROOT = Path(__file__).parent.parent.parent
HAS_TASKS = django.VERSION >= (6,)
WORKER = """
INSTALLED_APPS.append("django_tasks_db")
TASKS = {"orb": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["billing"]}}
DJANGO_ORB["TASK_BACKEND"] = "orb"
DJANGO_ORB["PAGE_SIZE"] = 5
"""


def test_backend_that_is_away_loses_nothing(
    any_committed_database: str,
    orb: OrbSandbox,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    brokers.use_django_tasks(settings, "RefusingBackend")
    tasks.sync_invoices()
    assert "The broker took no message" in caplog.text

    messages: list[Any] = []
    brokers.use_django_tasks(settings, "CatchingBackend", messages=messages)
    tasks.recover()
    assert len(messages) == SyncWindow.objects.filter(state="pending").count()


@pytest.mark.parametrize(
    ("backend", "count"), [("CatchingBackend", 0), ("WaitingBackend", 1)]
)
def test_what_has_to_wait_does_so_in_its_row_if_the_backend_cannot(
    any_committed_database: str,
    orb: OrbSandbox,
    settings: Any,
    backend: str,
    count: int,
) -> None:
    messages: list[Any] = []
    brokers.use_django_tasks(settings, backend, messages=messages)
    tasks.sync_invoices()
    _name, args = messages.pop()
    messages.clear()
    orb.fail_next(count=1000, status=503)

    tasks.sync_page(*args)

    window = SyncWindow.objects.get(pk=args[0])
    assert window.not_before is not None
    assert messages == [("sync_page", args)] * count
    # Otherwise it is free, so that `recover` need not wait for the end of the lease.
    assert bool(window.lease_expires_at) == bool(count)


def test_webhook_wakes_a_worker(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    messages: list[Any] = []
    brokers.use_django_tasks(settings, "CatchingBackend", messages=messages)

    deliver(event_of(orb.invoice_ids()[0], "invoice.edited"))

    event = WebhookEvent.objects.get()
    assert messages == [("process_webhook_event", (event.pk,))]


@pytest.mark.parametrize(
    ("value", "is_right"), [(None, True), ("default", HAS_TASKS), ("misspelt", False)]
)
def test_check_knows_the_backends(settings: Any, value: Any, is_right: bool) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TASK_BACKEND": value}
    settings.TASKS = {"default": {"BACKEND": brokers.IMMEDIATE}}

    found = [one for one in check_settings() if "TASK_BACKEND" in one.msg]

    assert [one.id for one in found] == ([] if is_right else ["django_orb.E004"])


def test_setting_that_is_wrong_delays_work_and_stops_nothing(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TASK_BACKEND": "misspelt"}

    response = deliver(event_of(orb.invoice_ids()[0], "invoice.edited"))

    assert response.status_code == 200
    assert WebhookEvent.objects.get().state == WebhookEvent.State.RECEIVED


def test_cron_can_run_what_beat_runs(
    any_committed_database: str, orb: OrbSandbox, sent: list[Any]
) -> None:
    call_command("orb_run_task", "sync_invoices", mode="full")
    run = SyncRun.objects.get()
    assert run.kind == "full"
    assert len(sent) == run.windows.filter(state="pending").count()

    SyncWindow.objects.update(state=SyncWindow.State.DONE)
    call_command("orb_run_task", "recover")
    run.refresh_from_db()
    assert run.state == SyncRun.State.SUCCEEDED

    long_ago = datetime.now(timezone.utc) - timedelta(days=999)
    SyncRun.objects.update(state=SyncRun.State.FAILED, finished_at=long_ago)
    call_command("orb_run_task", "prune")
    assert not SyncRun.objects.exists()


@pytest.mark.skipif(not HAS_TASKS, reason="Django has tasks since 6.0.")
@pytest.mark.proof
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mariadb"])
def test_workers_of_djangos_tasks_do_a_day_without_celery(
    make_database, tmp_path, engine
):
    with OrbSandbox(invoices=30, seed=1) as sandbox:
        write_project(tmp_path, sandbox, {"default": make_database(engine)}, WORKER)
        module = "tests.publishing.without_celery"
        drive_project(tmp_path, sandbox, path=str(ROOT), module=module)
