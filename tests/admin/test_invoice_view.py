from __future__ import annotations

import copy
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_orb.admin.invoice_page.amounts import Row, balance_applied
from django_orb.admin.invoice_page.lines import LineView, read_line
from django_orb.admin.invoice_page.sections import (
    InvoiceView,
    pretty,
    read_address,
    read_invoice_view,
    read_tax_id,
)
from django_orb.mirror.mapping import map_invoice
from django_orb.models import Invoice
from tests import payloads

pytestmark = pytest.mark.django_db


def view_of(payload: dict[str, Any]) -> InvoiceView:
    mapped = map_invoice(payload)
    return read_invoice_view(unsaved(mapped.id, mapped.columns, payload))


def unsaved(pk: str, columns: dict[str, Any], payload: Any) -> Invoice:
    invoice = Invoice(**{**columns, "payload": payload})
    invoice.mirrored_at = datetime(2026, 3, 2, tzinfo=timezone.utc)
    assert invoice.pk == pk
    return invoice


def amounts(rows: list[Row]) -> dict[str, str]:
    return {row.label: row.amount for row in rows}


def line_with(**changes: Any) -> LineView:
    line = payloads.load("invoice_paid")["line_items"][1]
    return read_line({**line, **changes}, "USD")


def test_the_sums_lead_from_the_subtotal_to_the_amount_due() -> None:
    assert amounts(view_of(payloads.load("invoice_paid")).sums) == {
        "Subtotal": "568.75 USD",
        "Discounts and adjustments": "-50.00 USD",
        "WA sales tax 8 %": "41.50 USD",
        "Total": "560.25 USD",
        "Customer balance applied": "-50.00 USD",
        "Amount due": "510.25 USD",
    }


def test_what_orb_does_not_itemise_is_a_row_so_that_the_column_adds_up() -> None:
    payload = payloads.load("invoice_paid") | {"total": "600.25"}

    assert amounts(view_of(payload).sums)["Other"] == "40.00 USD"


def test_credit_notes_that_lower_the_amount_due_are_a_row_and_refunds_are_not() -> None:
    note = {"id": "c", "total": "10.00", "type": "adjustment", "voided_at": None}
    notes = [
        note,
        {**note, "type": "refund", "credit_note_number": "CN-2", "reason": "Mistake"},
        {**note, "voided_at": "2026-03-02T00:00:00+00:00"},
    ]
    shown = view_of(payloads.load("invoice_paid") | {"credit_notes": notes})

    assert amounts(shown.sums)["Credit notes"] == "-10.00 USD"
    assert [fact.value for fact in shown.credit_notes] == ["10.00 USD"] * 3
    assert shown.credit_notes[1].note == "Refund · Mistake"
    assert shown.credit_notes[2].note == "Adjustment · voided"


def test_a_paid_invoice_headlines_its_total_and_an_open_one_what_is_due() -> None:
    paid = view_of(payloads.load("invoice_paid")).headline
    issued = view_of(payloads.load("invoice_issued")).headline

    assert (paid.label, paid.value, paid.note) == (
        "Total",
        "560.25 USD",
        "paid 20 Mar 2026",
    )
    assert (issued.label, issued.note) == ("Amount due", "")


def test_amounts_have_orbs_own_digits_where_a_column_rounds() -> None:
    digits = "1234567890123456.789"
    payload = payloads.load("invoice_draft") | {"total": digits, "subtotal": digits}
    mapped = map_invoice(payload, exact_digits=15)
    invoice = unsaved(mapped.id, {**mapped.columns, "total": Decimal(1)}, payload)

    assert (
        amounts(read_invoice_view(invoice).sums)["Total"]
        == "1,234,567,890,123,456.789 USD"
    )


def test_tiers_are_parts_of_their_line() -> None:
    line = line_with()

    assert line.summary == "2 tiers"
    assert [(part.note, part.quantity, part.amount) for part in line.parts] == [
        ("0 to 10,000, 0.002 USD each", "10,000", "20.00 USD"),
        ("10,000 and more, 0.0015 USD each", "32,500.5", "48.75 USD"),
    ]
    assert line.quantity == "42,500.5"
    assert line.period == "1 Feb 2026 to 1 Mar 2026"


def test_cells_of_a_matrix_are_parts_too() -> None:
    cell = {
        "type": "matrix",
        "name": "",
        "quantity": 3,
        "amount": "4.50",
        "grouping": {"key": "region", "value": "eu"},
        "matrix_config": {"dimension_values": ["eu"]},
    }
    line = line_with(sub_line_items=[cell])

    assert line.summary == "1 part"
    assert (line.parts[0].label, line.parts[0].amount) == ("region: eu", "4.50 USD")


