"""
A day without Celery: cron enqueues, and a worker of Django's tasks does the work.

Runs in a process of its own with a project's settings.
"""

from __future__ import annotations

import os

import django
from django.core.management import call_command


def main() -> None:
    django.setup()
    from django_orb.models import Invoice, SyncRun, WebhookEvent
    from tests import host_drive

    call_command("migrate", verbosity=0)
    call_command("check", fail_level="WARNING")
    call_command("orb_run_task", "sync_invoices", mode="full")
    assert not Invoice.objects.exists()
    work_until_idle()
    assert Invoice.objects.count() == int(os.environ["HOST_INVOICES"])
    assert SyncRun.objects.get().state == SyncRun.State.SUCCEEDED

    host_drive.receive_webhook(processes=False)
    work_until_idle()
    assert WebhookEvent.objects.get().state == WebhookEvent.State.PROCESSED

    # A task that is lost, with its worker or with its row, costs a minute.
    call_command("orb_run_task", "sync_invoices")
    forget_tasks()
    SyncRun.objects.get(kind="incremental").windows.update(lease_expires_at=None)
    call_command("orb_run_task", "recover")
    work_until_idle()
    assert not SyncRun.objects.exclude(state=SyncRun.State.SUCCEEDED).exists()
    print("It all works.")


def work_until_idle() -> None:
    from django_tasks_db.models import DBTaskResult

    where = ["--backend=orb", "--queue-name=billing"]
    call_command("db_worker", *where, "--batch", "--interval=0", "--no-startup-delay")
    failed = [(one.args_kwargs, one.traceback) for one in DBTaskResult.objects.failed()]
    assert not failed, failed


def forget_tasks() -> None:
    from django_tasks_db.models import DBTaskResult

    assert DBTaskResult.objects.ready().exists()
    DBTaskResult.objects.all().delete()


if __name__ == "__main__":
    main()
