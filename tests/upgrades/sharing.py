"""
Live through a day beside a later release: in its tables, and with its rows around.

Runs in a process of its own with a project's settings; see `next_release`.
"""

from __future__ import annotations

from typing import Any

import django
from django.apps.registry import Apps
from django.core.management import call_command
from django.db import connections

#: The first key of the later release's rows, and that of a window that is done.
FIRST, DONE = 9001, 9004


def main() -> None:
    django.setup()
    from django.db.migrations.executor import MigrationExecutor
    from django.test.utils import setup_test_environment

    from django_orb import maintenance, tasks
    from django_orb.db import primary
    from django_orb.models import SyncRun, SyncWindow
    from django_orb.status import read_status
    from django_orb.status.gauges import PrometheusCollector
    from django_orb.sync import runs, windows
    from tests import host_drive

    from . import next_release

    setup_test_environment()
    call_command("migrate", verbosity=0)
    executor = MigrationExecutor(connections["default"])
    last = max(key for key in executor.loader.disk_migrations if key[0] == "django_orb")
    theirs = executor.loader.project_state([last]).apps
    host_drive.check()
    host_drive.sync()
    now = primary.now()
    invoice_id = host_drive.first_issued().pk
    written = next_release.rows(now, invoice_id)
    for name, found in written.items():
        model = theirs.get_model("django_orb", name)
        for row in found:
            is_done = row["id"] == DONE
            states = {"state": "done" if is_done else "pending"}
            states = states if name == "SyncWindow" else {}
            model._base_manager.create(**states, **row)
    before = values_of(theirs, written)

    host_drive.live_on()
    maintenance.finish_operations()
    assert not [one for one in runs.due_windows() if one.pk >= FIRST]
    # The later release's message reaches a worker of this one.
    for window in SyncWindow.objects.filter(pk__gte=FIRST, state="pending"):
        lease = windows.lease_window(window)
        assert lease
        tasks.sync_page(window.pk, lease)
        windows.release_window(window.pk, lease)
    tasks.recover()
    for run in SyncRun.objects.filter(pk__gte=FIRST):
        runs.advance(run)
    assert list(PrometheusCollector().collect())
    unread = [
        finding
        for finding in read_status().findings
        if "cannot be read" in finding.summary
    ]
    assert not unread, unread
    after = values_of(theirs, written)
    for name, rows in before.items():
        for was, row in zip(rows, after[name], strict=True):
            changed = {key: (was[key], row[key]) for key in was if was[key] != row[key]}
            assert not changed, (name, changed)
    print("It all works.")


def values_of(apps: Apps, written: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the later release's rows, without the leases that this one tried."""
    found = {}
    for name, rows in written.items():
        model = apps.get_model("django_orb", name)
        chosen = model._base_manager.filter(pk__in=[row["id"] for row in rows])
        found[name] = [
            {key: value for key, value in row.items() if not key.startswith("lease")}
            for row in chosen.order_by("pk").values()
        ]
    return found


if __name__ == "__main__":
    main()
