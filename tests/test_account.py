from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_orb import services
from django_orb.exceptions import OrbAccountError
from django_orb.models import Invoice, MirroredAccount, SyncRun
from django_orb.testing import OrbSandbox

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
