"""What a process loads because the app is installed, before anything uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETUP = """
import json, sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes",
                                   "django_orb"], USE_TZ=True, DJANGO_ORB={})
import django
django.setup()
print(json.dumps(sorted(sys.modules)))
"""
# What a process needs that talks to Orb, to a broker or to a tool that measures, and
# what writes the mirror: nothing of it is needed to have models and checks.
LATE = [
    *("celery", "dateutil", "kombu", "opentelemetry", "prometheus_client", "requests"),
    *("urllib3", "xlsxwriter", "django_orb.account", "django_orb.admin"),
    *("django_orb.client", "django_orb.db", "django_orb.exports", "django_orb.mirror"),
    *("django_orb.operations", "django_orb.services", "django_orb.status"),
    *("django_orb.sync", "django_orb.tasks", "django_orb.webhooks"),
]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    command = [sys.executable, "-c", SETUP]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_app_is_there(loaded: set[str]) -> None:
    assert {"django_orb.models", "django_orb.checks"} <= loaded


@pytest.mark.parametrize("module", LATE)
def test_setup_leaves_what_is_heavy_for_later(loaded: set[str], module: str) -> None:
    """Without the admin, which needs the services for its buttons."""
    assert module not in loaded
