from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_orb import mirror, services
from django_orb.account import PacedClient, open_account, require_same_account
from django_orb.account.rate_limit import RequestPacer
from django_orb.client import OrbClient
from django_orb.db import Interval, primary
from django_orb.exceptions import OrbAccountError, OrbServerError, OrbURLNotFoundError
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceOperation,
    MirroredAccount,
    SyncRun,
    WebhookEvent,
)
from django_orb.testing import OrbSandbox
from django_orb.webhooks import inbox, processing
from django_orb.webhooks.payload import parse_event
from tests.deliveries import as_bytes, event_of
from tests.factories import make_invoices

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def other_account(settings: Any, orb: OrbSandbox) -> Iterator[OrbSandbox]:
    """The settings get the key of an account that has nothing in common with `orb`."""
    services.sync_invoices(mode="full")
    with OrbSandbox(invoices=30, seed=99, api_key="another-key") as other:
        settings.DJANGO_ORB = {
            **settings.DJANGO_ORB,
            "API_KEY": other.api_key,
            "BASE_URL": other.base_url,
        }
        yield other


def test_an_invoice_that_ends_its_workers_does_not_keep_a_new_key_out(
    db: None, orb: OrbSandbox
) -> None:
    """The next attempt asks for another."""
    services.sync_invoices(mode="full")
    orb.clear_requests()

    for _ in range(20):
        MirroredAccount.objects.update(fingerprint="of the key before")
        with open_account():
            pass

    assert len({request.path for request in orb.requests}) > 1


def test_another_account_is_refused_before_anything_is_written(
    any_committed_database: str, other_account: OrbSandbox
) -> None:
    before = set(Invoice.objects.values_list("pk", "missing_since"))
    theirs = other_account.invoice_ids("issued")[0]

    for call in (
        lambda: services.sync_invoices(mode="full"),
        lambda: list(services.list_invoices()),
        lambda: services.fetch_invoice(theirs),
        lambda: services.void_invoice(theirs),
    ):
        with pytest.raises(OrbAccountError, match="another Orb account"):
            call()

    assert set(Invoice.objects.values_list("pk", "missing_since")) == before
    assert SyncRun.objects.count() == 1
    assert other_account.invoice(theirs)["status"] == "issued"


