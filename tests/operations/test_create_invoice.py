"""One-off invoices: made once, whatever happens to the request, and mirrored."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from django_orb import services, tasks
from django_orb.db.clock import database_now
from django_orb.exceptions import (
    OrbInputError,
    OrbOutcomeUnknownError,
    OrbRefusedError,
    OrbResponseError,
)
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations import ledger, recovery
from tests import databases, times

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

TODAY = datetime.now(timezone.utc).date()


@pytest.fixture(autouse=True)
def impatient(one_try: None, waits: list[float]) -> None:
    """One try for each request, no waiting."""


def a_line(orb: OrbSandbox, **changes: Any) -> services.NewLineItem:
    some = orb.invoice(orb.invoice_ids()[0])["line_items"][0]
    line: services.NewLineItem = {
        "item_id": some["price"]["item"]["id"],
        "name": "Workshop",
        "quantity": Decimal("2.5"),
        "unit_amount": "100.00",
        "start_date": TODAY,
        "end_date": TODAY,
    }
    return {**line, **changes}  # type: ignore[typeddict-item]


def wanted(orb: OrbSandbox, **changes: Any) -> dict[str, Any]:
    """Arguments for an invoice of a new customer's."""
    return {
        "customer_id": orb.add_customer()["id"],
        "currency": "USD",
        "invoice_date": TODAY,
        "line_items": [a_line(orb)],
        **changes,
    }


def of_customer(orb: OrbSandbox, customer_id: str) -> list[dict[str, Any]]:
    invoices = map(orb.invoice, orb.invoice_ids())
    return [one for one in invoices if one["customer"]["id"] == customer_id]


def age(hours: float = 24) -> None:
    """Let time pass for what is recorded."""
    past = database_now(databases.current_alias) - timedelta(hours=hours)
    InvoiceOperation.objects.update(lease_expires_at=past)
    InvoiceOperation.objects.exclude(first_sent_at=None).update(first_sent_at=past)


def create_in_vain(orb: OrbSandbox, when: str, given: dict[str, Any]) -> None:
    orb.cut_next(1, when=when, route="create_invoice")
    with pytest.raises(OrbOutcomeUnknownError):
        services.create_invoice(**given)


def the_operation() -> InvoiceOperation:
    return InvoiceOperation.objects.get()


def test_invoice_is_made_once_for_a_key_and_mirrored(
    any_committed_database: str, orb: OrbSandbox, django_user_model: Any
) -> None:
    ada = django_user_model.objects.create_user("ada")
    given = wanted(orb)
    asker = {"idempotency_key": "form", "actor": ada, "origin": "admin"}

    first = services.create_invoice(**given, **asker)
    second = services.create_invoice(**given, **asker)

    (made,) = of_customer(orb, given["customer_id"])
    assert first == second == Invoice.objects.get()
    assert first.payload == made
    assert (first.status, first.invoice_source) == ("draft", "one_off")
    assert first.total == Decimal("250.00")
    assert first.line_items.get().name == "Workshop"
    operation = the_operation()
    assert (operation.kind, operation.state) == ("create_invoice", "succeeded")
    assert operation.invoice_id == first.pk
    assert operation.mirrored_at
    assert (operation.find_actor(), operation.origin) == (ada, "admin")
    assert orb.request_counts()["create_invoice"] == 1
    with pytest.raises(OrbInputError, match="used before"):
        services.create_invoice(**{**given, "currency": "EUR"}, **asker)


