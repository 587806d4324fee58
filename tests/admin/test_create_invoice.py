"""A one-off invoice from the admin: form, confirmation, outcome."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb import services, tasks
from django_orb.models import Invoice, InvoiceOperation

from .conftest import EVERYTHING
from .pages import LIST, OPERATIONS, fields_of, page_of, told

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db

URL = f"{LIST}create/"
TODAY = datetime.now(timezone.utc).date()


def filled(orb: OrbSandbox, **changes: str) -> dict[str, Any]:
    some = orb.invoice(orb.invoice_ids()[0])["line_items"][0]
    return {
        "customer_id": orb.add_customer()["id"],
        "external_customer_id": "",
        "currency": "USD",
        "invoice_date": TODAY.isoformat(),
        "net_terms": "14",
        "item_id": some["price"]["item"]["id"],
        "name": "Workshop",
        "quantity": "2.5",
        "unit_amount": "1,000.10",
        "start_date": TODAY.isoformat(),
        "end_date": TODAY.isoformat(),
        "memo": "",
        **changes,
    }


def preview(client: Client, values: dict[str, Any]) -> Any:
    return client.post(URL, {**fields_of(client.get(URL)), **values})


def confirm(client: Client, page: Any) -> Any:
    return client.post(URL, {**fields_of(page), "post": "yes"})


def text_of(response: Any) -> str:
    return str(response.content.decode())


def made_in(orb: OrbSandbox, customer_id: str) -> list[dict[str, Any]]:
    invoices = map(orb.invoice, orb.invoice_ids())
    return [one for one in invoices if one["customer"]["id"] == customer_id]


def test_an_invoice_is_shown_confirmed_and_made_once(
    orb: OrbSandbox, finance: Client
) -> None:
    values = filled(orb)

    page = preview(finance, values)
    assert not InvoiceOperation.objects.exists()
    for words in ("2,500.25 USD", "1,000.10 USD", "14 days", "stays a draft"):
        assert words in text_of(page)
    assert "no invoice of this customer yet" in text_of(page)
    first = confirm(finance, page)
    (message,) = told(first)
    again = told(confirm(finance, page))[-1]

    (made,) = made_in(orb, values["customer_id"])
    assert message == again
    assert "Created in Orb." in message
    assert first.headers["Location"] == page_of(made["id"])
    invoice = Invoice.objects.get()
    assert invoice.payload == made
    assert made["total"] == "2500.25"
    entry = LogEntry.objects.get(object_id=invoice.pk)
    assert entry.get_change_message() == "Created in Orb."
    assert "finance created it" in text_of(finance.get(page_of(invoice.pk)))
    assert InvoiceOperation.objects.get().origin == "admin"


def test_what_is_issued_at_once_is_said_before(
    orb: OrbSandbox, finance: Client
) -> None:
    yesterday = (TODAY - timedelta(days=1)).isoformat()
    values = filled(orb, will_auto_issue="on", invoice_date=yesterday)

    page = preview(finance, values)
    assert "<li>Orb issues it at once" in text_of(page)
    confirm(finance, page)

    assert Invoice.objects.get().status == "issued"


def test_what_is_issued_later_or_perhaps_at_once_is_said_before(
    orb: OrbSandbox, finance: Client
) -> None:
    """Whether a day has begun depends on the customer's time zone."""
    on_the_way = datetime.now(timezone.utc) + timedelta(hours=12)
    begins_somewhere = filled(
        orb, will_auto_issue="on", invoice_date=on_the_way.date().isoformat()
    )
    later = {**begins_somewhere, "invoice_date": str(TODAY + timedelta(days=9))}

    assert "If its date has begun" in text_of(preview(finance, begins_somewhere))
    assert "Orb issues it on its date" in text_of(preview(finance, later))