def test_first_key_is_remembered_and_costs_no_request(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.fetch_invoice(orb.invoice_ids()[0])
    services.fetch_invoice(orb.invoice_ids()[1])

    assert MirroredAccount.objects.count() == 1
    assert orb.request_counts()["fetch_invoice"] == 2
    assert orb.api_key not in MirroredAccount.objects.get().fingerprint


def test_new_key_of_the_same_account_is_believed(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    MirroredAccount.objects.update(fingerprint="of an older key")
    orb.clear_requests()

    services.fetch_invoice(orb.invoice_ids()[0])

    assert MirroredAccount.objects.get().fingerprint != "of an older key"
    assert orb.request_counts()["fetch_invoice"] == 2


def test_new_key_that_knows_nothing_any_more_is_believed_if_a_person_says_so(
    any_committed_database: str, other_account: OrbSandbox
) -> None:
    with pytest.raises(CommandError, match="--accept-key"):
        call_command("orb_sync_invoices", "--in-process", stdout=StringIO())

    call_command("orb_sync_invoices", "--in-process", "--accept-key", stdout=StringIO())

    theirs = other_account.invoice_ids("issued")[0]
    assert services.fetch_invoice(theirs).pk == theirs


def test_key_that_orb_does_not_take_is_not_believed(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    services.fetch_invoice(orb.invoice_ids()[0])
    before = MirroredAccount.objects.get().fingerprint
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "API_KEY": "wrong"}

    with pytest.raises(CommandError, match="401"):
        call_command("orb_sync_invoices", "--accept-key", stdout=StringIO())

    assert MirroredAccount.objects.get().fingerprint == before


def hand_over(payload: Any) -> WebhookEvent:
    body = as_bytes(event_of(payload))
    inbox.store(parse_event(body), body.decode())
    processing.process_event(parse_event(body).id)
    return WebhookEvent.objects.get(pk=parse_event(body).id)


def test_webhook_of_another_account_is_not_believed(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    before = set(Invoice.objects.values_list("pk", flat=True))
    with OrbSandbox(invoices=30, seed=99, api_key="another-key") as other:
        payload = other.invoice(other.invoice_ids("issued")[0])
    # The project's own id of the customer is the same in both, as in test mode.
    known = Invoice.objects.exclude(external_customer_id="").first()
    assert known is not None
    payload["customer"]["external_customer_id"] = known.external_customer_id

    event = hand_over(payload)

    assert event.state == WebhookEvent.State.PROCESSED
    assert set(Invoice.objects.values_list("pk", flat=True)) == before


def test_webhook_of_the_account_costs_a_request_for_new_customers_only(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = orb.invoice_ids("issued")[0]
    orb.clear_requests()

    hand_over(orb.invoice(invoice_id))
    hand_over(orb.invoice(invoice_id))

    assert orb.request_counts()["fetch_invoice"] == 1
    assert Invoice.objects.get().pk == invoice_id


@pytest.mark.parametrize("kept", ["drafts", "missing", "failures", "operations"])
def test_another_account_is_refused_whatever_is_left_of_the_mirror(
    any_committed_database: str, other_account: OrbSandbox, kept: str
) -> None:
    if kept == "drafts":
        Invoice.objects.exclude(status="draft").delete()
    elif kept == "missing":
        Invoice.objects.update(missing_since=timezone.now())
    else:
        invoice = Invoice.objects.filter(status="issued")[0]
        Invoice.objects.all().delete()
        if kept == "failures":
            InvoiceFailure.objects.create(pk=invoice.pk, failed_at=timezone.now())
        else:
            InvoiceOperation.objects.create(
                invoice_id=invoice.pk,
                state="succeeded",
                idempotency_key="key",
                created_at=timezone.now(),
            )
    before = set(Invoice.objects.values_list("pk", "missing_since"))

    with pytest.raises(OrbAccountError, match="another Orb account"):
        services.sync_invoices(mode="full")

    assert set(Invoice.objects.values_list("pk", "missing_since")) == before


@pytest.mark.parametrize("kept", ["drafts", "missing"])
def test_new_key_is_believed_by_whatever_is_left_of_the_mirror(
    any_committed_database: str, orb: OrbSandbox, kept: str
) -> None:
    services.sync_invoices(mode="full")
    MirroredAccount.objects.update(fingerprint="of an older key")
    if kept == "drafts":
        Invoice.objects.exclude(status="draft").delete()
    else:
        Invoice.objects.update(missing_since=timezone.now())

    services.sync_invoices(mode="full")

    assert MirroredAccount.objects.get().fingerprint != "of an older key"


def test_new_key_is_believed_though_the_newest_drafts_were_deleted(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    drafts = [orb.add_invoice(status="draft", days_ago=-30)["id"] for _ in range(4)]
    services.sync_invoices(mode="full")
    for draft in drafts:
        orb.delete_draft(draft)
    MirroredAccount.objects.update(fingerprint="of an older key")

    services.sync_invoices(mode="full")

    assert MirroredAccount.objects.get().fingerprint != "of an older key"


@pytest.mark.parametrize("sample", ["draft", "issued"])
def test_new_key_is_believed_though_orb_no_longer_has_the_newest_invoices(
    any_committed_database: str, orb: OrbSandbox, sample: str
) -> None:
    services.fetch_invoice(orb.invoice_ids(sample)[0])
    next_year = (timezone.now() + timedelta(days=365)).isoformat()
    gone = make_invoices(4, sample, invoice_date=next_year)
    Invoice.objects.filter(pk__in=[one.pk for one in gone]).update(
        missing_since=timezone.now()
    )
    MirroredAccount.objects.update(fingerprint="of an older key")

    services.fetch_invoice(orb.invoice_ids(sample)[0])

    assert MirroredAccount.objects.get().fingerprint != "of an older key"


def test_wrong_address_is_not_taken_for_another_account(
    any_committed_database: str, orb: OrbSandbox, settings: Any
) -> None:
    services.sync_invoices(mode="full")
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "BASE_URL": f"{orb.base_url}/wrong"}
    before = MirroredAccount.objects.get().fingerprint

    with pytest.raises(OrbURLNotFoundError):
        services.sync_invoices(mode="full")

    assert MirroredAccount.objects.get().fingerprint == before
    assert not Invoice.objects.exclude(missing_since=None).exists()


def test_new_key_is_believed_though_orb_fails_at_the_first_invoice(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    MirroredAccount.objects.update(fingerprint="of an older key")
    orb.fail_next(1, route="fetch_invoice", status=504, html=True)

    services.sync_invoices(mode="full")

    assert MirroredAccount.objects.get().fingerprint != "of an older key"


def test_new_key_is_neither_believed_nor_refused_while_orb_is_away(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    services.sync_invoices(mode="full")
    MirroredAccount.objects.update(fingerprint="of an older key")
    orb.fail_next(1000, route="fetch_invoice", status=503)

    with pytest.raises(OrbServerError):
        services.sync_invoices(mode="full")

    assert MirroredAccount.objects.get().fingerprint == "of an older key"
    assert orb.request_counts()["fetch_invoice"] <= 3


def test_creation_without_an_invoice_does_not_hide_that_a_key_is_wrong(
    any_committed_database: str, other_account: OrbSandbox
) -> None:
    """Such as one that a person has closed as done."""
    now = timezone.now()
    InvoiceOperation.objects.create(
        kind="create_invoice",
        state=InvoiceOperation.State.SUCCEEDED,
        idempotency_key="key",
        created_at=now,
        finished_at=now,
    )

    with pytest.raises(OrbAccountError, match="accept-key"):
        services.sync_invoices()


@pytest.fixture
def two_accounts(orb: OrbSandbox) -> Iterator[list[OrbSandbox]]:
    """Two that have nothing in common, while the mirror is empty."""
    with OrbSandbox(invoices=30, seed=99, api_key="another-key") as other:
        yield [orb, other]


@contextmanager
def opened(orb: OrbSandbox) -> Iterator[OrbClient]:
    with PacedClient(orb.api_key, orb.base_url, retries=0) as client:
        client.pacer = RequestPacer()
        require_same_account(client)
        yield client


def test_two_accounts_never_share_a_mirror_that_both_found_empty(
    any_committed_database: str, two_accounts: list[OrbSandbox]
) -> None:
    first, second = two_accounts
    theirs, others = first.invoice_ids("issued")[0], second.invoice_ids("issued")[0]

    with opened(first) as client:
        seen = mirror.observe_invoices(client, [theirs])
        with opened(second) as other:
            mirror.store(other, mirror.observe_invoices(other, [others]))
            fingerprint = other.fingerprint
        with pytest.raises(OrbAccountError, match="while it was empty"):
            mirror.store(client, seen)

    assert [one.pk for one in Invoice.objects.all()] == [others]
    assert MirroredAccount.objects.get().fingerprint == fingerprint


def test_what_cannot_be_stored_is_not_recorded_for_another_account(
    any_committed_database: str, two_accounts: list[OrbSandbox]
) -> None:
    """Or it would prove the wrong key later."""
    first, second = two_accounts
    payload = {**first.invoice(first.invoice_ids("issued")[0]), "total": "lots"}

    with opened(first) as client:
        now = primary.now()
        page = mirror.read_page([payload], Interval(now, now), client=client)
        with opened(second):
            pass
        with pytest.raises(OrbAccountError, match="while it was empty"):
            mirror.write(page)

    assert not InvoiceFailure.objects.exists()


def test_key_that_comes_while_the_first_invoice_is_written_waits_and_is_refused(
    any_committed_database: str, two_accounts: list[OrbSandbox]
) -> None:
    first, second = two_accounts
    theirs = first.invoice_ids("issued")[0]
    errors: list[Exception] = []

    def open_second() -> None:
        try:
            with opened(second):
                pass
        except OrbAccountError as err:
            errors.append(err)
        finally:
            connections.close_all()

    thread = threading.Thread(target=open_second)

    def meanwhile(result: mirror.WriteResult) -> None:
        thread.start()
        time.sleep(0.5)

    with opened(first) as client:
        seen = mirror.observe_invoices(client, [theirs])
        mirror.write(seen, also=meanwhile)
        thread.join()

        assert [str(one)[:40] for one in errors] == [
            "This API key belongs to another Orb acco"
        ]
        assert [one.pk for one in Invoice.objects.all()] == [theirs]
        assert MirroredAccount.objects.get().fingerprint == client.fingerprint


def test_account_is_looked_at_once_for_all_that_a_client_stores(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    ids = orb.invoice_ids("issued")

    def looks(client: OrbClient, some: list[str]) -> int:
        seen = mirror.observe_invoices(client, some)
        with CaptureQueriesContext(connections[any_committed_database]) as captured:
            mirror.write(seen)
        table = MirroredAccount._meta.db_table
        return sum(table in query["sql"] for query in captured.captured_queries)

    with opened(orb) as client:
        assert [looks(client, [pk]) for pk in ids[:3]] == [1, 0, 0]
    with opened(orb) as client:
        # What is stored already proves the account, so that nothing new costs more.
        assert looks(client, ids[2:4]) == 0
        assert [looks(client, [pk]) for pk in ids[4:6]] == [1, 0]
