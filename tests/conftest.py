from __future__ import annotations

import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test import TransactionTestCase

from . import brokers, by_chance, celery_app, databases, leftovers, times
from .by_chance import ALIASES

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

__all__ = ["celery_app"]  # so that a task sent without care goes to memory://

# No test is about time, and a busy machine is no failure.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

# More would wait for the same three databases.
MAX_WORKERS = 4
BEFORE = pytest.StashKey[dict[str, Any]]()
LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="run the long proofs in their full form"
    )
    parser.addoption(
        "--all",
        action="store_true",
        help="leave nothing out by chance: each test on every database, and all proofs",
    )
    parser.addoption(
        "--databases",
        type=int,
        help="with --all: run each test on at most so many databases, chosen by chance",
    )
    parser.addoption(
        "--variants",
        type=int,
        help="run each test with at most so many of its parameters, chosen by chance",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Run the whole suite in parallel; what is named runs in this process."""
    if _names_tests(config):
        config.option.all = True
    if _is_for_workers(config):
        config.option.numprocesses = max(2, min(os.cpu_count() or 2, MAX_WORKERS))
    return (yield)


def _names_tests(config: pytest.Config) -> bool:
    # A worker's arguments are those that its master found.
    is_worker = hasattr(config, "workerinput")
    return (
        not is_worker and config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    )


def _is_for_workers(config: pytest.Config) -> bool:
    """Whether all tests are to be run, and the command does not say by how many."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.pluginmanager.hasplugin("xdist"):
        return False
    option = config.option
    looks = option.usepdb or option.trace or option.collectonly or option.help
    return not _names_tests(config) and not looks and option.numprocesses is None


def pytest_configure() -> None:
    def tear_down(self: Any) -> None:
        for alias in self._databases_names(include_mirrors=False):
            databases.empty(alias)

    TransactionTestCase._fixture_teardown = tear_down  # type: ignore[attr-defined]


@pytest.hookimpl(trylast=True)  # after those that an expression leaves out
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    absence = databases.chromium_absence()
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="a long proof: give --long"))
        if item.get_closest_marker("browser") and absence and not databases.REQUIRED:
            item.add_marker(pytest.mark.skip(reason=absence))
    before = [*items]
    seed = config.getoption("randomly_seed", 0)
    left_out = config.stash[LEFT_OUT] = Counter()
    if not config.getoption("--all") and not config.getoption("--long"):
        left_out.update(by_chance.leave_out(items, seed))
    elif most := config.getoption("--databases"):
        count = by_chance.leave_out_databases(items, seed, most)
        left_out[by_chance.FEWER_DATABASES] = count
    most = config.getoption("--variants")
    if most:
        left_out[by_chance.VARIANTS] = by_chance.leave_out_variants(items, seed, most)
    left_out += Counter()  # without what is 0
    config.hook.pytest_deselected(items=[*{*before} - {*items}])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if databases.REQUIRED and item.get_closest_marker("browser"):
        absence = databases.chromium_absence()
        if absence:
            pytest.fail(absence, pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    leftovers.restore()
    item.stash[BEFORE] = leftovers.snapshot()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that leaves something changed, rather than one that comes later."""
    result = yield
    left = leftovers.differences(item.stash[BEFORE], leftovers.snapshot())
    if left:
        pytest.fail("The test left changed: " + "; ".join(left), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Let a worker report a test that logged half of a surrogate pair."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode())
        for name, text in report.sections
    ]
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        left_out = session.config.stash.get(LEFT_OUT, Counter())
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each worker leaves out the same."""
    left_out = getattr(node, "workeroutput", {}).get("left_out", {})
    node.config.stash[LEFT_OUT] = Counter(left_out)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for what, count in config.stash.get(LEFT_OUT, Counter()).items():
        how = by_chance.REMEDIES.get(what, "give --all")
        terminalreporter.write_line(f"{count} left out {what}: {how}")
    absent = {
        **django_settings.ABSENT_DATABASES,
        "redis": databases.broker_absence(databases.redis_url()),
        "rabbitmq": databases.broker_absence(databases.rabbitmq_url()),
        "chromium": databases.chromium_absence(),
        "pgbouncer": databases.pgbouncer_absence(),
    }
    verdict = "its tests failed" if databases.REQUIRED else "its tests were skipped"
    for server, reason in absent.items():
        if reason:
            terminalreporter.write_line(f"{server} is not there, {verdict}: {reason}")


def skip_or_fail(server: str, reason: str) -> None:
    message = f"{server} is not there: {reason}"
    if databases.REQUIRED:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _each_database(*, transaction: bool) -> list[Any]:
    """Return the parameters of a fixture that runs its tests on every database."""
    params = []
    for name, alias in ALIASES.items():
        marks = [pytest.mark.django_db(databases=[alias], transaction=transaction)]
        reason = django_settings.ABSENT_DATABASES.get(alias)
        if reason:
            # Without django_db: pytest-django would look for the alias first.
            marks = []
            if not databases.REQUIRED:
                marks = [pytest.mark.skip(reason=f"{name} is not there: {reason}")]
        if name == "sqlite":
            marks.append(pytest.mark.sqlite)
        params.append(pytest.param(alias, marks=marks, id=name))
    return params


@pytest.fixture(autouse=True)
def _current_alias(request: pytest.FixtureRequest) -> Iterator[None]:
    """Route to the one database that the test's django_db mark names."""
    before = databases.current_alias
    marker = request.node.get_closest_marker("django_db")
    aliases = marker.kwargs.get("databases") if marker else None
    if aliases and len(aliases) == 1:
        databases.use_alias(next(iter(aliases)))
    yield
    databases.use_alias(before)


def _check_alias(alias: str) -> None:
    reason = django_settings.ABSENT_DATABASES.get(alias)
    if reason:
        skip_or_fail(alias, reason)
    if databases.current_alias != alias:
        pytest.fail("do not mark a test with django_db that runs on every database")


@pytest.fixture(params=_each_database(transaction=False))
def any_database(request: pytest.FixtureRequest) -> str:
    """Run the test on every database, in a transaction; returns the alias."""
    _check_alias(request.param)
    return str(request.param)


@pytest.fixture(params=_each_database(transaction=True))
def any_committed_database(request: pytest.FixtureRequest) -> str:
    """Run the test on every database with real commits; returns the alias."""
    _check_alias(request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def _new_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with a broker about which the process knows nothing."""
    from django_orb.publishing import deadline, messages

    monkeypatch.setattr(messages, "broker", deadline.Broker())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes the package no time; what it would have waited is in the list."""
    seconds: list[float] = []
    times.rule(monkeypatch, sleep=seconds.append)
    return seconds


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails is not sent again within the same call."""
    from django_orb.client import OrbClient

    make = OrbClient.from_settings
    monkeypatch.setattr(
        OrbClient, "from_settings", lambda **options: make(**{**options, "retries": 0})
    )


@pytest.fixture
def without_xlsxwriter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra [xlsx] is not installed."""

    monkeypatch.setitem(sys.modules, "xlsxwriter", None)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[brokers.Message]:
    """The messages that are handed to the broker, which does nothing with them."""
    return brokers.catch_messages(monkeypatch)


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker takes no message."""
    brokers.refuse_messages(monkeypatch)


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn ATOMIC_REQUESTS on for the database of the test."""
    database = connections.settings[databases.current_alias]
    monkeypatch.setitem(database, "ATOMIC_REQUESTS", True)


def environment_of(alias: str) -> dict[str, str]:
    """The environment of a process with `tests.settings` and this run's databases."""
    names = {
        f"DJANGO_ORB_{name.upper()}_NAME": str(connections.settings[known]["NAME"])
        for name, known in ALIASES.items()
        if known in connections.settings
    }
    return {
        **os.environ,
        **names,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DJANGO_ORB_TEST_ALIAS": alias,
    }


@pytest.fixture
def process_environment(settings: Any) -> Callable[[], dict[str, str]]:
    """
    Return a function giving the environment of a process that joins the test.

    The process uses `tests.settings` with the test's own database and Orb; its
    database must be a committed one.
    """

    def environment() -> dict[str, str]:
        return {
            **environment_of(databases.current_alias),
            "DJANGO_ORB_TEST_API_KEY": settings.DJANGO_ORB["API_KEY"],
            "DJANGO_ORB_TEST_BASE_URL": settings.DJANGO_ORB["BASE_URL"],
        }

    return environment


@pytest.fixture
def redis_url() -> str:
    url = databases.redis_url()
    reason = databases.broker_absence(url)
    if reason:
        skip_or_fail("redis", reason)
    return url


@pytest.fixture
def rabbitmq_url() -> str:
    url = databases.rabbitmq_url()
    reason = databases.broker_absence(url)
    if reason:
        skip_or_fail("rabbitmq", reason)
    return url


@pytest.fixture
def make_database(tmp_path: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Return a function that makes an empty database on an engine."""
    made: list[tuple[str, str]] = []

    def make(engine: str) -> dict[str, Any]:
        name = f"django_orb_host{databases.slot()}_{uuid.uuid4().hex[:8]}"
        if engine == "sqlite":
            path = str(tmp_path / f"{name}.sqlite3")
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
        reason = django_settings.ABSENT_DATABASES.get(engine)
        if reason:
            skip_or_fail(engine, reason)
        with databases.server(engine) as execute:
            execute(f"CREATE DATABASE {name}")
        made.append((engine, name))
        return databases.address_of(engine, name)

    yield make
    for engine, name in made:
        how = " WITH (FORCE)" if engine == "postgresql" else ""
        with databases.server(engine) as execute:
            execute(f"DROP DATABASE {name}{how}")


@pytest.fixture
def orb(request: pytest.FixtureRequest, settings: Any) -> Iterator[OrbSandbox]:
    """
    Run a sandbox and point DJANGO_ORB at it.

    Parametrize it indirectly with a dict of other options for `OrbSandbox`.
    """
    from django_orb.testing import OrbSandbox

    # A still clock: no draft is issued by itself in the middle of a test.
    still = {"invoices": 60, "seed": 1, "now": datetime.now(timezone.utc)}
    options = {**still, **getattr(request, "param", {})}
    with OrbSandbox(**options) as sandbox:
        settings.DJANGO_ORB = {
            **settings.DJANGO_ORB,
            "API_KEY": sandbox.api_key,
            "BASE_URL": sandbox.base_url,
        }
        yield sandbox
