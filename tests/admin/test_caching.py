"""Pages keep figures for a while, but never what an erasure has removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_orb import maintenance
from django_orb.admin.caching import keep
from tests.factories import store
from tests.privacy.poison import CUSTOMER, OTHER, WORD, of_other, personal

pytestmark = pytest.mark.django_db
DATES: dict[str, Any] = {
    "status": "issued",
    "invoice_date": "2026-10-10T00:00:00+00:00",
    "issued_at": "2026-10-10T00:00:00+00:00",
    "due_date": "2026-10-20T00:00:00+00:00",
    "paid_at": None,
    "payment_failed_at": "2026-10-21T00:00:00+00:00",
    "amount_due": "100.00",
}
MONTH_END = "/admin/django_orb/monthend/?month=2026-10"
PAGES = [
    MONTH_END,
    "/admin/django_orb/receivables/",
    f"/admin/django_orb/receivables/?customer={CUSTOMER}",
    "/admin/django_orb/overview/",
]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def shown(client: Client, page: str) -> str:
    response = client.get(page)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("page", PAGES)
def test_no_page_shows_a_customer_after_the_erasure(finance: Client, page: str) -> None:
    store(personal(**DATES))
    assert WORD in shown(finance, page)

    maintenance.erase_customer(CUSTOMER)

    assert WORD not in shown(finance, page)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_goes_on_with_what_it_read_during_an_erasure(
    finance: Client, page: str
) -> None:
    store(personal(**DATES))
    store(of_other() | DATES)
    # Another that ends later must not keep alive what was read during the first.
    for customer in (OTHER, CUSTOMER):
        maintenance.erase_customer(customer, seconds=-1.0)
    assert WORD in shown(finance, page)

    maintenance.erase_customer(CUSTOMER)

    assert WORD not in shown(finance, page)


def test_the_month_end_keeps_only_what_it_shows(finance: Client) -> None:
    memo, link = "Ms Crusoe only", "https://pdf.example.com/crusoe"
    store(personal(**DATES, memo=memo, invoice_pdf=link))

    assert WORD in shown(finance, MONTH_END)

    kept = b"".join(cache._cache.values())  # type: ignore[attr-defined]
    assert WORD.encode() in kept
    assert memo.encode() not in kept
    assert link.encode() not in kept


def test_the_month_end_asks_for_names_each_time(finance: Client, settings: Any) -> None:
    store(personal(**DATES))
    settings.DJANGO_ORB = {
        **settings.DJANGO_ORB,
        "CUSTOMER_LABELS": f"{__name__}.name_them",
    }
    for name in ("Crusoe Ltd", "Friday Ltd"):
        NAMES[:] = [name]
        assert name in shown(finance, MONTH_END)


NAMES: list[str] = []


def name_them(customers: Any) -> dict[str, str]:
    return {customer.customer_id: NAMES[0] for customer in customers}


def test_what_is_kept_costs_two_queries() -> None:
    keep("name", 60, lambda: 1)

    with CaptureQueriesContext(connection) as captured:
        found, _ = keep("name", 60, lambda: 2)

    assert (found, len(captured)) == (1, 2)
