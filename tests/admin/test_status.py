"""The page that says whether all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from django_orb import services
from django_orb.models import InvoiceFailure, SyncRun

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

PAGE = "/admin/django_orb/status/"


@pytest.mark.django_db(transaction=True)
def test_it_says_what_to_do_next_and_asks_orb_only_by_the_button(
    orb: OrbSandbox, log_in: Callable[..., Client], atomic_requests: None
) -> None:
    services.sync_invoices(mode="full")
    client = log_in("view_syncrun")
    orb.clear_requests()
    text = client.get(PAGE).content.decode()
    assert "Orb was not asked now." in text
    assert orb.requests == []

    asked = client.post(PAGE).content.decode()
    assert "Orb was asked now and accepts the key" in asked
    assert [one.path for one in orb.requests] == ["/v1/ping"]

    InvoiceFailure.objects.create(
        invoice_id="odd", reason="No total.", failed_at=SyncRun.objects.get().started_at
    )
    text = client.get(PAGE).content.decode()
    assert "1 invoice could not be read." in text
    assert "Next step:" in text


@pytest.mark.django_db
def test_it_is_for_those_who_may_see_runs(log_in: Callable[..., Client]) -> None:
    assert PAGE in log_in("view_syncrun", name="run").get("/admin/").content.decode()

    other = log_in("view_invoice", name="other")
    assert PAGE not in other.get("/admin/").content.decode()
    assert other.get(PAGE).status_code == 403
    assert other.post(PAGE).status_code == 403
    assert Client().get(PAGE).status_code == 302


def test_it_makes_few_statements(
    finance: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(13 + 4):  # session, user and permissions
        finance.get(PAGE)
