"""The shape of the package: who may import whom, and how long things get."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import django_orb

ROOT = Path(django_orb.__file__).parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Which modules (or packages) a module may import, itself and `__version__` aside.
# A new module fails until it has a row: put it below all that it imports.
ALLOWED = {
    "exact_json": "",
    "exceptions": "",
    "numbers": "",
    "hashing": "exact_json exceptions",
    "signals": "",
    "clock": "exceptions",
    "database": "exceptions",
    "threads": "",
    "broker": "threads",
    "eager": "",
    "receivers": "database",
    "conf": "exceptions",
    "inputs": "exact_json exceptions numbers",
    "fields": "exact_json",
    "models": "exact_json exceptions fields numbers",
    # HTTP, which knows no database
    "retries": "",
    "transport": "conf exact_json exceptions retries",
    "raw": "exact_json",
    "pages": "raw",
    "filters": "exceptions",
    "writes": "exceptions transport",
    "client": "conf exceptions filters pages transport writes",
    "webhooks": "conf exact_json exceptions",
    # the mirror
    "payloads": "exact_json exceptions fields models raw",
    "upcoming": "exact_json exceptions models payloads",
    "formats": "numbers payloads",
    "customers": "conf models",
    "reports": "conf models",
    "comparison": "payloads",
    "tables": "exact_json",
    "changes": "clock database hashing models receivers signals tables",
    "verdicts": "changes clock exact_json exceptions hashing models payloads raw",
    "observations": "clock models tables verdicts",
    "writer": (
        "changes clock exceptions hashing models observations payloads tables verdicts"
    ),
    "mirror": "changes clock database models tables verdicts writer",
    "pacing": "client clock conf models",
    "account": "client exceptions models pacing tables verdicts",
    "refresh": "changes client clock exceptions mirror models",
    # what runs over it
    "retention": "conf database models",
    "inbox": "clock database exact_json models receivers signals tables webhooks",
    "events": (
        "account changes client clock database exceptions inbox mirror models pacing "
        "refresh webhooks"
    ),
    "feed": ("client clock conf events exact_json exceptions inbox models webhooks"),
    "planning": "clock conf feed models",
    "page_sizes": "",
    "steps": (
        "feed client clock exceptions mirror models pages payloads raw refresh threads"
    ),
    "passing": "client clock exceptions mirror models steps",
    "windows": (
        "changes client clock conf database exceptions mirror models pacing page_sizes "
        "passing planning steps"
    ),
    "runs": (
        "changes client clock conf exceptions feed mirror models planning receivers "
        "signals steps windows"
    ),
    "verification": (
        "account client comparison conf database exceptions inputs mirror models planning "
        "runs"
    ),
    "lookup": "clock models payloads",
    "sending": "client clock exact_json exceptions lookup mirror models",
    "operations": "client clock conf exceptions lookup models observations sending",
    "recovery": "client clock conf exceptions lookup models sending",
    "readback": "changes client clock exceptions mirror models refresh",
    "deeds": (
        "account client exceptions inputs mirror models operations payloads readback "
        "refresh"
    ),
    "services": (
        "account changes client clock conf database deeds events exceptions formats inputs "
        "mirror models planning refresh runs upcoming verification"
    ),
    "tasks": (
        "account broker changes client clock conf database eager events exceptions inbox mirror "
        "models readback recovery refresh retention runs services windows"
    ),
    # how people and Orb reach it
    "views": "conf events exceptions inbox mirror tasks webhooks",
    "urls": "views",
    "templatetags": "conf formats models",
    "admin": (
        "account changes conf customers exact_json exceptions fields formats inbox inputs "
        "mirror models numbers operations payloads planning recovery reports runs sending "
        "services tasks upcoming"
    ),
    "management": (
        "comparison conf exact_json exceptions mirror models payloads runs services "
        "tasks verification webhooks"
    ),
    "checks": "conf customers exceptions",
    "apps": "checks",
}
WITHOUT_DATABASE = [
    "exact_json",
    "exceptions",
    "transport",
    "writes",
    "client",
    "webhooks",
]
# The one command that runs the sandbox.
MAY_IMPORT_TESTING = ["management.commands.orb_sandbox"]
# Django allows some imports only there.
MAY_IMPORT_LATE = ["apps", *MAY_IMPORT_TESTING]

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if "migrations" not in path.parts
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
OURS = [name for name in FILES if name.split(".")[0] not in ("testing", "__init__")]


def targets(module: str, node: ast.AST) -> Iterator[str]:
    """What an import statement names, as absolute dotted names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = ["django_orb", *module.split(".")][: -node.level] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            deeper = f"{base}.{alias.name}"
            yield deeper if known(deeper) else base


def known(target: str) -> bool:
    name = target.removeprefix("django_orb.")
    return name in FILES or f"{name}.__init__" in FILES


def own_imports(module: str, tree: ast.AST) -> set[str]:
    """The dotted names, below django_orb, of our modules that a tree imports."""
    return {
        target.removeprefix("django_orb.")
        for node in ast.walk(tree)
        for target in targets(module, node)
        if target.startswith("django_orb.")
    }


class WithoutTypeChecking(ast.NodeTransformer):
    """Leaves out what only a type checker imports: it makes no cycle at run time."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


def part(module: str) -> str:
    return module.split(".")[0]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("module", OURS)
def test_a_module_imports_only_what_its_row_allows(module):
    assert part(module) in ALLOWED, f"{part(module)} has no row in ALLOWED"
    imported = {part(target) for target in own_imports(module, TREES[module])}
    allowed = {part(module), *ALLOWED[part(module)].split()}
    if module in MAY_IMPORT_TESTING:
        allowed.add("testing")

    assert imported <= allowed


def test_the_table_itself_has_no_cycle_and_reads_downwards():
    seen: set[str] = set()
    for name, imported in ALLOWED.items():
        assert set(imported.split()) <= seen, f"{name} stands above what it imports"
        seen.add(name)


def test_there_is_no_import_cycle_between_modules():
    graph = {}
    for module in FILES:
        name = module.removesuffix(".__init__")
        tree = WithoutTypeChecking().visit(ast.parse(FILES[module].read_text()))
        graph[name] = own_imports(module, tree) - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        pytest.fail(" <- ".join(err.args[1]), pytrace=False)


@pytest.mark.parametrize("module", [name for name in OURS if part(name) != "apps"])
def test_no_function_imports_our_own_modules(module):
    late = {
        f"{function.name} imports {target}"
        for function in functions(TREES[module])
        for target in own_imports(module, function)
    }
    assert module in MAY_IMPORT_LATE or not late


@pytest.mark.parametrize("module", WITHOUT_DATABASE)
def test_http_knows_no_database(module):
    for node in ast.walk(TREES[module]) if module in TREES else ():
        for target in targets(module, node):
            assert not target.startswith("django.db"), f"{module} imports {target}"


@pytest.mark.parametrize("module", FILES)
def test_a_file_can_be_read_in_one_sitting(module):
    lines = len(FILES[module].read_text().splitlines())
    assert lines <= MAX_FILE_LINES


@pytest.mark.parametrize("module", FILES)
def test_a_function_fits_on_a_page(module):
    for function in functions(TREES[module]):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MAX_FUNCTION_LINES, f"{function.name} has {lines} lines"
