"""
Record metrics and traces with what `METRICS` names: Prometheus, OpenTelemetry.

Each function records what has happened, and returns at once if nothing is enabled.
Labels hold a few words that this code knows, and never an id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from django.conf import settings
from django.core.signals import setting_changed

from .conf import get_settings
from .exceptions import OrbConfigurationError, OrbResponseError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T", bound="Routed")

#: By the name in METRICS, the package that it needs.
PACKAGES = {"prometheus": "prometheus_client", "opentelemetry": "opentelemetry"}


@dataclass(frozen=True)
class Instrument:
    """A histogram if it has `buckets`, else a counter."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REQUESTS = Instrument(
    "requests", "Requests to Orb, each retry too.", ("method", "route", "outcome")
)
REQUEST_SECONDS = Instrument(
    "request_seconds", "How long Orb took to answer.", ("method", "route"), _SECONDS
)
BUDGET_WAITS = Instrument(
    "budget_wait_seconds",
    "How long requests waited for their turn in the budget.",
    ("budget",),
    _SECONDS,
)
PAGES = Instrument("pages", "Pages of Orb's list that were written.", ("kind",))
INVOICES = Instrument(
    "invoices",
    "Invoices that were seen, by what became of them.",
    ("origin", "outcome"),
)
RUN_SECONDS = Instrument(
    "run_seconds",
    "How long runs took.",
    ("kind", "outcome"),
    (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0),
)
EVENTS = Instrument(
    "webhook_events", "Attempts at webhook events by outcome.", ("source", "outcome")
)
EVENT_DELAYS = Instrument(
    "webhook_delay_seconds",
    "From an event in Orb until it was received, and until the mirror had it.",
    ("source", "stage"),
    (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
)
OPERATIONS = Instrument(
    "operations", "Operations that ended, by outcome.", ("kind", "outcome")
)
INSTRUMENTS = (
    REQUESTS,
    REQUEST_SECONDS,
    BUDGET_WAITS,
    PAGES,
    INVOICES,
    RUN_SECONDS,
    EVENTS,
    EVENT_DELAYS,
    OPERATIONS,
)


# Protocols, because what sends, writes and receives imports this module.
class Routed(Protocol):
    """A path of Orb's API: its route is the same for all ids."""

    @property
    def route(self) -> str: ...


class Written(Protocol):
    """The outcome of writing invoices: their ids, and for `failed` the reasons."""

    @property
    def created(self) -> Sequence[str]: ...
    @property
    def updated(self) -> Sequence[str]: ...
    @property
    def unchanged(self) -> Sequence[str]: ...
    @property
    def missing(self) -> Sequence[str]: ...
    @property
    def doubtful(self) -> Sequence[str]: ...
    @property
    def failed(self) -> Mapping[str, str]: ...


class Event(Protocol):
    """A webhook event, as it was received."""

    source: str
    created_at: datetime | None
    received_at: datetime


def measures_request(
    send: Callable[Concatenate[S, str, str, T, P], R],
) -> Callable[Concatenate[S, str, str, T, P], R]:
    """
    Decorate a function that sends one request and returns what has a `response`.

    Its arguments begin with a name, the method, and a path that knows its route.
    """

    @wraps(send)
    def measured(
        sender: S, name: str, method: str, path: T, *args: P.args, **named: P.kwargs
    ) -> R:
        sinks = _enabled()
        if not sinks:
            return send(sender, name, method, path, *args, **named)
        # A duration must not follow a clock that is set; a span begins at a time of
        # day, which OpenTelemetry counts in nanoseconds.
        started, began_at = time.perf_counter(), time.time_ns()
        status: int | None = None
        outcome = "no_answer"
        try:
            answer = send(sender, name, method, path, *args, **named)
            status = int(getattr(answer, "response").status_code)  # noqa: B009
            outcome = _outcome(status)
            return answer
        except Exception as err:
            outcome = _failure(err)
            raise
        finally:
            seconds = time.perf_counter() - started
            route = path.route
            _count(sinks, REQUESTS, method, route, outcome)
            _observe(sinks, REQUEST_SECONDS, seconds, method, route)
            _each(
                sinks,
                lambda sink: sink.request(method, route, status, outcome, began_at),
            )

    return cast("Callable[Concatenate[S, str, str, T, P], R]", measured)


def waited(budget: str, seconds: float) -> None:
    """Record how long a request waited for its turn in a budget."""
    if sinks := _enabled():
        _observe(sinks, BUDGET_WAITS, max(0.0, seconds), budget)


def page_read(kind: str) -> None:
    """Record that a run of this kind wrote a page of Orb's list."""
    if sinks := _enabled():
        _count(sinks, PAGES, kind)


def written(origin: str, result: Written) -> None:
    """Record invoices that a run, a webhook or a fetch brought into the mirror."""
    if sinks := _enabled():
        outcomes = {
            "created": result.created,
            "updated": result.updated,
            "unchanged": result.unchanged,
            "missing": result.missing,
            "failed": result.failed,
            "doubtful": result.doubtful,
        }
        for outcome, ids in outcomes.items():
            if ids:
                _count(sinks, INVOICES, origin, outcome, amount=len(ids))


def run_ended(
    kind: str, outcome: str, started_at: datetime, ended_at: datetime | None
) -> None:
    """Record that a run ended in this state, and how long it took."""
    sinks = _enabled()
    if sinks and ended_at is not None:
        seconds = _between(started_at, ended_at)
        _observe(sinks, RUN_SECONDS, seconds, kind, outcome)


def events_ended(events: Iterable[Event], outcome: str, ended_at: datetime) -> None:
    """Record an attempt at webhook events; if it succeeded, the mirror has them."""
    sinks = _enabled()
    for event in events if sinks else ():
        _count(sinks, EVENTS, event.source, outcome)
        if event.created_at is not None and outcome != "failed":
            for stage, at in (("received", event.received_at), ("mirrored", ended_at)):
                seconds = _between(event.created_at, at)
                _observe(sinks, EVENT_DELAYS, seconds, event.source, stage)


def webhook_refused() -> None:
    """Record that a request to the webhook endpoint was refused."""
    if sinks := _enabled():
        _count(sinks, EVENTS, "webhook", "refused")


def operation_ended(kind: str, outcome: str) -> None:
    """Record that an operation ended in this state."""
    if sinks := _enabled():
        _count(sinks, OPERATIONS, kind, outcome)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Trace the block as a span, to which all that is traced inside belongs."""
    with ExitStack() as stack:
        for sink in _enabled():
            sink.span(name, stack)
        yield


def _outcome(status: int) -> str:
    by_status = {404: "not_found", 429: "rate_limited"}
    by_class = {2: "ok", 3: "redirect", 4: "refused", 5: "server_error"}
    return by_status.get(status) or by_class.get(status // 100, "other")


def _failure(err: Exception) -> str:
    if isinstance(err, OrbResponseError):
        return "unreadable"
    # A time-out while the body is read arrives wrapped in a ConnectionError.
    inner = err.args[0] if err.args else None
    is_timeout = any("Timeout" in type(cause).__name__ for cause in (err, inner))
    return "timeout" if is_timeout else "no_answer"


def _between(start: datetime, end: datetime) -> float:
    """Return the seconds between two times; 0 if clocks of two machines disagree."""
    return max(0.0, (end - start).total_seconds())


class Sink(Protocol):
    """A receiver of counts and times."""

    def count(self, what: Instrument, amount: int, labels: Sequence[str]) -> None: ...

    def observe(
        self, what: Instrument, value: float, labels: Sequence[str]
    ) -> None: ...

    def request(
        self, method: str, route: str, status: int | None, outcome: str, began_at: int
    ) -> None: ...

    def span(self, name: str, stack: ExitStack) -> None: ...


class _Prometheus:
    """Write to the default registry of `prometheus_client`, or its multiprocess files."""

    def __init__(self) -> None:
        # Here, since the package is optional, and is loaded only if METRICS names it.
        from prometheus_client import Counter, Histogram

        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for instrument in INSTRUMENTS:
            name = f"django_orb_{instrument.name}"
            if instrument.buckets:
                self._histograms[instrument.name] = Histogram(
                    name, instrument.help, instrument.labels, buckets=instrument.buckets
                )
            else:
                # The package itself appends "_total" to the names of counters.
                self._counters[instrument.name] = Counter(
                    name, instrument.help, instrument.labels
                )

    def count(self, what: Instrument, amount: int, labels: Sequence[str]) -> None:
        self._counters[what.name].labels(*labels).inc(amount)

    def observe(self, what: Instrument, value: float, labels: Sequence[str]) -> None:
        self._histograms[what.name].labels(*labels).observe(value)

    def request(
        self, method: str, route: str, status: int | None, outcome: str, began_at: int
    ) -> None:
        """Do nothing: Prometheus has no traces."""

    def span(self, name: str, stack: ExitStack) -> None:
        """Do nothing: Prometheus has no traces."""


class _OpenTelemetry:
    """Write to the providers that the project has set up, if there are any."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        meter = metrics.get_meter("django_orb")
        self._trace = trace
        self._tracer = trace.get_tracer("django_orb")
        self._counters = {
            instrument.name: meter.create_counter(
                f"django_orb.{instrument.name}", "1", instrument.help
            )
            for instrument in INSTRUMENTS
            if not instrument.buckets
        }
        self._histograms = {
            instrument.name: meter.create_histogram(
                f"django_orb.{instrument.name}",
                "s",
                instrument.help,
                explicit_bucket_boundaries_advisory=list(instrument.buckets),
            )
            for instrument in INSTRUMENTS
            if instrument.buckets
        }

    def count(self, what: Instrument, amount: int, labels: Sequence[str]) -> None:
        named = dict(zip(what.labels, labels, strict=True))
        self._counters[what.name].add(amount, named)

    def observe(self, what: Instrument, value: float, labels: Sequence[str]) -> None:
        named = dict(zip(what.labels, labels, strict=True))
        self._histograms[what.name].record(value, named)

    def request(
        self, method: str, route: str, status: int | None, outcome: str, began_at: int
    ) -> None:
        """Record one span for a request when it is over."""
        # The names are OpenTelemetry's own for a client's requests:
        # https://opentelemetry.io/docs/specs/semconv/http/http-spans/
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.template": route,
        }
        if status is not None:
            attributes["http.response.status_code"] = status
        if outcome != "ok":
            attributes["error.type"] = outcome
        made = self._tracer.start_span(
            f"{method} {route}",
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=began_at,
        )
        if outcome != "ok":
            # Also after a 4xx, which OpenTelemetry counts as an error for clients,
            # though not for servers.
            made.set_status(self._trace.StatusCode.ERROR)
        made.end()

    def span(self, name: str, stack: ExitStack) -> None:
        stack.enter_context(self._tracer.start_as_current_span(name))


