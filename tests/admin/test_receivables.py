"""The page of what was owed on a day."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_orb.admin import paginator, receivables
from tests.exports.test_exports import read
from tests.factories import make_invoice

from .test_exporting import content

pytestmark = pytest.mark.django_db
LogIn = Callable[..., Client]
PAGE = "/admin/django_orb/receivables/"
CSV = {"file_format": "csv", "invoices": ""}


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def days_ago(days: float) -> str:
    moment = datetime.now(timezone.utc) - timedelta(days=days)
    return moment.isoformat(timespec="seconds")


def owe(name: str, customer: str, amount: str, due: float = 10, **more: Any) -> None:
    make_invoice(
        id=name,
        invoice_number=f"NR-{name}",
        customer={"id": customer, "external_customer_id": f"crm-{customer}"},
        amount_due=amount,
        due_date=days_ago(due),
        **{"issued_at": days_ago(50), **more},
    )


def text_of(response: Any) -> str:
    """The words of a page, a space between any two."""
    assert response.status_code == 200
    main = response.content.decode().partition('id="content-main"')[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def links_of(response: Any) -> dict[str, str]:
    found = re.findall(
        r'<a href="(\?[^"]*)"[^>]*>([^<]+)</a>', response.content.decode()
    )
    return {text.strip(): unescape(url) for url, text in found}


def test_what_each_customer_owes_is_on_one_page_and_its_invoices_a_click_away(
    finance: Client,
) -> None:
    owe("a1", "alpha", "10.00")
    owe("a2", "alpha", "20.00", due=40)
    owe("b1", "beta", "500.00", due=-3)
    owe("y1", "alpha", "900", currency="JPY")

    page = finance.get(PAGE)

    words = text_of(page)
    assert "USD 500.00 10.00 20.00 - - - 530.00" in words
    assert "crm-beta 500.00 - - - - - 500.00" in words
    assert "crm-alpha - 10.00 20.00 - - - 30.00" in words
    assert "JPY - 900.00" in words
    assert words.index("crm-beta") < words.index("crm-alpha")

    links = links_of(page)
    found = text_of(finance.get(f"{PAGE}{links['20.00']}"))
    assert "NR-a2" in found
    assert "31 to 60 days late" in found
    assert not {"NR-a1", "NR-b1", "NR-y1"} & set(found.split())
    every = text_of(finance.get(f"{PAGE}{links['30.00']}"))
    assert {"NR-a1", "NR-a2", "30.00"} <= set(every.split())
    yen = finance.get(f"{PAGE}{links['JPY']}")
    assert "By customer, in JPY" in text_of(yen)


def test_a_day_of_the_past_shows_what_was_owed_then(finance: Client) -> None:
    owe("paid", "alpha", "70.00", status="paid", paid_at=days_ago(5))
    owe("later", "beta", "30.00", issued_at=days_ago(1))
    then = (datetime.now(timezone.utc) - timedelta(days=7)).date()

    page = finance.get(PAGE, {"day": then.isoformat()})
    words = text_of(page)
    assert "crm-alpha" in words
    assert "crm-beta" not in words
    found = text_of(finance.get(f"{PAGE}{links_of(page)['70.00']}"))
    assert "NR-paid" in found
    assert "70.00 USD ✓ Paid" in found
    # 13 days before its end it was due in three days.
    assert "Not yet due" in words

    assert "crm-alpha" not in text_of(finance.get(PAGE))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"day": "soon"}, "Enter a day such as 2026-01-31."),
        ({"day": "2026-02-30"}, "Enter a day such as 2026-01-31."),
        ({"day": "9999-12-31"}, "31 Dec 9999 has not come yet."),
        ({"day": "0001-01-01"}, "1 Jan 0001 is too long ago."),
        ({"age": "elderly"}, "elderly is not one of the available choices."),
        ({"show": "all"}, "all is not one of the available choices."),
        ({"customer": "x" * 200}, "at most 128 characters (it has 200)."),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    finance: Client, asked: dict[str, str], sentence: str
) -> None:
    owe("a1", "alpha", "10.00")

    words = text_of(finance.get(PAGE, asked))

    assert sentence in words
    assert "10.00" not in words
    assert sentence in text_of(finance.post(f"{PAGE}?{_query(asked)}", CSV))


def _query(asked: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in asked.items())


def test_what_is_shown_is_exported_and_recorded(finance: Client, settings: Any) -> None:
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CUSTOMER_LABELS": f"{__name__}.name_them",
    }
    owe("a1", "alpha", "10.00")
    owe("a2", "alpha", "20.00", due=40)
    owe("b1", "beta", "500.00", due=-3)

    customers = read(content(finance.post(PAGE, {"file_format": "csv"})))
    assert [(row["Customer name"], row["Owed"]) for row in customers] == [
        ("Alpha Ltd", "30.00"),
        ("", "500.00"),
    ]
    assert customers[0]["31 to 60 days late"] == "20.00"

    chosen = f"{PAGE}?customer=alpha&age=60&currency=USD&show=invoices"
    (row,) = read(content(finance.post(chosen, CSV)))
    assert (row["Invoice number"], row["Owed"], row["Days late"]) == (
        "NR-a2",
        "20.00",
        "40",
    )
    assert row["Age"] == "31 to 60 days late"

    entries = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    today = datetime.now(timezone.utc).date()
    assert list(entries) == [
        f"Exported 2 rows of customers owed on {today} as CSV; filter: none",
        f"Exported 1 invoices owed on {today} as CSV; filter: "
        "currency=USD&age=60&customer=alpha&show=invoices",
    ]


def name_them(customers: Any) -> dict[str, str]:
    return {"crm-alpha": "Alpha Ltd"}


def test_nothing_owed_is_no_file(finance: Client) -> None:
    words = text_of(finance.post(PAGE, CSV))

    assert "Nothing is owed." in words
    assert "No file was made. Nothing matches" in words


def test_who_may_see_and_export_it(log_in: LogIn) -> None:
    owe("a1", "alpha", "10.00")

    assert log_in("view_syncrun", name="other").get(PAGE).status_code == 403
    viewer = log_in("view_invoice", name="viewer")
    page = viewer.get(PAGE)
    assert "crm-alpha - 10.00" in text_of(page)
    assert "Export customers" not in page.content.decode()
    assert viewer.post(PAGE, CSV).status_code == 403


def test_long_lists_have_pages(finance: Client) -> None:
    for number in range(52):
        owe(f"i{number:02}", f"c{number:02}", f"{100 - number}.00")

    first = finance.get(PAGE)
    found = re.findall(r"crm-c\d\d", text_of(first))
    assert found == [f"crm-c{number:02}" for number in range(50)]
    second = finance.get(f"{PAGE}{links_of(first)['2']}")
    assert re.findall(r"crm-c\d\d", text_of(second)) == ["crm-c50", "crm-c51"]

    invoices = finance.get(PAGE, {"show": "invoices", "p": "2"})
    assert len(re.findall(r"NR-i\d", text_of(invoices))) == 2
    for odd in ("0", "x", "99999"):
        assert finance.get(PAGE, {"p": odd}).status_code == 200


def test_the_last_page_says_that_there_are_more() -> None:
    pages = receivables.KnownPages(paginator.MOST, is_capped=True)

    assert pages.num_pages == paginator.MOST / receivables.ON_A_PAGE
    assert pages.is_capped
    assert not receivables.KnownPages(paginator.MOST, is_capped=False).is_capped


def test_the_page_takes_the_same_few_queries_for_any_number(finance: Client) -> None:
    owe("a1", "alpha", "10.00")
    day = (datetime.now(timezone.utc) - timedelta(days=1)).date().isoformat()
    asked: list[dict[str, str]] = [
        {},
        {"day": day},
        {"show": "invoices"},
        {"day": day, "show": "invoices"},
    ]

    def queries() -> list[int]:
        counts = []
        for one in asked:
            cache.clear()
            with CaptureQueriesContext(connection) as captured:
                finance.get(PAGE, one)
            counts.append(len(captured))
        return counts

    few = queries()
    for number in range(20):
        owe(f"i{number}", f"c{number}", "5.00")

    assert queries() == few
    assert max(few) <= 10
