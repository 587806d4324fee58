from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.core import serializers
from django.core.serializers.base import DeserializationError
from django.db import connections, models
from django.utils import timezone as django_timezone

from django_orb import mirror
from django_orb.db.clock import Interval
from django_orb.models import Invoice
from django_orb.models.operations import describe_actor

from .payloads import load

NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)


def store(invoice_id: str, **changes: Any) -> Invoice:
    payload = {**load("invoice_issued"), "id": invoice_id, **changes}
    seen = mirror.read_page([payload], Interval(NOON, NOON))
    mirror.write(seen)
    return Invoice.objects.get(pk=invoice_id)


def in_days(days: int) -> str:
    return (django_timezone.now() + timedelta(days=days)).isoformat()


def names(queryset: Any) -> list[str]:
    return sorted(queryset.values_list("pk", flat=True))


@pytest.mark.parametrize("form", ["json", "jsonl", "xml"])
def test_numbers_stay_exact_in_a_fixture(any_database: str, form: str) -> None:
    """Projects move their rows to another database with `dumpdata` and `loaddata`."""
    exact = {"a": Decimal("7124.540"), "b": [1, 2.5, "3.5", None], "c": "é\"'<"}
    before = store("moved", metadata={}, custom=exact)
    before.refresh_from_db()

    fixture = serializers.serialize(form, [before])
    before.delete()
    for row in serializers.deserialize(form, fixture, using=any_database):
        row.save(using=any_database)

    after = Invoice.objects.get()
    assert after.payload == before.payload
    assert repr(after.payload) == repr(before.payload)
    assert (after.total, after.invoice_date) == (before.total, before.invoice_date)


def test_a_fixture_whose_payload_is_not_json_is_refused(any_database: str) -> None:
    fixture = serializers.serialize("json", [store("odd")])

    with pytest.raises(DeserializationError, match="not JSON"):
        list(
            serializers.deserialize(
                "json", fixture.replace('"payload": "{', '"payload": "')
            )
        )


class Numbered(AbstractBaseUser):
    """A user of a project whose model has no names, and no text to log in with."""

    phone = models.BigIntegerField(unique=True)
    USERNAME_FIELD = "phone"

    class Meta:
        app_label = "numbered"


class Nameless(Numbered):
    def get_full_name(self) -> Any:
        return None

    class Meta:
        app_label = "numbered"
        proxy = True


@pytest.mark.parametrize("model", [Numbered, Nameless])
@pytest.mark.parametrize(("phone", "name"), [(4930123, "4930123"), (None, "")])
def test_whoever_asked_is_recorded_whatever_the_project_knows_of_users(
    model: Any, phone: int | None, name: str
) -> None:
    assert describe_actor(model(pk=7, phone=phone)) == {
        "actor_id": "7",
        "actor_username": name,
        "actor_name": name,
    }


def test_unsettled_open_and_overdue_mean_what_they_say(any_database: str) -> None:
    store("draft", status="draft", due_date=None)
    store("due", status="issued", due_date=in_days(3))
    store("late", status="issued", due_date=in_days(-3))
    store("covered", status="issued", due_date=in_days(-3), amount_due="0.00")
    store("gone", status="issued", due_date=in_days(-3))
    store("paid", status="paid", due_date=in_days(-3))
    Invoice.objects.filter(pk="gone").update(missing_since=NOON)

    assert names(Invoice.objects.unsettled()) == [
        "covered",
        "draft",
        "due",
        "gone",
        "late",
    ]
    assert names(Invoice.objects.open()) == ["covered", "due", "late"]
    assert names(Invoice.objects.overdue()) == ["late"]
    assert [i.pk for i in Invoice.objects.all() if i.is_overdue] == ["late"]
    assert Invoice.objects.get(pk="late").days_overdue == 3
    assert Invoice.objects.get(pk="due").days_overdue == 0


def test_totals_never_add_one_currency_to_another(any_database: str) -> None:
    store("a", currency="USD", total="10.10", amount_due="1")
    store("b", currency="USD", total="20.20", amount_due="2")
    store("c", currency="EUR", total="5", amount_due="0")

    assert Invoice.objects.all().totals_by_currency() == [
        {"currency": "EUR", "count": 1, "total": 5, "amount_due": 0},
        {"currency": "USD", "count": 2, "total": Decimal("30.30"), "amount_due": 3},
    ]


def test_for_customer_finds_by_either_id_and_never_by_none(any_database: str) -> None:
    store("a", customer={"id": "c1", "external_customer_id": "acme"})
    store("b", customer={"id": "c2", "external_customer_id": None})
    store("c", customer={"id": "C1", "external_customer_id": "ACME"})

    find = Invoice.objects.all().for_customer
    assert names(find(customer_id="c1")) == ["a"]
    assert names(find(external_customer_id="acme")) == ["a"]
    assert names(find(external_customer_id="")) == []
    assert names(find(customer_id="")) == []
    with pytest.raises(TypeError):
        find()
    with pytest.raises(TypeError):
        find(customer_id="c1", external_customer_id="acme")


def test_managers_work_on_the_class(any_database: str) -> None:
    store("a")

    assert Invoice.objects.for_customer(external_customer_id="acme-001").count() == 1


@pytest.mark.parametrize("auto_field", ["BigAutoField", "AutoField"])
def test_no_migration_is_missing(auto_field: str) -> None:
    """Whatever the project's DEFAULT_AUTO_FIELD is."""
    script = (
        "import django; from django.core.management import call_command; "
        "from django.conf import settings; "
        f"settings.DEFAULT_AUTO_FIELD = 'django.db.models.{auto_field}'; "
        "django.setup(); call_command('makemigrations', check=True, dry_run=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert "No changes" in done.stdout, done.stdout + done.stderr


def test_postgresql_compresses_what_is_long_with_lz4_where_it_can(
    any_database: str,
) -> None:
    if connections[any_database].vendor != "postgresql":
        pytest.skip("only PostgreSQL compresses so")
    with connections[any_database].cursor() as cursor:
        cursor.execute(
            "SELECT 'lz4' = ANY(enumvals) FROM pg_settings "
            "WHERE name = 'default_toast_compression'"
        )
        can = cursor.fetchone() == (True,)
        cursor.execute(
            "SELECT attrelid::regclass::text, attname FROM pg_attribute "
            "WHERE attcompression = 'l' ORDER BY 1"
        )
        found = cursor.fetchall()

    long = [("django_orb_invoice", "payload"), ("django_orb_webhookevent", "body")]
    assert found == (long if can else [])
