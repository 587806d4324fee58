"""The page of one customer, its forecasts, and the link to its portal."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from datetime import datetime, timedelta, timezone
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_orb import services
from django_orb.admin.paginator import MOST
from django_orb.models import Invoice
from tests.factories import make_invoice, make_overdue

from .pages import LIST, page_of

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

ACME = {"id": "cusAcme", "external_customer_id": "acme"}
OTHER = {"id": "cusOther", "external_customer_id": "other"}
NOW = datetime.now(timezone.utc)
MOST_QUERIES = 14


@pytest.fixture(autouse=True)
def _forget() -> None:
    cache.clear()


def address(customer_id: str = "cusAcme", view: str = "") -> str:
    return reverse(f"admin:django_orb_invoice_customer{view}", args=[customer_id])


def see(client: Client, customer_id: str = "cusAcme", **query: str) -> Any:
    response = client.get(address(customer_id), query)
    assert response.status_code == 200
    return response


def sums(response: Any, currency: str) -> dict[str, tuple[str, str]]:
    """Amount and count of each column of a currency's row."""
    (row,) = (
        one for one in response.context["page"].figures if one.currency == currency
    )
    return {
        title: (cell.amount, cell.count) for title, cell in [*row.sums, *row.by_age]
    }


def test_what_is_open_and_paid_stands_in_each_currency(finance: Client) -> None:
    make_overdue(-5, id="a", customer=ACME, total="10.00", amount_due="10.00")
    make_overdue(40, id="b", customer=ACME, total="7.00", amount_due="5.50")
    make_overdue(40, id="yen", customer=ACME, currency="JPY", amount_due="900")
    make_invoice("paid", id="c", customer=ACME, total="20.00", amount_due="18.00")
    make_invoice("paid", id="s", customer=ACME, status="synced", total="30.00")
    make_invoice("draft", id="d", customer=ACME, total="3.00", amount_due="3.00")
    make_invoice("void", id="v", customer=ACME, total="99.00", amount_due="99.00")
    make_overdue(40, id="theirs", customer=OTHER, amount_due="1000.00")
    make_invoice(id="gone", customer=ACME, total="500.00", amount_due="500.00")
    Invoice.objects.filter(pk="gone").update(missing_since=NOW)

    found = sums(see(finance), "USD")

    assert found["Open"] == ("15.50 USD", "2 invoices")
    assert found["Overdue"] == ("5.50 USD", "1 invoice")
    assert found["Paid"] == ("18.00 USD", "1 invoice")
    assert found["Synced"] == ("30.00 USD", "1 invoice")
    assert found["Invoiced"] == ("67.00 USD", "4 invoices")
    assert found["Drafts"] == ("3.00 USD", "1 invoice")
    assert found["Not yet due"] == ("10.00 USD", "1 invoice")
    assert found["31 to 60 days late"] == ("5.50 USD", "1 invoice")
    assert found["Over 90 days late"] == ("-", "")
    assert found["All"] == ("15.50 USD", "2 invoices")
    assert sums(see(finance), "JPY")["Open"] == ("900.00 JPY", "1 invoice")


def test_each_figure_leads_to_just_its_invoices(finance: Client) -> None:
    make_overdue(-5, id="a", customer=ACME)
    make_overdue(40, id="b", customer=ACME)
    make_invoice("paid", id="c", customer=ACME)
    make_invoice("draft", id="d", customer=ACME)
    make_invoice("paid", id="s", customer=ACME, status="synced")
    make_overdue(40, id="theirs", customer=OTHER)
    make_overdue(40, id="nothing", customer=ACME, amount_due="0.00")
    make_overdue(40, id="negative", customer=ACME, amount_due="-1.00")
    for status in ("draft", "issued", "paid", "synced"):
        make_invoice(id=f"gone {status}", customer=ACME, status=status)
    gone = Invoice.objects.filter(pk__startswith="gone")
    gone.update(missing_since=NOW)

    page = see(finance).content.decode()
    links = set(re.findall(r'href="([^"]+\?customer=[^"]+)"', page))
    shown = {
        unescape(link).partition("?")[2]: sorted(
            row.pk for row in finance.get(unescape(link)).context["cl"].result_list
        )
        for link in links
    }

    assert shown == {
        "customer=cusAcme": sorted(
            Invoice.objects.filter(customer_id="cusAcme").values_list("pk", flat=True)
        ),
        "customer=cusAcme&age=owed&currency=USD": ["a", "b"],
        "customer=cusAcme&overdue=yes&currency=USD": ["b"],
        "customer=cusAcme&status__exact=paid&missing=no&currency=USD": ["c"],
        "customer=cusAcme&status__exact=synced&missing=no&currency=USD": ["s"],
        "customer=cusAcme&status__exact=draft&missing=no&currency=USD": ["d"],
        "customer=cusAcme&age=not_due&currency=USD": ["a"],
        "customer=cusAcme&age=60&currency=USD": ["b"],
    }


