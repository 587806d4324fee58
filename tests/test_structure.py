"""The shape of the package: who may import whom, and how long things get."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import django_orb

ROOT = Path(django_orb.__file__).parent
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_ENTRIES = 30

# Which modules and packages each one may import, itself and `__version__` aside. A
# new one fails until it has a row: put it below everything that it imports.
ALLOWED = {
    # foundation
    "exceptions": "",
    "parsing": "",
    "exact_json": "exceptions",
    "signals": "",
    "conf": "exceptions",
    "fields": "exact_json",
    "metrics": "conf exceptions",
    # the database, HTTP, and what is stored
    "db": "exact_json exceptions",
    "publishing": "conf db",
    "client": "conf exact_json exceptions metrics",
    "models": "client exact_json exceptions fields parsing",
    # the mirror
    "mirror": "client db exact_json exceptions fields metrics models parsing signals",
    "account": "client conf db exceptions metrics mirror models",
    "formatting": "conf parsing",
    "customer_labels": "conf formatting models",
    "status": ("client conf account db exact_json exceptions formatting mirror models"),
    "exports": (
        "conf customer_labels db exact_json exceptions formatting models parsing"
    ),
    "reports": (
        "conf customer_labels db exceptions exports fields formatting models parsing"
    ),
    # what runs over it
    "operations": (
        "account client conf db exact_json exceptions metrics mirror models parsing"
    ),
    "webhooks": (
        "account client conf db exact_json exceptions metrics mirror models signals"
    ),
    "sync": (
        "account client conf db exact_json exceptions metrics mirror models operations "
        "parsing signals webhooks"
    ),
    "maintenance": (
        "account conf db exact_json exceptions fields mirror models operations sync "
        "webhooks"
    ),
    "services": (
        "account client db exceptions exports formatting maintenance mirror models "
        "operations reports status sync"
    ),
    "tasks": (
        "account conf db maintenance metrics mirror models publishing services status "
        "sync webhooks"
    ),
    # how people and Orb reach it
    "views": "conf db exceptions metrics mirror publishing status tasks webhooks",
    "urls": "views",
    "templatetags": "conf formatting models",
    "admin": (
        "account conf customer_labels db exact_json exceptions exports fields "
        "formatting mirror models operations parsing publishing reports services status sync "
        "tasks templatetags webhooks"
    ),
    "management": (
        "account conf db exact_json exceptions exports maintenance mirror models "
        "parsing publishing reports services status sync tasks webhooks"
    ),
    "checks": "conf customer_labels exceptions metrics",
    "apps": "checks metrics status",
}
# Django's own conventions, which no reader has to learn.
CONVENTIONAL = ["management", "migrations", "static", "templates", "templatetags"]
# Other modules import from these packages only what their `__init__` offers.
PACKAGES = [
    "client",
    "account",
    "db",
    "publishing",
    "mirror",
    "operations",
    "webhooks",
    "sync",
    "maintenance",
    "status",
    "exports",
    "reports",
    "admin.actions",
    "admin.customer_page",
    "admin.invoice_page",
    "testing.account",
    "testing.sandbox",
]
# They decide and write; other modules also show things.
DECIDING = [
    "mirror",
    "account",
    "status",
    "operations",
    "webhooks",
    "sync",
    "services",
    "maintenance",
    "tasks",
    "views",
]
WITHOUT_DATABASE = [
    "exact_json",
    "exceptions",
    "client",
    "webhooks.payload",
    "webhooks.signature",
]
WITHOUT_MODELS = ["exact_json", "exceptions", "conf", "client", "db"]
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


def below(package: str) -> list[str]:
    return [name for name in FILES if name == package or name.startswith(f"{package}.")]


def statements(module: str, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The imported names of a tree, each with the absolute name it is imported from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = (
                ["django_orb", *module.split(".")][: -node.level] if node.level else []
            )
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((base, alias.name) for alias in node.names)


@cache
def imports_of(module: str) -> list[tuple[str, str]]:
    return list(statements(module, TREES[module]))


@cache
def attributes() -> set[tuple[str, str]]:
    """The attributes that are read of plain names, in any module."""
    return {
        (node.value.id, node.attr)
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def targets(module: str, tree: ast.AST) -> Iterator[str]:
    """What a tree imports, as absolute dotted names of modules."""
    for base, name in statements(module, tree):
        yield f"{base}.{name}" if known(f"{base}.{name}") else base


def known(target: str) -> bool:
    name = target.removeprefix("django_orb.")
    return name in FILES or f"{name}.__init__" in FILES


def own_imports(module: str, tree: ast.AST) -> set[str]:
    """The dotted names, below django_orb, of our modules that a tree imports."""
    return {
        target.removeprefix("django_orb.")
        for target in targets(module, tree)
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


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_used_through_what_it_offers(package):
    offered = import_module(f"django_orb.{package}").__all__
    for module in FILES:
        if module in below(package):
            continue
        for base, name in imports_of(module):
            inside = base.removeprefix("django_orb.")
            assert not inside.startswith(f"{package}."), f"{module} imports from {base}"
            if inside == package:
                assert name in offered, f"{module} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_for(package):
    assert ast.get_docstring(TREES[f"{package}.__init__"])


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_offers_only_what_others_use(package):
    used = {
        name
        for module in FILES
        if module not in below(package)
        for base, name in imports_of(module)
        if base == f"django_orb.{package}"
    }
    name = package.rpartition(".")[2]
    used |= {attribute for of, attribute in attributes() if of == name}

    assert set(import_module(f"django_orb.{package}").__all__) <= used


def test_the_house_has_few_rooms():
    rooms = {name.split(".")[0] for name in FILES} - {"__init__", *CONVENTIONAL}

    assert len(rooms) <= MAX_ENTRIES


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


@pytest.mark.parametrize("module", OURS)
def test_nothing_waits_for_an_assertion_to_fail(module):
    """`python -O` leaves assertions out; they only tell mypy what is certain."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ExceptHandler) and node.type:
            assert "AssertionError" not in ast.unparse(node.type)


