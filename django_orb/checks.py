"""Check an installation: each problem is reported with an id and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import django
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from .conf import (
    OrbSettings,
    api_key_problem,
    base_url_problem,
    get_settings,
    is_loopback,
)
from .customer_labels import host_function
from .exceptions import OrbConfigurationError
from .metrics import PACKAGES


def _is_number(value: Any) -> bool:
    # To Python, True is a number.
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Far more than makes sense, and few enough to calculate with.
MAX_DAYS = 36_500
MAX_MINUTES = 1440
MIN_PER_SECOND, MAX_PER_SECOND = 0.001, 100_000

# 0 could be read as "nothing" and as "for ever", so it is refused.
_RETENTION: tuple[Callable[[Any], bool], str] = (
    lambda value: value is None or (_is_int(value) and 1 <= value <= MAX_DAYS),
    f"a whole number of days from 1 to {MAX_DAYS}, or None to keep them for ever",
)

# What each setting must be; API_KEY, BASE_URL and WEBHOOK_SECRETS have checks of
# their own.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "TIMEOUT_SECONDS": (
        lambda value: _is_number(value) and 0 < value <= 3600,
        "a number of seconds above 0, an hour at most",
    ),
    "WEBHOOK_IN_PROCESS": (lambda value: isinstance(value, bool), "True or False"),
    "WEBHOOK_RETENTION_DAYS": _RETENTION,
    "FAILED_WEBHOOK_RETENTION_DAYS": _RETENTION,
    "RUN_RETENTION_DAYS": _RETENTION,
    "CHANGE_RETENTION_DAYS": _RETENTION,
    "OPERATION_RETENTION_DAYS": _RETENTION,
    "SWEEP_MINUTES": (
        lambda value: _is_int(value) and 0 <= value <= MAX_MINUTES,
        "a whole number of minutes from 0 to 1440, a day",
    ),
    "REPORT_TIME_ZONE": (
        lambda value: isinstance(value, str) and value in available_timezones(),
        'the name of a time zone, such as "Europe/Berlin"',
    ),
    "PAGE_SIZE": (
        lambda value: _is_int(value) and 1 <= value <= 100,
        "a whole number from 1 to 100, Orb's maximum",
    ),
    "CONCURRENCY": (
        lambda value: _is_int(value) and 1 <= value <= 8,
        "a whole number from 1 to 8",
    ),
    "LOOKBACK_DAYS": (
        lambda value: _is_int(value) and 1 <= value <= MAX_DAYS,
        f"a whole number of days from 1 to {MAX_DAYS}",
    ),
    "NOTES_REQUIRED": (lambda value: isinstance(value, bool), "True or False"),
    "OVERDUE_DAYS": (
        lambda value: (
            isinstance(value, (list, tuple))
            and all(_is_int(days) and 1 <= days <= MAX_DAYS for days in value)
        ),
        f"a list of whole numbers of days from 1 to {MAX_DAYS}",
    ),
    "READS_PER_SECOND": (
        lambda value: _is_number(value) and MIN_PER_SECOND <= value <= MAX_PER_SECOND,
        f"a number from {MIN_PER_SECOND} to {MAX_PER_SECOND}",
    ),
    "WRITES_PER_SECOND": (
        lambda value: _is_number(value) and MIN_PER_SECOND <= value <= MAX_PER_SECOND,
        f"a number from {MIN_PER_SECOND} to {MAX_PER_SECOND}",
    ),
    "READ_ONLY": (lambda value: isinstance(value, bool), "True or False"),
    "METRICS": (
        lambda value: (
            isinstance(value, (list, tuple))
            and all(name in [*PACKAGES] for name in value)
        ),
        f"a list of any of {', '.join(PACKAGES)}",
    ),
    "TASK_BACKEND": (
        lambda value: (
            value is None
            or (
                django.VERSION >= (6,)
                and isinstance(value, str)
                and value in getattr(settings, "TASKS", {})
            )
        ),
        "None, or with Django 6 an alias of the setting TASKS",
    ),
    "CELERY_QUEUE": (
        lambda value: value is None or (isinstance(value, str) and value != ""),
        "the name of a queue, or None",
    ),
}


@register("django_orb")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check `settings.DJANGO_ORB`: E001 to E004, W002, W007, E008 and W012."""
    try:
        conf = get_settings()
    except OrbConfigurationError as err:
        hint = "See the table of settings in the README."
        return [Error(str(err), hint=hint, id="django_orb.E001")]
    return [
        *_check_api_key(conf),
        *_check_base_url(conf),
        *_check_webhook_secrets(conf),
        *_check_values(conf),
        *_check_metrics(conf),
        *_check_host_functions(),
    ]


