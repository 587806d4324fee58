"""
Live a project's first day with the installed wheel, on each database that is there.

`tox` runs it in an environment per pair of Python and Django, with the lowest and with
the newest dependencies, and with every warning an error. It runs in a folder that has
these tests but not the package, so that the package is the wheel's. Its arguments name
the databases; without one it takes all.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

import django_orb
from django_orb.testing import OrbSandbox

from . import databases
from .host_project import drive_project, write_project

INVOICES = 30
ENGINES = ("sqlite", "postgresql", "mariadb")


def main(engines: Sequence[str]) -> int:
    """Return the status to exit with: 1 if a database failed, or is demanded."""
    here = f"Python {platform.python_version()}, Django {django.__version__}"
    where = Path(django_orb.__file__)
    if not where.is_relative_to(sys.prefix):
        print(f"{where} is not the installed wheel.")
        return 1
    _, absent = databases.find_databases()
    failed = False
    for engine in engines or ENGINES:
        if engine in absent:
            print(f"{here}, {engine}: NOT TESTED, it is not here: {absent[engine]}")
            failed |= databases.REQUIRED
            continue
        start = time.monotonic()
        try:
            live_on(engine)
        except AssertionError as error:
            print(f"{here}, {engine}: FAILED\n{error}")
            failed = True
        else:
            print(f"{here}, {engine}: ok, {time.monotonic() - start:.0f} s")
    return int(failed)


def live_on(engine: str) -> None:
    """Drive a project whose one database is on an engine."""
    with (
        tempfile.TemporaryDirectory() as name,
        OrbSandbox(invoices=INVOICES, seed=1) as sandbox,
        new_database(engine, Path(name)) as database,
    ):
        write_project(Path(name), sandbox, {"default": database})
        drive_project(Path(name), sandbox, "-W", "error", path=os.getcwd())


@contextmanager
def new_database(engine: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the settings of an empty database, and drop it at the end."""
    name = f"django_orb_smoke_{uuid.uuid4().hex[:8]}"
    if engine == "sqlite":
        path = str(folder / f"{name}.sqlite3")
        yield {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
        return
    with databases.server(engine) as execute:
        execute(f"CREATE DATABASE {name}")
        try:
            yield databases.address_of(engine, name)
        finally:
            how = " WITH (FORCE)" if engine == "postgresql" else ""
            execute(f"DROP DATABASE {name}{how}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
