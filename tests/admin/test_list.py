from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.templatetags.admin_list import result_headers
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_orb.admin import paginator
from django_orb.models import Invoice, SyncRun
from tests.factories import make_invoice, make_invoices, make_overdue

from .pages import LIST, choose

pytestmark = pytest.mark.django_db


def found(client: Client, **query: str) -> list[str]:
    """The ids that the list shows."""
    response = client.get(LIST, query)
    assert response.status_code == 200, response.headers
    return sorted(invoice.pk for invoice in response.context["cl"].result_list)


def text_of(client: Client, **query: str) -> str:
    return str(client.get(LIST, query).content.decode())


def test_a_row_has_what_finance_looks_for(finance: Client) -> None:
    make_overdue(12, invoice_number="INV-1", total="1234567.5", currency="EUR")

    text = text_of(finance)

    assert "INV-1" in text
    assert "1,234,567.50 EUR" in text
    assert "10.00 EUR" in text
    assert "Issued" in text
    assert "12 days overdue" in text
    assert "acme-001" in text


def test_a_single_day_is_written_as_one(finance: Client) -> None:
    make_overdue(1)

    assert "1 day overdue" in text_of(finance)


def test_an_unknown_status_is_shown_as_orb_calls_it(finance: Client) -> None:
    make_invoice(status="disputed")

    assert "disputed" in text_of(finance)


def test_an_invoice_without_number_is_called_by_its_id(finance: Client) -> None:
    invoice = make_invoice(invoice_number="")

    assert f">{invoice.pk}</a>" in text_of(finance)


def test_a_customer_without_external_id_is_called_by_orbs(finance: Client) -> None:
    invoice = make_invoice(customer={"id": "cusOrb1", "external_customer_id": None})

    assert invoice.external_customer_id == ""
    assert "cusOrb1" in text_of(finance)


def test_missing_invoices_say_so(finance: Client) -> None:
    make_invoice()
    Invoice.objects.update(missing_since=datetime.now(timezone.utc))

    assert "Deleted in Orb" in text_of(finance)


def test_newest_invoice_dates_come_first(finance: Client) -> None:
    for day in ("2026-01-01", "2026-03-01", "2026-02-01"):
        make_invoice(id=day, invoice_date=f"{day}T00:00:00+00:00")

    rows = finance.get(LIST).context["cl"].result_list

    assert [row.pk for row in rows] == ["2026-03-01", "2026-02-01", "2026-01-01"]


def test_the_list_costs_the_same_for_few_and_for_many(
    finance: Client, django_assert_max_num_queries: Any
) -> None:
    SyncRun.objects.create(
        kind="full", state="running", started_at=datetime.now(timezone.utc)
    )
    counts = []
    for number in (5, 50):
        Invoice.objects.all().delete()
        make_invoices(number)
        with django_assert_max_num_queries(12) as captured:
            assert len(found(finance)) == number
        counts.append(len(captured))

    assert counts[0] == counts[1]


def test_the_list_does_not_read_payloads(
    finance: Client, django_assert_max_num_queries: Any
) -> None:
    make_invoices(3)

    with django_assert_max_num_queries(12) as captured:
        found(finance)

    assert not any("payload" in query["sql"] for query in captured.captured_queries)


@pytest.mark.parametrize("status", ["draft", "issued", "paid", "void"])
def test_filter_by_status(finance: Client, status: str) -> None:
    for sample in ("draft", "issued", "paid", "void"):
        make_invoice(sample, id=sample)

    assert found(finance, status__exact=status) == [status]


def test_filter_by_currency_offers_those_that_there_are(finance: Client) -> None:
    make_invoice(id="dollars", currency="USD")
    make_invoice(id="yen", currency="JPY")

    assert found(finance, currency="JPY") == ["yen"]
    assert "?currency=USD" in text_of(finance)
    assert "?currency=EUR" not in text_of(finance)


def test_filter_by_source(finance: Client) -> None:
    make_invoice(id="plan", invoice_source="subscription")
    make_invoice(id="extra", invoice_source="one_off")

    assert found(finance, invoice_source__exact="one_off") == ["extra"]


def test_overdue_and_not_overdue_make_all(finance: Client) -> None:
    make_overdue(3, id="late")
    make_overdue(-3, id="in-time")
    make_overdue(3, id="nothing-to-pay")
    Invoice.objects.filter(pk="nothing-to-pay").update(amount_due=0)
    make_overdue(3, id="gone")
    Invoice.objects.filter(pk="gone").update(missing_since=datetime.now(timezone.utc))
    make_invoice("draft", id="undated", due_date=None)
    make_invoice(id="issued-undated", due_date=None)

    late = found(finance, overdue="yes")

    assert late == sorted(Invoice.objects.overdue().values_list("pk", flat=True))
    assert late == ["late"]
    assert sorted([*late, *found(finance, overdue="no")]) == found(finance)


