"""What waits, as gauges of Prometheus and OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from django_orb.db.clock import database_now
from django_orb.models import SyncRun, WebhookEvent
from django_orb.status import gauges
from tests import crash_points


def make_rows(using: str) -> None:
    now = database_now(using)
    for number in range(3):
        WebhookEvent.objects.create(
            id=f"whk{number}",
            type="x",
            received_at=now - timedelta(minutes=number),
            body="{}",
        )
    SyncRun.objects.create(
        kind="full", state="succeeded", started_at=now, finished_at=now
    )
    SyncRun.objects.create(
        kind="incremental", state="running", started_at=now - timedelta(hours=1)
    )


def test_prometheus_reads_the_database_when_it_is_asked(any_database: str) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(gauges.PrometheusCollector())

    def value(name: str, **labels: str) -> Any:
        return registry.get_sample_value(f"django_orb_{name}", labels)

    assert value("backlog", what="webhook_events_waiting") == 0
    assert value("backlog", what="erasures_waiting") == 0
    assert value("backlog", what="erasures_failed") == 0
    assert value("mirror_age_seconds", kind="full") is None
    make_rows(any_database)

    assert value("backlog", what="webhook_events_waiting") == 3
    assert 120 <= value("backlog_age_seconds", what="webhook_events_waiting") < 900
    assert 0 <= value("mirror_age_seconds", kind="full") < 900
    assert 3600 <= value("run_age_seconds", kind="incremental") < 4500
    assert value("run_age_seconds", kind="full") == 0


def test_a_database_that_is_away_leaves_the_other_metrics(
    caplog: pytest.LogCaptureFixture, db: None
) -> None:
    with crash_points.dying_at_statement("default", lambda *_: True, DatabaseError):
        families = list(gauges.PrometheusCollector().collect())

    assert families
    assert not any(family.samples for family in families)
    assert "could not be read" in caplog.text


def test_opentelemetry_observes_the_same(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("django_orb")
    monkeypatch.setattr("opentelemetry.metrics.get_meter", lambda name: meter)
    gauges._register.__wrapped__("opentelemetry")
    make_rows(any_database)

    data = reader.get_metrics_data()

    assert data is not None
    found = {
        (metric.name, *map(str, (point.attributes or {}).values())): getattr(
            point, "value", None
        )
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert found["django_orb.backlog", "webhook_events_waiting"] == 3
    assert (found["django_orb.mirror_age_seconds", "full"] or 0) < 900


CODE = """
import django
django.setup()
from prometheus_client import REGISTRY
print([name for name in REGISTRY._names_to_collectors if name == "django_orb_backlog"])
"""


def test_prometheus_default_registry_has_them_without_a_statement_at_start() -> None:
    import os

    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DJANGO_ORB_TEST_METRICS": "prometheus",
        "DJANGO_ORB_SQLITE_NAME": "/nowhere/at/all.sqlite3",
    }
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE],
        env=environment,
        capture_output=True,
        check=True,
    )

    assert b"django_orb_backlog" in shown.stdout
    assert shown.stderr == b""
