"""
Say what waits and how old the mirror is, as gauges that are read on demand.

They are the database's figures, the same in each process, so no process counts them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import Error

from django_orb.db import primary
from django_orb.models import SyncRun

from .facts import WHOLE, Backlog, Facts, read_facts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

logger = logging.getLogger(__name__)


class Gauge(NamedTuple):
    """A gauge with one label; `read` gives its values by the label's."""

    name: str
    help: str
    label: str
    read: Callable[[Facts], dict[str, float]]


def _backlogs(facts: Facts) -> dict[str, Backlog]:
    return {
        "webhook_events_waiting": facts.events_waiting,
        "webhook_events_failed": facts.events_failed,
        "operations_waiting": facts.operations_waiting,
        "operations_needing_attention": facts.operations_needing_attention,
        "changes_waiting": facts.changes_waiting,
        "changes_failed": facts.changes_failed,
        "invoices_failed": Backlog(facts.invoices_failed),
        "erasures_waiting": facts.erasures_waiting,
        "erasures_failed": facts.erasures_failed,
    }


def _counts(facts: Facts) -> dict[str, float]:
    return {name: float(one.count) for name, one in _backlogs(facts).items()}


def _ages(facts: Facts) -> dict[str, float]:
    return {
        name: _seconds(one.oldest_at, facts)
        for name, one in _backlogs(facts).items()
        if one.oldest_at
    }


def _mirror_ages(facts: Facts) -> dict[str, float]:
    # Left out before the first success: 0 would look like a mirror that is up to date.
    ends = {kind: run.succeeded_at for kind, run in facts.runs.items()}
    return {
        kind: _seconds(ends[kind], facts)
        for kind in WHOLE
        if ends.get(kind) is not None
    }


def _run_ages(facts: Facts) -> dict[str, float]:
    # Always all kinds, so that a series goes back to 0 when its run ends.
    ages = dict.fromkeys(SyncRun.Kind.values, 0.0)
    for run in facts.active_runs:
        age = _seconds(run.started_at, facts)
        ages[run.kind] = max(ages.get(run.kind, 0.0), age)
    return ages


def _seconds(moment: datetime | None, facts: Facts) -> float:
    return max(0.0, (facts.now - moment).total_seconds()) if moment else 0.0


GAUGES = (
    Gauge("backlog", "Rows that wait or need attention.", "what", _counts),
    Gauge("backlog_age_seconds", "How long the oldest of them waits.", "what", _ages),
    Gauge(
        "mirror_age_seconds",
        "How long ago a run of the kind last succeeded.",
        "kind",
        _mirror_ages,
    ),
    Gauge("run_age_seconds", "How long ago active runs began.", "kind", _run_ages),
)


class PrometheusCollector:
    """Register it in a registry of `prometheus_client` that is not the default one."""

    # Without this the registry would collect when the collector is registered, and so
    # ask the database while the project starts.
    def describe(self) -> Iterable[Metric]:
        return self._families({})

    def collect(self) -> Iterable[Metric]:
        facts = _read()
        return self._families({} if facts is None else _values(facts))

    def _families(self, values: dict[str, dict[str, float]]) -> Iterator[Metric]:
        # Imported here and below, because each belongs to an extra.
        from prometheus_client.core import GaugeMetricFamily

        for gauge in GAUGES:
            name = f"django_orb_{gauge.name}"
            family = GaugeMetricFamily(name, gauge.help, labels=[gauge.label])
            for label, value in values.get(gauge.name, {}).items():
                family.add_metric([label], value)
            yield family


def _values(facts: Facts) -> dict[str, dict[str, float]]:
    return {gauge.name: gauge.read(facts) for gauge in GAUGES}


def register(names: Sequence[str]) -> None:
    """Register the gauges, once per process, with each system that METRICS names."""
    for name in names:
        try:
            _register(name)
        except ImportError:
            logger.debug("%s is not installed, as a check says.", name)


# The default registry refuses a second collector of the same names.
@cache
def _register(name: str) -> None:
    if name == "prometheus":
        from prometheus_client import REGISTRY

        REGISTRY.register(PrometheusCollector())
    if name == "opentelemetry":
        from opentelemetry.metrics import get_meter

        meter = get_meter("django_orb")
        for gauge in GAUGES:
            observe = partial(_observe, gauge)
            meter.create_observable_gauge(
                f"django_orb.{gauge.name}", [observe], description=gauge.help
            )


def _observe(gauge: Gauge, options: Any) -> Iterable[Any]:
    from opentelemetry.metrics import Observation

    facts = _read()
    values = {} if facts is None else gauge.read(facts)
    return [Observation(value, {gauge.label: label}) for label, value in values.items()]


def _read() -> Facts | None:
    """Return None if the database is away: the project's other metrics must not fail."""
    try:
        with _connection():
            return read_facts()
    except Error:
        logger.warning("The gauges could not be read.", exc_info=True)
        return None


@contextmanager
def _connection() -> Iterator[None]:
    """Close the connection if the block opened it: the thread may be a server's own."""
    connection = primary.connection()
    was_open = connection.connection is not None
    try:
        yield
    finally:
        if not was_open:
            connection.close()
