from __future__ import annotations

import sys
from dataclasses import fields

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_orb.checks import _RULES, check_databases
from django_orb.conf import OrbSettings

from . import databases


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("ORB_API_KEY", raising=False)
    monkeypatch.delenv("ORB_BASE_URL", raising=False)
    monkeypatch.delenv("ORB_WEBHOOK_SECRET", raising=False)


@pytest.fixture
def ids(settings):
    def run(**given):
        given = {"API_KEY": "sk-1", "WEBHOOK_SECRETS": ["whs"], **given}
        settings.DJANGO_ORB = given
        messages = checks.run_checks(tags=["django_orb"])
        assert all(message.hint for message in messages)
        return [message.id for message in messages]

    return run


def test_good_settings_have_no_message(ids):
    assert ids() == []
    assert ids(BASE_URL="http://localhost:8000/v1", CELERY_QUEUE="billing") == []
    assert ids(TIMEOUT_SECONDS=0.5, PAGE_SIZE=1, LOOKBACK_DAYS=1, READ_ONLY=True) == []
    assert ids(PAGE_SIZE=100) == []


def test_e001_an_unknown_key_and_nothing_else(ids, settings):
    assert ids(PAGESIZE=7, READ_ONLY="no") == ["django_orb.E001"]
    settings.DJANGO_ORB = None
    (message,) = checks.run_checks(tags=["django_orb"])
    assert message.id == "django_orb.E001"


def test_w002_a_missing_key_warns_and_does_not_stop_migrate(ids, settings):
    assert ids(API_KEY="") == ["django_orb.W002"]
    settings.DJANGO_ORB = {}
    call_command("check", tags=["django_orb"])


def test_w002_is_silent_with_a_key_in_the_environment(ids, monkeypatch):
    monkeypatch.setenv("ORB_API_KEY", "sk-1")

    assert ids(API_KEY="") == []


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("api.withorb.com/v1", "not an http or https address"),
        ("ftp://api.withorb.com", "not an http or https address"),
        (7, "not a string"),
        ("https://user:secret@api.withorb.com/v1", "user name"),
        ("http://api.withorb.com/v1", "unencrypted: 'http://api.withorb.com/v1'"),
        ("http://10.0.0.1/v1", "unencrypted"),
    ],
)
def test_e003_an_address_that_is_wrong_or_not_private(settings, url, complaint):
    settings.DJANGO_ORB = {
        "API_KEY": "sk-1",
        "WEBHOOK_SECRETS": ["whs"],
        "BASE_URL": url,
    }

    (message,) = checks.run_checks(tags=["django_orb"])

    assert message.id == "django_orb.E003"
    assert complaint in message.msg
    assert "secret" not in message.msg
    assert message.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEOUT_SECONDS", 0),
        ("TIMEOUT_SECONDS", "30"),
        ("TIMEOUT_SECONDS", True),
        ("TIMEOUT_SECONDS", None),
        ("WEBHOOK_IN_PROCESS", 1),
        ("METRICS", "prometheus"),
        ("METRICS", ["statsd"]),
        ("METRICS", None),
        ("METRICS", 7),
        ("METRICS", [["prometheus"]]),
        ("METRICS", [None]),
        ("METRICS", {"prometheus": 1}),
        ("OVERDUE_DAYS", None),
        ("OVERDUE_DAYS", 7),
        ("OVERDUE_DAYS", [[1]]),
        ("REPORT_TIME_ZONE", ["UTC"]),
        ("TASK_BACKEND", ["default"]),
        ("WEBHOOK_RETENTION_DAYS", 0),
        ("WEBHOOK_RETENTION_DAYS", 10**9),
        ("LOOKBACK_DAYS", 10**9),
        ("SWEEP_MINUTES", 10**9),
        ("TIMEOUT_SECONDS", float("inf")),
        ("READS_PER_SECOND", float("inf")),
        ("WRITES_PER_SECOND", float("nan")),
        ("RUN_RETENTION_DAYS", 0),
        ("FAILED_WEBHOOK_RETENTION_DAYS", 0),
        ("CHANGE_RETENTION_DAYS", 0),
        ("CHANGE_RETENTION_DAYS", -1),
        ("CHANGE_RETENTION_DAYS", "400"),
        ("OPERATION_RETENTION_DAYS", 0),
        ("OPERATION_RETENTION_DAYS", False),
        ("SWEEP_MINUTES", -1),
        ("PAGE_SIZE", 0),
        ("PAGE_SIZE", 101),
        ("PAGE_SIZE", 20.0),
        ("LOOKBACK_DAYS", 0),
        ("LOOKBACK_DAYS", True),
        ("READ_ONLY", "false"),
        ("READ_ONLY", None),
        ("CELERY_QUEUE", ""),
        ("CELERY_QUEUE", 7),
    ],
)
def test_e004_a_value_of_the_wrong_type_or_size(settings, name, value):
    settings.DJANGO_ORB = {"API_KEY": "sk-1", "WEBHOOK_SECRETS": ["whs"], name: value}

    (message,) = checks.run_checks(tags=["django_orb"])

    assert message.id == "django_orb.E004"
    assert message.msg == f'DJANGO_ORB["{name}"] is {value!r}.'
    assert message.hint


