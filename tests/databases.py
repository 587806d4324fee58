"""
The servers that the tests use: where they are, and why one is not there.

Their addresses come from the environment; the defaults fit a local install.
"""

from __future__ import annotations

import atexit
import getpass
import importlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.db import connections, transaction

#: Tables that no test changes.
KEPT = ["django_content_type", "auth_permission"]
REQUIRED = os.environ.get("DJANGO_ORB_REQUIRE_SERVICES", "") not in ("", "0")
CONNECT_SECONDS = 2

#: Where every model is read and written now. A plain variable, because threads
#: of a test must see what the test has chosen.
current_alias = os.environ.get("DJANGO_ORB_TEST_ALIAS", "default")


#: Where the mirror's models are read by default, as from a replica that lags.
stale_alias: str | None = None


class CurrentAliasRouter:
    """Send every query to the database that the current test is about."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        is_ours = model._meta.app_label == "django_orb"
        return stale_alias if stale_alias and is_ours else current_alias

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return current_alias

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool:
        return True


def use_alias(alias: str) -> None:
    global current_alias
    current_alias = alias


@contextmanager
def reading_from(alias: str) -> Iterator[None]:
    """Read the mirror's models from another database, unless told where."""
    global stale_alias
    stale_alias = alias
    try:
        yield
    finally:
        stale_alias = None


def address(server: str, port: int, user: str, name: str) -> dict[str, Any]:
    prefix = f"DJANGO_ORB_{server}_"
    return {
        "HOST": os.environ.get(prefix + "HOST", "127.0.0.1"),
        "PORT": int(os.environ.get(prefix + "PORT", port)),
        "USER": os.environ.get(prefix + "USER", user),
        "PASSWORD": os.environ.get(prefix + "PASSWORD", ""),
        "NAME": os.environ.get(prefix + "NAME", name),
    }


def workspace() -> Path:
    path = Path(tempfile.gettempdir()) / f"django_orb_tests_{getpass.getuser()}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def slot() -> str:
    """
    Return what keeps this run's databases apart from those of a run beside it.

    The processes that a run starts inherit its slot.
    """
    if "DJANGO_ORB_TEST_SLOT" not in os.environ:
        os.environ["DJANGO_ORB_TEST_SLOT"] = _free_slot()
    return os.environ["DJANGO_ORB_TEST_SLOT"]


