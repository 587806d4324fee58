"""The project's Celery app: `celery -A tests.celery_app worker` in a test."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

app = Celery("django_orb_tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()

if os.environ.get("DJANGO_ORB_TEST_COUNTS"):
    from .counting import connect

    connect()
