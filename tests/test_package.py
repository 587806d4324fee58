"""What people get: the wheel, and a README whose every name and example is true."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class

from django_orb import __version__, checks, exceptions, tasks
from django_orb.conf import DEFAULT_BASE_URL, OrbSettings
from django_orb.models import Invoice, InvoiceQuerySet

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / ".github" / "REFERENCE.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PAGES = {"README.md": README, ".github/REFERENCE.md": REFERENCE}


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^ *```(\w+)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


BLOCKS = blocks(README)


def section(title: str, text: str = README) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title}"
    return found[1]


def first_cells(text: str) -> list[list[str]]:
    """Per row of a table, what its first cell holds in backticks."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [found for row in rows if (found := re.findall(r"`([^`]+)`", row))]


def tables(text: str) -> list[str]:
    return re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)


def python_block(containing: str, text: str = README) -> str:
    (block,) = (
        code for kind, code in blocks(text) if kind == "python" and containing in code
    )
    return str(block)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("django_orb-*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(wheel_names):
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "django_orb").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    folders = {name.split("/")[0] for name in wheel_names}

    assert {name for name in wheel_names if name.startswith("django_orb/")} == tracked
    assert len(folders) == 2, folders  # the package and its .dist-info


@pytest.mark.parametrize(
    "name",
    [
        "django_orb/py.typed",
        "django_orb/migrations/0001_initial.py",
        "django_orb/templates/admin/django_orb/invoice/void_confirmation.html",
        "django_orb/testing/sandbox/orb_sandbox.py",
    ],
)
def test_the_wheel_holds(wheel_names, name):
    assert name in wheel_names


def test_links_on_pypi_lead_to_the_files_of_this_release(wheel):
    name = f"django_orb-{__version__}.dist-info/METADATA"
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(name))
    description = str(metadata.get_payload())
    (source,) = (
        value.removeprefix("Source, ")
        for value in metadata.get_all("Project-URL", [])
        if value.startswith("Source, ")
    )
    ours = re.compile(rf"{source}/(blob|raw)/v{__version__}/([^#]+)#?(.*)")
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", description)

    assert len(links) == len(re.findall(r"\]\([^)]+\)", README)) > 40
    for is_image, target in links:
        found = ours.fullmatch(target)
        if target.startswith("#"):
            assert target[1:] in anchors_of(ROOT / "README.md"), target
        elif target.startswith(source):
            assert found, target
            assert found[1] == ("raw" if is_image else "blob")
            assert (ROOT / found[2]).exists(), target
            assert not found[3] or found[3] in anchors_of(ROOT / found[2]), target
        else:
            assert target.startswith("https://"), target


def test_the_wheel_is_tried_with_each_version_that_is_claimed():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    tried = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pythons = re.findall(r"Python :: (3\.\d+)", text)
    djangos = re.findall(r"Django :: (\d\.\d)", text)
    factors = [f"py{one}" for one in pythons] + [f"django{one}" for one in djangos]
    environments = section_of_toml("tool.tox", text)
    # The whole suite and the wheel in a project run on the newest pair.
    assert f"newest_python=$(python_of {pythons[-1]})" in tried
    newest = {factors[len(pythons) - 1], factors[-1]}

    for factor in (one.replace(".", "") for one in factors):
        assert f'"{factor}"' in environments, factor
        assert factor in tried or factor in {one.replace(".", "") for one in newest}
    assert "-lowest" in tried
    assert "-newest" in tried


def section_of_toml(name: str, text: str) -> str:
    found = re.search(rf"^\[{name}\]\n(.*?)(?=^\[)", text, re.DOTALL | re.MULTILINE)
    assert found, f"no section {name}"
    return found[1]


def test_the_changelog_has_a_section_for_each_release():
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    releases = [
        re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", heading)
        for heading in headings[1:]
    ]
    versions = [[int(part) for part in one.groups()] for one in releases if one]

    assert headings[0] == "[Unreleased]"
    assert len(versions) == len(releases), headings
    assert ".".join(map(str, versions[0])) == __version__
    assert versions == sorted(versions, reverse=True)


def test_the_readme_opens_with_two_commands():
    lines = README.splitlines()
    opening = [code for kind, code in BLOCKS if kind == "shell"][:2]

    assert lines[0] == "# django-orb"
    assert opening == [
        'python -m pip install -e ".[testing]" && python example_project/manage.py demo\n',
        'python -m pip install -e ".[dev]" && python -m pytest\n',
    ]
    assert README.count("```") == 2 * len(BLOCKS)


