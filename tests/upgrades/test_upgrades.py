"""Databases of other releases: an earlier one's is upgraded, a later one's is shared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from django_orb import __version__
from django_orb.testing import OrbSandbox
from tests.host_project import drive_project, write_project

from . import freezing, next_release
from .freezing import FOLDER, ROOT, freeze_here

FILES = sorted(FOLDER.glob("*.json"))
ENGINES = ["sqlite", "postgresql", "mariadb"]
# Real projects in processes of their own: one pair of Python and Django is enough.
pytestmark = pytest.mark.proof


@pytest.fixture(scope="session")
def frozen_now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows that this release writes, as a later one will find them."""
    folder = tmp_path_factory.mktemp("frozen")
    path = folder / "now.json"
    path.write_text(freeze_here(folder))
    return path


def upgrade(folder: Path, database: dict[str, Any], path: Path, more: str = "") -> None:
    """Upgrade a database with the rows of a file, beside the Orb that they mirror."""
    (folder / "sandbox.json").write_text(
        json.dumps(json.loads(path.read_text())["orb"])
    )
    with OrbSandbox.load(folder / "sandbox.json") as sandbox:
        write_project(folder, sandbox, {"default": database}, more)
        drive_project(
            folder,
            sandbox,
            path=str(ROOT),
            module="tests.upgrades.upgrading",
            environment={"FROZEN": str(path)},
        )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_database_of_an_earlier_release_is_upgraded(
    make_database, tmp_path, engine, path
):
    upgrade(tmp_path, make_database(engine), path)


@pytest.mark.parametrize("engine", ENGINES)
def test_database_of_this_release_can_be_upgraded(
    make_database, tmp_path, frozen_now, engine
):
    next_release.write_migrations(tmp_path)

    upgrade(tmp_path, make_database(engine), frozen_now, next_release.SETTING)


@pytest.mark.parametrize("engine", ENGINES)
def test_worker_lives_with_the_tables_and_rows_of_a_later_release(
    make_database, tmp_path, engine
):
    next_release.write_migrations(tmp_path)
    with OrbSandbox(invoices=30, seed=1) as sandbox:
        database = {"default": make_database(engine)}
        write_project(tmp_path, sandbox, database, next_release.SETTING)
        drive_project(
            tmp_path, sandbox, path=str(ROOT), module="tests.upgrades.sharing"
        )


def test_what_is_frozen_has_rows_of_each_table(frozen_now):
    rows = json.loads(frozen_now.read_text())["rows"]

    assert {name for name, found in rows.items() if not found} <= set()


def test_each_earlier_release_is_frozen():
    """Its rows can only be written by its own code: see `freezing`."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[\d.]*)\]", changelog, re.MULTILINE)
    earlier = {version for version in versions if version != __version__}

    assert earlier <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_no_migration_of_a_release_is_edited(path):
    frozen = json.loads(path.read_text())["migrations"]

    assert {**freezing.migrations(), **frozen} == freezing.migrations()
