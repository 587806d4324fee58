from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest
from django.db import connections
from django.db.models import Model, Sum
from django.test.utils import CaptureQueriesContext

from django_orb import mirror
from django_orb.client import RawInvoice
from django_orb.db import Interval, primary
from django_orb.mirror import mapping
from django_orb.mirror.mapping import CHILDREN, map_invoice
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceLineTax,
    InvoiceObservation,
    InvoicePaymentAttempt,
)
from tests.odd_payloads import every_oddity, is_of_a_child, write
from tests.payloads import load, load_full

NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)
KEYS = [*CHILDREN, "tax_amounts"]


def see(*payloads: dict[str, Any], second: int) -> mirror.WriteResult:
    start = NOON + timedelta(seconds=second)
    interval = Interval(start, start + timedelta(milliseconds=500))
    texts = [RawInvoice.of(payload) for payload in payloads]
    return mirror.write(mirror.read_page(texts, interval))


def rows_of(model: type[Model], **which: Any) -> list[dict[str, Any]]:
    rows = model._default_manager.filter(**which).order_by("position", "pk")
    return list(rows.values())


def stored(invoice_id: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of what the invoice carries, without their keys."""
    found = {
        name: rows_of(model, invoice=invoice_id) for name, model in CHILDREN.items()
    }
    taxes: Any = InvoiceLineTax.objects.filter(line_item__invoice=invoice_id)
    found["tax_amounts"] = list(
        taxes.order_by("line_item__position", "position").values()
    )
    orb_ids = dict(
        Invoice.objects.get(pk=invoice_id).line_items.values_list("pk", "orb_id")
    )
    for row in found["tax_amounts"]:
        row["line_item"] = orb_ids[row.pop("line_item_id")]
    for row in chain.from_iterable(found.values()):
        row.pop("id")
        row.pop("invoice_id", None)
        row.pop("dated_at", None)  # not in the payload
    return found


def mapped(payload: dict[str, Any], using: str) -> dict[str, list[dict[str, Any]]]:
    digits = 15 if connections[using].vendor == "sqlite" else None
    one = map_invoice(copy.deepcopy(payload), exact_digits=digits)
    return {**one.children, "tax_amounts": one.taxes}


def without(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    if name != "tax_amounts":
        return {**payload, name: []}
    lines = [{**line, name: []} for line in payload["line_items"]]
    return {**payload, "line_items": lines}


def test_all_that_an_invoice_carries_is_rows(any_database: str) -> None:
    see(load_full(), second=0)

    invoice = Invoice.objects.get()
    note, voided = invoice.credit_notes.all()
    assert (str(note), note.type, note.total) == ("CN-00007", "refund", Decimal("50.1"))
    assert (note.reason, note.memo) == ("Order change", "Agreed with the customer")
    assert note.voided_at is None
    assert voided.voided_at == datetime(2026, 4, 2, 10, tzinfo=timezone.utc)
    failed, paid = invoice.payment_attempts.all()
    assert (failed.succeeded, paid.succeeded) == (False, True)
    assert paid.amount == Decimal("510.25")
    assert paid.created_at == datetime(2026, 3, 20, 15, 2, 29, tzinfo=timezone.utc)
    assert (paid.payment_provider, paid.payment_provider_id) == (
        "stripe",
        "pi_3EXAMPLE",
    )
    assert paid.receipt_pdf == "https://assets.withorb.com/receipt/EXAMPLE"
    applied, credited = invoice.customer_balance_transactions.all()
    assert (applied.action, applied.type) == ("applied_to_invoice", "decrement")
    assert (applied.starting_balance, applied.ending_balance) == (50, 0)
    assert credited.credit_note_id == note.orb_id
    [tax] = invoice.line_items.all()[0].taxes.all()
    assert (tax.amount, tax.tax_rate_percentage) == (36, 8)
    assert tax.tax_rate_description == "WA sales tax"


@pytest.mark.parametrize("name", KEYS)
def test_rows_come_change_and_go_with_the_payload(any_database: str, name: str) -> None:
    full = load_full()
    empty = without(name, full)
    states = [empty, full, {**full, "memo": "other"}, empty, full]
    if name in CHILDREN:
        first, second = full[name]
        states += [{**full, name: [second, first]}, {**full, name: [second]}]
        states += [{**full, name: None}, {**full, name: [{**first, "type": "other"}]}]
    for second, payload in enumerate(states):
        others = [{**full, "id": f"new{second}"}, {**empty, "id": f"bare{second}"}]
        see({**payload, "id": "inv"}, *others, second=second)

        assert stored("inv") == mapped(payload, any_database)
        assert stored(f"new{second}") == mapped(full, any_database)


def test_rows_keep_their_keys_when_others_come_and_go(any_database: str) -> None:
    full = load_full()
    first, second = full["payment_attempts"]
    see(full, second=0)
    key = InvoicePaymentAttempt.objects.get(orb_id=second["id"]).pk
    tax = InvoiceLineTax.objects.values_list("pk", flat=True)
    taxes = list(tax)

    see({**full, "payment_attempts": [second]}, second=1)
    see({**full, "payment_attempts": [first, second]}, second=2)

    assert InvoicePaymentAttempt.objects.get(orb_id=second["id"]).pk == key
    assert list(tax) == taxes


def test_changed_fields_name_them_as_orb_does(any_database: str) -> None:
    full = load_full()
    see(full, second=0)
    for second, name in enumerate(CHILDREN, 1):
        see({**full, name: []}, second=2 * second)

        change = InvoiceChange.objects.latest("pk")
        assert name in change.changed_fields
        assert hasattr(Invoice, name)
        see(full, second=2 * second + 1)


def test_rows_that_an_older_release_did_not_fill_are_filled(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = load_full()
    see(full, second=0)
    models: list[type[Model]] = [*CHILDREN.values(), InvoiceLineTax]
    for model in models:
        model._default_manager.all().delete()
    older = mapping.MAPPER_VERSION - 1
    InvoiceObservation.objects.update(mapper_version=older)

    see(full, second=1)

    assert stored(full["id"]) == mapped(full, any_database)


def test_writing_again_mends_rows_that_should_not_be_there(any_database: str) -> None:
    empty = load("invoice_draft")
    see(empty, second=0)
    stray = {"orb_id": "stray", "position": 0}
    for model in CHILDREN.values():
        model._default_manager.create(invoice_id=empty["id"], **stray)
    mirror.write_again([empty["id"]])
    InvoiceObservation.objects.update(rewrite_at=NOON)

    see(empty, second=1)

    assert stored(empty["id"]) == mapped(empty, any_database)


def test_statements_for_a_page_that_carries_everything(any_database: str) -> None:
    def count(change: Callable[[dict[str, Any]], dict[str, Any]], second: int) -> int:
        page = [change({**load_full(), "id": f"inv{n:03}"}) for n in range(100)]
        with CaptureQueriesContext(connections[any_database]) as captured:
            see(*page, second=second)
        return sum("SAVEPOINT" not in one["sql"] for one in captured.captured_queries)

    primary.alias()
    see(load("invoice_draft"), second=0)  # measures the clock
    more = connections[any_database].vendor == "sqlite"
    assert count(dict, 1) == 13 + more
    assert count(dict, 2) == 2 + more
    # What is the same as before costs nothing.
    assert count(lambda one: {**one, "memo": "other"}, 3) == 9 + 2 * more


@pytest.mark.parametrize("name", [*CHILDREN, "tax_amounts"])
def test_nothing_odd_in_them_keeps_an_invoice_out(name: str) -> None:
    payload = load_full()
    paths = [one for one in every_oddity(payload) if is_of_a_child(one.path)]
    for oddity in [one for one in paths if name in one.path]:
        odd = RawInvoice(write(payload, [oddity]).encode())
        rows = map_invoice(odd.read_only(mapping.invoice_keys()))
        for rows_of_set in rows.children.values():
            assert len({row["orb_id"] for row in rows_of_set}) == len(rows_of_set)


def test_what_is_odd_is_left_empty_and_named(any_database: str) -> None:
    note = load_full()["credit_notes"][0]
    odd = {"id": None, "total": "1e30", "type": "x" * 65, "reason": 5, "voided_at": "y"}
    notes = [None, "odd", {**note, "total": "odd"}, {**note, "total": None}, odd]
    see(load_full(credit_notes=notes), second=0)

    unreadable, twice, nameless = Invoice.objects.get().credit_notes.all()
    assert unreadable.total is None
    assert unreadable.rounded_fields == ["total"]
    assert (unreadable.orb_id, unreadable.position) == (note["id"], 2)
    assert (twice.orb_id, twice.total, twice.rounded_fields) == (
        "(no id, item 3)",
        None,
        [],
    )
    assert nameless.orb_id == "(no id, item 4)"
    assert nameless.rounded_fields == ["type", "total", "reason", "voided_at"]


# Net of credit notes


def net(**changes: Any) -> tuple[Decimal | None, Decimal | None]:
    [one] = Invoice.objects.net_of_credit_notes().filter(**changes)
    found: Any = one
    return found.credited, found.net_total


def notes(*totals: Any) -> list[dict[str, Any]]:
    note = load_full()["credit_notes"][0]
    return [{**note, "id": f"cn{n}", "total": one} for n, one in enumerate(totals)]


def test_net_of_credit_notes_leaves_out_voided_ones(any_database: str) -> None:
    see(load_full(), second=0)

    assert net() == (Decimal("50.10"), Decimal("510.15"))


@pytest.mark.parametrize(
    ("total", "totals", "expected"),
    [
        ("0.30", ["0.10"], ("0.10", "0.20")),
        ("1000000.01", ["1000000.00"], ("1000000.00", "0.01")),
        ("999999999999.99", ["0.01", "0.02", "0.03"], ("0.06", "999999999999.93")),
        ("100.00", [], ("0", "100.00")),
        ("100.00", ["odd", "1.00"], (None, None)),
        ("100.00", [None], (None, None)),
        ("0.000123", ["0.000023"], ("0.000023", "0.0001")),
    ],
)
def test_net_of_credit_notes_is_exact_or_unknown(
    any_database: str, total: str, totals: list[Any], expected: tuple[Any, Any]
) -> None:
    see(load_full(total=total, credit_notes=notes(*totals)), second=0)

    assert net() == tuple(one if one is None else Decimal(one) for one in expected)


def test_net_of_credit_notes_adds_up_by_currency(any_database: str) -> None:
    full = load_full(total="560.25")
    see(
        full,
        {**full, "id": "second"},
        {**full, "id": "other", "currency": "EUR", "credit_notes": []},
        second=0,
    )

    sums = (
        Invoice.objects.net_of_credit_notes()
        .order_by("currency")
        .values_list("currency")
        .annotate(net=Sum("net_total"))
    )

    assert list(sums) == [("EUR", Decimal("560.25")), ("USD", Decimal("1020.30"))]
