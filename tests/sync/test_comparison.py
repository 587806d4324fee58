from __future__ import annotations

import copy
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from django_orb import exact_json
from django_orb.mirror.mapping import CHILDREN, map_invoice
from django_orb.models import Invoice, InvoiceLineItem, InvoiceLineTax
from django_orb.sync.comparison import (
    CHILD_COLUMNS,
    INVOICE,
    INVOICE_COLUMNS,
    LINE_COLUMNS,
    NOTHING,
    TAX_COLUMNS,
    StoredInvoice,
    differences,
)
from tests.odd_payloads import every_oddity, is_of_a_child, write
from tests.payloads import load, load_full


def stored(payload: dict[str, Any], *, digits: int | None = None) -> StoredInvoice:
    """The rows that the writer makes of a payload."""
    mapped = map_invoice(copy.deepcopy(payload), exact_digits=digits)
    lines = [{**line, "invoice_id": mapped.id} for line in mapped.lines]
    taxes = [
        {**tax, "line_item_id": 0, "line_item__orb_id": tax["line_item"]}
        for tax in mapped.taxes
    ]
    row = {**mapped.columns, "missing_since": None}
    return StoredInvoice(row, lines, {**mapped.children, "tax_amounts": taxes})


def compare(
    payload: dict[str, Any], here: StoredInvoice, *, digits: int | None = None
) -> list[tuple[str, str, Any, Any]]:
    return list(differences(payload, here, exact_digits=digits))


def fields(payload: dict[str, Any], here: StoredInvoice) -> list[str]:
    return [field for _, field, _, _ in compare(payload, here)]


def test_every_column_is_compared() -> None:
    columns = {field.name for field in Invoice._meta.concrete_fields}
    assert set(INVOICE_COLUMNS) == columns - {"mirrored_at"}

    columns = {field.attname for field in InvoiceLineItem._meta.concrete_fields}
    assert set(LINE_COLUMNS) == columns - {"id"}

    columns = {field.attname for field in InvoiceLineTax._meta.concrete_fields}
    assert set(TAX_COLUMNS) == columns - {"id"}
    assert set(CHILD_COLUMNS) == set(CHILDREN)
    for name, model in CHILDREN.items():
        columns = {field.attname for field in model._meta.concrete_fields}
        # `dated_at` may be when the mirror saw it first, which no answer of Orb tells.
        assert set(CHILD_COLUMNS[name]) == columns - {"id", "dated_at"}


@pytest.mark.parametrize("status", ["draft", "issued", "paid", "void"])
def test_right_rows_do_not_differ(status: str) -> None:
    payload = load(f"invoice_{status}")

    assert compare(payload, stored(payload)) == []
    assert compare(load_full(), stored(load_full())) == []


def other_value(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, Decimal):
        return value + Decimal("0.000000000000000001")
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    return "other" if isinstance(value, str) else datetime.now(timezone.utc)


@pytest.mark.parametrize("column", [*INVOICE, "hosted_invoice_url", "invoice_pdf"])
def test_every_column_of_an_invoice_that_is_wrong_is_named(column: str) -> None:
    payload = load("invoice_paid")
    here = stored(payload)
    right = here.row[column]
    here.row[column] = other_value(right)

    assert compare(payload, here) == [("column", column, right, here.row[column])]


@pytest.mark.parametrize(
    "column", [name for name in LINE_COLUMNS if name not in ("invoice_id", "orb_id")]
)
def test_every_column_of_a_line_that_is_wrong_is_named(column: str) -> None:
    payload = load("invoice_paid")
    here = stored(payload)
    line = here.lines[1]
    right = line[column]
    line[column] = 7 if column == "position" else other_value(right)

    found = compare(payload, here)

    place = f"line_items[{line['orb_id']}].{column}"
    assert found == [("line", place, right, line[column])]


@pytest.mark.parametrize("name", [*CHILDREN, "tax_amounts"])
def test_every_column_of_what_else_is_carried_that_is_wrong_is_named(name: str) -> None:
    payload = load_full()
    is_tax = name == "tax_amounts"
    identity = {"line_item_id", "position"} if is_tax else {"invoice_id", "orb_id"}
    names = TAX_COLUMNS if is_tax else CHILD_COLUMNS[name]
    for column in set(names) - identity:
        here = stored(payload)
        row = here.children[name][0]
        right = row[column]
        row[column] = 7 if column == "position" else other_value(right)

        [(kind, field, orb, wrong)] = compare(payload, here)

        assert (kind, orb, wrong) == ("child", right, row[column])
        assert field.endswith(f"].{column}")
        assert name in field


