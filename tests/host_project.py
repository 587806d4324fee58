"""A project that installs the app: its files, and the day that it lives through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .host_drive import SECRET

SETTINGS = """
SECRET_KEY = "host"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
ROOT_URLCONF = "host_urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_orb",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
"""
URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("orb/", include("django_orb.urls")),
]
"""

Settings = dict[str, Any]


def write_project(
    folder: Path, sandbox: Any, database_settings: dict[str, Settings], more: str = ""
) -> None:
    """Write the modules of a project whose Orb is a sandbox."""
    orb = {
        "API_KEY": sandbox.api_key,
        "BASE_URL": sandbox.base_url,
        "WEBHOOK_SECRETS": [SECRET],
        "READS_PER_SECOND": 2000,
        "WRITES_PER_SECOND": 2000,
    }
    text = f"{SETTINGS}\nDATABASES = {database_settings!r}\nDJANGO_ORB = {orb!r}\n"
    if any(one["ENGINE"].endswith("mysql") for one in database_settings.values()):
        text = f"from tests import databases\ndatabases.mysql_driver()\n{text}"
    (folder / "host_settings.py").write_text(text + more)
    (folder / "host_urls.py").write_text(URLS)


def drive_project(
    folder: Path,
    sandbox: Any,
    *options: str,
    path: str,
    module: str = "tests.host_drive",
    environment: dict[str, str] | None = None,
) -> None:
    """Drive a written project in a process with these options of Python's."""
    done = subprocess.run(
        [sys.executable, *options, "-m", module],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{path}",
            "DJANGO_SETTINGS_MODULE": "host_settings",
            "CELERY_BROKER_URL": "amqp://127.0.0.1:9//",  # nothing listens
            "HOST_INVOICES": str(len(sandbox.invoice_ids())),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "It all works." in done.stdout, done.stdout + done.stderr
