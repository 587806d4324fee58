"""
Tests see what the package does, and replace little of it: these few, and no more.

What others offer is used instead: `times.py` for waiting and for clocks, `brokers.py`
for messages, `crash_points.py` for where a process dies, and the sandbox for whatever
Orb answers. What was wrong once is brought back by `put_back.py`, in one place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
# Limits, caches and versions that no seam reaches.
MAX_PATCHES = 30


def imported(tree: ast.AST) -> dict[str, str]:
    """Return the names that are imported anywhere in a file, and from where."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                names[(one.asname or one.name).partition(".")[0]] = one.name
        elif isinstance(node, ast.ImportFrom):
            for one in node.names:
                package = "tests." if node.level else ""
                names[one.asname or one.name] = f"{package}{node.module}.{one.name}"
    return names


def origin(target: ast.expr, names: dict[str, str]) -> str:
    """Return where the target of a patch comes from; "" if that cannot be told."""
    if isinstance(target, ast.Constant):
        return str(target.value)
    if isinstance(target, ast.JoinedStr):
        return origin(target.values[0], names)
    root = target
    while not isinstance(root, ast.Name):
        if isinstance(root, ast.Call):
            is_type = ast.unparse(root.func) == "type" and root.args
            root = root.args[0] if is_type else root.func
        elif isinstance(root, (ast.Attribute, ast.Subscript)):
            root = root.value
        else:
            return ""
    return names.get(root.id, "")


def is_ours(where: str) -> bool:
    """A target that cannot be told counts, such as an argument or a variable."""
    return where.partition(".")[0] in {"", "django_orb"}


def patches(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what replaces a name of the package: calls of setattr, and assignments."""
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            is_function = ast.unparse(node.func) == "setattr"
            where = origin(node.args[0], names)
            if is_function and where.startswith("django_orb"):
                yield node
            is_method = ast.unparse(node.func).endswith(".setattr")
            if is_method and is_ours(where):
                yield node
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                where = origin(target, names)
                is_attribute = isinstance(target, ast.Attribute)
                if is_attribute and where.startswith("django_orb."):
                    yield node


def found_in(source: str) -> int:
    return sum(1 for _ in patches(ast.parse(source)))


def test_tests_replace_few_names_of_the_package() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{getattr(node, 'lineno', 0)}"
        for path in sorted(TESTS.rglob("*.py"))
        for node in patches(ast.parse(path.read_text()))
    ]

    assert 0 < len(found) < MAX_PATCHES, found


def test_each_way_to_replace_a_name_is_seen() -> None:
    imports = "from django_orb import tasks\nfrom django_orb.db import clock as c\n"
    for ours in (
        "monkeypatch.setattr('django_orb.tasks.publish', print)",
        "monkeypatch.setattr(f'django_orb.services.{name}', print)",
        "patch.setattr(tasks, 'publish', print)",
        "patch.setattr(type(tasks.sync_page), 'app', app, raising=False)",
        "self._patch.setattr(c.DatabaseClock, 'interval', print)",
        "setattr(tasks, 'publish', print)",
        "tasks.TURN_SECONDS = 0",
        "monkeypatch.setattr(fault.module, fault.name, fault.wrong)",
    ):
        assert found_in(imports + ours) == 1, ours
    for theirs in (
        "import time\nmonkeypatch.setattr(time, 'sleep', print)",
        "monkeypatch.setattr('time.sleep', print)",
        "from django.db import connections\n"
        "monkeypatch.setattr(type(connections['a']), 'vendor', 'oracle')",
        "self.tasks = tasks",
    ):
        assert found_in(imports + theirs) == 0, theirs
