"""
Every page of the admin and of the example, as staff would go through them.

Each project is the example with settings of its own, crawled in a process of its own:
see `tests.crawler.__main__`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SETTINGS = """
from example.settings import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA synchronous = OFF"
"""
PEOPLE = """
import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
"""

HOSTS = {
    "grouped numbers": "USE_THOUSAND_SEPARATOR = True\n",
    "time zone": """
TIME_ZONE = "Pacific/Kiritimati"
DJANGO_ORB["REPORT_TIME_ZONE"] = "America/St_Johns"
""",
    "atomic requests": 'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n',
    "users": """
INSTALLED_APPS += ["people"]
AUTH_USER_MODEL = "people.Person"
""",
    "login required": """
MIDDLEWARE += ["django.contrib.auth.middleware.LoginRequiredMiddleware"]
""",
    # That no page has what a strict policy refuses is looked at in every crawl.
    "content security policy": """
import django

if django.VERSION >= (6, 0):
    MIDDLEWARE += ["django.middleware.csp.ContentSecurityPolicyMiddleware"]
    SECURE_CSP = {"default-src": ["'self'"]}
""",
    "static files with hashes": """
STATIC_ROOT = DATA_FOLDER / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
    },
}
""",
}
ALL_AT_ONCE = [
    "grouped numbers",
    "time zone",
    "atomic requests",
    "login required",
    "static files with hashes",
]
RESTYLED = {
    "unfold": 'INSTALLED_APPS = ["unfold", *INSTALLED_APPS]\n',
    "jazzmin": 'INSTALLED_APPS = ["jazzmin", *INSTALLED_APPS]\n',
}

Crawl = Callable[..., None]


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    """Return a function that writes a project and has it crawled without a fault."""
    people = tmp_path / "people"
    (people / "migrations").mkdir(parents=True)
    (people / "__init__.py").touch()
    (people / "migrations" / "__init__.py").touch()
    (people / "models.py").write_text(PEOPLE)

    def run(*arguments: str, more: str = "", warns: bool = False) -> None:
        (tmp_path / "crawled_settings.py").write_text(SETTINGS + more)
        foreign = re.compile("ORB_|DJANGO_|PYTHONWARNINGS")
        own = {
            key: value for key, value in os.environ.items() if not foreign.match(key)
        }
        done = subprocess.run(
            [
                sys.executable,
                *([] if warns else ["-W", "error"]),
                *("-m", "tests.crawler"),
                *arguments,
            ],
            cwd=tmp_path,
            env={
                **own,
                "DJANGO_SETTINGS_MODULE": "crawled_settings",
                "EXAMPLE_DATA": str(tmp_path),
                "PYTHONPATH": os.pathsep.join(
                    map(str, [tmp_path, ROOT / "example_project", ROOT])
                ),
            },
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert "No fault." in done.stdout, done.stdout + done.stderr[-4000:]

    return run


@pytest.mark.proof
def test_four_kinds_of_staff(crawl):
    crawl()


@pytest.mark.parametrize(
    "engine",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.proof),
        pytest.param("mariadb", marks=pytest.mark.proof),
    ],
)
def test_a_project_that_is_otherwise_in_everything(crawl, make_database, engine):
    more = f"""
from tests import databases

databases.mysql_driver()
DATABASES["default"] = {make_database(engine)!r}
"""
    # One crawl for all of them; `--long` crawls each alone.
    more += "".join(HOSTS[name] for name in ALL_AT_ONCE)

    crawl("--staff", "superuser", "--rounds", "0", "--language", "de", more=more)


@pytest.mark.long
def test_four_kinds_of_staff_with_every_rubbish(crawl):
    crawl("--visits", "3", "--rounds", "12", "--others", "3")


@pytest.mark.long
@pytest.mark.parametrize("language", ["de", "fr", "ar"])
def test_a_language(crawl, language):
    crawl("--staff", "superuser", "--language", language)


@pytest.mark.long
@pytest.mark.parametrize("host", HOSTS)
def test_a_project(crawl, host):
    crawl("--staff", "superuser", more=HOSTS[host])


@pytest.mark.long
@pytest.mark.parametrize("host", RESTYLED)
def test_beside_another_look_of_the_admin(crawl, host):
    pytest.importorskip(host)
    staff = ("--staff", "superuser,viewer")

    crawl(*staff, "--restyled", more=RESTYLED[host], warns=True)
