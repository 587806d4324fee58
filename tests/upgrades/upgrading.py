"""
Upgrade the database of an earlier release, and go on with its work.

Runs in a process of its own with a project's settings; `FROZEN` is the release's file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connections


def main() -> None:
    django.setup()
    from django.db.migrations.executor import MigrationExecutor
    from django.test import Client
    from django.test.utils import setup_test_environment

    from django_orb.models import (
        Invoice,
        InvoiceChange,
        InvoiceOperation,
        SyncRun,
        WebhookEvent,
    )
    from tests import host_drive

    from .freezing import thaw

    setup_test_environment()
    frozen = json.loads(Path(os.environ["FROZEN"]).read_text())
    call_command("migrate", "contenttypes", verbosity=0)
    call_command("migrate", "auth", verbosity=0)
    executor = MigrationExecutor(connections["default"])
    last = ("django_orb", max(frozen["migrations"]))
    executor.migrate([last])
    thaw(frozen["rows"], executor.loader.project_state([last]).apps)

    call_command("migrate", verbosity=0)
    host_drive.check()
    assert_kept(frozen["rows"])
    told = InvoiceChange.objects.count()
    call_command("orb_sync_invoices", mode="full", in_process=True)
    call_command("orb_sync_invoices", in_process=True)
    call_command("orb_verify_invoices")
    assert Invoice.objects.count() == len(frozen["rows"]["Invoice"])
    # Nothing but the operation and the event that waited has changed anything.
    assert InvoiceChange.objects.count() <= told + 2
    assert not SyncRun.objects.filter(state__in=["running", "failed"]).exists()
    assert not InvoiceOperation.objects.filter(state="pending").exists()
    waiting = WebhookEvent.objects.exclude(state__in=["processed", "ignored"])
    assert not waiting.exists(), waiting.values()
    client = Client()
    client.force_login(host_drive.make_superuser())
    for url in host_drive.pages():
        assert client.get(url, follow=True).status_code == 200, url
    print("It all works.")


def assert_kept(rows: dict[str, list[dict[str, str | None]]]) -> None:
    """Demand each value of each column that there still is, in each row."""
    from django.apps import apps

    from .freezing import concrete, rows_of, value_of

    found = rows_of(apps)
    for model, before in rows.items():
        fields = {
            field.attname: field
            for field in concrete(apps.get_model("django_orb", model))
        }
        after = {row[key_of(model)]: row for row in found[model]}
        assert len(after) == len(before), model
        for row in before:
            kept = after[row[key_of(model)]]
            other = {
                name: (row[name], kept[name])
                for name in row
                if name in kept
                # Databases order the keys of JSON in their own way.
                and value_of(fields[name], row[name])
                != value_of(fields[name], kept[name])
            }
            assert not other, (model, other)


def key_of(model: str) -> str:
    from django.apps import apps

    return str(apps.get_model("django_orb", model)._meta.pk.attname)


if __name__ == "__main__":
    main()
