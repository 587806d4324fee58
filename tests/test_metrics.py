"""What is measured, and that nothing is unless METRICS asks for it."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
import pytest
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from django_orb import metrics, services, tasks
from django_orb.client import OrbClient
from django_orb.exceptions import OrbError, OrbSyncFailedError
from django_orb.models import Invoice, SyncRun, WebhookEvent
from django_orb.testing.sandbox import routes

from .deliveries import as_bytes, deliver, event_of, post

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def enable(settings: Any, *names: str) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "METRICS": names}


def samples() -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("django_orb_")
    }


class Counts:
    """How much each metric of Prometheus went up since the test began."""

    def __init__(self) -> None:
        self._before = samples()

    def of(self, name: str, **labels: str) -> float:
        """The sum over all labels that are not given."""
        return sum(
            value - self._before.get(key, 0.0)
            for key, value in samples().items()
            if key[0] == f"django_orb_{name}" and frozenset(labels.items()) <= key[1]
        )

    def grown(self) -> set[str]:
        return {name for name, _ in self.changed()}

    def routes(self) -> set[str]:
        """The routes that requests were counted under."""
        changed = (dict(labels) for _, labels in self.changed())
        return {labels["route"] for labels in changed if "route" in labels}

    def changed(self) -> list[tuple[str, frozenset[tuple[str, str]]]]:
        now = samples()
        return [key for key in now if now[key] != self._before.get(key, 0.0)]


@pytest.fixture
def counts(settings: Any) -> Counts:
    enable(settings, "prometheus")
    metrics.waited("reads", 0.0)  # so that all of them are there
    return Counts()


@pytest.mark.django_db(transaction=True)
def test_a_run_counts_requests_pages_and_invoices(
    orb: OrbSandbox, counts: Counts
) -> None:
    orb.fail_next(status=503)
    run = services.sync_invoices(mode="full")
    again = services.sync_invoices(mode="full")

    listed = {"method": "GET", "route": "/invoices"}
    sent = [one for one in orb.requests if one.path == "/v1/invoices"]
    assert counts.of("requests_total", **listed) == len(sent)
    assert counts.of("requests_total", **listed, outcome="server_error") == 1
    assert counts.of("request_seconds_count", **listed) == len(sent)
    assert counts.of("budget_wait_seconds_count", budget="reads") == len(orb.requests)
    assert counts.of("pages_total", kind="full") == run.pages + again.pages
    written = {"origin": "sync"}
    assert counts.of("invoices_total", **written, outcome="created") == run.created
    assert counts.of("invoices_total", **written, outcome="unchanged") == sum(
        one.unchanged for one in (run, again)
    )
    ended = {"kind": "full", "outcome": "succeeded"}
    assert counts.of("run_seconds_count", **ended) == 2


@pytest.mark.django_db(transaction=True)
def test_what_fails_is_counted_by_how_it_fails(
    orb: OrbSandbox, counts: Counts, settings: Any
) -> None:
    client = OrbClient(orb.api_key, orb.base_url, retries=0)
    orb.fail_next(status=429)
    with pytest.raises(OrbError):
        client.ping()
    orb.cut_next(when="during")
    with pytest.raises(OrbError):
        client.ping()
    with pytest.raises(OrbError):
        client.fetch_invoice("unknown-to-orb")
    with pytest.raises(OrbError):
        client.void_invoice("unknown-to-orb")
    with pytest.raises(OrbError):
        OrbClient("wrong", orb.base_url, retries=0).ping()
    with pytest.raises(OrbError):
        OrbClient("key", "http://127.0.0.1:9/v1", retries=0).ping()

    def requests(**labels: str) -> float:
        return counts.of("requests_total", **labels)

    assert requests(route="/ping", outcome="rate_limited") == 1
    assert requests(route="/ping", outcome="no_answer") == 2
    assert requests(route="/ping", outcome="refused") == 1
    assert requests(route="/invoices/{id}", outcome="not_found") == 1
    assert requests(method="POST", route="/invoices/{id}/void") == 1


@pytest.mark.django_db(transaction=True)
def test_webhooks_and_operations_are_counted_by_outcome(
    orb: OrbSandbox, counts: Counts, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}
    issued = Invoice.objects.get(
        pk=services.fetch_invoice(orb.invoice_ids("issued")[0]).pk
    )
    services.void_invoice(issued)
    deliver(event_of(orb.invoice(issued.pk)))
    deliver({**event_of(orb.invoice(issued.pk)), "type": "customer.created"})
    post(as_bytes({"type": "a stranger's"}), {})

    assert counts.of("operations_total", kind="void_invoice", outcome="succeeded") == 1
    webhook = {"source": "webhook"}
    assert counts.of("webhook_events_total", **webhook, outcome="processed") == 1
    assert counts.of("webhook_events_total", **webhook, outcome="ignored") == 1
    assert counts.of("webhook_events_total", **webhook, outcome="refused") == 1
    for stage in ("received", "mirrored"):
        name = "webhook_delay_seconds_count"
        assert counts.of(name, **webhook, stage=stage) == 2


@pytest.mark.django_db(transaction=True)
def test_an_event_that_fails_is_counted_and_has_no_delay(
    orb: OrbSandbox, counts: Counts, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}
    orb.fail_next(count=20, status=503)

    deliver({**event_of(orb.invoice(orb.invoice_ids()[0])), "payload_style": "id"})

    assert WebhookEvent.objects.get().state == WebhookEvent.State.FAILED
    assert counts.of("webhook_events_total", outcome="failed") == 1
    assert counts.of("webhook_delay_seconds_count") == 0


@pytest.mark.django_db(transaction=True)
def test_labels_hold_words_and_never_ids(orb: OrbSandbox, counts: Counts) -> None:
    services.sync_invoices(mode="full")
    for invoice_id in orb.invoice_ids()[:5]:
        services.fetch_invoice(invoice_id)

    words = {value for _, labels in samples() for name, value in labels if name != "le"}
    assert {word for word in words if not re.fullmatch(r"[A-Za-z_/{}]+", word)} == set()
    assert not words & set(orb.invoice_ids())


@pytest.mark.django_db(transaction=True)
def test_requests_are_counted_by_the_routes_of_orb(
    orb: OrbSandbox, counts: Counts
) -> None:
    an_id = "void"  # as an id can look like a word of a path
    days = {"start_date": "2026-01-01", "end_date": "2026-01-31"}
    line = {"amount": "1", "quantity": 1, "name": "Setup", **days}
    charge = {"invoice_id": an_id, **line}
    invoice = {"currency": "USD", "invoice_date": "2026-01-01", "line_items": []}
    calls: dict[str, list[dict[str, Any]]] = {
        "ping": [{}],
        "fetch_invoice": [{"invoice_id": an_id}],
        "fetch_upcoming_invoice": [{"subscription_id": an_id}],
        "fetch_invoices_page": [{}],
        "read_invoices_page": [{"summaries": True}],
        "list_invoices": [{}],
        "fetch_webhook_events_page": [{"created_at_gte": datetime.now(timezone.utc)}],
        "create_invoice": [{"customer_id": an_id, **invoice}],
        "create_invoice_line_item": [charge],
        "delete_invoice_line_item": [{"invoice_id": an_id, "line_item_id": an_id}],
        "issue_invoice": [{"invoice_id": an_id}],
        "mark_invoice_paid": [
            {"invoice_id": an_id, "payment_received_date": "2026-01-01"}
        ],
        "pay_invoice": [{"invoice_id": an_id}],
        "regenerate_invoice_pdf": [{"invoice_id": an_id}],
        "create_portal_session": [
            {"customer_id": an_id},
            {"external_customer_id": an_id},
        ],
        "update_invoice": [{"invoice_id": an_id, "changes": {}}],
        "void_invoice": [{"invoice_id": an_id}],
    }
    others = {"before_request", "close", "from_settings"}
    methods = {
        name
        for name in dir(OrbClient)
        if not name.startswith("_") and callable(getattr(OrbClient, name))
    }
    assert methods - others == calls.keys()

    client = OrbClient(orb.api_key, orb.base_url, retries=0)
    for name, each in calls.items():
        for arguments in each:
            with suppress(OrbError):
                answer = getattr(client, name)(**arguments)
                if name == "list_invoices":
                    next(answer)

    known = {re.sub("<[^>]*>", "{id}", rule.rule) for rule in routes._URLS.iter_rules()}
    assert counts.routes() <= known
    assert len(counts.routes()) == 15


@pytest.mark.django_db(transaction=True)
def test_nothing_is_counted_unless_enabled(
    orb: OrbSandbox, counts: Counts, settings: Any
) -> None:
    enable(settings)

    services.sync_invoices(mode="full")

    assert counts.grown() == set()


def test_nothing_is_imported_unless_enabled() -> None:
    code = (
        "import django, sys; django.setup(); from django_orb import metrics, tasks; "
        "metrics.waited('reads', 1.0); "
        "print([name for name in metrics.PACKAGES.values() if name in sys.modules])"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )

    assert shown.stdout.decode().strip() == "[]"


@pytest.mark.parametrize("name", metrics.PACKAGES)
def test_a_package_that_is_not_installed_is_named_with_its_command(
    name: str,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, metrics.PACKAGES[name], None)
    # Prometheus takes no second metric of a name, so the first ones are kept.
    monkeypatch.setattr(metrics, "_sink", cache(metrics._sink.__wrapped__))
    enable(settings, name)
    for _ in range(3):
        metrics.waited("reads", 1.0)

    (record,) = caplog.records
    assert f'pip install "django-orb[{name}]"' in record.getMessage()


def test_a_metric_that_fails_does_not_fail_what_it_measures(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    enable(settings, "prometheus")

    def fail(*args: Any, **named: Any) -> None:
        raise ValueError

    monkeypatch.setattr(prometheus_client.Histogram, "labels", fail)
    monkeypatch.setattr(prometheus_client.Counter, "labels", fail)

    metrics.waited("reads", 1.0)

    assert "could not be recorded" in caplog.text


COUNTING = """
import django
django.setup()
from django_orb import metrics
metrics.waited("reads", 1.0)
metrics.page_read("full")
"""


def test_several_processes_are_added_up(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DJANGO_ORB_TEST_METRICS": "prometheus",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    started = [
        subprocess.Popen([sys.executable, "-c", COUNTING], env=environment)
        for _ in range(2)
    ]
    assert [process.wait() for process in started] == [0, 0]

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"django_orb_{name}", labels)

    assert value("pages_total", kind="full") == 2
    assert value("budget_wait_seconds_count", budget="reads") == 2
    assert value("budget_wait_seconds_sum", budget="reads") == 2


@pytest.fixture(scope="module")
def telemetry() -> tuple[InMemoryMetricReader, InMemorySpanExporter]:
    """OpenTelemetry's providers, which a process can set once."""
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    otel_metrics.set_meter_provider(MeterProvider([reader]))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel_trace.set_tracer_provider(provider)
    return reader, exporter