def _check_api_key(conf: OrbSettings) -> list[CheckMessage]:
    if not conf.API_KEY:
        # A warning, because migrations and builds do not need the key.
        return [
            Warning(
                "There is no API key for Orb.",
                hint='Set DJANGO_ORB = {"API_KEY": "..."}, or ORB_API_KEY in the '
                "environment. The key is made in Orb's developer settings.",
                id="django_orb.W002",
            )
        ]
    if problem := api_key_problem(conf.API_KEY):
        return [
            Error(
                f'DJANGO_ORB["API_KEY"] {problem}.',
                hint="Copy the key again, without the characters around it.",
                id="django_orb.E004",
            )
        ]
    return []


def _check_base_url(conf: OrbSettings) -> list[CheckMessage]:
    hint = "Leave BASE_URL out to use https://api.withorb.com/v1."
    problem = base_url_problem(conf.BASE_URL)
    if not problem and not _is_private(conf.BASE_URL):
        problem = f"would send the API key unencrypted: {conf.BASE_URL!r}"
        hint = "Use https; http is for a sandbox on this machine."
    if not problem:
        return []
    message = f'DJANGO_ORB["BASE_URL"] {problem}.'
    return [Error(message, hint=hint, id="django_orb.E003")]


def _is_private(url: str) -> bool:
    return urlsplit(url).scheme == "https" or is_loopback(url)


def _check_webhook_secrets(conf: OrbSettings) -> list[CheckMessage]:
    secrets = conf.WEBHOOK_SECRETS
    if not isinstance(secrets, (list, tuple)) or not all(
        isinstance(secret, str) and secret and not re.search(r"\s", secret)
        for secret in secrets
    ):
        return [
            Error(
                'DJANGO_ORB["WEBHOOK_SECRETS"] is not a list of secrets.',
                hint="It must be a list of strings, none of them empty or with spaces.",
                id="django_orb.E004",
            )
        ]
    # A project may do without webhooks, and leave out the URL.
    if secrets or not _has_endpoint():
        return []
    return [
        Warning(
            "Orb's webhooks are refused: there is no secret to verify them with.",
            hint='Set DJANGO_ORB["WEBHOOK_SECRETS"] to a list with the secret that Orb '
            "shows for the endpoint, or ORB_WEBHOOK_SECRET in the environment.",
            id="django_orb.W007",
        )
    ]


def _has_endpoint() -> bool:
    # A project that only runs workers may have no URLs.
    if not getattr(settings, "ROOT_URLCONF", None):
        return False
    try:
        reverse("django_orb:webhook")
    except (NoReverseMatch, ImproperlyConfigured):
        return False
    return True


def _check_metrics(conf: OrbSettings) -> list[CheckMessage]:
    named = conf.METRICS if isinstance(conf.METRICS, (list, tuple)) else ()
    return [
        Warning(
            f'DJANGO_ORB["METRICS"] names "{name}", which is not installed.',
            hint=f'Nothing is measured with it: pip install "django-orb[{name}]"',
            id="django_orb.W012",
        )
        for name in PACKAGES
        if name in named and find_spec(PACKAGES[name]) is None
    ]