def test_adjustments_and_taxes_are_steps_of_their_line() -> None:
    line = read_line(payloads.load("invoice_paid")["line_items"][0], "USD")

    assert [(step.label, step.amount) for step in line.steps] == [
        ("Before adjustments", "500.00 USD"),
        ("10 % discount", "-50.00 USD"),
        ("WA sales tax 8 %", "36.00 USD"),
    ]
    assert line.steps[1].note == "Launch partner"
    assert line.pricing == "Unit price, 500.00 USD each"
    assert line.summary == "Details"


@pytest.mark.parametrize(
    ("adjustment", "label", "amount"),
    [
        ({"adjustment_type": "amount_discount", "amount_discount": "5", "amount": "5"},
         "5.00 USD discount", "-5.00 USD"),
        ({"adjustment_type": "minimum", "minimum_amount": "100", "amount": "20"},
         "Minimum of 100.00 USD", "20.00 USD"),
        ({"adjustment_type": "maximum", "maximum_amount": "100", "amount": "20"},
         "Maximum of 100.00 USD", "-20.00 USD"),
        ({"adjustment_type": "new_in_2027", "amount": "1"}, "New in 2027", "-1.00 USD"),
        ({}, "Adjustment", ""),
    ],
)  # fmt: skip
def test_adjustments_in_words(
    adjustment: dict[str, Any], label: str, amount: str
) -> None:
    step = line_with(adjustments=[adjustment]).steps[1]

    assert (step.label, step.amount) == (label, amount)


def test_prepaid_credits_and_earlier_invoices_are_steps() -> None:
    line = line_with(credits_applied="5.00", partially_invoiced_amount="1.00")

    assert [step.amount for step in line.steps if step.label == "Prepaid credits"] == [
        "-5.00 USD"
    ]
    assert [step.amount for step in line.steps if step.label == "Invoiced before"] == [
        "-1.00 USD"
    ]


def test_balance_that_came_back_is_not_applied() -> None:
    used = {"action": "applied_to_invoice", "type": "decrement", "amount": "50.00"}
    back = {"action": "return_from_voiding", "type": "increment", "amount": "50.00"}
    undone = {**used, "type": "increment", "amount": "20.00"}
    transactions = {"customer_balance_transactions": [used, back, undone]}

    assert balance_applied(transactions) == Decimal("30.00")


def test_a_void_invoice_says_since_when() -> None:
    shown = view_of(payloads.load("invoice_void"))

    assert shown.headline.note.startswith("void since ")
    assert shown.sums[-1].note == shown.headline.note


def test_the_invoices_own_discounts_are_a_note() -> None:
    discounts = [
        {"discount_type": "percentage", "percentage_discount": 0, "reason": None},
        {"discount_type": "trial", "reason": "First month"},
    ]
    payload = payloads.load("invoice_paid") | {"discounts": discounts}

    assert view_of(payload).sums[1].note == "0 % discount; Trial, First month"


def test_yes_and_no_are_words() -> None:
    payload = payloads.load("invoice_paid") | {
        "metadata": {"rush": True, "gift": False}
    }

    assert [fact.value for fact in view_of(payload).metadata] == ["yes", "no"]


def test_address_and_tax_id() -> None:
    address = payloads.load("invoice_paid")["billing_address"]

    assert read_address(address) == ["1 Harbor Way", "Seattle WA 98101", "US"]
    assert read_address(None) == []
    assert read_tax_id({"type": "us_ein", "value": "12-3"}) == "US EIN 12-3"


def test_payments_say_whether_they_worked() -> None:
    payment = view_of(payloads.load("invoice_paid")).payments[0]

    assert (payment.amount, payment.succeeded) == ("510.25 USD", True)
    assert "Paid" in payment.badge
    assert payment.receipt.startswith("https://")


def test_large_json_is_cut() -> None:
    payload = payloads.load("invoice_paid") | {"memo": "x" * 400_000}

    shown = view_of(payload)

    assert shown.is_json_cut
    assert len(shown.raw_json) == 300_000


def test_json_that_could_not_be_stored_is_shown_escaped() -> None:
    assert pretty({"memo": "\0", "total": Decimal("1.50")}) == (
        '{\n  "memo": "\\u0000",\n  "total": "1.50"\n}'
    )


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["id", "amount", "type", "key"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: list[Any] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path] * bool(path) + [
        deeper for key, child in children for deeper in paths_of(child, (*path, key))
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_payload_of_any_shape_is_shown(data: st.DataObject) -> None:
    payload = payloads.load("invoice_paid")
    mapped = map_invoice(payload)
    odd = copy.deepcopy(payload)
    path = data.draw(st.sampled_from(paths_of(payload)))
    place = odd
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(ODD)

    shown = read_invoice_view(unsaved(mapped.id, mapped.columns, odd))

    assert shown.sums