def test_filter_by_missing(finance: Client) -> None:
    make_invoice(id="here")
    make_invoice(id="gone")
    Invoice.objects.filter(pk="gone").update(missing_since=datetime.now(timezone.utc))

    assert found(finance, missing="yes") == ["gone"]
    assert found(finance, missing="no") == ["here"]
    assert found(finance, missing="perhaps") == ["gone", "here"]


def test_filter_by_date(finance: Client) -> None:
    now = datetime.now(timezone.utc)
    this_month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    dates = {
        "this-month": this_month,
        "last-month": last_month,
        "before-that": last_month - timedelta(seconds=1),
        "future": now + timedelta(days=400),
        "last-year": datetime(now.year - 1, 1, 1, tzinfo=timezone.utc),
        "ancient": datetime(now.year - 2, 12, 31, tzinfo=timezone.utc),
    }
    for invoice_id, date in dates.items():
        make_invoice(id=invoice_id, invoice_date=date.isoformat())

    assert found(finance, dated="this_month") == ["this-month"]
    assert found(finance, dated="last_month") == ["last-month"]
    assert found(finance, dated="future") == ["future"]
    assert "this-month" in found(finance, dated="this_year")
    assert "last-year" in found(finance, dated="last_year")
    assert "ancient" not in found(finance, dated="last_year")
    assert len(found(finance, dated="nonsense")) == len(dates)


def choices_of_dates(client: Client, **query: str) -> list[tuple[str, bool]]:
    """What the filter by date offers after its named spans, and what is chosen."""
    changelist = client.get(LIST, query).context["cl"]
    spec = next(s for s in changelist.filter_specs if s.title == "date")
    offered = [
        (str(one["display"]), one["selected"]) for one in spec.choices(changelist)
    ]
    return offered[6:]


def test_dates_lead_from_years_to_months_and_days(finance: Client) -> None:
    for date in ("2024-12-31T23:00:00", "2026-02-28T23:59:59", "2026-03-01T00:00:00"):
        make_invoice(id=date[:10], invoice_date=f"{date}+00:00")

    assert choices_of_dates(finance) == [
        ("2026", False),
        ("2025", False),
        ("2024", False),
    ]
    months = choices_of_dates(finance, dated="2026")
    days = choices_of_dates(finance, dated="2026-02")
    deepest = choices_of_dates(finance, dated="2026-02-28")

    assert months[:3] == [
        ("2026", True),
        ("January 2026", False),
        ("February 2026", False),
    ]
    assert (len(months), len(days)) == (1 + 12, 2 + 28)
    assert days[:3] == [("2026", False), ("February 2026", True), ("1 Feb 2026", False)]
    assert deepest == [("2026", False), ("February 2026", False), ("28 Feb 2026", True)]
    assert found(finance, dated="2026") == ["2026-02-28", "2026-03-01"]
    assert found(finance, dated="2026-02") == ["2026-02-28"]
    assert found(finance, dated="2026-03-01") == ["2026-03-01"]
    assert found(finance, dated="2024-12", status__exact="issued") == ["2024-12-31"]


@pytest.mark.parametrize("dated", ["2026-13", "2026-02-30", "0000", "9999", "20260"])
def test_a_date_that_is_none_is_no_error(finance: Client, dated: str) -> None:
    make_invoice()

    assert finance.get(LIST, {"dated": dated}).status_code == 200


def test_without_invoices_no_years_are_offered(finance: Client) -> None:
    assert choices_of_dates(finance) == []


def test_amounts_are_sorted_within_their_currency(finance: Client) -> None:
    for name, currency, due in (
        ("a", "USD", "2"),
        ("b", "JPY", "900"),
        ("c", "USD", "10"),
        ("d", "JPY", "900"),
    ):
        make_invoice(id=name, currency=currency, amount_due=due)
    titles = [str(h["text"]) for h in result_headers(finance.get(LIST).context["cl"])]
    column = titles.index("amount due")

    up, down = (
        [
            row.pk
            for row in finance.get(LIST, {"o": f"{s}{column}"})
            .context["cl"]
            .result_list
        ]
        for s in ("", "-")
    )

    assert up == ["b", "d", "a", "c"]
    assert down == up[::-1]


