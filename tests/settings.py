from __future__ import annotations

import os

from .databases import find_databases

SECRET_KEY = "django-orb-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "America/Los_Angeles"  # not UTC, to catch code that confuses the two
USE_I18N = True
LANGUAGE_CODE = "en-us"

DATABASES, ABSENT_DATABASES = find_databases()
DATABASE_ROUTERS = ["tests.databases.CurrentAliasRouter"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_orb",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
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

ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Nothing listens on port 9 of loopback: a test that forgot its stub fails at once.
DJANGO_ORB = {
    "API_KEY": os.environ.get("DJANGO_ORB_TEST_API_KEY", "test-key"),
    "BASE_URL": os.environ.get("DJANGO_ORB_TEST_BASE_URL", "http://127.0.0.1:9/v1"),
    "WEBHOOK_SECRETS": ["test-secret"],
    "SWEEP_MINUTES": int(os.environ.get("DJANGO_ORB_TEST_SWEEP_MINUTES", "0")),
    "READS_PER_SECOND": 2000,
    "WRITES_PER_SECOND": 2000,
    "PAGE_SIZE": int(os.environ.get("DJANGO_ORB_TEST_PAGE_SIZE", "100")),
    "METRICS": os.environ.get("DJANGO_ORB_TEST_METRICS", "").split(),
}

# Nothing is eager, and by default nothing leaves the process.
CELERY_BROKER_URL = os.environ.get("DJANGO_ORB_TEST_BROKER_URL", "memory://")
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("DJANGO_ORB_TEST_QUEUE", "celery")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

if os.environ.get("DJANGO_ORB_TEST_ATOMIC_REQUESTS"):
    for database in DATABASES.values():
        database["ATOMIC_REQUESTS"] = True
