"""
A release that comes later: its migrations, and the rows that only it understands.

It keeps the rules of CONTRIBUTING for a database that two releases share: each new
column may be NULL, or has its default in the database.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import django_orb

#: What a project adds to its settings.
SETTING = 'MIGRATION_MODULES = {"django_orb": "next_release"}\n'
#: Models whose tables get a column that this release does not know.
WIDENED = [
    "Invoice",
    "InvoiceLineItem",
    "InvoiceChange",
    "InvoiceFailure",
    "InvoiceObservation",
    "InvoiceOperation",
    "SyncAbsence",
    "SyncRun",
    "SyncWindow",
    "WebhookEvent",
    "WebhookFeed",
]
MIGRATION = """
from django.db import migrations, models

from django_orb.models.reporting_views import drop_views, make_views


class Migration(migrations.Migration):
    dependencies = [("django_orb", {last!r})]

    operations = [
        drop_views(),
        *(
            migrations.AddField(name, "weight", models.IntegerField(db_default=7))
            for name in {names!r}
        ),
        make_views(),
    ]
"""


def write_migrations(folder: Path) -> None:
    """Write this release's migrations and one that follows as a package."""
    ours = Path(django_orb.__file__).parent / "migrations"
    target = folder / "next_release"
    shutil.copytree(ours, target, ignore=shutil.ignore_patterns("__pycache__"))
    last = max(path.stem for path in ours.glob("[0-9]*.py"))
    text = MIGRATION.format(last=last, names=[name.lower() for name in WIDENED])
    (target / "9999_next.py").write_text(text)


def rows(now: Any, invoice_id: str) -> dict[str, list[dict[str, Any]]]:
    """Per model, rows of kinds and states that this release does not know."""
    before = now - timedelta(
        days=1
    )  # not the first of the list, which the admin cancels
    return {
        "SyncRun": [
            {"id": 9001, "kind": "weekly", "state": "running", "started_at": before},
            {"id": 9002, "kind": "full", "state": "paused", "started_at": before},
            {"id": 9003, "kind": "yearly", "state": "running", "started_at": before},
        ],
        "SyncWindow": [
            {"id": 9001, "run_id": 9001, "position": 0, "kind": "list"},
            {"id": 9002, "run_id": 9001, "position": 1, "kind": "archive"},
            {"id": 9003, "run_id": 9002, "position": 0, "kind": "archive"},
            # Its end is more than this release would do.
            {"id": 9004, "run_id": 9003, "position": 0, "kind": "list"},
        ],
        "InvoiceOperation": [
            {
                "id": 9001,
                "kind": "pause_invoice",
                "state": "pending",
                "invoice_id": invoice_id,
                "idempotency_key": "newer1",
                "created_at": now,
            },
            {
                "id": 9002,
                "kind": "void_invoice",
                "state": "scheduled",
                "invoice_id": invoice_id,
                "idempotency_key": "newer2",
                "created_at": now,
            },
        ],
        "InvoiceChange": [
            {
                "id": 9001,
                "invoice_id": invoice_id,
                "kind": "forgiven",
                "status": "issued",
                "origin": "assistant",
                "created_at": now,
            }
        ],
        "WebhookEvent": [
            {
                "id": "newer",
                "type": "invoice.forgiven",
                "state": "parked",
                "source": "stream",
                "invoice_id": invoice_id,
                "received_at": now,
                "body": "{}",
            }
        ],
    }