def test_the_readme_has_each_setting_with_its_default():
    expected = {
        field.name: field.default
        for field in dataclasses.fields(OrbSettings)
        if field.name not in ("API_KEY", "BASE_URL", "WEBHOOK_SECRETS")
    }
    rows = re.findall(
        r"^\| `([A-Z_]+)` \|.*?\| `(.*?)` \|", section("Settings"), re.MULTILINE
    )

    assert {name: ast.literal_eval(default) for name, default in rows} == expected
    assert "`API_KEY`" in section("Settings")
    assert "`WEBHOOK_SECRETS`" in section("Settings")
    assert DEFAULT_BASE_URL in section("Settings")


def test_the_reference_and_the_changelog_have_each_check():
    source = Path(checks.__file__).read_text(encoding="utf-8")
    ids = sorted(set(re.findall(r"django_orb\.([EW]\d+)", source)))

    documented = [row[0] for row in first_cells(section("Checks", REFERENCE))]
    line = re.search(r"^- System checks (.+)\.$", CHANGELOG, re.MULTILINE)

    assert sorted(documented) == [f"django_orb.{one}" for one in ids]
    assert line
    assert sorted(re.findall(r"[EW]\d+", line[1])) == ids


def test_the_tree_of_errors_has_each_error_and_the_readme_only_those():
    defined = {name for name in vars(exceptions) if re.match(r"Orb\w*Error$", name)}

    assert set(re.findall(r"Orb\w*Error\b", exceptions.__doc__ or "")) == defined
    assert set(re.findall(r"Orb\w*Error\b", README + REFERENCE)) <= defined


def test_the_readme_has_each_command_and_option():
    common = own_options("flush", app="django.core")
    expected = {
        name: own_options(name) - common
        for name, app in get_commands().items()
        if app == "django_orb"
    }
    expected["orb_sandbox"] = set()  # --help has them
    # The reference has these.
    for name in ("export_invoices", "export_receivables", "export_month", "run_task"):
        expected[f"orb_{name}"] = set()
    documented: dict[str, set[str]] = {}
    for call in chain.from_iterable(first_cells(section("Commands"))):
        command, *option = call.split()
        documented.setdefault(command, set()).update(option[:1])

    assert documented == expected


def test_the_reference_has_each_option_of_the_export():
    cells = first_cells(section("Exports", REFERENCE))
    documented = {option.split()[0] for row in cells for option in row}

    own = own_options("orb_export_invoices") - own_options("flush", app="django.core")
    assert documented == own


@pytest.mark.parametrize(
    ("command", "title"),
    [
        ("orb_export_receivables", "Receivables"),
        ("orb_export_month", "The end of a month"),
    ],
)
def test_the_reference_has_each_option_of_a_report(command, title):
    text = section(title, REFERENCE)
    own = own_options(command) - own_options("orb_export_invoices")

    assert own <= set(re.findall(r"--[a-z-]+", text))


def own_options(command: str, *, app: str = "django_orb") -> set[str]:
    parser = load_command_class(app, command).create_parser("manage.py", command)
    return set(parser._option_string_actions)


def test_the_readme_has_each_query():
    own = {name for name in vars(InvoiceQuerySet) if not name.startswith("_")}
    rows = first_cells(section("Reading invoices"))

    assert {name.split("(")[0] for row in rows for name in row} == own


