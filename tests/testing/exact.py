from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel


def assert_exact(value, path="$"):
    """No key that Orb's SDK does not declare, and none of those missing."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{path}: unknown {list(value.model_extra)}"
        missing = set(type(value).model_fields) - value.model_fields_set
        assert not missing, f"{path}: missing {missing}"
        for name in type(value).model_fields:
            assert_exact(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for position, member in enumerate(value):
            assert_exact(member, f"{path}[{position}]")


def assert_sums(invoice):
    """Everything on an invoice adds up."""
    lines = invoice["line_items"]
    for line in lines:
        _assert_line(line)
    tax = sum(D(t["amount"]) for line in lines for t in line["tax_amounts"])
    assert D(invoice["subtotal"]) == sum(D(line["subtotal"]) for line in lines)
    assert D(invoice["total"]) == sum(D(line["amount"]) for line in lines) + tax
    assert D(invoice["amount_due"]) == D(invoice["total"]) - _taken_off(invoice)
    for entry in invoice["customer_balance_transactions"]:
        sign = 1 if entry["type"] == "increment" else -1
        end = D(entry["starting_balance"]) + sign * D(entry["amount"])
        assert D(entry["ending_balance"]) == end


def _assert_line(line):
    adjusted = D(line["adjusted_subtotal"])
    discounts = sum(D(a["amount"]) for a in line["adjustments"])
    assert adjusted == D(line["subtotal"]) - discounts
    prepaid = D(line["credits_applied"]) + D(line["partially_invoiced_amount"])
    assert D(line["amount"]) == adjusted - prepaid
    parts = line["sub_line_items"]
    if parts:
        assert D(line["subtotal"]) == sum(D(part["amount"]) for part in parts)
        quantity = sum(D(str(part["quantity"])) for part in parts)
        assert quantity == D(str(line["quantity"]))


def _taken_off(invoice):
    applied = sum(
        D(entry["starting_balance"]) - D(entry["ending_balance"])
        for entry in invoice["customer_balance_transactions"]
        if entry["action"] in {"applied_to_invoice", "small_invoice_carryover"}
    )
    credited = sum(
        D(note["total"])
        for note in invoice["credit_notes"]
        if note["type"] == "adjustment"
    )
    return applied + credited


D = Decimal