def _check_host_functions() -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    for name in ("CUSTOMER_LABELS", "CUSTOMER_SEARCH"):
        try:
            host_function(name)
        except ImproperlyConfigured as err:
            hint = "Give the dotted path of a function, or leave it out."
            messages.append(Error(str(err), hint=hint, id="django_orb.E008"))
    return messages


def _check_values(conf: OrbSettings) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    for name, (holds, expected) in _RULES.items():
        value = getattr(conf, name)
        if not holds(value):
            messages.append(
                Error(
                    f'DJANGO_ORB["{name}"] is {value!r}.',
                    hint=f"It must be {expected}.",
                    id="django_orb.E004",
                )
            )
    return messages


@register("django_orb")
def check_time_zones(**kwargs: Any) -> list[CheckMessage]:
    """Refuse (E005) times without a zone, since Orb's have one."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            "USE_TZ is off, and the mirror's times have a zone: no sync could end.",
            hint="Set USE_TZ = True.",
            id="django_orb.E005",
        )
    ]


# Django runs such checks only with aliases that `migrate`, or `check --database`, gives
# it, since they need a connection.
@register(Tags.database)
def check_databases(
    *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn (W006) of invoices on a database that this package is not tested on."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if not router.allow_migrate(alias, "django_orb"):
            continue
        vendor = _untested_vendor(alias)
        if vendor:
            messages.append(
                Warning(
                    f"django_orb is not tested on {vendor} (database {alias!r}).",
                    hint="Tested are SQLite, PostgreSQL and MariaDB.",
                    id="django_orb.W006",
                )
            )
    return messages


@register(Tags.database)
def check_encodings(
    *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn (W011) of invoices with characters that the database cannot hold."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if not router.allow_migrate(alias, "django_orb"):
            continue
        try:
            narrow = _narrow_encoding(alias)
        except DatabaseError:
            continue  # Django reports that it cannot connect
        if narrow:
            messages.append(
                Warning(
                    f"{narrow} (database {alias!r}) cannot hold every character; "
                    "invoices with others are recorded as failed.",
                    hint="Convert it to utf8mb4 on MariaDB, to UTF8 on PostgreSQL.",
                    id="django_orb.W011",
                )
            )
    return messages


def _narrow_encoding(alias: str) -> str:
    """Name what cannot hold all of Unicode: the database, or some of our tables."""
    connection = connections[alias]
    if connection.vendor not in ("mysql", "postgresql"):
        return ""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SHOW server_encoding")
            encoding = cursor.fetchone()[0]
            return "" if encoding == "UTF8" else f"A database in {encoding}"
        # A column may have another encoding than its table, and a table than the
        # database, whose encoding the next migration's tables get.
        tables = [model._meta.db_table for model in _our_models()]
        names = ", ".join(["%s"] * len(tables))
        cursor.execute(
            "SELECT table_name, MIN(character_set_name) "  # noqa: S608
            "FROM information_schema.columns "
            f"WHERE table_schema = DATABASE() AND table_name IN ({names}) "
            "AND character_set_name <> 'utf8mb4' GROUP BY table_name "
            "UNION ALL SELECT 'its new tables', @@character_set_database "
            "FROM DUAL WHERE @@character_set_database <> 'utf8mb4'",
            tables,
        )
        found = sorted(cursor.fetchall())
    return ", ".join(f"{table} in {charset}" for table, charset in found)


def _our_models() -> list[type[Model]]:
    return list(apps.get_app_config("django_orb").get_models())


def _untested_vendor(alias: str) -> str:
    connection: Any = connections[alias]
    if connection.vendor in ("sqlite", "postgresql"):
        return ""
    # Django has one vendor for MariaDB and MySQL. The latter is not tested, because
    # neither Debian nor PyPI has its server.
    if connection.vendor != "mysql":
        return str(connection.display_name)
    try:
        return "" if connection.mysql_is_mariadb else "MySQL"
    except DatabaseError:
        return ""  # Django reports that it cannot connect