def test_what_else_is_carried_that_is_missing_or_extra_is_named() -> None:
    payload = load_full()
    here = stored(payload)
    note = here.children["credit_notes"].pop()
    tax = here.children["tax_amounts"][0]
    here.children["tax_amounts"].append({**tax, "position": 7})

    assert compare(payload, here) == [
        ("child", f"credit_notes[{note['orb_id']}]", note["orb_id"], NOTHING),
        ("child", f"line_items[{tax['line_item']}].tax_amounts[7]", NOTHING, "item 7"),
    ]


@pytest.mark.proof
def test_every_oddity_in_what_else_is_carried_is_stored_as_it_is_compared() -> None:
    payload = load_full()
    odd_ones = [
        oddity for oddity in every_oddity(payload) if is_of_a_child(oddity.path)
    ]
    for oddity in odd_ones:
        odd = exact_json.loads(write(payload, [oddity]))
        assert compare(odd, stored(odd)) == [], oddity
    assert len(odd_ones) > 1000


def test_lines_that_are_missing_extra_and_moved_are_named() -> None:
    payload = load("invoice_paid")
    first, second = payload["line_items"]
    here = stored({**payload, "line_items": [second]})
    here.row["payload"] = payload
    here.lines.append({**here.lines[0], "orb_id": "stranger", "position": 1})

    assert compare(payload, here) == [
        ("line", f"line_items[{first['id']}]", "Platform fee", NOTHING),
        ("line", f"line_items[{second['id']}].position", 1, 0),
        ("line", "line_items[stranger]", NOTHING, "API requests"),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"metadata": {"po_number": "PO-1"}}, ["payload.metadata.po_number"]),
        ({"metadata": {}}, ["payload.metadata.po_number"]),
        ({"metadata": None}, ["payload.metadata"]),
        ({"invented": None}, ["payload.invented"]),
        ({"discounts": [1]}, ["payload.discounts[0]"]),
        ({"hidden_line_item_count": False}, ["payload.hidden_line_item_count"]),
        ({"subtotal": "568.7500"}, ["payload.subtotal"]),
        ({"hosted_invoice_url": None}, ["hosted_invoice_url", "payload.hosted_"]),
        ({"status": "void"}, ["status", "payload.status"]),
    ],
)
def test_payload_that_is_another_is_named_by_its_path(
    change: dict[str, Any], expected: list[str]
) -> None:
    payload = load("invoice_paid")

    found = fields({**payload, **change}, stored(payload))

    assert len(found) == len(expected)
    for field, begin in zip(found, expected, strict=True):
        assert field.startswith(begin)


def test_values_deep_in_the_payload_are_named_by_the_ids_on_their_way() -> None:
    payload = load("invoice_paid")
    here = stored(payload)
    tiers = here.row["payload"]["line_items"][1]["price"]["tiered_config"]["tiers"]
    tiers[1]["unit_amount"] = "0.0016"

    line_id = payload["line_items"][1]["id"]
    assert compare(payload, here) == [
        (
            "payload",
            f"payload.line_items[{line_id}].price.tiered_config.tiers[1].unit_amount",
            "0.0015",
            "0.0016",
        )
    ]


def test_order_in_the_payload_counts_for_lists_and_not_for_objects() -> None:
    payload = load("invoice_paid")
    here = stored(payload)
    here.row["payload"] = dict(reversed(list(payload.items())))
    assert compare(payload, here) == []

    ids = [line["id"] for line in payload["line_items"]]
    here.row["payload"]["line_items"] = payload["line_items"][::-1]
    assert compare(payload, here) == [
        (
            "payload",
            "payload.line_items (order)",
            ", ".join(ids),
            ", ".join(reversed(ids)),
        )
    ]