def test_values_that_were_not_shown_are_shown_first(
    orb: OrbSandbox, finance: Client
) -> None:
    page = preview(finance, filled(orb))

    other = finance.post(
        URL, {**fields_of(page), "post": "yes", "unit_amount": "9,999.00"}
    )

    assert "not the invoices or values that were confirmed" in text_of(other)
    assert not InvoiceOperation.objects.exists()
    changed = finance.post(URL, {**fields_of(page), "edit": "yes"})
    assert 'value="Workshop"' in text_of(changed)


def test_mistakes_are_named_and_nothing_is_sent(
    orb: OrbSandbox, finance: Client
) -> None:
    wrong = {"customer_id": "", "unit_amount": "much"}
    page = text_of(preview(finance, {**filled(orb), **wrong}))
    assert "is not a number" in page
    assert "Nothing was sent" in page

    page = text_of(preview(finance, {**filled(orb, customer_id="")}))

    assert "Give either Orb&#x27;s id" in page
    assert not InvoiceOperation.objects.exists()


def test_a_refusal_is_told_and_what_was_filled_in_stays(
    orb: OrbSandbox, finance: Client
) -> None:
    values = filled(orb, currency="EUR")

    page = confirm(finance, preview(finance, values))

    assert "Orb refused" in text_of(page)
    assert 'value="Workshop"' in text_of(page)
    assert InvoiceOperation.objects.get().state == "refused"
    right = finance.post(URL, {**fields_of(page), **values, "currency": "USD"})
    assert "Created in Orb." in told(confirm(finance, right))[-1]


def test_the_second_of_two_people_is_told_of_the_first(
    orb: OrbSandbox, finance: Client, log_in: Callable[..., Client]
) -> None:
    values = filled(orb)
    ada = log_in(*EVERYTHING, name="ada")
    page = preview(finance, values)
    confirm(ada, preview(ada, values))

    warned = confirm(finance, page)

    assert "was asked for in the meantime" in text_of(warned)
    assert "ada created it" in text_of(warned)
    assert len(made_in(orb, values["customer_id"])) == 1
    confirm(finance, warned)
    assert len(made_in(orb, values["customer_id"])) == 2


def test_an_invoice_without_an_answer_is_recorded_and_shown(
    orb: OrbSandbox, finance: Client
) -> None:
    values = filled(orb)
    page = preview(finance, values)
    orb.cut_next(3, when="after", route="create_invoice")

    (message,) = told(confirm(finance, page))

    assert "may or may not have happened" in message
    operation = InvoiceOperation.objects.get()
    shown = text_of(finance.get(f"{OPERATIONS}{operation.pk}/change/"))
    customer = values["customer_id"]
    assert f"finance asked to create an invoice for {customer}" in shown
    assert customer in text_of(finance.get(OPERATIONS))
    InvoiceOperation.objects.update(lease_expires_at=operation.created_at)
    tasks.recover()
    assert len(made_in(orb, customer)) == 1


def test_customers_of_the_newest_invoices_are_suggested(
    orb: OrbSandbox, finance: Client
) -> None:
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])

    page = text_of(finance.get(f"{URL}?customer_id={invoice.customer_id}"))

    assert f'<option value="{invoice.customer_id}">' in page
    assert f'name="customer_id" value="{invoice.customer_id}"' in page
    known = preview(finance, filled(orb, customer_id=invoice.customer_id))
    assert "no invoice of this customer yet" not in text_of(known)


def test_an_installation_that_only_reads_offers_no_button(
    orb: OrbSandbox, finance: Client, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "READ_ONLY": True}

    assert "only reads from Orb" in text_of(finance.get(URL))
    page = preview(finance, filled(orb))
    assert "Yes, create this invoice" not in text_of(page)
    assert "only reads from Orb" in text_of(confirm(finance, page))
    assert not InvoiceOperation.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("atomic_requests")
def test_it_works_under_atomic_requests(
    orb: OrbSandbox, log_in: Callable[..., Client]
) -> None:
    client = log_in(*EVERYTHING)

    response = confirm(client, preview(client, filled(orb)))

    assert "Created in Orb." in told(response)[-1]
