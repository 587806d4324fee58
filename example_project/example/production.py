"""Production settings: PostgreSQL, a broker, workers and beat; see README.md."""

from __future__ import annotations

import os
from datetime import timedelta

from celery.schedules import crontab

from .settings import *  # noqa: F403

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

# The variables are those of PostgreSQL's own tools.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "NAME": os.environ.get("PGDATABASE", "example"),
    }
}

CELERY_TASK_ALWAYS_EAGER = False
# RabbitMQ; for Redis: redis://127.0.0.1:6379/0
CELERY_BROKER_URL = os.environ.get(
    "CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//"
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# A message that no worker took before the next one is due is useless: it expires.
CELERY_BEAT_SCHEDULE = {
    "orb: what is open or recent": {
        "task": "django_orb.tasks.sync_invoices",
        "schedule": timedelta(minutes=10),
        "options": {"expires": 10 * 60},
    },
    "orb: everything": {
        "task": "django_orb.tasks.sync_invoices",
        "schedule": crontab(hour=3, minute=0),
        "kwargs": {"mode": "full"},
        "options": {"expires": 60 * 60},
    },
    "orb: what died or waits": {
        "task": "django_orb.tasks.recover",
        "schedule": timedelta(minutes=1),
        "options": {"expires": 60},
    },
    "orb: what is kept long enough": {
        "task": "django_orb.tasks.prune",
        "schedule": crontab(hour=4, minute=0),
        "options": {"expires": 60 * 60},
    },
}
