"""
Change one thing at a time in the code that promises most, and see the tests fail.

    python -m tests.mutants [MODULE ...] [--sample N] [--seed S] [--all-databases]

It needs cosmic-ray (`python -m pip install cosmic-ray`), which lists changes of each
module: another comparison, a number one off, a condition turned round, an exception that
is not caught. More are listed here: `max` for `min`, and a filter, an argument, a part
of a condition or a statement left out. `--sample` takes N of each module, the same ones
for the same seed. All changes of all modules take hours.

The tests run once first, in a copy of the project, to learn how long each takes and
which lines it reaches. A change is then tried by the tests that reach it, the quick ones
first, until one fails; see `mutant_runner.py`. With `--all-databases` the servers come
after SQLite. A change that no test notices is printed; the exit status is 0 only if there
is none.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# The tests of each module: those that say what a user would notice if it were wrong.
RUNS = "sync/test_runs.py sync/test_bad_pages.py sync/test_faults.py"
EVENTS = "webhooks/test_inbox.py webhooks/test_processing.py webhooks/test_polling.py"
TESTS = {
    "mirror/ordering": "mirror",
    "mirror/page_writer": "mirror",
    "mirror/observation_sql": "mirror",
    "mirror/change_log": "mirror",
    "mirror/fetching": f"mirror {RUNS} {EVENTS} test_services.py test_tasks.py",
    "operations/sending": "operations test_services.py",
    "operations/recovery": "operations admin/test_operations.py",
    "operations/lookup": "operations",
    "operations/confirmation": "operations test_services.py",
    "operations/ledger": "operations",
    "models/operation_types": "operations mirror",
    "models/operation_matching": "operations",
    "sync/windows": f"{RUNS} test_tasks.py",
    "sync/bad_pages": RUNS,
    "sync/page_sizes": RUNS,
    "sync/steps": f"{RUNS} webhooks/test_polling.py",
    "sync/runs": f"mirror {RUNS} test_tasks.py test_services.py sync/test_overdue.py",
    "sync/planning": f"{RUNS} webhooks/test_polling.py",
    "sync/side_by_side": "sync/test_side_by_side.py",
    "sync/page_reader": "sync/test_side_by_side.py sync/test_runs.py db/test_threads.py",
    "webhooks/attempts": EVENTS,
    "webhooks/inbox": EVENTS,
    "webhooks/processing": f"{EVENTS} account/test_identity.py",
    "webhooks/polling": f"{EVENTS} {RUNS}",
    "account/identity": f"{EVENTS} account/test_identity.py test_services.py",
    "account/rate_limit": "account/test_rate_limit.py client/test_transport.py",
}
# Operators that change only annotations, make the same, or fail at once.
IDLE = re.compile(
    "ReplaceBinaryOperator_(BitOr_|.*_(BitAnd|BitOr|BitXor|LShift|RShift)$)"
    "|ReplaceComparisonOperator_(Eq_Is|NotEq_IsNot|Is_Eq|IsNot_NotEq)$"
)

Change = dict[str, Any]


def copy_project(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def listed_changes(path: Path) -> Iterator[Change]:
    """What cosmic-ray changes in a module."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    source = path.read_text()
    rows = source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    for name in plugins.operator_names():
        operator_class = plugins.get_operator(name)
        if IDLE.search(name) or operator_class.arguments():
            continue
        operator = operator_class()
        places = [
            place for node in nodes for place in operator.mutation_positions(node)
        ]
        for occurrence, ((line, _), (end_line, _)) in enumerate(places):
            is_product = " * " in rows[line - 1]
            if "BinaryOperator_Mul_" in name and not is_product:
                continue  # the `*` before parameters
            yield {
                "kind": name.removeprefix("core/"),
                "lines": [line, end_line],
                "make": partial(_make, source, operator, occurrence),
            }


def _make(source: str, operator: Any, occurrence: int) -> dict[str, str]:
    from cosmic_ray.mutating import mutate_code

    changed = mutate_code(source, operator, occurrence)
    before, after = source.splitlines(), changed.splitlines()
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    return {"source": changed, "shown": "\n".join(list(lines)[2:])}


def own_changes(path: Path) -> Iterator[Change]:
    """What cosmic-ray has no operator for."""
    source = path.read_text()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for kind, part in _change_in_place(node):
            shown = ast.get_source_segment(source, part) or ast.unparse(part)
            made = {"source": ast.unparse(tree), "shown": f"{part.lineno}: {shown}"}
            yield {
                "kind": kind,
                "lines": [part.lineno, part.end_lineno or part.lineno],
                "make": partial(dict, made),
            }


