"""Read the lines of an invoice from its payload, for its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext, ngettext

from django_orb.formatting import (
    as_map,
    as_maps,
    as_text,
    humanized,
    joined,
    money,
    quantity,
    report_short,
    span,
    to_decimal,
    to_moment,
    utc_moment,
)
from django_orb.parsing import exact_sum

ZERO = Decimal(0)


@dataclass(frozen=True)
class Part:
    """A row below a line: a tier, a cell of a matrix, a discount, a tax."""

    label: str
    note: str = ""
    quantity: str = ""
    amount: str = ""


@dataclass(frozen=True)
class LineView:
    """A line as the page shows it; every other value is text."""

    orb_id: str
    is_one_off: bool
    name: str
    grouping: str
    period: str
    period_exact: str
    quantity: str
    amount: str
    pricing: str
    ids: str
    summary: str
    """The label of what can be unfolded."""

    parts: list[Part]
    """Tiers or cells of a matrix."""

    steps: list[Part]
    """From the subtotal to the amount, and the taxes, which are not inside it."""

    @property
    def has_details(self) -> bool:
        return bool(self.parts or self.steps or self.pricing or self.ids)


def read_lines(payload: Mapping[str, Any], currency: str) -> list[LineView]:
    return [read_line(line, currency) for line in as_maps(payload.get("line_items"))]


def read_line(line: Mapping[str, Any], currency: str) -> LineView:
    # Lines of upcoming invoices in older accounts have none.
    price = as_map(line.get("price"))
    parts = as_maps(line.get("sub_line_items"))
    start, end = to_moment(line.get("start_date")), to_moment(line.get("end_date"))
    return LineView(
        orb_id=as_text(line.get("id")),
        # The page offers to delete these only: Orb deletes no other lines.
        is_one_off=as_map(line.get("price")).get("cadence") == "one_time",
        name=as_text(line.get("name")) or gettext("(without a name)"),
        grouping=read_grouping(line.get("grouping")),
        period=span(report_short(start), report_short(end)),
        period_exact=span(utc_moment(start), utc_moment(end)),
        quantity=number(line.get("quantity")),
        amount=amount(line.get("amount"), currency),
        pricing=read_pricing(price, currency),
        ids=read_ids(line, price),
        summary=read_summary(parts),
        parts=[read_part(part, currency) for part in parts],
        steps=read_steps(line, currency),
    )


def read_summary(parts: list[Mapping[str, Any]]) -> str:
    """Say how a line is broken down, for instance "3 tiers"; "Details" if it is not."""
    if not parts:
        return gettext("Details")
    count = len(parts)
    if all(part.get("type") == "tier" for part in parts):
        words = ngettext("%(count)s tier", "%(count)s tiers", count)
    else:
        words = ngettext("%(count)s part", "%(count)s parts", count)
    return words % {"count": count}


def amount(raw: Any, currency: str) -> str:
    """Format an amount of a payload; one that is not a number is shown as it came."""
    value = to_decimal(raw)
    return as_text(raw) if value is None else money(value, currency)


def number(raw: Any) -> str:
    value = to_decimal(raw)
    return as_text(raw) if value is None else quantity(value)


def sum_of(rows: list[Mapping[str, Any]], name: str) -> Decimal:
    return exact_sum(to_decimal(row.get(name)) or ZERO for row in rows)


def read_grouping(grouping: Any) -> str:
    """Read a grouping. Orb gives a text today, and once gave a key and a value."""
    if isinstance(grouping, Mapping):
        return joined(
            ": ", as_text(grouping.get("key")), as_text(grouping.get("value"))
        )
    return as_text(grouping)


def read_pricing(price: Mapping[str, Any], currency: str) -> str:
    """Describe how it is priced, with the unit price if there is one."""
    model = as_text(price.get("model_type"))
    if not model:
        return ""
    # Each of Orb's price models keeps its values under its own name.
    config = as_map(price.get(f"{model}_config"))
    unit = to_decimal(config.get("unit_amount"))
    words = gettext("%(model)s price") % {"model": humanized(model)}
    if unit is None:
        return words
    # A price may be in a unit of its own, such as credits.
    unit_currency = as_text(price.get("currency")) or currency
    return gettext("%(words)s, %(unit)s each") % {
        "words": words,
        "unit": money(unit, unit_currency),
    }


def read_ids(line: Mapping[str, Any], price: Mapping[str, Any]) -> str:
    item = as_map(price.get("item"))
    pairs = [
        (gettext("Line"), line.get("id")),
        (gettext("Item"), item.get("id")),
        (gettext("Price"), price.get("id")),
    ]
    return " · ".join(f"{label} {as_text(value)}" for label, value in pairs if value)


def read_part(part: Mapping[str, Any], currency: str) -> Part:
    tier = as_map(part.get("tier_config"))
    return Part(
        label=as_text(part.get("name")) or read_grouping(part.get("grouping")),
        note=read_tier(tier, currency) if tier else "",
        quantity=number(part.get("quantity")),
        amount=amount(part.get("amount"), currency),
    )


def read_tier(tier: Mapping[str, Any], currency: str) -> str:
    first, last = number(tier.get("first_unit")), number(tier.get("last_unit"))
    # The last tier has no end.
    units = (
        span(first, last) if last else gettext("%(first)s and more") % {"first": first}
    )
    return gettext("%(units)s, %(amount)s each") % {
        "units": units,
        "amount": amount(tier.get("unit_amount"), currency),
    }


def read_steps(line: Mapping[str, Any], currency: str) -> list[Part]:
    adjustments = as_maps(line.get("adjustments"))
    steps = [read_adjustment(one, currency) for one in adjustments]
    for name, label in (
        ("credits_applied", gettext("Prepaid credits")),
        ("partially_invoiced_amount", gettext("Invoiced before")),
    ):
        used = to_decimal(line.get(name))
        if used:
            steps.append(Part(label, amount=money(used.copy_negate(), currency)))
    if steps:
        subtotal = amount(line.get("subtotal"), currency)
        steps.insert(0, Part(gettext("Before adjustments"), amount=subtotal))
    # Source: https://docs.withorb.com/invoicing/invoice-calculation-examples
    return steps + [
        Part(
            read_tax_label(tax),
            note=gettext("tax, added to the total and not to this line"),
            amount=amount(tax.get("amount"), currency),
        )
        for tax in as_maps(line.get("tax_amounts"))
    ]


def read_adjustment(adjustment: Mapping[str, Any], currency: str) -> Part:
    kind = as_text(adjustment.get("adjustment_type"))
    value = to_decimal(adjustment.get("amount"))
    if value and kind != "minimum":
        value = value.copy_negate()
    return Part(
        read_discount_label(adjustment, kind, currency),
        note=as_text(adjustment.get("reason")),
        amount="" if value is None else money(value, currency),
    )


def read_discount_label(discount: Mapping[str, Any], kind: str, currency: str) -> str:
    """Name a discount, for instance "Percentage discount of 10 %"."""
    share = to_decimal(discount.get("percentage_discount"))
    if share is not None:
        # Orb writes the share of a discount as 0.15, and the rate of a tax as 15 (the
        # SDK's types/shared/percentage_discount.py and tax_amount.py).
        return gettext("%(share)s %% discount") % {"share": quantity(share * 100)}
    fixed = to_decimal(discount.get("amount_discount"))
    if fixed is not None:
        return gettext("%(fixed)s discount") % {"fixed": money(fixed, currency)}
    for name, words in (
        ("minimum_amount", gettext("Minimum of %(amount)s")),
        ("maximum_amount", gettext("Maximum of %(amount)s")),
    ):
        value = to_decimal(discount.get(name))
        if value is not None:
            return words % {"amount": money(value, currency)}
    return humanized(kind) or gettext("Adjustment")


def read_tax_label(tax: Mapping[str, Any]) -> str:
    description = as_text(tax.get("tax_rate_description")) or gettext("Tax")
    share = to_decimal(tax.get("tax_rate_percentage"))
    return description if share is None else f"{description} {quantity(share)} %"
