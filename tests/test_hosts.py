"""Projects that install the app and are not like the one of these tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import django_orb

MINIMAL = """
SECRET_KEY = "host"
USE_TZ = True
DATABASES = {{
    "default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}
}}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_orb",
]
DJANGO_ORB = {{"API_KEY": "key"}}
"""


def manage(project: Path, *arguments: str) -> str:
    """Run a command of Django in a project; it must succeed."""
    root = str(Path(django_orb.__file__).parent.parent)
    names = {"PYTHONPATH": f"{project}{os.pathsep}{root}"}
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments, "--settings", "host_settings"],
        cwd=project,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_without_urls_is_checked_and_migrated(tmp_path):
    database = str(tmp_path / "host.sqlite3")
    settings = MINIMAL.format(database=database)
    (tmp_path / "host_settings.py").write_text(settings)

    manage(tmp_path, "check", "--fail-level", "WARNING", "--database", "default")
    manage(tmp_path, "migrate")

    assert "[X] 0001_initial" in manage(tmp_path, "showmigrations", "django_orb")