def test_the_readme_has_each_permission():
    ours = {
        f"django_orb.{codename}"
        for model in apps.get_app_config("django_orb").get_models()
        for codename, _ in model._meta.permissions
    }

    documented = set(re.findall(r"`(django_orb\.\w+_[a-z]+)`", section("Admin")))

    assert documented == ours


def test_the_readme_names_only_tasks_that_exist():
    named = set(re.findall(r"django_orb\.tasks\.(\w+)", README))

    assert named == {"prune", "recover", "sync_invoice", "sync_invoices"}
    assert all(getattr(tasks, name).name for name in named)


def test_the_readme_links_to_what_exists():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            name, _, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), target
            if anchor:
                assert anchor in anchors_of(path), target


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^###? (.+)$", path.read_text(), re.MULTILINE)
    return {head.lower().replace(" ", "-").replace("'", "") for head in headings}


@pytest.mark.parametrize(
    "code", [code for kind, code in BLOCKS + blocks(REFERENCE) if kind == "python"]
)
def test_the_readme_has_valid_python(code):
    compile(re.sub("^   ", "", code, flags=re.MULTILINE), "README.md", "exec")


def test_the_schedule_is_the_example_projects():
    pasted: dict[str, Any] = {}
    exec(python_block("CELERY_BEAT_SCHEDULE"), pasted)
    production = ROOT / "example_project" / "example" / "production.py"
    tree = ast.parse(production.read_text(encoding="utf-8"))
    (schedule,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "CELERY_BEAT_SCHEDULE"
    )
    paste = ast.parse(python_block("CELERY_BEAT_SCHEDULE")).body[-1]

    assert isinstance(paste, ast.Assign)
    assert ast.dump(schedule) == ast.dump(paste.value)
    assert all(
        hasattr(tasks, entry["task"].removeprefix("django_orb.tasks."))
        for entry in pasted["CELERY_BEAT_SCHEDULE"].values()
    )


@pytest.mark.django_db
def test_the_example_of_reading_runs(capsys):
    exec(python_block("Invoice.objects.overdue()"), {})

    assert capsys.readouterr().out == ""


@pytest.mark.django_db(transaction=True)
def test_the_example_of_asking_orb_runs(orb, capsys):
    draft = orb.add_invoice(status="draft")
    names = {
        "customer_id": draft["customer"]["id"],
        "invoice_id": draft["id"],
        "subscription_id": orb.subscription_ids(with_upcoming=True)[0],
    }
    exec(python_block("services.list_invoices"), names)

    assert draft["invoice_number"] in capsys.readouterr().out
    lines = Invoice.objects.get(pk=draft["id"]).line_items
    assert lines.filter(name="Onboarding", amount=250).count() == 1


def test_the_example_of_the_sandbox_runs(capsys):
    exec(python_block("with OrbSandbox(", REFERENCE), {})

    assert "'issued': " in capsys.readouterr().out


def test_the_example_of_a_test_is_one_that_runs():
    code = ROOT / "example_project" / "example" / "tests" / "test_billing.py"

    for block in python_block("def test_a_paid_invoice_gives_access").split("\n\n\n"):
        assert block.strip() in code.read_text()


def test_the_readme_can_be_read_in_one_sitting():
    assert len(README.splitlines()) < 500


def test_the_fixtures_of_the_readme_are_those_of_the_plugin():
    module = ast.parse((ROOT / "django_orb/testing/plugin.py").read_text())
    fixtures = {
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    table = tables(section("Testing your project"))[0]

    assert {cells[0] for cells in first_cells(table)} == fixtures


def test_the_architecture_names_files_that_exist_and_is_short():
    text = (ROOT / ".github" / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", text))
    places = (ROOT / "django_orb", ROOT)

    assert len(named) > 40
    assert not {name for name in named if not any((p / name).exists() for p in places)}
    assert len(text.splitlines()) <= 250


def test_each_threat_has_its_tests():
    text = (ROOT / ".github" / "SECURITY.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| ")][1:]

    for line in table:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", line)
        assert named, line
        for path, name in named:
            assert f"def {name}(" in (ROOT / "tests" / path).read_text(), name