def test_a_long_list_is_not_counted_to_its_end(
    finance: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paginator, "MOST", 60)
    make_invoices(63)

    with CaptureQueriesContext(connection) as queries:
        text = text_of(finance)
    counts = [
        one["sql"]
        for one in queries
        if "COUNT(" in one["sql"] and "SUM(" not in one["sql"]
    ]
    last = finance.get(LIST, {"p": "2"})
    exact = text_of(finance, status__exact="issued", q="TEST-0000")

    assert counts
    assert all(sql.rpartition("LIMIT")[2].startswith(" 61)") for sql in counts)
    assert "more than 60 invoices" in text
    assert len(last.context["cl"].result_list) == 10
    assert "10 invoices" in exact
    assert "more than" not in exact


def test_no_more_are_chosen_than_an_action_takes(finance: Client) -> None:
    *_, last = make_invoices(1001)
    last.delete()
    assert "Select all 1000 invoices" in text_of(finance)

    make_invoice(id="one-more")

    assert "Select all 10" not in text_of(finance)
    assert "0 of 50 selected" in text_of(finance)


def test_a_row_leads_to_its_page_whatever_its_id(finance: Client) -> None:
    for name in ("a/b?c#d", "ä ö", "plain_1"):
        make_invoice(id=name)
        link = re.search(r'<a href="([^"]+/change/[^"]*)"', text_of(finance, q=name))
        assert link is not None
        page = finance.get(unescape(link[1]))
        assert page.context["invoice"].pk == name


@pytest.mark.parametrize(
    ("term", "hits"),
    [
        ("INV-00", ["one", "two"]),
        ("inv-001", ["one"]),
        ("  inv-001  ", ["one"]),
        ("two", ["two"]),
        ("cus-B", ["two"]),
        ("sub-A", ["one"]),
        ("STRASSE", ["two"]),
        ("stra", ["two"]),
        ("Two", []),
        ("001", []),
        ("%", []),
    ],
)
def test_search_by_number_customer_and_ids(
    finance: Client, term: str, hits: list[str]
) -> None:
    make_invoice(
        id="one",
        invoice_number="INV-001",
        customer={"id": "cus-A", "external_customer_id": "acme"},
        subscription={"id": "sub-A"},
    )
    make_invoice(
        id="two",
        invoice_number="INV-002",
        customer={"id": "cus-B", "external_customer_id": "Straße 5"},
        subscription={"id": "sub-B"},
    )

    assert found(finance, q=term) == hits


def test_a_very_long_number_is_found_by_all_of_it(finance: Client) -> None:
    number = "X" * 300
    make_invoice(id="long", invoice_number=number)

    assert found(finance, q=number) == ["long"]


def test_the_list_says_how_old_the_mirror_is(finance: Client) -> None:
    assert "Not brought up to date with Orb yet" in text_of(finance)
    now = datetime.now(timezone.utc)
    SyncRun.objects.create(
        kind="full",
        state="succeeded",
        started_at=now - timedelta(hours=3),
        finished_at=now - timedelta(hours=2),
    )
    SyncRun.objects.create(
        kind="one", state="succeeded", started_at=now, finished_at=now
    )
    SyncRun.objects.create(kind="full", state="running", started_at=now)

    text = text_of(finance)

    assert "Last brought up to date with Orb 2\xa0hours ago" in text
    assert "A sync is running now (Full, 0 invoices so far)" in text


def test_the_list_works_on_every_database(any_database: str, log_in: Any) -> None:
    client = log_in("view_invoice")
    make_overdue(3, id="late")

    assert found(client, q="late", overdue="yes", currency="USD") == ["late"]
    assert found(client, q="qxw", overdue="no") == []


def test_what_was_chosen_counts_though_it_has_left_the_list(finance: Client) -> None:
    invoice = make_invoice("void")
    chosen = choose("void_selected", invoice.pk)

    page = finance.post(f"{LIST}?status=issued", chosen, follow=True)

    assert "It is already void." in page.text


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("invoice", "fetch_from_orb"),
        ("invoicechange", "tell_again"),
        ("invoicefailure", "try_again"),
        ("syncrun", "cancel_selected"),
        ("webhookevent", "process_again"),
    ],
)
def test_a_key_that_no_row_has_is_answered_in_words(
    admin_client: Client, name: str, action: str
) -> None:
    url = f"/admin/django_orb/{name}/"
    for key in ("987654321", "9" * 30, "rubbish", "a\0b", ""):
        page = admin_client.post(url, choose(action, key), follow=True)

        assert "The selected rows no longer exist. Nothing was done." in page.text
