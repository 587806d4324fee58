"""
Projects that install the app and are not like the one of these tests.

Each is written into a folder and driven by `tests.host_drive` in a process: checked,
migrated, synced, sent a webhook, and asked to void, on the databases it names.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from django_orb.testing import OrbSandbox

from . import databases
from .conftest import skip_or_fail
from .host_project import Settings, drive_project, write_project

ROOT = Path(__file__).parent.parent
INVOICES = 60
# Real projects in processes of their own: one pair of Python and Django is enough.
pytestmark = pytest.mark.proof

ROUTER = """
class Router:
    def db_for_read(self, model, **hints):
        return "mirror" if model._meta.app_label == "django_orb" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return {allow_migrate}


class ReplicaRouter:
    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db == "default"
"""
APART = '(db == "mirror") == (app_label == "django_orb")'
# The mirror's database has tables of the other apps too, and users of its own.
AUTH_IN_BOTH = 'None if app_label != "django_orb" else db == "mirror"'
# Users without names, who log in with a number.
PEOPLE = """
import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class People(BaseUserManager):
    def create_superuser(self, *ignored):
        return self.create(phone=4930123456, is_superuser=True)


class Person(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    phone = models.BigIntegerField(unique=True)
    is_staff = models.BooleanField(default=True)
    is_active = models.BooleanField(default=True)

    USERNAME_FIELD = "phone"
    objects = People()
"""

# The package, with the app in the schema of each tenant and not in the common one.
TENANTS = """
from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    pass


class Domain(DomainMixin):
    pass
"""
WITH_TENANTS = """
TENANT_APPS = INSTALLED_APPS
SHARED_APPS = ["django_tenants", "tenants"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL = "tenants.Tenant"
TENANT_DOMAIN_MODEL = "tenants.Domain"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware", *MIDDLEWARE]
"""

# What projects ask of their connections, as much at once as an engine allows.
OPTIONS = {
    "sqlite": {"transaction_mode": "EXCLUSIVE"},
    "postgresql": {
        "isolation_level": 4,  # serializable
        "server_side_binding": True,
        "options": "-c TimeZone=America/St_Johns "
        "-c statement_timeout=20000 -c idle_in_transaction_session_timeout=20000",
    },
    "mariadb": {
        "isolation_level": "serializable",
        "init_command": "SET time_zone = '+05:45', "
        "sql_mode = 'ANSI,TRADITIONAL,ONLY_FULL_GROUP_BY,NO_BACKSLASH_ESCAPES'",
    },
}

Drive = Callable[..., None]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Return a function that writes a project and has it driven."""
    sandbox = OrbSandbox(invoices=INVOICES, seed=1)
    sandbox.start()

    def run(
        database_settings: dict[str, Settings],
        more: str = "",
        environment: dict[str, str] | None = None,
        router: str = APART,
    ) -> None:
        write_project(tmp_path, sandbox, database_settings, more)
        (tmp_path / "host_routers.py").write_text(ROUTER.format(allow_migrate=router))
        drive_project(tmp_path, sandbox, path=str(ROOT), environment=environment)

    yield run
    sandbox.stop()


def write_app(folder: Path, models: str) -> None:
    (folder / "migrations").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "migrations" / "__init__.py").touch()
    (folder / "models.py").write_text(models)


def test_a_minimal_project_without_users_admin_and_urls(drive, make_database):
    drive(
        {"default": make_database("sqlite")},
        'INSTALLED_APPS = ["django_orb"]\nMIDDLEWARE = []\ndel ROOT_URLCONF\n',
    )


@pytest.mark.parametrize("router", [APART, AUTH_IN_BOTH], ids=["apart", "both"])
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mariadb"])
def test_a_mirror_in_a_database_of_its_own(drive, make_database, engine, router):
    aliases = {"default": make_database("sqlite"), "mirror": make_database(engine)}

    drive(
        aliases,
        'DATABASE_ROUTERS = ["host_routers.Router"]\n'
        'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n'
        'DATABASES["mirror"]["ATOMIC_REQUESTS"] = True\n',
        router=router,
    )


@pytest.mark.parametrize("engine", OPTIONS)
def test_connections_with_options(drive, make_database, engine):
    drive({"default": {**make_database(engine), "OPTIONS": OPTIONS[engine]}})


def test_a_replica_for_reads(drive, make_database):
    database = make_database("postgresql")

    drive(
        {"default": database, "replica": database},
        'DATABASE_ROUTERS = ["host_routers.ReplicaRouter"]\n',
    )


def test_a_schema_for_each_tenant(drive, make_database):
    database = make_database("postgresql")
    for tenant in ("acme", "globex"):
        options = {"options": f"-c search_path={tenant}"}
        drive(
            {"default": {**database, "OPTIONS": options}},
            "import psycopg\n"
            f"with psycopg.connect(host={database['HOST']!r}, port={database['PORT']!r},"
            f" user={database['USER']!r}, password={database['PASSWORD']!r},"
            f" dbname={database['NAME']!r}) as connection:\n"
            f'    connection.execute("CREATE SCHEMA IF NOT EXISTS {tenant}")\n',
        )


def test_tenants_of_the_package_for_them(drive, make_database, tmp_path):
    database = make_database("postgresql")
    write_app(tmp_path / "tenants", TENANTS)

    drive(
        {"default": {**database, "ENGINE": "django_tenants.postgresql_backend"}},
        WITH_TENANTS,
    )


def test_pooled_connections(drive, make_database):
    database = make_database("postgresql")

    drive({"default": {**database, "OPTIONS": {"pool": True}}})


@pytest.fixture
def pgbouncer(tmp_path: Path) -> Iterator[int]:
    """Run PgBouncer in transaction mode before PostgreSQL; gives its port."""
    program = databases.pgbouncer()
    if not program:
        skip_or_fail("pgbouncer", databases.pgbouncer_absence() or "")
    where = databases.address("POSTGRESQL", 5432, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    folder = tmp_path / "pgbouncer"
    folder.mkdir()
    (folder / "users.txt").write_text(f'"{where["USER"]}" "{where["PASSWORD"]}"\n')
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"* = host={where['HOST']} port={where['PORT']}\n"
        "[pgbouncer]\n"
        "listen_addr = 127.0.0.1\n"
        f"listen_port = {port}\n"
        "unix_socket_dir =\n"
        "auth_type = trust\n"
        f"auth_file = {folder}/users.txt\n"
        "pool_mode = transaction\n"
        "default_pool_size = 3\n"
    )
    is_root = os.getuid() == 0
    for path in (*tmp_path.parents[:2], tmp_path, folder):
        path.chmod(0o755)
    process = subprocess.Popen(
        [program, *(["-u", "nobody"] if is_root else []), f"{folder}/pgbouncer.ini"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(20)


@pytest.mark.parametrize("prepares", [False, True], ids=["plain", "prepared"])
def test_pgbouncer_in_transaction_mode(drive, make_database, pgbouncer, prepares):
    database = {
        **make_database("postgresql"),
        "PORT": pgbouncer,
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "CONN_MAX_AGE": 60,
    }
    if prepares:
        database["OPTIONS"] = {"prepare_threshold": 1}

    drive({"default": database})


def test_asgi(drive, make_database):
    drive({"default": make_database("sqlite")}, environment={"HOST_ASYNC": "1"})


def test_eager_celery(drive, make_database):
    drive({"default": make_database("sqlite")}, "CELERY_TASK_ALWAYS_EAGER = True\n")


def test_users_with_uuids_other_keys_and_no_translation(drive, make_database, tmp_path):
    write_app(tmp_path / "people", PEOPLE)

    drive(
        {"default": make_database("sqlite")},
        'INSTALLED_APPS.append("people")\n'
        'AUTH_USER_MODEL = "people.Person"\n'
        'DEFAULT_AUTO_FIELD = "django.db.models.AutoField"\n'
        "USE_I18N = False\n",
    )
