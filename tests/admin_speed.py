"""
The admin at size: `python -m tests.admin_speed --invoices 1000000`.

Fills a PostgreSQL database with invoices of three lines each, copies of a made-up
account's with other ids, dates, customers and statuses, then asks for lists and pages
as the admin's users do, in one process, and prints the server's time: the median of
several, the worst, the number of queries, and the first time. Exit status 0 only if
each median is below the limit, and no page makes more queries than it may.

The first time fills the database's cache, and that of the pages whose sums are kept
for minutes; it counts for nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

from .scale import own_database

SAMPLE = 2000
LINES = 3
MAX_QUERIES = {"overview": 32, "overview in JPY": 32, "status": 14, "customer": 16}
MAX_QUERIES_OF_LIST = 12
# What the user asks for in so many words, and what the page says takes a moment.
MAX_MS = {"all added up": 2000.0, "a status added up": 2000.0}
LISTS = "/admin/django_orb/"

FILL = """
    CREATE TEMP TABLE copies AS
    SELECT id AS old, substr(md5(id || k), 1, 16) AS id, k,
        ('x' || substr(md5(k || id), 1, 6))::bit(24)::int / 16777216.0 AS one,
        ('x' || substr(md5(id || k), 20, 6))::bit(24)::int / 16777216.0 AS two
    FROM django_orb_invoice, generate_series(1, %(copies)s) AS k;
    INSERT INTO django_orb_invoice ({columns})
    SELECT {values} FROM copies JOIN django_orb_invoice i ON i.id = copies.old
    ORDER BY copies.two;
    CREATE TEMP TABLE three AS
    SELECT first.invoice_id AS old, place, COALESCE(own.id, first.id) AS line
    FROM django_orb_invoicelineitem first
    CROSS JOIN generate_series(0, %(lines)s - 1) AS place
    LEFT JOIN django_orb_invoicelineitem own
        ON own.invoice_id = first.invoice_id AND own.position = place
    WHERE first.position = 0;
    INSERT INTO django_orb_invoicelineitem ({line_columns})
    SELECT {line_values}
    FROM copies JOIN three ON three.old = copies.old
    JOIN django_orb_invoicelineitem l ON l.id = three.line;
    INSERT INTO django_orb_invoicelinetax (
        line_item_id, position, amount, tax_rate_description, tax_rate_percentage,
        tax_reason, rounded_fields
    )
    SELECT l.id, 0, round(l.amount * 0.19, 2), 'VAT', 19, '', '[]'
    FROM copies JOIN django_orb_invoicelineitem l ON l.invoice_id = copies.id;
    INSERT INTO django_orb_invoiceobservation ({observation_columns})
    SELECT {observation_values}
    FROM copies JOIN django_orb_invoiceobservation o ON o.invoice_id = copies.old;
    INSERT INTO django_orb_invoicechange (
        change_id, invoice_id, kind, previous_status, status, changed_fields, origin,
        origin_id, created_at, announced_at, attempts, error
    )
    SELECT gen_random_uuid(), i.id, 'updated', 'draft', i.status, '["status"]', 'sync',
        '1', i.invoice_date + interval '20 days', i.invoice_date + interval '20 days',
        1, ''
    FROM copies JOIN django_orb_invoice i ON i.id = copies.id
    WHERE one BETWEEN 0.7 AND 0.9;
"""
# What invoices carry beside lines, dated some days after the invoice.
FILL_CHILDREN = """
    INSERT INTO {table} ({columns})
    SELECT {values}
    FROM copies JOIN {table} c ON c.invoice_id = copies.old
