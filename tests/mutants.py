"""
Change one thing at a time in the code that promises most, and see the tests fail.

    python -m tests.mutants [MODULE ...] [--sample N] [--seed S] [--all-databases]

It needs cosmic-ray (`python -m pip install cosmic-ray`), which lists the changes of each
module: another comparison, a number one off, a condition turned round, an exception that
is not caught. `--sample` takes N of each module, the same ones for the same seed. Every
change is made in a copy of the project, and the tests of that module are run on it. A
change that no test notices is printed; the exit status is 0 only if there is none. All
changes of all modules take hours.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The tests of each module: those that say what a user would notice if it were wrong.
TESTS = {
    "mirror/ordering": "mirror",
    "mirror/page_writer": "mirror",
    "mirror/observation_sql": "mirror",
    "mirror/change_log": "mirror",
    "webhooks/polling": "webhooks sync/test_runs.py",
    "webhooks/processing": "webhooks",
    "operations/sending": "operations test_services.py",
    "operations/recovery": "operations",
    "operations/lookup": "operations",
    "models/operation_types": "operations mirror",
    "sync/runs": "sync test_tasks.py",
    "sync/windows": "sync",
    "rate_limit": "test_rate_limit.py",
}
# Operators that change only annotations, or what `from __future__` leaves unread.
IDLE = "core/ReplaceBinaryOperator_BitOr_%"
SECONDS = 300.0

CONFIG = """
[cosmic-ray]
module-path = "django_orb/{module}.py"
timeout = {seconds}
excluded-modules = []
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
"""


def copy_project(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def thin_out(session: Path, keep: int | None, seed: int) -> int:
    """Leave only what can matter, or a sample of that; return how many changes."""
    with sqlite3.connect(session) as database:
        jobs = [
            job
            for (job,) in database.execute(
                "SELECT job_id FROM mutation_specs WHERE operator_name NOT LIKE ? "
                "ORDER BY operator_name, occurrence, operator_args",
                [IDLE],
            )
        ]
        if keep is not None and keep < len(jobs):
            jobs = random.Random(seed).sample(jobs, keep)
        wanted = set(jobs)
        for table in ("mutation_specs", "work_items"):
            found = database.execute(f"SELECT job_id FROM {table}").fetchall()
            database.executemany(
                f"DELETE FROM {table} WHERE job_id = ?",
                [row for row in found if row[0] not in wanted],
            )
    return len(jobs)


def results(session: Path) -> tuple[Counter[str], list[str]]:
    with sqlite3.connect(session) as database:
        rows = database.execute("SELECT test_outcome, diff FROM work_results")
        counts: Counter[str] = Counter()
        survivors = []
        for outcome, diff in rows:
            counts[str(outcome).lower()] += 1
            if str(outcome).lower() == "survived":
                survivors.append(diff)
    return counts, survivors


def try_module(module: str, options: argparse.Namespace) -> list[str]:
    tests = " ".join(f"tests/{place}" for place in TESTS[module].split())
    marks = "not proof and not browser"
    aliases = "" if options.all_databases else " -k 'not postgresql and not mariadb'"
    command = (
        f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:xdist "
        f"-m '{marks}'{aliases} {tests}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        config = folder / "mutants.toml"
        session = folder / "mutants.sqlite"
        config.write_text(
            CONFIG.format(module=module, seconds=SECONDS, command=command)
        )
        cosmic_ray = [sys.executable, "-m", "cosmic_ray.cli"]
        run = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([*cosmic_ray, "baseline", config.name], **run)  # type: ignore[call-overload]
        subprocess.run([*cosmic_ray, "init", config.name, session.name], **run)  # type: ignore[call-overload]
        count = thin_out(session, options.sample, options.seed)
        print(f"{module}: {count} changes", flush=True)
        subprocess.run([*cosmic_ray, "exec", config.name, session.name], **run)  # type: ignore[call-overload]
        counts, survivors = results(session)
    print(f"{module}: {dict(counts)}", flush=True)
    for diff in survivors:
        print(diff, flush=True)
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", choices=[[], *TESTS], metavar="MODULE")
    parser.add_argument("--sample", type=int, help="so many changes of each module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all-databases", action="store_true")
    options = parser.parse_args()
    if importlib.util.find_spec("cosmic_ray") is None:
        parser.error("cosmic-ray is not installed: python -m pip install cosmic-ray")
    survivors = [
        diff
        for module in options.modules or TESTS
        for diff in try_module(module, options)
    ]
    print(f"{len(survivors)} changes were not noticed.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