def _free_slot() -> str:
    try:
        import fcntl
    except ImportError:  # Windows: one run at a time
        return ""
    for number in range(1, 100):
        lock = (workspace() / f"slot_{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        atexit.register(lock.close)
        return "" if number == 1 else f"_{number}"
    raise RuntimeError("99 test runs at once?")


def absence(host: str, port: int, log_in: Callable[[], Any]) -> str | None:
    """Return why a server cannot be used, or None when it can."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
        log_in()
    except ImportError as error:
        return f"no driver: {error}"
    except Exception as error:  # noqa: BLE001  each driver has errors of its own
        first_line = (str(error).splitlines() or [""])[0]
        return f"{host}:{port}: {type(error).__name__}: {first_line}"
    return None


def _sqlite() -> dict[str, Any]:
    # Files, because threads and processes share them.
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_ORB_SQLITE_NAME")
        or str(workspace() / f"django_orb{slot()}.sqlite3"),
        # What a test wrote need not survive a power cut.
        "OPTIONS": {"timeout": 20, "init_command": "PRAGMA synchronous = OFF"},
        "TEST": {"NAME": str(workspace() / f"test_django_orb{slot()}.sqlite3")},
    }


def _postgresql() -> tuple[dict[str, Any], str | None]:
    where = address("POSTGRESQL", 5432, "postgres", "postgres")

    def log_in() -> None:
        import psycopg

        psycopg.connect(
            host=where["HOST"],
            port=where["PORT"],
            user=where["USER"],
            password=where["PASSWORD"],
            dbname=where["NAME"],
            connect_timeout=CONNECT_SECONDS,
        ).close()

    database = {
        "ENGINE": "django.db.backends.postgresql",
        **where,
        "OPTIONS": {"options": "-c synchronous_commit=off"},
        # Django would have it wait for "default", which a test may do without.
        "TEST": {"NAME": f"test_django_orb{slot()}", "DEPENDENCIES": []},
    }
    return database, absence(where["HOST"], where["PORT"], log_in)


def _mariadb() -> tuple[dict[str, Any], str | None]:
    where = address("MARIADB", 3306, "root", "")

    def log_in() -> None:
        mysql_driver().connect(
            host=where["HOST"],
            port=where["PORT"],
            user=where["USER"],
            password=where["PASSWORD"],
            connect_timeout=CONNECT_SECONDS,
        ).close()

    database = {
        "ENGINE": "django.db.backends.mysql",
        **where,
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {
            "NAME": f"test_django_orb{slot()}",
            "CHARSET": "utf8mb4",
            "DEPENDENCIES": [],
        },
    }
    return database, absence(where["HOST"], where["PORT"], log_in)


def mysql_driver() -> Any:
    try:
        return importlib.import_module("MySQLdb")
    except ImportError:
        import pymysql

        # Django asks for mysqlclient by this number, and PyMySQL before 1.2 gives
        # an older one: https://docs.djangoproject.com/en/stable/ref/databases/
        pymysql.version_info = (2, 2, 8, "final", 1)
        pymysql.install_as_MySQLdb()
        return pymysql


@contextmanager
def server(engine: str) -> Iterator[Callable[[str], Any]]:
    """Give what executes a statement on a server, outside transactions."""
    look = {"postgresql": _postgresql, "mariadb": _mariadb}[engine]
    where = look()[0]
    login = {
        "host": where["HOST"],
        "port": where["PORT"],
        "user": where["USER"],
        "password": where["PASSWORD"],
    }
    if engine == "postgresql":
        psycopg = importlib.import_module("psycopg")
        connection = psycopg.connect(**login, dbname=where["NAME"], autocommit=True)
    else:
        connection = mysql_driver().connect(**login)
    try:
        yield connection.cursor().execute
    finally:
        connection.close()


def address_of(engine: str, name: str) -> dict[str, Any]:
    """The settings of a database of that name on a server."""
    if engine == "postgresql":
        where = address("POSTGRESQL", 5432, "postgres", "postgres")
        return {**where, "ENGINE": "django.db.backends.postgresql", "NAME": name}
    where = address("MARIADB", 3306, "root", "")
    return {**where, "ENGINE": "django.db.backends.mysql", "NAME": name}


def empty(alias: str) -> None:
    """
    Delete all rows but the content types and permissions, which migrations made.

    Django's `flush` makes these again for each test, and on PostgreSQL it truncates,
    which gives every table and index a new file: hundreds of milliseconds.
    """
    connection = connections[alias]
    names = connection.introspection.django_table_names(include_views=False)
    quote = connection.ops.quote_name
    deletions = [f"DELETE FROM {quote(name)}" for name in names if name not in KEPT]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("; ".join(deletions))
            return
        with connection.constraint_checks_disabled():
            for sql in deletions:
                cursor.execute(sql)


def find_databases() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return DATABASES, and per alias that is left out the reason."""
    found = {"default": _sqlite()}
    absent = {}
    for alias, look in (("postgresql", _postgresql), ("mariadb", _mariadb)):
        database, reason = look()
        if reason is None:
            found[alias] = database
        else:
            absent[alias] = reason
    return found, absent


def redis_url() -> str:
    return os.environ.get("DJANGO_ORB_REDIS_URL", "redis://127.0.0.1:6379/0")


def rabbitmq_url() -> str:
    return os.environ.get(
        "DJANGO_ORB_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"
    )


@cache
def broker_absence(url: str) -> str | None:
    parts = urlsplit(url)
    default_port = 6379 if parts.scheme.startswith("redis") else 5672

    def log_in() -> None:
        from kombu import Connection

        if parts.scheme.startswith("redis"):
            importlib.import_module("redis")  # kombu does not say what it misses
        with Connection(url, connect_timeout=CONNECT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)

    return absence(parts.hostname or "127.0.0.1", parts.port or default_port, log_in)


def chromium() -> str:
    """Return the path of a Chromium, or "" where there is none."""
    wanted = os.environ.get("DJANGO_ORB_CHROMIUM", "/usr/bin/chromium")
    return shutil.which(wanted) or ""


def chromium_absence() -> str | None:
    if not chromium():
        return "no Chromium: set DJANGO_ORB_CHROMIUM to its path"
    return None if find_spec("playwright") else "no driver: playwright"


def pgbouncer() -> str:
    """Return the path of PgBouncer, or "" where there is none."""
    wanted = os.environ.get("DJANGO_ORB_PGBOUNCER", "pgbouncer")
    return shutil.which(wanted, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""


def pgbouncer_absence() -> str | None:
    return None if pgbouncer() else "no PgBouncer: set DJANGO_ORB_PGBOUNCER to its path"