@pytest.mark.parametrize("name", [field.name for field in fields(OrbSettings)])
@pytest.mark.parametrize(
    "value", [None, 7, -1.5, "odd", b"bytes", [], ["odd"], [["odd"]], [{}], {"a": []}]
)
def test_no_value_of_any_setting_ends_the_checks(settings, name, value):
    settings.DJANGO_ORB = {"API_KEY": "sk-1", "WEBHOOK_SECRETS": ["whs"], name: value}

    messages = checks.run_checks(tags=["django_orb"])

    assert all(name in f"{message.msg} {message.hint}" for message in messages)


@pytest.mark.parametrize("name", ["CUSTOMER_LABELS", "CUSTOMER_SEARCH"])
@pytest.mark.parametrize("value", [7, ["a.b"], [["a.b"]], ".label", "..label", "label"])
def test_e008_what_is_not_a_path_of_a_function(settings, name, value):
    settings.DJANGO_ORB = {"API_KEY": "sk-1", "WEBHOOK_SECRETS": ["whs"], name: value}

    (message,) = checks.run_checks(tags=["django_orb"])

    assert message.id == "django_orb.E008"
    assert f'DJANGO_ORB["{name}"]' in message.msg
    assert message.hint


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret é", 1234567])
def test_e004_a_key_that_is_none_is_not_quoted(settings, key):
    settings.DJANGO_ORB = {"API_KEY": key, "WEBHOOK_SECRETS": ["whs"]}

    (message,) = checks.run_checks(tags=["django_orb"])

    assert message.id == "django_orb.E004"
    assert str(key).strip()[:9] not in message.msg


@pytest.mark.parametrize(
    "secrets", ["whs-1", [""], ["  "], ["whs-1\n"], [None], {"whs-1"}]
)
def test_e004_secrets_that_are_no_list_are_not_quoted(settings, secrets):
    settings.DJANGO_ORB = {"API_KEY": "sk-1", "WEBHOOK_SECRETS": secrets}

    (message,) = checks.run_checks(tags=["django_orb"])

    assert message.id == "django_orb.E004"
    assert "whs-1" not in message.msg


def test_w007_an_endpoint_without_a_secret(ids, settings):
    assert ids(WEBHOOK_SECRETS=[]) == ["django_orb.W007"]
    settings.ROOT_URLCONF = "tests.urls_without_webhooks"
    assert ids(WEBHOOK_SECRETS=[]) == []


def test_w007_is_silent_with_a_secret_in_the_environment(ids, monkeypatch):
    monkeypatch.setenv("ORB_WEBHOOK_SECRET", "whs-1")

    assert ids(WEBHOOK_SECRETS=[]) == []


def test_w012_metrics_without_their_package(ids, monkeypatch):
    assert ids(METRICS=["prometheus", "opentelemetry"]) == []
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    assert ids(METRICS=["prometheus"]) == ["django_orb.W012"]


def test_e004_has_a_rule_for_every_setting():
    names = {field.name for field in fields(OrbSettings)}

    own = {
        "API_KEY",
        "BASE_URL",
        "WEBHOOK_SECRETS",
        "CUSTOMER_LABELS",
        "CUSTOMER_SEARCH",
    }
    assert {*_RULES, *own} == names


def test_an_error_stops_the_commands(settings):
    settings.DJANGO_ORB = {"PAGE_SIZE": 0}

    with pytest.raises(SystemCheckError, match=r"django_orb\.E004"):
        call_command("check", tags=["django_orb"])


def test_e005_times_without_a_zone(ids, settings):
    settings.USE_TZ = False

    assert ids() == ["django_orb.E005"]


def test_w006_is_silent_on_the_tested_databases(any_database):
    assert check_databases(databases=[any_database]) == []


def test_w006_asks_no_database_unless_told_to():
    assert check_databases(databases=None) == []
    assert checks.run_checks(tags=["django_orb"]) == []


@pytest.fixture
def connection(monkeypatch):
    """The default connection, which says that it is of another kind."""
    kind = {"vendor": "oracle", "display_name": "Oracle", "mysql_is_mariadb": False}
    for name, value in kind.items():
        monkeypatch.setattr(connections["default"], name, value, raising=False)
    return connections["default"]


@pytest.mark.parametrize(
    ("vendor", "name", "expected"),
    [("oracle", "Oracle", "Oracle"), ("mysql", "MySQL", "MySQL")],
)
def test_w006_another_database_is_named(connection, vendor, name, expected):
    connection.vendor, connection.display_name = vendor, name

    (message,) = check_databases(databases=["default"])

    assert message.id == "django_orb.W006"
    assert message.msg == (
        f"django_orb is not tested on {expected} (database 'default')."
    )
    assert message.hint


def test_w006_leaves_databases_alone_that_have_no_invoices(connection, monkeypatch):
    monkeypatch.setattr(
        databases.CurrentAliasRouter,
        "allow_migrate",
        lambda self, db, app_label, **hints: app_label != "django_orb",
        raising=False,
    )
    assert check_databases(databases=["default"]) == []


def test_w006_leaves_a_failing_connection_to_django(monkeypatch):
    def is_mariadb(self):
        raise DatabaseError("gone")

    monkeypatch.setattr(connections["default"], "vendor", "mysql", raising=False)
    monkeypatch.setattr(
        BaseDatabaseWrapper, "mysql_is_mariadb", property(is_mariadb), raising=False
    )
    assert check_databases(databases=["default"]) == []


def test_w006_runs_with_the_checks_of_databases(any_database):
    messages = checks.run_checks(tags=["database"], databases=[any_database])

    assert [one for one in messages if "django_orb" in (one.id or "")] == []
    assert connections[any_database].vendor in ("sqlite", "postgresql", "mysql")