def test_invoice_has_what_was_asked_for(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    orb.add_customer("crm-1")
    due = TODAY + timedelta(days=10)

    invoice = services.create_invoice(
        **wanted(orb, customer_id=None, external_customer_id="crm-1"),
        due_date=due,
        auto_collection=False,
        will_auto_issue=True,
        memo="Thank you",
        discount={"discount_type": "percentage", "percentage_discount": 0.5},
        metadata={"po": "7"},
    )

    assert invoice.external_customer_id == "crm-1"
    assert invoice.status == "issued"
    assert invoice.due_date
    assert invoice.due_date.date() == due
    assert invoice.memo == "Thank you"
    assert invoice.payload["metadata"] == {"po": "7"}
    assert invoice.total == Decimal("125.00")
    assert invoice.payload["auto_collection"]["enabled"] is False


def test_refusal_is_told_and_makes_nothing(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb, currency="EUR")

    with pytest.raises(OrbRefusedError, match="USD"):
        services.create_invoice(**given)

    assert the_operation().state == "refused"
    assert not of_customer(orb, given["customer_id"])
    assert not Invoice.objects.exists()


@pytest.mark.parametrize("when", ["before", "after", "during"])
def test_lost_answer_makes_one_invoice(
    any_committed_database: str, orb: OrbSandbox, when: str
) -> None:
    given = wanted(orb)
    create_in_vain(orb, when, given)

    age()
    tasks.recover()
    tasks.recover()

    (made,) = of_customer(orb, given["customer_id"])
    assert the_operation().state == "succeeded"
    assert the_operation().invoice_id == made["id"]
    assert the_operation().mirrored_at
    assert Invoice.objects.get().payload == made


def test_what_orb_forgot_is_found_in_its_list(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb, metadata={"po": "7"})
    create_in_vain(orb, "after", given)
    age(hours=48)
    orb.clear_requests()

    tasks.recover()

    (made,) = of_customer(orb, given["customer_id"])
    assert "shows that it happened" in the_operation().detail
    assert the_operation().invoice_id == made["id"]
    assert Invoice.objects.get().payload == made
    assert "create_invoice" not in orb.request_counts()


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"po": "8"}},
        {"quantity": 3},
        {"unit_amount": "100.01"},
        {"name": "Training"},
        {"invoice_date": TODAY - timedelta(days=20)},
        {"invoice_date": TODAY - timedelta(days=1)},
    ],
    ids=str,
)
def test_other_invoice_of_the_customer_is_not_taken_for_it(
    any_committed_database: str, orb: OrbSandbox, changes: dict[str, Any]
) -> None:
    given = wanted(orb, metadata={"po": "7"})
    other = {
        **given,
        "line_items": [a_line(orb, **changes)],
        **{name: changes[name] for name in given.keys() & changes.keys()},
    }
    services.create_invoice(**other)
    InvoiceOperation.objects.all().delete()
    create_in_vain(orb, "before", given)
    age(hours=48)

    tasks.recover()

    assert the_operation().state == "needs_attention"
    assert "Check in Orb" in the_operation().detail
    assert len(of_customer(orb, given["customer_id"])) == 1


def test_two_invoices_that_could_be_it_tell_nothing(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb)
    for _ in range(2):
        services.create_invoice(**given)
    InvoiceOperation.objects.all().delete()
    create_in_vain(orb, "before", given)
    age(hours=48)

    tasks.recover()

    assert the_operation().state == "needs_attention"


def test_invoice_of_another_operation_is_not_taken_for_it(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb)
    services.create_invoice(**given)
    create_in_vain(orb, "before", given)
    age(hours=48)

    tasks.recover()

    states = InvoiceOperation.objects.order_by("pk").values_list("state", flat=True)
    assert [*states] == ["succeeded", "needs_attention"]


def test_another_that_asked_for_the_same_may_be_its_maker(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb)
    create_in_vain(orb, "after", given)
    create_in_vain(orb, "before", given)
    age(hours=48)

    tasks.recover()

    assert {*InvoiceOperation.objects.values_list("state", flat=True)} == {
        "needs_attention"
    }


