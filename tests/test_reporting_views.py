"""The SQL views for reports: there, as documented, and in no migration's way."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, connections, migrations, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models import TextField

from django_orb import migrations as ours
from django_orb.exceptions import OrbConfigurationError
from django_orb.models import Invoice, InvoiceCreditNote
from django_orb.models.reporting_views import VIEWS, drop_views, make_views
from tests.payloads import load_full

from .factories import make_invoice, store

REFERENCE = Path(__file__).parent.parent / ".github" / "REFERENCE.md"
FIRST = "0003_reporting_views"


def columns_of(alias: str, name: str) -> list[str]:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {name} WHERE 1 = 0")
        return [column[0] for column in cursor.description]


def documented() -> dict[str, list[str]]:
    text = REFERENCE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(orb_\w+)` \| (.+) \|$", text, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", cells) for name, cells in rows}


def test_each_view_has_the_columns_that_are_documented(any_database: str) -> None:
    found = {name: columns_of(any_database, name) for name in VIEWS}

    assert found == documented()
    assert found == {name: list(view.columns) for name, view in VIEWS.items()}


def test_a_view_shows_the_rows(any_database: str) -> None:
    store(load_full())
    name = connections[any_database].ops.quote_name("orb_line_items")
    with connections[any_database].cursor() as cursor:
        cursor.execute(f"SELECT SUM(amount), COUNT(*) FROM {name}")
        total, count = cursor.fetchone()

    lines = list(Invoice.objects.get().line_items.all())
    assert (float(total), count) == (
        float(sum(one.amount for one in lines)),
        len(lines),
    )


def test_no_view_shows_a_free_text_or_a_payload() -> None:
    free = {"payload", "body", "memo", "note", "notes", "detail", "reason", "error"}
    free |= {"description", "result", "before", "hosted_invoice_url", "invoice_pdf"}
    free |= {
        "receipt_pdf",
        "grouping",
        "changed_fields",
        "rounded_fields",
        "tax_reason",
    }

    for view in VIEWS.values():
        assert not free & set(view.columns)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM {}", "INSERT INTO {} (id) VALUES ('x')"]
)
def test_nothing_is_written_through_a_view(any_database: str, statement: str) -> None:
    make_invoice()
    connection = connections[any_database]
    statements = [statement]
    if connection.vendor != "mysql":  # there whoever may update may do so here
        statements.append("UPDATE {} SET status = 'paid'")
    for sql in statements:
        with (
            connection.cursor() as cursor,
            pytest.raises(DatabaseError),
            transaction.atomic(using=any_database),
        ):
            cursor.execute(sql.format("orb_invoices"))

    assert Invoice.objects.get().status == "issued"


def operate(alias: str, *operations: Any) -> None:
    """Do what a migration would, and undo it."""
    state = MigrationLoader(None).project_state()
    with connections[alias].schema_editor() as editor:
        for operation in operations:
            before = state.clone()
            operation.state_forwards("django_orb", state)
            operation.database_forwards("django_orb", editor, before, state)


def widen() -> migrations.AlterField:
    return migrations.AlterField("InvoiceCreditNote", "type", TextField(blank=True))


def narrow() -> migrations.AlterField:
    field = InvoiceCreditNote._meta.get_field("type")
    return migrations.AlterField("InvoiceCreditNote", "type", field.clone())


def test_a_later_migration_changes_columns_between_dropping_and_making(
    any_committed_database: str,
) -> None:
    store(load_full())
    if connections[any_committed_database].vendor == "postgresql":
        with pytest.raises(DatabaseError, match="used by a view"):
            operate(any_committed_database, widen())

    operate(any_committed_database, drop_views(), widen(), make_views())
    try:
        assert columns_of(any_committed_database, "orb_credit_notes")
    finally:
        operate(any_committed_database, drop_views(), narrow(), make_views())

    found = {name: columns_of(any_committed_database, name) for name in VIEWS}
    assert found == documented()
    assert Invoice.objects.get().credit_notes.count() == 2


def test_a_migration_that_was_killed_midway_runs_again(
    any_committed_database: str,
) -> None:
    operate(any_committed_database, make_views())  # all views are there already

    found = {name: columns_of(any_committed_database, name) for name in VIEWS}
    assert found == documented()


def test_a_table_with_the_name_of_a_view_is_a_sentence(
    any_committed_database: str,
) -> None:
    connection = connections[any_committed_database]
    operate(any_committed_database, drop_views())
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orb_line_items (id integer)")
    try:
        with pytest.raises(OrbConfigurationError, match="has a table orb_line_items"):
            operate(any_committed_database, make_views())
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE orb_line_items")
        operate(any_committed_database, make_views())


def test_a_view_leaves_out_what_an_earlier_state_does_not_have(
    any_committed_database: str,
) -> None:
    state = MigrationLoader(None).project_state()
    state.remove_field("django_orb", "invoice", "paid_at")
    state.remove_model("django_orb", "invoicelinetax")
    with connections[any_committed_database].schema_editor() as editor:
        for operation in (drop_views(), make_views()):
            operation.database_forwards("django_orb", editor, state, state)
    try:
        assert "paid_at" not in columns_of(any_committed_database, "orb_invoices")
        with pytest.raises(DatabaseError):
            columns_of(any_committed_database, "orb_line_taxes")
    finally:
        operate(any_committed_database, drop_views(), make_views())


def test_each_later_migration_drops_and_makes_the_views() -> None:
    for found in pkgutil.iter_modules(ours.__path__):
        if found.name <= FIRST:
            continue
        module = importlib.import_module(f"django_orb.migrations.{found.name}")
        steps = module.Migration.operations
        data_only = (migrations.RunPython, migrations.RunSQL)
        if all(isinstance(step, data_only) for step in steps):
            continue
        first, last = drop_views(), make_views()
        assert steps[0].code is first.code, f"{found.name} does not drop the views"
        assert steps[-1].code is last.code, f"{found.name} does not make the views"


def test_each_column_is_one_of_its_model() -> None:
    for view in VIEWS.values():
        model = apps.get_model("django_orb", view.model)
        there = {field.column for field in model._meta.concrete_fields}
        assert set(view.columns) <= there