def test_the_list_says_whose_invoices_it_has(finance: Client) -> None:
    make_invoice(id="a", customer=ACME)

    text = finance.get(LIST, {"customer": "cusAcme"}).content.decode()

    assert ">acme</a>" in text
    assert finance.get(LIST, {"customer": "nobody"}).context["cl"].result_count == 0
    assert finance.get(LIST, {"customer": ""}).context["cl"].result_count == 1


def test_credit_notes_count_unless_voided(finance: Client) -> None:
    notes = [
        {"id": "n1", "credit_note_number": "CN-1", "type": "refund", "total": "4.00"},
        {
            "id": "n2",
            "credit_note_number": "CN-2",
            "type": "adjustment",
            "total": "1.00",
        },
        {
            "id": "n3",
            "credit_note_number": "CN-3",
            "type": "adjustment",
            "total": "9.00",
            "voided_at": NOW.isoformat(),
        },
    ]
    make_invoice("paid", id="a", customer=ACME, credit_notes=notes)

    response = see(finance)

    assert sums(response, "USD")["Credit notes"] == ("5.00 USD", "1 invoice")
    shown = response.context["page"].credit_notes
    assert [(one.number, one.is_voided) for one in shown] == [
        ("CN-1", False),
        ("CN-2", False),
        ("CN-3", True),
    ]


def test_credit_notes_of_void_invoices_do_not_count(finance: Client) -> None:
    note = {"id": "n1", "type": "adjustment", "total": "4.00"}
    make_invoice(id="a", customer=ACME)
    make_invoice("void", id="v", customer=ACME, credit_notes=[note])

    assert sums(see(finance), "USD")["Credit notes"] == ("-", "")


def test_sum_of_credit_notes_is_not_known_if_one_cannot_be_read(
    finance: Client,
) -> None:
    notes = [
        {"id": "n1", "type": "refund", "total": "4.00"},
        {"id": "n2", "type": "refund", "total": "many"},
    ]
    make_invoice("paid", id="a", customer=ACME, credit_notes=notes)

    assert sums(see(finance), "USD")["Credit notes"] == ("not known", "1 invoice")


def test_payments_are_attempts_and_what_was_marked_as_paid(finance: Client) -> None:
    def attempt(pk: str, days: int, succeeded: bool) -> dict[str, Any]:
        return {
            "id": pk,
            "amount": "10.00",
            "created_at": (NOW - timedelta(days=days)).isoformat(),
            "payment_provider": "stripe",
            "payment_provider_id": f"pi_{pk}",
            "receipt_pdf": "javascript:alert(1)",
            "succeeded": succeeded,
        }

    attempts = [attempt("1", 9, False), attempt("2", 6, True)]
    make_invoice("paid", id="card", customer=ACME, payment_attempts=attempts)
    make_invoice(
        "paid",
        id="bank",
        customer=ACME,
        payment_attempts=[attempt("3", 8, False)],
        amount_due="77.00",
        payment_received_at=(NOW - timedelta(days=7)).isoformat(),
    )
    make_invoice("paid", id="free", customer=ACME, amount_due="0", payment_attempts=[])

    response = see(finance)

    assert [
        (one.pk, one.amount, one.how) for one in response.context["page"].payments
    ] == [
        ("card", "10.00 USD", "Stripe pi_2"),
        ("bank", "77.00 USD", "marked as paid"),
        ("bank", "10.00 USD", "Stripe pi_3"),
        ("card", "10.00 USD", "Stripe pi_1"),
    ]
    assert "javascript:" not in response.content.decode()


def test_every_name_leads_to_the_page(finance: Client) -> None:
    make_invoice(id="a", customer=ACME)
    link = f'<a href="{address()}"'

    assert link in finance.get(LIST).content.decode()
    assert link in finance.get(page_of("a")).content.decode()


@pytest.mark.parametrize(
    "customer_id", ["a/b", "a b", "?x=1#y", "_2F", "ö%2F", "portal"]
)
def test_an_id_may_have_any_characters(finance: Client, customer_id: str) -> None:
    make_invoice(id="a", customer={"id": customer_id, "external_customer_id": None})
    page = finance.get(LIST).content.decode()
    (link,) = set(re.findall(r'href="([^"]+/customer/[^"]+)"', page))

    response = finance.get(unescape(link))

    assert response.context["customer"].customer_id == customer_id
    for url in response.context["links"].values():
        assert finance.get(url).status_code == 200


