"""Everything is decided by the database that is written, also if reads go to a replica.

The replica here is another database with the same tables, and it has nothing in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from django_orb import services, tasks
from django_orb.exceptions import OrbInputError, OrbRefusedError, OrbSyncRunningError
from django_orb.models import (
    Invoice,
    InvoiceLineItem,
    InvoiceOperation,
    SyncRun,
    WebhookEvent,
)
from django_orb.sync.runs import due_windows, start_run
from django_orb.sync.windows import lease_window
from tests import databases, times
from tests.admin.conftest import EVERYTHING
from tests.admin.pages import LIST, choose, fields_of, page_of, told
from tests.admin.test_line_item import confirm, preview
from tests.factories import make_staff

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox, OrbWebhook

REPLICA = "postgresql"
pytestmark = pytest.mark.django_db(databases=["default", REPLICA])


@pytest.fixture(autouse=True)
def replica(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    times.rule(monkeypatch, sleep=lambda seconds: None)
    with databases.reading_from(REPLICA):
        yield
    assert not Invoice.objects.using(REPLICA).exists()


@pytest.fixture
def full(orb_sandbox: OrbSandbox) -> SyncRun:
    return services.sync_invoices(mode="full")


def stored(model: Any) -> Any:
    return model.objects.using("default")


def staff(name: str = "finance") -> Client:
    client = Client()
    client.force_login(make_staff(*EVERYTHING, name=name))
    return client


def test_a_run_counts_what_it_did(orb_sandbox: OrbSandbox, full: SyncRun) -> None:
    assert (full.state, full.created) == ("succeeded", 40)
    assert stored(Invoice).count() == 40

    orb_sandbox.mark_paid(orb_sandbox.invoice_ids("issued")[0])
    again = services.sync_invoices(mode="incremental")

    assert (again.state, again.updated) == ("succeeded", 1)
    assert list(services.verify_invoices()) == []


def test_a_second_start_meets_the_first(full: SyncRun) -> None:
    run = start_run("full")
    (window, *_) = due_windows(run=run)
    assert lease_window(window)

    with pytest.raises(OrbSyncRunningError):
        services.sync_invoices(mode="full")
    with pytest.raises(CommandError):
        call_command(
            "orb_sync_invoices", mode="full", in_process=True, stdout=StringIO()
        )


def test_what_is_written_to_orb_is_written_once(
    orb_sandbox: OrbSandbox, full: SyncRun
) -> None:
    issued = orb_sandbox.invoice_ids("issued")[0]

    for _ in range(2):
        assert services.void_invoice(issued, idempotency_key="v").status == "void"
    with pytest.raises(OrbInputError):
        services.issue_invoice(issued, idempotency_key="v")
    with pytest.raises(OrbRefusedError):
        services.void_invoice(issued, idempotency_key="w")

    draft = orb_sandbox.invoice_ids("draft")[0]
    line = services.create_invoice_line_item(
        draft,
        name="Setup",
        quantity=1,
        amount="5.00",
        start_date=full.started_at.date(),
        end_date=full.started_at.date(),
    )
    assert line.pk
    services.delete_invoice_line_item(draft, line)
    assert not stored(InvoiceLineItem).filter(orb_id=line.orb_id).exists()
    assert set(stored(InvoiceOperation).values_list("state", flat=True)) == {
        "succeeded",
        "refused",
    }


def test_a_webhook_is_processed_once(
    orb_sandbox: OrbSandbox, orb_webhook: OrbWebhook, full: SyncRun
) -> None:
    invoice_id = orb_sandbox.invoice_ids("issued")[0]
    orb_sandbox.mark_paid(invoice_id)

    orb_webhook.deliver()

    assert stored(Invoice).get(pk=invoice_id).status == "paid"
    assert set(stored(WebhookEvent).values_list("state", flat=True)) == {"processed"}
    tasks.recover()


def test_one_user_is_told_of_the_line_of_another(
    orb_sandbox: OrbSandbox, full: SyncRun
) -> None:
    draft = stored(Invoice).get(pk=orb_sandbox.invoice_ids("draft")[0])
    ada, bob = staff("ada"), staff("bob")
    mine = preview(ada, draft)

    told(confirm(bob, draft, preview(bob, draft, name="Setup")))
    warned = confirm(ada, draft, mine)

    assert "Setup" in warned.content.decode()
    assert stored(InvoiceOperation).count() == 1


def test_the_admin_acts_on_what_is_there(
    orb_sandbox: OrbSandbox, full: SyncRun
) -> None:
    client = staff()
    ids = orb_sandbox.invoice_ids("issued")[:7]

    assert client.get(page_of(ids[0])).status_code == 200
    confirmation = client.post(LIST, choose("void_selected", *ids[:2]))
    told(client.post(LIST, {**fields_of(confirmation), "post": "yes"}))

    assert stored(Invoice).filter(pk__in=ids[:2], status="void").count() == 2


def test_a_cancelled_run_ends(full: SyncRun) -> None:
    run = start_run("full")
    url = f"/admin/django_orb/syncrun/{run.pk}/cancel/"

    response = staff().post(url)

    assert response.status_code == 302
    run.refresh_from_db(using="default")
    assert run.state == "cancelled"