def test_form_of_a_number_does_not_count() -> None:
    text = exact_json.dumps(load("invoice_paid"))
    here = stored(exact_json.loads(text.replace(":42500.5", ":42500.5000")))
    assert '"quantity":1,' in text

    payload = exact_json.loads(text.replace('"quantity":1,', '"quantity":1.00,'))

    assert compare(payload, here) == []


def test_signatures_of_links_do_not_count() -> None:
    def signed(signature: str) -> dict[str, Any]:
        payload = load("invoice_paid")
        for name in ("hosted_invoice_url", "invoice_pdf"):
            payload[name] = f"https://orb.test/i?{signature}"
        payload["payment_attempts"][0]["receipt_pdf"] = f"https://orb.test/{signature}"
        return payload

    assert compare(signed("new"), stored(signed("old"))) == []


def test_link_that_appears_in_a_payment_attempt_counts() -> None:
    payload = load("invoice_paid")
    here = stored(payload)
    attempt = here.row["payload"]["payment_attempts"][0]
    attempt["receipt_pdf"] = None

    assert fields(payload, here) == [
        f"payload.payment_attempts[{attempt['id']}].receipt_pdf"
    ]


def test_name_of_a_link_is_a_value_elsewhere() -> None:
    def tagged(value: str) -> dict[str, Any]:
        return {**load("invoice_paid"), "metadata": {"invoice_pdf": value}}

    assert fields(tagged("a"), stored(tagged("b"))) == ["payload.metadata.invoice_pdf"]


@pytest.mark.parametrize(
    ("total", "digits", "is_flagged"),
    [
        ("123456789012345.67", None, False),
        ("123456789012345.67", 15, True),
        ("123456789012.345000", 15, False),
        ("0.1234567890123456789", None, True),
        ("0.123456789012345678", None, False),
        ("1200000000000000000", 15, False),
        ("-0.0000000000000000004", None, True),
        ("99999999999999999999.999999999999999999", None, False),
        ("-99999999999999999999.9999999999999999994", None, True),
    ],
)
def test_what_a_column_rounds_is_flagged_exactly(
    total: str, digits: int | None, is_flagged: bool
) -> None:
    payload = {**load("invoice_paid"), "total": total}
    here = stored(payload, digits=digits)
    if digits:
        here.row["total"] = Decimal(repr(float(total)))
    assert compare(payload, here, digits=digits) == []
    assert here.row["rounded_fields"] == (["total"] if is_flagged else [])

    here.row["rounded_fields"] = [] if is_flagged else ["total"]
    assert [one[1] for one in compare(payload, here, digits=digits)] == [
        "rounded_fields"
    ]


def test_rounding_is_no_excuse_for_another_amount() -> None:
    payload = {**load("invoice_paid"), "total": "0.1234567890123456789"}
    here = stored(payload)
    here.row["total"] += Decimal("0.000000000000000001")

    assert fields(payload, here) == ["total"]


def test_value_that_cannot_be_read_differs_from_any_that_is_here() -> None:
    payload = load("invoice_paid")

    found = compare({**payload, "total": "a lot"}, stored(payload))

    assert [one[:3] for one in found] == [
        ("column", "total", "a lot"),
        ("payload", "payload.total", "a lot"),
    ]


@pytest.mark.parametrize("lines", [None, 7, [7, None], [{"id": 3}]])
def test_lines_that_are_none_do_not_stop_the_comparison(lines: Any) -> None:
    payload = load("invoice_paid")

    found = fields({**payload, "line_items": lines}, stored(payload))

    assert "payload.line_items" in "".join(found)
    assert f"line_items[{payload['line_items'][0]['id']}]" in found


def test_depth_is_no_limit() -> None:
    def deep(leaf: int) -> dict[str, Any]:
        value: Any = leaf
        for _ in range(3_000):
            value = [value]
        return {"deep": value}

    payload = load("invoice_paid")
    here = stored(payload)
    here.row["payload"] = {**payload, "metadata": deep(1)}

    found = fields({**payload, "metadata": deep(2)}, here)

    assert len(found) == 1


def test_missing_mark_on_what_orb_shows_is_a_difference() -> None:
    payload = load("invoice_paid")
    here = stored(payload)
    here.row["missing_since"] = since = datetime.now(timezone.utc)

    assert compare(payload, here) == [
        ("marked_missing", "missing_since", "paid", since)
    ]