def _change_in_place(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Make each change in the tree, and take it back before the next one."""
    if isinstance(node, ast.Name) and node.id in ("min", "max"):
        node.id = "max" if node.id == "min" else "min"
        yield "MaxForMin", node
        node.id = "max" if node.id == "min" else "min"
    if isinstance(node, ast.Call) and not _is_logging(node):
        yield from _without_each("Argument", node.keywords)
        if getattr(node.func, "attr", "") in ("filter", "exclude"):
            yield from _without_each("Filter", node.args)
    if isinstance(node, ast.BoolOp):
        yield from _without_each("Condition", node.values)
    if isinstance(node, ast.Dict):
        for index, part in enumerate(node.values):
            key = node.keys.pop(index)
            del node.values[index]
            yield "WithoutItem", key or part
            node.keys.insert(index, key)
            node.values.insert(index, part)
    for name in ("body", "orelse", "finalbody"):
        body: Any = getattr(node, name, None)
        for index, part in enumerate(body if isinstance(body, list) else []):
            if _can_be_left_out(part):
                body[index] = ast.Pass()
                yield "WithoutStatement", part
                body[index] = part


def _without_each(name: str, parts: list[Any]) -> Iterator[tuple[str, Any]]:
    for index, part in enumerate(parts):
        del parts[index]
        yield f"Without{name}", part
        parts.insert(index, part)


def _is_logging(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")


def _can_be_left_out(statement: ast.AST) -> bool:
    if isinstance(statement, ast.Expr):
        is_call = isinstance(statement.value, ast.Call)
        return is_call and not _is_logging(statement.value)
    if isinstance(statement, ast.Assign):
        return not isinstance(statement.targets[0], ast.Name)
    return isinstance(statement, (ast.AugAssign, ast.Raise, ast.Delete))


def chosen_changes(module: str, keep: int | None, seed: int) -> list[Change]:
    """All changes of a module; or so many, no two alike on one line."""
    path = ROOT / "django_orb" / f"{module}.py"
    changes = [*listed_changes(path), *own_changes(path)]
    random.Random(f"{module} {seed}").shuffle(changes)
    chosen: list[Change] = []
    met = set()
    for change in changes:
        alike = change["kind"].split("_")[0], change["lines"][0]
        if keep is not None and (len(chosen) == keep or alike in met):
            continue
        made = change.pop("make")()
        change = {"module": module, **change, **made}
        if _compiles(change):
            met.add(alike)
            chosen.append(change)
    return sorted(chosen, key=lambda change: (change["lines"], change["kind"]))


def _compiles(change: Change) -> bool:
    """It does not where an operator took a `*` among parameters for a product."""
    try:
        compile(change["source"], "", "exec")
    except SyntaxError:
        return False
    return True


def results_of(
    changes: list[Change], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Try changes, and give each result as it comes."""
    places = dict.fromkeys(
        f"tests/{place}"
        for change in changes
        for place in TESTS[change["module"]].split()
    )
    servers = "not postgresql and not mariadb"
    databases = [] if options.all_databases else ["-k", servers]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        tasks, log = folder / "changes.json", folder / "tests.log"
        tasks.write_text(json.dumps(changes))
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.mutant_runner"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"),
            *("-m", "not proof and not browser", *databases),
            *(f"--changes={tasks}", f"--seconds={options.seconds}"),
            *places,
        ]
        # Only this tracer can tell which test it follows.
        environment = {**os.environ, "COVERAGE_CORE": "ctrace"}
        reading, writing = os.pipe()
        with log.open("w") as output, os.fdopen(reading) as results:
            process = subprocess.Popen(
                [*command, f"--results={writing}"],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
                pass_fds=[writing],
            )
            os.close(writing)
            for line in results:
                yield json.loads(line)
        if process.wait() not in (0, 1, 5):
            sys.exit(log.read_text()[-5000:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", choices=[[], *TESTS], metavar="MODULE")
    parser.add_argument("--sample", type=int, help="so many changes of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all-databases", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=120, help="how long to try one change"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show every change"
    )
    options = parser.parse_args()
    if importlib.util.find_spec("cosmic_ray") is None:
        parser.error("cosmic-ray is not installed: python -m pip install cosmic-ray")
    changes = [
        change
        for module in options.modules or TESTS
        for change in chosen_changes(module, options.sample, options.seed)
    ]
    counts: dict[str, Counter[str]] = {}
    for result in results_of(changes, options):
        if "outcome" not in result:
            print(json.dumps(result), flush=True)
            continue
        outcome = result["outcome"]
        counts.setdefault(result["module"], Counter())[outcome] += 1
        if options.verbose or outcome in ("survived", "unfinished"):
            print(
                f"\n{outcome}: {result['module']}, {result['kind']}, "
                f"{result['tests']} tests, {result['seconds']} s {result['reason']}\n"
                f"{result['shown']}",
                flush=True,
            )
    for module, outcomes in counts.items():
        print(f"{module}: {dict(outcomes)}")
    left = sum(one["survived"] + one["unfinished"] for one in counts.values())
    print(f"{left} changes were not noticed.")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
