from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache
from django.test import Client

from django_orb.admin import overview_figures
from django_orb.admin.charts import bar_chart, compact, round_ticks
from django_orb.admin.filters import AgeFilter
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceOperation,
    MirroredAccount,
    SyncRun,
    WebhookEvent,
)
from tests.factories import make_invoice, make_overdue, operate

PAGE = "/admin/django_orb/overview/"
NOW = datetime.now(timezone.utc)


@pytest.fixture(autouse=True)
def _forget() -> None:
    cache.clear()


def page(client: Client, **query: str) -> str:
    response = client.get(PAGE, query)
    assert response.status_code == 200
    return str(response.content.decode())


def trouble() -> None:
    """One of each kind."""
    make_overdue(40, id="unpaid", payment_failed_at=NOW.isoformat())
    make_invoice("draft", id="stuck", issue_failed_at=NOW.isoformat())
    make_invoice("paid", id="unsynced", sync_failed_at=NOW.isoformat())
    make_invoice(id="gone")
    Invoice.objects.filter(pk="gone").update(missing_since=NOW)
    make_invoice("paid", id="settled", payment_failed_at=NOW.isoformat())
    InvoiceFailure.objects.create(invoice_id="odd", reason="No total.", failed_at=NOW)
    operate(Invoice.objects.get(pk="stuck"), state="needs_attention")
    WebhookEvent.objects.create(
        id="whk1", type="invoice.issued", state="failed", received_at=NOW, body="{}"
    )
    InvoiceChange.objects.create(
        invoice_id="gone", kind="updated", status="paid", created_at=NOW, failed_at=NOW
    )


def test_all_that_needs_a_person_is_there_and_leads_to_its_list(finance: Client):
    trouble()

    text = page(finance)

    for title in (
        "Payment failed",
        "Issuing failed",
        "Sync to a provider failed",
        "Deleted in Orb",
        "Could not be read",
        "Operations with an unknown outcome",
        "Webhook events that failed",
        "Changes that could not be announced",
    ):
        found = re.search(rf'<h3><a href="([^"]+)">{title}</a>.*?> 1</span>', text)
        assert found, title
        rows = finance.get(unescape(found[1])).context["cl"].result_list
        assert len(rows) == 1, title
    assert "/invoice/settled/" not in text


def test_where_nothing_is_wrong_it_says_so(finance: Client):
    make_invoice("paid")

    text = page(finance)

    assert "No invoice needs attention." in text
    assert "Nothing is owed." in text


def test_each_age_leads_to_just_its_invoices(finance: Client):
    for days in (-5, 3, 45, 46, 75, 200):
        make_overdue(days, id=f"late{days}")
    make_overdue(45, id="yen", currency="JPY")
    make_overdue(45, id="credits", currency="R&D credits")
    make_invoice(id="undated", due_date=None, amount_due="5.00")
    # Nobody owes these.
    make_overdue(45, id="paid", status="paid")
    make_overdue(45, id="void", status="void")
    gone = make_overdue(45, id="gone")
    Invoice.objects.filter(pk=gone.pk).update(missing_since=gone.mirrored_at)
    free = make_overdue(45, id="free")
    Invoice.objects.filter(pk=free.pk).update(amount_due=0)

    shown = {}
    for currency in ("USD", "JPY", "R&D credits"):
        text = page(finance, currency=currency)
        for link in re.findall(r'href="([^"]+\?age=[^"]+)"', text):
            rows = finance.get(unescape(link)).context["cl"].result_list
            shown[unescape(link).partition("?")[2]] = sorted(row.pk for row in rows)

    assert shown == {
        "age=not_due&currency=USD": ["late-5"],
        "age=30&currency=USD": ["late3"],
        "age=60&currency=USD": ["late45", "late46"],
        "age=90&currency=USD": ["late75"],
        "age=older&currency=USD": ["late200"],
        "age=undated&currency=USD": ["undated"],
        "age=60&currency=JPY": ["yen"],
        "age=60&currency=R%26D+credits": ["credits"],
    }
    text = page(finance)
    assert "20.00 USD" in text
    assert "2 invoices" in text


def test_one_currency_is_shown_and_the_others_are_a_click_away(finance: Client):
    for number in range(2):
        make_overdue(3, id=f"usd{number}")
    make_overdue(3, id="credits", currency="R&D credits", amount_due="7.00")

    first, other = page(finance), page(finance, currency="R&D credits")

    assert "7.00" not in first
    assert '<a href="?currency=R%26D%20credits">R&amp;D credits</a>' in first
    assert '<strong aria-current="page">USD</strong>' in first
    assert "7.00 R&amp;D credits" in other
    assert "20.00 USD" not in other
    # One that is not there any more.
    assert "20.00 USD" in page(finance, currency="XYZ")


