"""
Define SQL views for reports, whose columns stay when tables change.

While a view shows a column, a database cannot change it: PostgreSQL refuses to, and
SQLite cannot copy the table. So a migration after `0003_reporting_views` that changes
tables begins with `drop_views()` and ends with `make_views()`, which creates the views
that fit the models of that migration. If a column is renamed or changes its form, its
entry here says how the view shows it from then on.

Views show neither links nor texts that may be personal: only what `mirror/personal.py`
keeps, and the project's own id of a customer, which an erasure blanks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import migrations

from django_orb.exceptions import OrbConfigurationError


class View(NamedTuple):
    """The model that a view shows, and the view's columns."""

    model: str
    columns: tuple[str, ...]


def _view(model: str, columns: str) -> View:
    return View(model, tuple(columns.split()))


VIEWS: dict[str, View] = {
    "orb_invoices": _view(
        "Invoice",
        "id invoice_number invoice_source status currency subtotal total amount_due "
        "customer_id external_customer_id subscription_id invoice_date due_date "
        "created_at issued_at paid_at voided_at scheduled_issue_at "
        "eligible_to_issue_at will_auto_issue issue_failed_at sync_failed_at "
        "payment_started_at payment_failed_at payment_received_at missing_since "
        "mirrored_at",
    ),
    "orb_line_items": _view(
        "InvoiceLineItem",
        "id invoice_id orb_id position name quantity amount subtotal adjusted_subtotal "
        "credits_applied partially_invoiced_amount start_date end_date item_id "
        "price_id price_type price_model_type",
    ),
    "orb_line_taxes": _view(
        "InvoiceLineTax",
        "id line_item_id position amount tax_rate_description tax_rate_percentage",
    ),
    "orb_credit_notes": _view(
        "InvoiceCreditNote",
        "id invoice_id orb_id position credit_note_number type total dated_at voided_at",
    ),
    "orb_payment_attempts": _view(
        "InvoicePaymentAttempt",
        "id invoice_id orb_id position amount created_at payment_provider "
        "payment_provider_id succeeded",
    ),
    "orb_balance_transactions": _view(
        "InvoiceBalanceTransaction",
        "id invoice_id orb_id position action type amount starting_balance "
        "ending_balance created_at credit_note_id",
    ),
    "orb_failure_reasons": _view(
        "InvoiceFailureReason",
        "id invoice_id kind connection_type failed_at over_until",
    ),
    "orb_invoice_changes": _view(
        "InvoiceChange",
        "id change_id invoice_id kind previous_status status days_overdue origin "
        "created_at",
    ),
    "orb_operations": _view(
        "InvoiceOperation",
        "id kind state invoice_id actor_username origin created_at first_sent_at "
        "finished_at mirrored_at",
    ),
    "orb_webhook_events": _view(
        "WebhookEvent", "id type state source invoice_id created_at received_at"
    ),
    "orb_sync_runs": _view(
        "SyncRun",
        "id kind state started_at finished_at pages requests created updated "
        "unchanged failed missing",
    ),
}


def make_views() -> migrations.RunPython:
    """Return the operation that ends a migration which changes tables."""
    # MariaDB creates and drops views only outside transactions.
    return migrations.RunPython(_make, _drop, atomic=False)


def drop_views() -> migrations.RunPython:
    """Return the operation that begins a migration which changes tables."""
    return migrations.RunPython(_drop, _make, atomic=False)


def _make(apps: Any, schema_editor: Any) -> None:
    quote = schema_editor.quote_name
    for name, view in VIEWS.items():
        try:
            model = apps.get_model("django_orb", view.model)
        except LookupError:  # a later migration makes it
            continue
        there = {field.column for field in model._meta.concrete_fields}
        columns = [quote(column) for column in view.columns if column in there]
        _clear(schema_editor, name)
        # A view of two tables is read-only on PostgreSQL and SQLite.
        schema_editor.execute(
            f"CREATE VIEW {quote(name)} AS SELECT {', '.join(columns)} "  # noqa: S608
            f"FROM {quote(model._meta.db_table)} CROSS JOIN (SELECT 1 AS one) AS one"
        )


def _clear(schema_editor: Any, name: str) -> None:
    """
    Drop a view that a migration left when it was killed, before it is made again.

    Raises:
        OrbConfigurationError: a table of the project has the name.
    """
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_list(cursor)
    if any(one.name == name and one.type != "v" for one in found):
        raise OrbConfigurationError(
            f"The database has a table {name}, which is the name of a view that "
            "django_orb makes: rename the table and run migrate again."
        )
    schema_editor.execute(f"DROP VIEW IF EXISTS {schema_editor.quote_name(name)}")


def _drop(apps: Any, schema_editor: Any) -> None:
    for name in VIEWS:
        schema_editor.execute(f"DROP VIEW IF EXISTS {schema_editor.quote_name(name)}")
