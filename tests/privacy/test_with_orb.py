"""A customer of a whole account is erased, and everything goes on around that."""

from __future__ import annotations

from typing import Any

import pytest

from django_orb import maintenance, services
from django_orb.models import Invoice, InvoiceChange, InvoiceOperation
from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def erased(any_committed_database: str, orb: OrbSandbox) -> str:
    """A customer with an issued invoice, who was erased after a full run."""
    services.sync_invoices(mode="full")
    issued = Invoice.objects.filter(status="issued").order_by("pk")
    customer_id: str = issued.values_list("customer_id", flat=True)[0]
    services.erase_customer(customer_id)
    return customer_id


def rows_of(customer_id: str) -> list[dict[str, Any]]:
    rows: Any = Invoice.objects.filter(customer_id=customer_id).order_by("pk").values()
    return list(rows)


def are_blank(customer_id: str) -> bool:
    rows = rows_of(customer_id)
    return bool(rows) and not any(
        row["memo"]
        or row["external_customer_id"]
        or row["hosted_invoice_url"]
        or row["payload"]["billing_address"]
        or row["payload"]["metadata"]
        for row in rows
    )


def test_runs_and_verification_leave_it_alone(orb: OrbSandbox, erased: str) -> None:
    before, changes = rows_of(erased), InvoiceChange.objects.count()

    run = services.sync_invoices(mode="full")
    check = services.verify_invoices(fix=True)

    assert list(check) == []
    assert (run.created, run.updated, run.failed) == (0, 0, 0)
    assert rows_of(erased) == before
    assert are_blank(erased)
    assert InvoiceChange.objects.count() == changes


def test_changes_and_new_invoices_come_blank(orb: OrbSandbox, erased: str) -> None:
    (known, *_) = Invoice.objects.filter(customer_id=erased, status="issued")
    orb.update_invoice(known.pk, metadata={"contact": "someone"}, total="77.00")
    external = orb.invoice(known.pk)["customer"]["external_customer_id"]
    new = orb.add_invoice(external_customer_id=external)

    services.sync_invoices(mode="full")
    services.fetch_invoice(known.pk)
    list(services.list_invoices(customer_id=erased))

    assert Invoice.objects.get(pk=known.pk).payload["total"] == "77.00"
    assert Invoice.objects.get(pk=new["id"]).customer_id == erased
    assert are_blank(erased)
    assert list(services.verify_invoices()) == []


def test_repair_writes_it_blank(orb: OrbSandbox, erased: str) -> None:
    Invoice.objects.filter(customer_id=erased).update(total="1.23")

    found = list(services.verify_invoices(fix=True))

    assert found
    assert all(one.is_repaired for one in found)
    assert are_blank(erased)


def test_operations_still_work(orb: OrbSandbox, erased: str) -> None:
    invoice = Invoice.objects.filter(customer_id=erased, status="issued")[0]

    services.update_invoice(invoice, metadata={"contact": "someone"}, note="who")
    services.void_invoice(invoice, note="someone asked")
    maintenance.finish_operations()

    assert orb.invoice(invoice.pk)["metadata"]["contact"] == "someone"
    assert Invoice.objects.get(pk=invoice.pk).status == "void"
    assert are_blank(erased)
    for operation in InvoiceOperation.objects.all():
        assert operation.state == "succeeded"
        assert operation.erased_at
        assert "someone" not in str([operation.body, operation.result, operation.note])


def test_a_full_run_after_undoing_makes_the_mirror_right(
    orb: OrbSandbox, erased: str
) -> None:
    assert are_blank(erased)
    services.undo_erasure(erased)

    services.sync_invoices(mode="full")

    assert list(services.verify_invoices()) == []
    assert not are_blank(erased)