def test_the_largest_debtors_lead_to_their_pages(finance: Client):
    for number in range(9):
        make_overdue(
            -5 if number == 3 else 40,
            id=f"o{number}",
            customer={"id": f"cus{number}", "external_customer_id": f"crm-{number}"},
            amount_due=f"{number}.00",
        )
    make_overdue(
        -5, id="more", customer={"id": "cus3", "external_customer_id": "crm-3"}
    )
    make_overdue(40, id="yen", currency="JPY", amount_due="5000")

    response = finance.get(PAGE, {"currency": "USD"})

    rows = response.context["shown"].debtors
    assert [(row.name, *(one.amount for one in row.cells)) for row in rows] == [
        ("crm-3", "13.00 USD", "-"),
        ("crm-8", "8.00 USD", "8.00 USD"),
        ("crm-7", "7.00 USD", "7.00 USD"),
        ("crm-6", "6.00 USD", "6.00 USD"),
        ("crm-5", "5.00 USD", "5.00 USD"),
        ("crm-4", "4.00 USD", "4.00 USD"),
        ("crm-2", "2.00 USD", "2.00 USD"),
    ]
    assert finance.get(rows[0].url).context["customer"].customer_id == "cus3"


def test_days_outstanding_are_those_before_payment(finance: Client):
    month = NOW.replace(day=1, hour=0)
    make_invoice(
        "paid",
        issued_at=(month - timedelta(days=20)).isoformat(),
        paid_at=month.isoformat(),
    )

    response = finance.get(PAGE, {"currency": "USD"})

    graph = response.context["shown"].days
    assert [one.cells[0].amount for one in graph.rows][:2] == ["20 days", "no payment"]


def test_it_says_how_many_days_of_invoicing_are_open(finance: Client):
    make_overdue(3, total="10.00", invoice_date=NOW.isoformat())
    days = (NOW - overview_figures.months(NOW, ZoneInfo("UTC"))[-4]).days

    found = re.search(r"as much as was invoiced in <strong>(\d+) days", page(finance))

    assert found
    assert abs(int(found[1]) - days) <= 1


def test_without_recent_invoices_no_days_of_invoicing_are_open(finance: Client):
    make_overdue(3, invoice_date="2020-01-01T00:00:00+00:00")

    text = page(finance)

    assert "as much as was invoiced" not in text
    assert "Nothing was paid in the last twelve months." in text


def test_the_sync_of_an_invoice_that_is_paid_meanwhile_needs_no_attention(
    finance: Client,
):
    failed = (NOW - timedelta(days=9)).isoformat()
    paid = (NOW - timedelta(days=8)).isoformat()
    make_invoice("paid", id="paid", sync_failed_at=failed, paid_at=paid)
    assert "No invoice needs attention." in page(finance)

    make_invoice("paid", id="later", sync_failed_at=paid, paid_at=failed)
    make_invoice(id="open", sync_failed_at=failed, paid_at=None)
    rows = finance.get("/admin/django_orb/invoice/?needs=sync_failed")
    assert {row.pk for row in rows.context["cl"].result_list} == {"later", "open"}


def test_filters_that_nobody_offers_change_nothing(finance: Client):
    make_invoice()

    for query in ({"age": "ancient"}, {"needs": "love"}):
        response = finance.get("/admin/django_orb/invoice/", query)
        assert len(response.context["cl"].result_list) == 1
    assert AgeFilter.parameter_name == "age"


def test_it_says_whether_runs_succeed(finance: Client):
    now = datetime.now(timezone.utc)
    text = page(finance)
    assert text.count("No run yet.") == 2

    for hours, state in ((50, "succeeded"), (1, "failed")):
        SyncRun.objects.create(
            kind="full",
            state=state,
            started_at=now - timedelta(hours=hours),
            finished_at=now - timedelta(hours=hours),
        )
    SyncRun.objects.create(
        kind="incremental", state="succeeded", started_at=now, finished_at=now
    )

    text = page(finance)

    assert "The latest run failed." in text
    assert text.count("Check that a Celery worker and beat are running.") == 1
    assert "ended less than a minute ago." in text