@cache
def _sink(name: str) -> Sink | None:
    """Return the process's only sink: Prometheus refuses a second of the same names."""
    makers: dict[str, Callable[[], Sink]] = {
        "prometheus": _Prometheus,
        "opentelemetry": _OpenTelemetry,
    }
    try:
        return makers[name]() if name in makers else None
    except ImportError:
        logger.warning(
            'METRICS names "%s", which is not installed: pip install "django-orb[%s]"',
            name,
            name,
        )
    except Exception:
        logger.exception('"%s", which METRICS names, cannot be used.', name)
    return None


# None: METRICS was not read yet.
_sinks: tuple[Sink, ...] | None = None


def _enabled() -> tuple[Sink, ...]:
    global _sinks
    if _sinks is None:
        if not settings.configured:  # a client without Django's settings
            return ()
        _sinks = tuple(sink for name in enabled_names() if (sink := _sink(name)))
    return _sinks


def enabled_names() -> list[str]:
    """Return what METRICS names, or nothing if the settings are wrong: checks tell."""
    try:
        names = get_settings().METRICS
    except OrbConfigurationError:
        return []
    # A single text would be taken for a list of its letters.
    is_list = isinstance(names, (list, tuple))
    return [str(name) for name in names] if is_list else []


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _sinks
    if setting == "DJANGO_ORB":
        _sinks = None


# Only tests that override settings send this signal.
setting_changed.connect(_forget, dispatch_uid="django_orb.metrics")


def _count(
    sinks: Sequence[Sink], what: Instrument, *labels: str, amount: int = 1
) -> None:
    _each(sinks, lambda sink: sink.count(what, amount, labels))


def _observe(
    sinks: Sequence[Sink], what: Instrument, value: float, *labels: str
) -> None:
    _each(sinks, lambda sink: sink.observe(what, value, labels))


def _each(sinks: Sequence[Sink], tell: Callable[[Sink], None]) -> None:
    """Call each sink, none of which may break what is measured."""
    for sink in sinks:
        try:
            tell(sink)
        except Exception:
            logger.exception("A metric could not be recorded.")