@pytest.mark.django_db(transaction=True)
def test_opentelemetry_gets_the_same_and_traces(
    orb: OrbSandbox,
    settings: Any,
    telemetry: tuple[InMemoryMetricReader, InMemorySpanExporter],
) -> None:
    reader, exporter = telemetry
    enable(settings, "opentelemetry")
    exporter.clear()
    found = orb.invoice_ids()[0]

    tasks.sync_invoice(found)

    asked, task = exporter.get_finished_spans()
    assert (task.name, asked.name) == ("django_orb.sync_invoice", "GET /invoices/{id}")
    assert asked.parent == task.get_span_context()
    assert (asked.attributes or {})["http.response.status_code"] == 200
    assert found not in asked.to_json()
    data = reader.get_metrics_data()
    assert data is not None
    names = {
        metric.name
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"django_orb.requests", "django_orb.request_seconds"} <= names


@pytest.mark.django_db(transaction=True)
def test_the_log_names_ids_and_never_keys_or_payloads(
    orb: OrbSandbox, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "WEBHOOK_IN_PROCESS": True}
    caplog.set_level(logging.DEBUG, "django_orb")
    made = orb.add_invoice(memo="a customer's secret")
    run = services.sync_invoices(mode="full")
    orb.fail_next(count=20, status=503)
    deliver(event_of({"id": made["id"], "memo": "a customer's secret"}))
    orb.clear_faults()
    orb.fail_next(count=20, status=401)
    with pytest.raises(OrbSyncFailedError):
        services.sync_invoices(mode="full")

    ends = [one for one in caplog.records if one.name.endswith("sync.runs")]
    assert [(one.levelname, vars(one)["orb_run_id"]) for one in ends] == [
        ("INFO", pk)
        for pk in SyncRun.objects.order_by("pk").values_list("pk", flat=True)
    ]
    assert f"{run.created} created" in ends[0].getMessage()
    (failed,) = (one for one in caplog.records if hasattr(one, "orb_event_id"))
    assert vars(failed)["orb_event_id"] == WebhookEvent.objects.get().pk
    assert vars(failed)["orb_invoice_id"] == made["id"]
    for secret in (orb.api_key, "a customer's secret"):
        assert secret not in caplog.text
