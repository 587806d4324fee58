"""What of Orb's data is personal is decided for every key that is known."""

from __future__ import annotations

from typing import Any

import pytest

from django_orb.mirror import personal
from django_orb.mirror.mapping import map_invoice
from tests.payloads import load, load_full

from . import poison
from .poison import WORD

# Every key of the samples that does not stay, and no other.
BLANKED = {
    "billing_address",
    "shipping_address",
    "customer_tax_id",
    "customer.external_customer_id",
    "memo",
    "metadata",
    "hosted_invoice_url",
    "invoice_pdf",
    "credit_notes.reason",
    "credit_notes.memo",
    "customer_balance_transactions.description",
    "payment_attempts.receipt_pdf",
    "line_items.grouping",
    "line_items.filter",
    "line_items.adjustments.reason",
    "line_items.price.metadata",
    "line_items.price.external_price_id",
    "line_items.sub_line_items.name",
    "line_items.sub_line_items.grouping",
    "line_items.sub_line_items.matrix_config",
}


def leaves(value: Any, path: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    if isinstance(value, list):
        for item in value:
            for name, values in leaves(item, path).items():
                found.setdefault(name, []).extend(values)
    elif isinstance(value, dict):
        for key, item in value.items():
            for name, values in leaves(item, f"{path}.{key}".strip(".")).items():
                found.setdefault(name, []).extend(values)
    else:
        found[path] = [value]
    return found


@pytest.mark.parametrize(
    "name", ["invoice_draft", "invoice_issued", "invoice_paid", "invoice_void"]
)
def test_every_key_of_the_samples_is_decided(name: str) -> None:
    payload = load(name)
    blank = personal.blank_invoice(payload)

    before, after = leaves(payload), leaves(blank)

    for path, values in before.items():
        if not any(path == gone or path.startswith(f"{gone}.") for gone in BLANKED):
            assert after[path] == values, path


def test_nothing_personal_stays_and_all_that_counts_does() -> None:
    payload = poison.personal()

    blank = personal.blank_invoice(payload)

    assert WORD not in str(blank)
    assert blank["customer"] == {
        "id": poison.CUSTOMER,
        "external_customer_id": None,
        "name": None,
    }
    assert blank["metadata"] == blank["billing_address"] == {}
    whole, left = map_invoice(payload), map_invoice(blank)
    gone = {"memo", "hosted_invoice_url", "invoice_pdf", "payload"}
    gone |= {"external_customer_id", "external_customer_key"}
    for name, value in whole.columns.items():
        assert name in gone or left.columns[name] == value, name
    for mine, theirs in zip(left.lines, whole.lines, strict=True):
        assert mine == {**theirs, "grouping": ""}
    assert left.taxes == whole.taxes


def test_blank_stays_blank() -> None:
    blank = personal.blank_invoice(poison.personal())

    assert personal.blank_invoice(blank) == blank


def test_what_orb_adds_one_day_is_blanked() -> None:
    new = {
        "customer_email": WORD,
        "contacts": [{"name": WORD}],
        "customer": {"id": "c", "address": {"line1": WORD}},
        "credit_notes": [{"id": "n", "issued_to": WORD}],
    }

    blank = personal.blank_invoice({**load_full(), **new})

    assert WORD not in str(blank)
    assert blank["contacts"] == []


@pytest.mark.parametrize("odd", [None, 7, WORD, [WORD], [[WORD]], {"id": [WORD]}])
def test_odd_forms_let_nothing_through(odd: Any) -> None:
    for name in ("billing_address", "customer", "subscription", "line_items"):
        blank = personal.blank_invoice({**load("invoice_issued"), name: odd})
        kept = blank[name]
        assert WORD not in str(kept) or kept == odd == {"id": [WORD]}


def test_depth_has_an_end() -> None:
    deep: Any = WORD
    for _ in range(500):
        deep = {"more": deep}

    blank = personal.blank_invoice({**load("invoice_issued"), "discount": deep})

    assert WORD not in str(blank)


@pytest.mark.parametrize("named", [{"customer": {"id": "c"}}, {"customer_id": "c"}])
def test_customer_is_found_on_the_upper_four_levels_of_an_event(named: Any) -> None:
    body = named
    for _ in range(4):
        assert personal.customers_in(body) == {"c"}
        body = {"type": "invoice.issued", "within": body}

    assert personal.customers_in(body) == set()


@pytest.mark.parametrize("is_hint", [True, False])
def test_event_keeps_what_it_is_about(is_hint: bool) -> None:
    body = poison.event(poison.personal(), customer={"id": "c", "name": WORD})

    blank = personal.blank_event(body, is_hint=is_hint)

    assert WORD not in str(blank)
    assert [blank[name] for name in ("id", "type", "created_at")] == [
        body[name] for name in ("id", "type", "created_at")
    ]
    assert (blank["invoice"] if is_hint else blank["invoice"]["id"]) == "inv1"
    assert personal.customers_in(body) == {poison.CUSTOMER, "c"}