def test_what_waits_is_counted(finance: Client):
    operate(make_invoice(), state=InvoiceOperation.State.PENDING)
    for name in ("a", "b"):
        WebhookEvent.objects.create(id=name, type="t", received_at=NOW, body="{}")

    text = page(finance)

    assert "2 webhook events wait." in text
    assert "1 operation waits for Orb." in text


def test_it_costs_the_same_for_little_and_for_much(
    finance: Client, django_assert_max_num_queries: Any
):
    counts = []
    for many in (1, 30):
        for number in range(many):
            make_overdue(
                number, id=f"{many}-{number}", payment_failed_at=NOW.isoformat()
            )
        trouble() if many == 1 else None
        cache.clear()
        with django_assert_max_num_queries(39) as captured:
            page(finance)
        counts.append(len(captured))

    assert counts[0] == counts[1]


def test_sums_are_read_once_in_a_while(finance: Client):
    make_overdue(3)
    first = page(finance)
    make_overdue(3, id="another")

    assert "1 invoice<" in first
    assert "2 invoices" not in page(finance)
    cache.clear()
    assert "2 invoices" in page(finance)


def test_sums_of_another_account_in_the_same_cache_are_not_shown(finance: Client):
    """Such as that of another tenant, in another schema of the same database."""
    account = MirroredAccount.objects.create(fingerprint="one", confirmed_at=NOW)
    make_overdue(3)
    assert "1 invoice<" in page(finance)

    account.fingerprint = "another"
    account.save()
    make_overdue(3, id="another")

    assert "2 invoices" in page(finance)


def test_page_works_while_the_cache_is_out_of_reach(finance: Client, settings: Any):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:9",
        }
    }
    make_overdue(3)

    assert "1 invoice<" in page(finance)


@pytest.mark.django_db
def test_it_shows_only_what_its_reader_may_see(log_in: Any):
    trouble()
    client = log_in("view_invoice")

    text = page(client)

    assert "Payment failed" in text
    assert "Webhook events that failed" not in text
    assert "Could not be read" not in text
    assert "All runs" not in text
    assert "Overview" in client.get("/admin/").content.decode()


@pytest.mark.django_db
def test_without_permission_there_is_no_page(log_in: Any):
    client = log_in("view_syncrun")

    assert client.get(PAGE).status_code == 403
    assert "Overview" not in client.get("/admin/").content.decode()


def test_texts_of_others_stay_texts(finance: Client):
    evil = "<script>alert(1)</script>\u202e" + "x" * 10_000
    make_overdue(3, invoice_number=evil, payment_failed_at=NOW.isoformat())
    InvoiceFailure.objects.create(invoice_id="odd", reason=evil, failed_at=NOW)

    text = page(finance)

    assert "<script>alert" not in text
    assert "x" * 100 not in text
    assert "<bdi>&lt;script&gt;" in text


def test_it_works_on_every_database(any_database: str, log_in: Any):
    trouble()

    assert "Payment failed" in page(log_in("view_invoice"))


# Pictures


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        ("0", "0", ["0", "1"]),
        ("0", "79.94", ["0", "20", "40", "60", "80"]),
        ("0", "1", ["0", "0.25", "0.5", "0.75", "1"]),
        ("0", "10500", ["0", "5000", "10000", "15000"]),
        ("-30", "100", ["-50", "0", "50", "100"]),
        ("-3", "0", ["-3", "-2", "-1", "0"]),
        ("0", "123456789012", ["0", "50e9", "100e9", "150e9"]),
    ],
)
def test_axes_have_round_numbers(low: str, high: str, ticks: list[str]):
    found = round_ticks(Decimal(low), Decimal(high))

    assert found == [Decimal(tick) for tick in ticks]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("0.25", "0.25"),
        ("5000", "5k"),
        ("-2500000", "-2.5M"),
        ("5e10", "50B"),
    ],
)
def test_large_numbers_are_short(value: str, text: str):
    assert compact(Decimal(value)) == text


def test_bars_stand_on_the_line_of_nothing():
    chart = bar_chart(
        ["a", "b"], {"s": [Decimal(10), Decimal(-5)]}, [["a: 10", "b: -5"]]
    )
    up, down = chart.bars
    zero = next(line.y for line in chart.lines if line.text == "0")

    assert up.y + up.height == pytest.approx(zero, abs=0.2)
    assert down.y == pytest.approx(zero, abs=0.2)
    assert up.height == pytest.approx(2 * down.height, abs=0.3)
    assert all(0 <= bar.x <= bar.x + bar.width <= chart.width for bar in chart.bars)
