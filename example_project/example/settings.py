"""A project small enough to read: one app, the admin, and SQLite."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

SECRET_KEY = "example-key-of-a-project-that-serves-only-this-machine"
DEBUG = True
TIME_ZONE = "UTC"
USE_TZ = True
ROOT_URLCONF = "example.urls"
STATIC_URL = "static/"

DJANGO_ORB = {
    "API_KEY": os.environ.get("ORB_API_KEY", ""),
    "BASE_URL": os.environ.get("ORB_BASE_URL", ""),
    # Orb shows the secret where the endpoint is set up. The substitute is random, so
    # that unsigned webhooks are refused.
    "WEBHOOK_SECRETS": [os.environ.get("ORB_WEBHOOK_SECRET") or secrets.token_hex()],
    # Invoices have ids; people have names for them.
    "CUSTOMER_LABELS": "example.customers.customer_labels",
    "CUSTOMER_SEARCH": "example.customers.find_customers",
}

# The made-up account and a real one must never share a file.
DATA_FOLDER = Path(os.environ.get("EXAMPLE_DATA", Path(__file__).parent.parent))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_FOLDER
        / ("orb.sqlite3" if DJANGO_ORB["API_KEY"] else "sandbox.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}

# Without a broker and a worker, a task runs where it is called, within the request.
# production.py uses both.
CELERY_TASK_ALWAYS_EAGER = True

INSTALLED_APPS = [
    "example",
    "django_orb",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # English or German, as browsers ask
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
            ]
        },
    }
]