def test_ids_of_customers_differ_by_case(finance: Client) -> None:
    make_invoice(id="a", customer={"id": "CUS", "external_customer_id": None})

    assert finance.get(address("cus")).status_code == 404
    assert finance.get(address("CUS")).status_code == 200


def test_it_takes_as_many_queries_for_many_invoices(finance: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            see(finance)
        return len(queries)

    make_invoice(id="a", customer=ACME)
    few = count()
    for number in range(30):
        make_invoice("paid", id=f"p{number}", customer=ACME, currency=f"C{number % 3}")
        make_overdue(number, id=f"o{number}", customer=ACME)

    assert count() == few <= MOST_QUERIES


def test_too_many_invoices_are_added_up_on_request(finance: Client) -> None:
    one = make_overdue(5, id="o", customer=ACME, amount_due="2.00")
    one.payload = {}
    copies = []
    for number in range(MOST):
        copies.append(copy(one))
        copies[-1].pk = f"o{number}"
    Invoice.objects.bulk_create(copies, batch_size=500)

    response = see(finance)
    assert response.context["page"].figures is None
    assert "more than 5,000 invoices" in response.content.decode()
    assert "Of the latest 200 invoices." in response.content.decode()

    assert sums(see(finance, sums="all"), "USD")["Open"][0] == "10,002.00 USD"


def test_only_those_who_may_see_invoices_see_it(
    log_in: Callable[..., Client], db: Any
) -> None:
    make_invoice(id="a", customer=ACME)
    viewer = log_in("view_invoice", name="viewer")
    stranger = log_in("view_syncrun", name="stranger")

    for view in ("", "_upcoming", "_portal", "_statement", "_erase"):
        assert stranger.get(address(view=view)).status_code == 403
        assert Client().get(address(view=view)).status_code == 302
    text = see(viewer).content.decode()
    assert "Upcoming invoices" not in text
    assert "Portal link" not in text
    assert viewer.get(address(view="_upcoming")).status_code == 403
    for call in (viewer.get, viewer.post):
        assert call(address(view="_portal")).status_code == 403
        assert call(address(view="_erase")).status_code == 403
    # The permission alone shows no customers.
    alone = log_in("open_portal_invoice", "sync_invoice", name="alone")
    assert alone.post(address(view="_portal"), {"minutes": 60}).status_code == 403


# Forecasts


@pytest.mark.django_db(transaction=True)
def test_the_upcoming_invoice_of_each_subscription_is_asked_of_orb(
    finance: Client, orb: OrbSandbox
) -> None:
    upcoming = orb.subscription_ids(with_upcoming=True)[0]
    draft = next(
        one
        for one in map(orb.invoice, orb.invoice_ids("draft"))
        if (one["subscription"] or {}).get("id") == upcoming
    )
    customer_id = draft["customer"]["id"]
    services.sync_invoices(mode="full")
    ended = make_invoice(
        id="ended",
        customer=draft["customer"],
        subscription={"id": "ended"},
        invoice_date=NOW.isoformat(),
    )
    orb.clear_requests()

    see(finance, customer_id)
    assert not orb.requests

    response = finance.get(address(customer_id, "_upcoming"))
    found = {
        one.subscription_id: one for one in response.context["forecasts"].subscriptions
    }

    assert found[upcoming].forecast.amount_due
    assert found[upcoming].forecast.lines
    assert "ended" in found[ended.subscription_id].note
    assert set(orb.request_counts()) == {"fetch_upcoming_invoice"}


@pytest.mark.django_db(transaction=True)
def test_orb_is_not_asked_again_after_it_did_not_answer(
    finance: Client, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    for number in range(3):
        make_invoice(
            id=f"i{number}",
            customer=ACME,
            subscription={"id": f"sub{number}"},
            invoice_date=NOW.isoformat(),
        )
    orb.fail_next(100, status=403)

    response = finance.get(address(view="_upcoming"))

    assert response.context["forecasts"].problem
    assert response.context["forecasts"].subscriptions == []
    assert orb.request_counts()["fetch_upcoming_invoice"] == 1


def test_without_subscriptions_nothing_is_upcoming(finance: Client) -> None:
    make_invoice(id="a", customer=ACME, subscription=None)
    make_invoice(
        id="b", customer=ACME, subscription={"id": "old"}, invoice_date="2020-01-01"
    )

    text = finance.get(address(view="_upcoming")).content.decode()

    assert "nothing is upcoming" in text


# The portal


@pytest.mark.django_db(transaction=True)
def test_a_portal_link_is_shown_once_and_recorded_without_it(
    finance: Client, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    customer_id = orb.invoice(orb.invoice_ids("issued")[0])["customer"]["id"]
    url = address(customer_id, "_portal")

    assert "Make the link" in finance.get(url).content.decode()
    assert "create_portal_session" not in orb.request_counts()
    response = finance.post(url, {"minutes": "180"})

    session = response.context["session"]
    assert session.url in unescape(response.content.decode())
    assert "no-store" in response["Cache-Control"]
    (entry,) = LogEntry.objects.all()
    assert entry.change_message == (
        f"Opened the portal of customer {customer_id} for 180 minutes."
    )
    assert entry.user.get_username() == "finance"
    kept = [entry.change_message, entry.object_repr, *finance.session.values()]
    assert not any(session.url in str(one) for one in kept)
    assert session.url not in str(finance.cookies)
    assert session.url not in finance.get(url).content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("minutes", ["181", "", "many", "-1"])
def test_a_link_for_another_time_is_not_asked_for(
    finance: Client, orb: OrbSandbox, minutes: str
) -> None:
    make_invoice(id="a", customer=ACME)

    response = finance.post(address(view="_portal"), {"minutes": minutes})

    assert "No link was made." in response.content.decode()
    assert not orb.requests


@pytest.mark.django_db(transaction=True)
def test_if_there_is_no_link_it_says_why(finance: Client, orb: OrbSandbox) -> None:
    services.sync_invoices(mode="full")
    make_invoice(id="a", customer=ACME)

    unknown = finance.post(address(view="_portal"), {"minutes": 60})
    orb.fail_next(100, status=500)
    broken = finance.post(address(view="_portal"), {"minutes": 60})

    assert "Orb does not know this customer." in unknown.content.decode()
    assert "Orb reported an error of its own" in broken.content.decode()
    assert not LogEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_copy_of_production_makes_no_link(
    finance: Client, orb: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}
    make_invoice(id="a", customer=ACME)

    shown = finance.get(address(view="_portal")).content.decode()
    sent = finance.post(address(view="_portal"), {"minutes": 60}).content.decode()

    assert "only reads from Orb" in shown
    assert "Make the link" not in shown
    assert "only reads from Orb" in sent
    assert not orb.requests


# The statement


def test_a_statement_leads_from_one_balance_to_the_other(finance: Client) -> None:
    make_invoice(
        id="old", customer=ACME, amount_due="5.00", issued_at="2026-02-20T09:00:00Z"
    )
    make_invoice(
        "paid",
        id="b",
        customer=ACME,
        amount_due="70.00",
        issued_at="2026-03-02T09:00:00Z",
        paid_at="2026-03-09T09:00:00Z",
        payment_received_at="2026-03-07T00:00:00Z",
    )
    make_invoice(
        id="theirs", customer=OTHER, amount_due="9.00", issued_at="2026-03-03T09:00:00Z"
    )
    days = {"since": "2026-03-01", "until": "2026-03-31"}

    response = finance.get(address(view="_statement"), days)

    (account,) = response.context["accounts"]
    assert (account.opening, account.closing) == ("5.00 USD", "5.00 USD")
    assert [
        (one.day, one.text, one.pk, one.amount, one.balance) for one in account.lines
    ] == [
        ("2 Mar 2026", "Invoice", "b", "70.00 USD", "75.00 USD"),
        ("9 Mar 2026", "Payment", "b", "-70.00 USD", "5.00 USD"),
    ]
    assert account.lines[1].note == "received 7 Mar 2026"
    assert "Opening balance" in response.content.decode()


def test_without_days_it_is_of_this_month_and_the_last(finance: Client) -> None:
    make_invoice(id="a", customer=ACME)

    response = finance.get(address(view="_statement"))

    since, until = (
        response.context["form"][name].value() for name in ("since", "until")
    )
    assert since.day == 1
    assert timedelta(28) <= until - since <= timedelta(62)
    assert "To print the statement" in response.content.decode()


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("2026-03-02", "2026-03-01", "The period begins after its end."),
        ("2026-03-02", "2999-01-01", "This day has not come yet."),
        ("1999-03-02", "2026-03-01", "This day is too long ago."),
        ("", "2026-03-01", "This field is required."),
        ("2026-02-30", "2026-03-01", "Enter a valid date."),
    ],
)
def test_a_period_that_cannot_be_shows_no_statement(
    finance: Client, since: str, until: str, words: str
) -> None:
    make_invoice(id="a", customer=ACME)

    response = finance.get(address(view="_statement"), {"since": since, "until": until})

    assert words in response.content.decode()
    assert response.context["statement"] is None
    assert "Closing balance" not in response.content.decode()