"""
STATUS = """CASE WHEN one < 0.80 THEN 'paid' WHEN one < 0.88 THEN 'issued'
    WHEN one < 0.94 THEN 'synced' WHEN one < 0.98 THEN 'void' ELSE 'draft' END"""
DATE = "date_trunc('day', now()) - floor(two * 1460) * interval '1 day'"
VALUES = {
    "id": "copies.id",
    "status": STATUS,
    "invoice_number": "'C' || k || '-' || i.invoice_number",
    "invoice_number_key": "'c' || k || '-' || i.invoice_number_key",
    "customer_id": "substr(md5(i.customer_id || k %% 100), 1, 16)",
    "external_customer_id": "i.external_customer_id || '-' || k %% 100",
    "external_customer_key": "i.external_customer_key || '-' || k %% 100",
    "subscription_id": "substr(md5(i.subscription_id || k %% 100), 1, 16)",
    "invoice_date": DATE,
    "due_date": f"{DATE} + interval '30 days'",
    "amount_due": "i.amount_due + k",
    "missing_since": "CASE WHEN one > 0.999 THEN now() END",
}


def fill(invoices: int) -> None:
    from django.db import connections

    from django_orb import services
    from django_orb.mirror.mapping import CHILDREN
    from django_orb.models import Invoice, InvoiceLineItem, InvoiceObservation
    from django_orb.testing.environment import use_sandbox

    def columns(model: Any, but: str = "") -> list[str]:
        return [f.column for f in model._meta.concrete_fields if f.column != but]

    with use_sandbox(invoices=min(SAMPLE, invoices)):
        services.sync_invoices(mode="full")
    names, line_names = columns(Invoice), columns(InvoiceLineItem, but="id")
    observed = columns(InvoiceObservation)
    observation = {"invoice_id": "copies.id", "run_id": "NULL"}
    line = {
        "invoice_id": "copies.id",
        "position": "three.place",
        "orb_id": "substr(md5(l.orb_id || three.place), 1, 16)",
    }
    sql = FILL.format(
        columns=", ".join(names),
        values=", ".join(VALUES.get(name, f"i.{name}") for name in names),
        line_columns=", ".join(line_names),
        line_values=", ".join(line.get(name, f"l.{name}") for name in line_names),
        observation_columns=", ".join(observed),
        observation_values=", ".join(
            observation.get(name, f"o.{name}") for name in observed
        ),
    )
    copies = max(0, -(-invoices // SAMPLE) - 1)
    with connections["postgresql"].cursor() as cursor:
        for statement in sql.split(";\n"):
            if statement.strip():
                cursor.execute(statement, {"copies": copies, "lines": LINES})
        for model in CHILDREN.values():
            child = {
                "invoice_id": "copies.id",
                "orb_id": "substr(md5(c.orb_id || k), 1, 16)",
                "created_at": f"{DATE} + interval '9 days'",
                "dated_at": f"{DATE} + interval '9 days'",
            }
            child_names = columns(model, but="id")
            statement = FILL_CHILDREN.format(
                table=model._meta.db_table,
                columns=", ".join(child_names),
                values=", ".join(child.get(name, f"c.{name}") for name in child_names),
            )
            cursor.execute(statement, {})
        cursor.execute("VACUUM ANALYZE")


def addresses() -> Iterator[tuple[str, str]]:
    """What is asked for, by what it is called."""
    from django_orb.admin.attention import INVOICES
    from django_orb.models import Invoice
    from django_orb.reports import AGES

    some = Invoice.objects.filter(status="issued").order_by("id")[500]
    year = some.invoice_date.year
    filters = {
        **{f"status {s}": {"status__exact": s} for s in Invoice.Status.values},
        "overdue": {"overdue": "yes"},
        "not overdue": {"overdue": "no"},
        **{f"age {age.name}": {"age": age.name} for age in AGES},
        **{f"needs {name}": {"needs": name} for name in INVOICES},
        "missing": {"missing": "yes"},
        "not missing": {"missing": "no"},
        "currency USD": {"currency": "USD"},
        "currency JPY": {"currency": "JPY"},
        "source one_off": {"invoice_source__exact": "one_off"},
        "source partial": {"invoice_source__exact": "partial"},
        "this month": {"dated": "this_month"},
        "last month": {"dated": "last_month"},
        "last year": {"dated": "last_year"},
        "a year": {"dated": f"{year}"},
        "a month": {"dated": f"{some.invoice_date:%Y-%m}"},
        "a day": {"dated": f"{some.invoice_date:%Y-%m-%d}"},
        "paid in JPY": {"status__exact": "paid", "currency": "JPY"},
        "void in JPY": {"status__exact": "void", "currency": "JPY"},
        "overdue in JPY": {"overdue": "yes", "currency": "JPY"},
        "draft one-offs": {
            "status__exact": "draft",
            "invoice_source__exact": "one_off",
        },
        "synced of a month": {"status__exact": "synced", "dated": f"{year}-03"},
        "missing in JPY": {"missing": "yes", "currency": "JPY"},
        "over 90 days in JPY": {"age": "older", "currency": "JPY"},
        "payment failed in JPY": {"needs": "payment_failed", "currency": "JPY"},
    }
    searches = {
        "an id": some.pk,
        "a number": some.invoice_number,
        "a number's beginning": some.invoice_number[:6],
        "a letter of numbers": some.invoice_number[:1],
        "a customer in Orb": some.customer_id,
        "your customer": some.external_customer_id,
        "your customer's beginning": some.external_customer_id[:5],
        "a subscription": some.subscription_id or "none",
        "nothing that is there": "zzz-nothing",
    }

    def listed(**parameters: Any) -> str:
        return f"{LISTS}invoice/?{urlencode(parameters)}"

    yield "list", listed()
    for number in (2, 10, 50, 100):
        yield f"list, page {number}", listed(p=number)
    for name, chosen in filters.items():
        yield name, listed(**chosen)
    for name in ("status paid", "currency USD", "overdue", "last year"):
        yield f"{name}, page 100", listed(**filters[name], p=100)
    for name, text in searches.items():
        yield f"search {name}", listed(q=text)
    yield (
        "search in a filter",
        listed(q=some.external_customer_id, status__exact="paid"),
    )
    for column, name in enumerate(
        ("number", "customer", "", "amount due", "total", "dated", "due"), start=1
    ):
        for sign in ("", "-") if name else ():
            way = f"by {name} {'down' if sign else 'up'}"
            yield way, listed(o=f"{sign}{column}")
            if "amount" in name or "total" in name:
                yield f"{way}, page 100", listed(o=f"{sign}{column}", p=100)
                yield (
                    f"{way}, issued",
                    listed(o=f"{sign}{column}", status__exact="issued"),
                )
                yield f"{way}, JPY", listed(o=f"{sign}{column}", currency="JPY")
    yield "invoice page", f"{LISTS}invoice/{some.pk}/change/"
    yield "history of an invoice", f"{LISTS}invoice/{some.pk}/history/"
    for page in ("void", "mark-paid", "pay", "edit"):
        yield f"{page} page", f"{LISTS}invoice/{some.pk}/{page}/"
    yield "create page", f"{LISTS}invoice/create/"
    yield "overview", f"{LISTS}overview/"
    yield "overview in JPY", f"{LISTS}overview/?currency=JPY"
    yield "status", f"{LISTS}status/"
    yield "customer", f"{LISTS}invoice/customer/{some.customer_id}/"
    yield "statement", f"{LISTS}invoice/customer/{some.customer_id}/statement/"
    yield "erase page", f"{LISTS}invoice/customer/{some.customer_id}/erase/"
    yield "invoices of a customer", listed(customer=some.customer_id)
    yield "paid by a customer", listed(customer=some.customer_id, status__exact="paid")
    yield from receivables(some)
    yield "month end", f"{LISTS}monthend/"
    yield "month end, a year ago", f"{LISTS}monthend/?month={year - 1}-03"
    yield (
        "month end, changes after its first day",
        (f"{LISTS}monthend/?month={year - 1}-03&closed_on={year - 1}-03-01"),
    )
    yield "all added up", listed(sums="all")
    yield "a status added up", listed(sums="all", status__exact="paid")
    yield "export", f"{LISTS}invoice/export/"
    yield "export, overdue", f"{LISTS}invoice/export/?overdue=yes"
    yield (
        "export of lines, last year",
        (f"{LISTS}invoice/export-lines/?dated=last_year"),
    )
    yield "line items", f"{LISTS}invoicelineitem/"
    yield "export of line items", f"{LISTS}invoicelineitem/export/"
    item = some.line_items.all()[0].item_id
    yield "line items of an item", f"{LISTS}invoicelineitem/?q={item}"
    yield "usage lines", f"{LISTS}invoicelineitem/?price_type=usage_price"
    yield "credit notes", f"{LISTS}invoicecreditnote/"
    yield "payment attempts", f"{LISTS}invoicepaymentattempt/"
    yield "changes", f"{LISTS}invoicechange/"
    yield "failures", f"{LISTS}invoicefailure/"
    yield "events", f"{LISTS}webhookevent/"
    yield "runs", f"{LISTS}syncrun/"
    yield "operations", f"{LISTS}invoiceoperation/"
    yield "export of operations", f"{LISTS}invoiceoperation/export/"


def receivables(some: Any) -> Iterator[tuple[str, str]]:
    year_ago = (datetime.now(timezone.utc) - timedelta(days=365)).date()
    questions: dict[str, dict[str, str]] = {
        "now": {},
        "in JPY": {"currency": "JPY"},
        "a year ago": {"day": f"{year_ago}"},
        "page 50": {"p": "50"},
        "over 90 days": {"age": "older", "currency": "USD", "show": "invoices"},
        "a year ago, over 90 days": {
            "day": f"{year_ago}",
            "age": "older",
            "currency": "USD",
            "show": "invoices",
        },
        "a customer, a year ago": {
            "day": f"{year_ago}",
            "customer": some.customer_id,
            "show": "invoices",
        },
    }
    for name, asked in questions.items():
        yield f"receivables {name}", f"{LISTS}receivables/?{urlencode(asked)}"


def measure(rounds: int, limit_ms: float, only: str) -> bool:
    from django.contrib.auth import get_user_model
    from django.db import connections
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    users = get_user_model().objects
    user = users.filter(username="speed").first() or users.create_superuser("speed")
    client = Client(raise_request_exception=True)
    client.force_login(user)
    asked = [(name, path) for name, path in addresses() if only in name]
    times: dict[str, list[float]] = {}
    first: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, path in asked:
            begin = time.perf_counter()
            response = client.get(path)
            took = (time.perf_counter() - begin) * 1000
            assert response.status_code == 200, (path, response.status_code)
            if number:
                times.setdefault(name, []).append(took)
            else:
                first[name] = took
    is_good = True
    print(f"{'':<36}{'median ms':>10}{'worst':>8}{'queries':>9}{'first':>9}")
    for name, path in asked:
        with CaptureQueriesContext(connections["postgresql"]) as queries:
            client.get(path)
        median, count = statistics.median(times[name]), len(queries)
        most = MAX_QUERIES.get(name, MAX_QUERIES_OF_LIST)
        is_ok = median < MAX_MS.get(name, limit_ms) and count <= most
        is_good &= is_ok
        worst, mark = max(times[name]), "" if is_ok else "  TOO MUCH"
        print(
            f"{name:<36}{median:>10.0f}{worst:>8.0f}{count:>9}{first[name]:>9.0f}{mark}"
        )
        for query in queries if only and not is_ok else ():
            print(f"    {query['time']} {query['sql'][:400]}")
    return is_good


@contextmanager
def kept_database(name: str) -> Iterator[None]:
    os.environ["DJANGO_ORB_POSTGRESQL_NAME"] = name
    yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.admin_speed")
    parser.add_argument("--invoices", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit-ms", type=float, default=100.0)
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument(
        "--database", help="one that is there, filled unless it is, and kept"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        name = options.database
        stack.enter_context(kept_database(name) if name else own_database())
        os.environ.update(
            DJANGO_SETTINGS_MODULE="tests.settings", DJANGO_ORB_TEST_ALIAS="postgresql"
        )

        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from django_orb.models import Invoice

        from .databases import use_alias

        use_alias("postgresql")
        stack.callback(connections.close_all)
        call_command("migrate", database="postgresql", verbosity=0)
        if not Invoice.objects.exists():
            begin = time.monotonic()
            fill(options.invoices)
            print(f"filled in {time.monotonic() - begin:.0f} s")
        is_good = measure(options.rounds, options.limit_ms, options.only)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