def test_another_that_asked_for_nearly_the_same_may_be_its_maker(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    """What tells them apart, such as a memo, may be changed in Orb."""
    given = wanted(orb)
    create_in_vain(orb, "before", given)
    create_in_vain(orb, "after", {**given, "memo": "The second half."})
    age(hours=48)

    tasks.recover()

    assert {*InvoiceOperation.objects.values_list("state", flat=True)} == {
        "needs_attention"
    }


def test_key_is_recognised_whatever_a_discount_was_written_with(
    any_committed_database: str, orb: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    times.hurry(monkeypatch, ledger)
    discount = {"discount_type": "percentage", "percentage_discount": 0.15}
    given = wanted(orb, discount=discount, idempotency_key="mine")
    create_in_vain(orb, "before", given)

    with pytest.raises(OrbOutcomeUnknownError):
        services.create_invoice(**given)


def test_refusal_after_a_lost_answer_is_looked_at(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb)
    create_in_vain(orb, "after", given)
    orb.fail_next(1, status=400, route="create_invoice")
    age()

    tasks.recover()

    assert the_operation().state == "succeeded"
    assert len(of_customer(orb, given["customer_id"])) == 1


def test_what_a_person_found_done_is_not_done_again(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb)
    create_in_vain(orb, "before", given)
    age(hours=48)
    tasks.recover()
    operation = the_operation()
    recovery.close(operation, was_done=True, detail="Ada looked.")

    with pytest.raises(OrbResponseError, match="It is done"):
        services.create_invoice(**given, idempotency_key=operation.idempotency_key)

    assert not of_customer(orb, given["customer_id"])


def test_invoice_that_reads_lag_behind_is_here_later(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    given = wanted(orb)
    orb.fail_next(99, status=404, route="fetch_invoice")

    with pytest.raises(OrbResponseError, match="It is done"):
        services.create_invoice(**given)
    orb.clear_faults()
    InvoiceOperation.objects.update(
        finished_at=database_now(databases.current_alias) - timedelta(minutes=6)
    )
    for _ in range(4):
        tasks.recover()

    assert Invoice.objects.get().pk == the_operation().invoice_id


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer_id": None}, "customer_id"),
        ({"external_customer_id": "crm-1"}, "customer_id"),
        ({"customer_id": " "}, "customer_id"),
        ({"currency": ""}, "currency"),
        ({"invoice_date": "2026-01-31"}, "invoice_date"),
        ({"line_items": []}, "line_items"),
        ({"net_terms": -1}, "net_terms"),
        ({"net_terms": 3, "due_date": TODAY}, "due_date"),
        ({"due_date": "soon"}, "due_date"),
        ({"auto_collection": "no"}, "auto_collection"),
        ({"memo": " "}, "memo"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"discount": {"a": "\0"}}, "discount"),
        ({"discount": {"a": {1}}}, "discount"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused_before(
    any_database: str, changes: dict[str, Any], field: str
) -> None:
    line = {"item_id": "item", "name": "a", "quantity": 1, "unit_amount": "1"}
    given = {
        "customer_id": "cus",
        "currency": "USD",
        "invoice_date": TODAY,
        "line_items": [{**line, "start_date": TODAY, "end_date": TODAY}],
    }

    with pytest.raises(OrbInputError) as caught:
        services.create_invoice(**{**given, **changes})

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"item_id": " "}, "item_id"),
        ({"quantity": 1.5}, "quantity"),
        ({"unit_amount": "much"}, "unit_amount"),
        ({"start_date": datetime(2026, 1, 1)}, "start_date"),  # noqa: DTZ001
        ({"end_date": date(2020, 1, 1)}, "end_date"),
    ],
)
def test_lines_that_cannot_be_right_are_refused_before(
    any_database: str, changes: dict[str, Any], field: str
) -> None:
    line: dict[str, Any] = {
        "item_id": "item",
        "name": "a",
        "quantity": 1,
        "unit_amount": "1",
        "start_date": TODAY,
        "end_date": TODAY,
        **changes,
    }

    with pytest.raises(OrbInputError) as caught:
        services.create_invoice(
            customer_id="cus",
            currency="USD",
            invoice_date=TODAY,
            line_items=[line],  # type: ignore[list-item]
        )

    assert caught.value.field == field