@pytest.mark.parametrize(
    "module", [name for name in OURS if name not in ("db.primary", "db.clock")]
)
def test_only_one_place_says_which_database_the_mirror_is_in(module):
    """No function is told: `db.primary` asks the project's router."""
    handed = {
        argument.arg
        for function in functions(TREES[module])
        for argument in [*function.args.args, *function.args.kwonlyargs]
    }
    assert "using" not in handed


@pytest.mark.parametrize("package", DECIDING)
def test_what_decides_is_read_where_the_mirror_is_written(package):
    """A router may send other reads to a replica that lags behind."""
    for module in below(package):
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.Attribute) and node.attr != "using":
                read = ast.unparse(node.value)
                assert not read.endswith((".objects", "._default_manager")), (
                    f"{module} reads {read} from anywhere"
                )


@pytest.mark.parametrize("package", WITHOUT_DATABASE)
def test_http_knows_no_database(package):
    assert below(package)
    for module in below(package):
        for target in targets(module, TREES[module]):
            assert not target.startswith("django.db"), f"{module} imports {target}"


@pytest.mark.parametrize("package", WITHOUT_MODELS)
def test_the_foundation_knows_no_model(package):
    assert below(package)
    for module in below(package):
        assert not {"models"} & {part(t) for t in own_imports(module, TREES[module])}


@pytest.mark.parametrize("module", FILES)
def test_a_file_can_be_read_in_one_sitting(module):
    lines = len(FILES[module].read_text().splitlines())
    assert lines <= MAX_FILE_LINES


@pytest.mark.parametrize("module", FILES)
def test_a_function_fits_on_a_page(module):
    for function in functions(TREES[module]):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MAX_FUNCTION_LINES, f"{function.name} has {lines} lines"
