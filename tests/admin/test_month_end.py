"""The page of a month that is being closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_orb.models import Invoice, InvoiceChange, MonthEnd
from django_orb.reports import month_of
from tests.exports.test_exports import read
from tests.factories import make_invoice
from tests.reports.pasts import changed_meanwhile
from tests.reports.test_month import OCTOBER, make, make_invoice_note, make_some, moment

from .test_exporting import content
from .test_receivables import text_of

pytestmark = pytest.mark.django_db
LogIn = Callable[..., Client]
PAGE = "/admin/django_orb/monthend/"


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def test_a_month_is_on_one_page(finance: Client) -> None:
    make_some()
    make("yen", currency="JPY", total="900", amount_due="900")
    InvoiceChange.objects.all().delete()
    InvoiceChange.objects.create(
        invoice_id="open",
        kind="updated",
        previous_status="issued",
        status="void",
        changed_fields=["memo"],
        origin="webhook",
        created_at=moment("2026-11-02"),
    )

    words = text_of(finance.get(PAGE, {"month": OCTOBER}))

    assert "October 2026" in words
    assert "USD 200.00 - - 200.00 JPY 900.00 - - 900.00" in words
    assert "Drafts that are not issued (1)" in words
    assert "Failures (1)" in words
    assert "20 Oct 2026, 12:00 UTC Payment failed 100.00 USD" in words
    assert "Changed afterwards (1) after 31 Oct 2026" in words
    assert "Issued → Void · memo Webhook 100.00 USD" in words
    assert "CN-open · voided" in words
    assert "Recognised revenue cannot be told from invoices alone." in words
    later = text_of(finance.get(PAGE, {"month": OCTOBER, "closed_on": "2026-11-02"}))
    assert "No invoice of this month changed after this day." in later


def test_credit_notes_without_a_date_have_a_column_of_their_own(
    finance: Client,
) -> None:
    make("open")
    assert "without a date" not in text_of(finance.get(PAGE, {"month": OCTOBER}))
    cache.clear()
    make_invoice_note("open", "7.00", None)

    words = text_of(finance.get(PAGE, {"month": OCTOBER}))

    assert "Credit notes without a date USD 100.00 - - 100.00 7.00" in words


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"month": "soon"}, "Enter a month such as 2026-01."),
        ({"month": "2026-13"}, "Enter a month such as 2026-01."),
        ({"month": "0000-01"}, "Enter a month such as 2026-01."),
        ({"month": "9999-12"}, "9999-12 has not begun yet."),
        ({"month": "1999-12"}, "1999-12 is too long ago."),
        ({"closed_on": "soon"}, "Enter a day such as 2026-01-31."),
        ({"month": OCTOBER, "closed_on": "2026-09-30"}, "Choose a day from 1 Oct 2026"),
        ({"month": OCTOBER, "closed_on": "9999-01-01"}, "Choose a day from 1 Oct 2026"),
    ],
)
def test_what_is_no_month_is_said_in_a_sentence(
    finance: Client, asked: dict[str, str], sentence: str
) -> None:
    make_some()

    words = text_of(finance.get(PAGE, asked))

    assert sentence in words
    assert "200.00" not in words


def test_a_month_of_nothing_says_so(finance: Client) -> None:
    words = text_of(finance.get(PAGE, {"month": "2020-02"}))

    assert (
        "Nothing was invoiced, credited or paid, and nothing is outstanding." in words
    )
    assert "Every draft of this month is issued." in words
    assert "No invoice of this month fails." in words
    assert "No credit note is dated in this month." in words
    refused = text_of(finance.post(f"{PAGE}?month=2020-02", {"file_format": "csv"}))
    assert "No file was made. Nothing matches" in refused


def test_the_month_is_exported_and_recorded(finance: Client) -> None:
    make_some()

    response = finance.post(
        f"{PAGE}?month={OCTOBER}&closed_on=2026-10-31", {"file_format": "csv"}
    )

    assert "month-2026-10-" in response["Content-Disposition"]
    rows = read(content(response))
    assert [row["Kind"] for row in rows].count("Draft") == 1
    assert LogEntry.objects.get().change_message == (
        "Exported 10 rows of the month 2026-10 as CSV; changes after 2026-10-31"
    )


def test_who_may_see_and_export_it(log_in: LogIn) -> None:
    make_some()

    assert log_in("view_syncrun", name="other").get(PAGE).status_code == 403
    viewer = log_in("view_invoice", name="viewer")
    page = viewer.get(PAGE, {"month": OCTOBER})
    assert "200.00" in text_of(page)
    assert "Mark CSV" not in page.content.decode()
    posted = viewer.post(f"{PAGE}?month={OCTOBER}", {"file_format": "csv"})
    assert posted.status_code == 403


def test_the_page_takes_the_same_few_queries_for_any_number(finance: Client) -> None:
    make_some()

    def queries() -> int:
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            finance.get(PAGE, {"month": OCTOBER})
        return len(captured)

    few = queries()
    for number in range(40):
        more: Any = {"payment_failed_at": moment("2026-10-20")}
        make(f"i{number}", **more)
        make(f"d{number}", "draft")
        make_invoice_note(f"i{number}", "1.00", moment("2026-10-12"))

    assert queries() == few
    assert few <= 20
    words = text_of(finance.get(PAGE, {"month": OCTOBER}))
    assert "Drafts that are not issued (41)" in words
    assert "There are more. An exported file has all of them." in words


def test_what_was_owed_at_midnight_is_not_what_is_kept_from_before_it() -> None:
    page: Any = site.get_model_admin(MonthEnd)
    midnight = datetime(2026, 11, 1, tzinfo=timezone.utc)
    dates = {
        "invoice_date": "2026-10-05T00:00:00Z",
        "issued_at": "2026-10-05T00:00:00Z",
    }
    make_invoice(**dates)

    def outstanding(now: datetime) -> str:
        ((_, cells),) = page._shown(month_of("2026-10", now=now))["totals"]
        return str(dict(cells)["Outstanding"].count)

    assert outstanding(midnight - timedelta(minutes=1)) == "1 invoice"
    Invoice.objects.update(status="paid", paid_at=midnight - timedelta(seconds=1))

    assert outstanding(midnight + timedelta(minutes=1)) == ""


def test_its_sums_and_its_lists_are_of_one_instant(any_committed_database: str) -> None:
    page: Any = site.get_model_admin(MonthEnd)
    make("a", "draft")

    with changed_meanwhile(any_committed_database, status="issued"):
        shown = page._shown(month_of(OCTOBER))

    assert shown["totals"] == []
    drafts, *_ = shown["parts"]
    assert len(drafts.lines) == 1
