"""
A plugin of pytest that tries changes of the code; see `mutants.py`.

The tests are collected and the databases made once. Each change is tried in a fork of
this process: what differs in the changed module replaces what is loaded, so that a test
that takes a millisecond takes no longer here.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import coverage
import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django.plugin import blocking_manager_key

# A test may take so much longer than it did without the change, and so many seconds.
TIMES, SECONDS = 5, 15
SURVIVED, KILLED, UNFINISHED = 0, 1, 2


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--changes", type=Path, help="a file of changes to try")
    parser.addoption("--results", type=int, help="where to write what became of them")
    parser.addoption("--seconds", type=float, help="how long to try one change")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Runner(config))


class Runner:
    def __init__(self, config: pytest.Config) -> None:
        self.changes = json.loads(config.getoption("--changes").read_text())
        self.limit: float = config.getoption("--seconds")
        self.results = os.fdopen(config.getoption("--results"), "w")
        self.took: dict[pytest.Item, float] = {}
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        os.nice(10)
        reached = self.learn(session)
        databases = Databases(session)
        for change in self.changes:
            path = path_of(change)
            source = path.read_text()
            items = self.fitting(change, source, reached[str(path)])
            databases.put_back()
            path.write_text(change["source"])
            try:
                result = self.attempt(change, items)
            finally:
                path.write_text(source)
            if result["outcome"] == "too slow":
                databases.flush()
            print(json.dumps(result), file=self.results, flush=True)
        return True

    def learn(self, session: pytest.Session) -> dict[str, dict[int, set[str]]]:
        """How long tests take, and per file which of them reach each line."""
        files = sorted({str(path_of(change)) for change in self.changes})
        reader = coverage.Coverage(data_file=None, include=files, config_file=False)
        reader.start()
        for item in session.items:
            reader.switch_context(item.nodeid)
            began = time.monotonic()
            if self.passes(item):
                self.took[item] = time.monotonic() - began
            else:
                print(
                    json.dumps({"fails without a change": self.failed}),
                    file=self.results,
                    flush=True,
                )
        reader.stop()
        data = reader.get_data()
        return {
            path: {
                line: set(names)
                for line, names in data.contexts_by_lineno(path).items()
            }
            for path in files
        }

    def passes(self, item: pytest.Item) -> bool:
        self.failed = ""
        # What belongs to the session, such as the databases, outlives each test.
        item.ihook.pytest_runtest_protocol(item=item, nextitem=item.session)
        return not self.failed

    def fitting(
        self, change: dict[str, Any], source: str, reached: dict[int, set[str]]
    ) -> list[pytest.Item]:
        """The tests that may notice the change, in the order to run them in."""
        lines = lines_to_reach(ast.parse(source), *change["lines"])
        names = {
            name
            for line, found in reached.items()
            if lines is None or line in lines
            for name in found
        }
        items = [item for item in self.took if item.nodeid in names]
        return sorted(items, key=lambda item: (_is_on_server(item), self.took[item]))

    def attempt(
        self, change: dict[str, Any], items: list[pytest.Item]
    ) -> dict[str, Any]:
        began = time.monotonic()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            code = KILLED
            try:
                code, reason = self.attempt_here(change, items)
                os.write(writing, reason.encode())
            except BaseException as err:  # noqa: BLE001  as at an import
                os.write(writing, f"{type(err).__name__}: {err}".encode()[:500])
            finally:
                os._exit(code)
        os.close(writing)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        with os.fdopen(reading) as pipe:
            reason = pipe.read()
        outcomes = {SURVIVED: "survived", KILLED: "killed", UNFINISHED: "unfinished"}
        return {
            **{name: change[name] for name in ("module", "kind", "lines", "shown")},
            "outcome": outcomes.get(status, "too slow"),
            "reason": reason,
            "tests": len(items),
            "seconds": round(time.monotonic() - began, 1),
        }

    def attempt_here(
        self, change: dict[str, Any], items: list[pytest.Item]
    ) -> tuple[int, str]:
        graft(sys.modules[module_of(change)], change["source"])
        deadline = time.monotonic() + self.limit
        for number, item in enumerate(items):
            if time.monotonic() > deadline:
                return UNFINISHED, f"{number} of {len(items)} tests"
            # Ends the process, also in the middle of a loop that does not end.
            signal.setitimer(signal.ITIMER_REAL, TIMES * self.took[item] + SECONDS)
            if not self.passes(item):
                return KILLED, self.failed
        return SURVIVED, ""


class Databases:
    """Those of the tests, between two changes."""

    def __init__(self, session: pytest.Session) -> None:
        self._blocker = session.config.stash[blocking_manager_key]
        self._servers = []
        self._files = []
        for connection in connections.all(initialized_only=True):
            connection.close()  # it must not be shared with a fork
            if connection.vendor == "sqlite":
                self._files.append(Path(connection.settings_dict["NAME"]))
            else:
                self._servers.append(connection.alias)
        for path in self._files:
            shutil.copy(path, f"{path}.aside")

    def put_back(self) -> None:
        for path in self._files:
            for suffix in ("-journal", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            shutil.copy(f"{path}.aside", path)

    def flush(self) -> None:
        """Forget on the servers what a test left that was ended."""
        for alias in self._servers:
            with self._blocker.unblock():
                call_command("flush", database=alias, interactive=False, verbosity=0)
                connections[alias].close()

    def remove(self) -> None:
        for path in self._files:
            Path(f"{path}.aside").unlink()


def path_of(change: dict[str, Any]) -> Path:
    return Path.cwd() / "django_orb" / f"{change['module']}.py"


def module_of(change: dict[str, Any]) -> str:
    return f"django_orb.{change['module'].replace('/', '.')}"


def lines_to_reach(tree: ast.AST, first: int, last: int) -> set[int] | None:
    """Those of the statement around the lines; None outside functions, for any line."""
    statement: ast.stmt | None = None
    is_inside = False
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, (ast.FunctionDef, ast.Lambda)) and _is_in(node, first):
            body: Any = node.body if isinstance(node.body, list) else [node.body]
            is_inside = is_inside or first >= body[0].lineno
        if isinstance(node, ast.stmt) and _is_in(node, first):
            statement = node
    if statement is None or not is_inside:
        return None
    inner = getattr(statement, "body", None)
    end = statement.end_lineno or last
    if inner and first < inner[0].lineno:
        end = inner[0].lineno - 1
    return set(range(statement.lineno, max(end, last) + 1))


def _is_in(node: Any, line: int) -> bool:
    return bool(node.lineno <= line <= node.end_lineno)


def graft(old: ModuleType, source: str) -> None:
    """Have a module do what its changed source says, for all who imported from it."""
    new = ModuleType(old.__name__)
    for name in ("__file__", "__package__", "__spec__"):
        setattr(new, name, getattr(old, name))
    exec(compile(source, str(old.__file__), "exec"), vars(new))
    _merge(old, new, old.__name__)


def _merge(old: Any, new: Any, module: str) -> None:
    for name, value in list(vars(new).items()):
        before = vars(old).get(name)
        if before is value or name in ("__dict__", "__weakref__", "__builtins__"):
            continue
        is_class = isinstance(value, type) and isinstance(before, type)
        if is_class and value.__module__ == module:
            _merge(before, value, module)
        elif not _swap_code(before, value) and _differs(before, value):
            _replace(old, name, before, value)
    for name, value in list(vars(old).items()):
        if name not in vars(new) and isinstance(value, FunctionType):
            delattr(old, name)  # such as what a decorator added


def _swap_code(old: Any, new: Any) -> bool:
    """Have a function, or what wraps one, run other code. Return whether it can."""
    if type(old) is not type(new):
        return False
    for attribute in ("__func__", "fget", "func", "__wrapped__"):
        inner = getattr(old, attribute, None), getattr(new, attribute, None)
        if None not in inner:
            getattr(old, "cache_clear", lambda: None)()
            return _swap_code(*inner)
    if not isinstance(old, FunctionType) or hasattr(old, "__wrapped__"):
        return False
    try:
        old.__code__ = new.__code__
    except ValueError:  # it has another closure
        return False
    old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
    return True


def _differs(old: Any, new: Any) -> bool:
    return bool(type(old) is not type(new) or old != new)


def _replace(owner: Any, name: str, before: Any, value: Any) -> None:
    setattr(owner, name, value)
    if not isinstance(owner, ModuleType):
        return
    for other in list(sys.modules.values()):
        is_near = getattr(other, "__name__", "").startswith(("django_orb", "tests"))
        if is_near and vars(other).get(name, other) is before:
            setattr(other, name, value)


def _is_on_server(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None)
    names = parameters.id if parameters else ""
    return "postgresql" in names or "mariadb" in names
