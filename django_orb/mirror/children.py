"""Write the rows that an invoice has besides its lines, such as credit notes."""

# Note [Written when they differ]
# Most invoices have none, and most changes of an invoice do not touch them. So
# each set is compared with that of the previous payload, which the transaction has
# read, and a set that is the same costs no statement. It is written nevertheless if the
# previous payload does not tell which rows exist: because an older release filled them,
# or because the invoice was asked to be written again.

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import models
from django.utils import timezone

from django_orb.db import insert, primary, upsert
from django_orb.models import InvoiceCreditNote, InvoiceLineItem, InvoiceLineTax

from .mapping import CHILDREN, MappedInvoice

Row = dict[str, Any]
Payloads = Mapping[str, Mapping[str, Any]]

TAXES = "tax_amounts"
CREDIT_NOTES = "credit_notes"
BALANCE = "customer_balance_transactions"


class _Set(NamedTuple):
    """A list in the payload, its rows, what identifies one, and the way to the invoice."""

    name: str
    model: type[models.Model]
    key: tuple[str, str]
    invoice: str


_SETS = [
    *(
        _Set(name, model, ("invoice", "orb_id"), "invoice")
        for name, model in CHILDREN.items()
    ),
    _Set(TAXES, InvoiceLineTax, ("line_item", "position"), "line_item__invoice"),
]


def insert_children(taken: Sequence[MappedInvoice]) -> None:
    """Write the rows of invoices that were not there; their lines are written."""
    for one in _SETS:
        rows = _rows(one, taken)
        if one.name == CREDIT_NOTES:
            _date(rows, taken, {})
        insert(one.model, rows)


def write_children(
    taken: Sequence[MappedInvoice],
    before: Payloads,
    after: Payloads,
    *,
    unsure: Collection[str],
) -> None:
    """
    Write the sets that differ from before; see Note [Written when they differ].

    `before` and `after` are the payloads of the invoices that were there. Of the
    invoices in `unsure`, every set is written. The lines have been written before.
    """
    for one in _SETS:
        changed, cleared = [], []
        for mapped in taken:
            pk, old = mapped.id, None
            if pk in before:
                old = _sent(one, before[pk])
                if pk not in unsure and old == _sent(one, after[pk]):
                    continue
            changed.append(mapped)
            if old or pk in unsure:
                cleared.append(pk)
        rows = _rows(one, changed)
        if cleared:
            _remove_others(one, cleared, rows)
        if one.name == CREDIT_NOTES:
            _date(rows, changed, before)
        upsert(one.model, rows, key=one.key)


def _sent(one: _Set, payload: Mapping[str, Any]) -> Any:
    """Return what a payload says about a set, or None if it says nothing."""
    if one.name != TAXES:
        return payload.get(one.name) or None
    lines = payload.get("line_items")
    return [
        (line.get("id"), line[TAXES])
        for line in (lines if isinstance(lines, list) else ())
        if isinstance(line, dict) and line.get(TAXES)
    ] or None


def _rows(one: _Set, taken: Sequence[MappedInvoice]) -> list[Row]:
    if one.name != TAXES:
        return [
            {"invoice": mapped.id, **row}
            for mapped in taken
            for row in mapped.children[one.name]
        ]
    taxed = [mapped for mapped in taken if mapped.taxes]
    if not taxed:
        return []
    # The lines' own keys come from the database, and COPY does not return them.
    lines = primary.rows(InvoiceLineItem).filter(
        invoice_id__in=[mapped.id for mapped in taxed]
    )
    found = lines.values_list("invoice_id", "orb_id", "pk")
    keys = {(invoice_id, orb_id): pk for invoice_id, orb_id, pk in found}
    return [
        {**tax, "line_item": keys[mapped.id, tax["line_item"]]}
        for mapped in taxed
        for tax in mapped.taxes
    ]


def _remove_others(one: _Set, invoice_ids: Sequence[str], rows: Sequence[Row]) -> None:
    """Delete the rows of these invoices that are not among `rows`."""
    kept = {tuple(row[name] for name in one.key) for row in rows}
    manager = primary.rows(one.model)
    stored = manager.filter(**{f"{one.invoice}__in": invoice_ids})
    removed = [
        pk
        for pk, *identity in stored.values_list("pk", *one.key)
        if tuple(identity) not in kept
    ]
    if removed:
        manager.filter(pk__in=removed).delete()


def _date(
    rows: Sequence[Row], taken: Sequence[MappedInvoice], before: Payloads
) -> None:
    """
    Date credit notes, which an invoice lists without dates.

    The date is that of the balance transaction that names the credit note, or else when
    the mirror first saw it on an invoice that it had seen without it.
    """
    if not rows:
        return
    booked: dict[tuple[str, str], datetime | None] = {
        (mapped.id, entry["credit_note_id"]): entry["created_at"]
        for mapped in taken
        for entry in reversed(mapped.children[BALANCE])
        if entry["credit_note_id"]
    }
    listed = {
        (pk, note.get("id"))
        for pk in {row["invoice"] for row in rows} & before.keys()
        for note in _objects(before[pk].get(CREDIT_NOTES))
        if isinstance(note.get("id"), str)
    }
    stored = _read_dates({pk for pk, _ in listed})
    now = timezone.now()
    for row in rows:
        key = row["invoice"], row["orb_id"]
        is_new = row["invoice"] in before and key not in listed
        known = stored.get(key, now if is_new else None)
        row["dated_at"] = booked.get(key) or known


def _read_dates(invoice_ids: Collection[str]) -> dict[tuple[str, str], datetime | None]:
    if not invoice_ids:
        return {}
    notes = primary.rows(InvoiceCreditNote).filter(invoice_id__in=invoice_ids)
    return {
        (pk, orb_id): dated_at
        for pk, orb_id, dated_at in notes.values_list("invoice", "orb_id", "dated_at")
    }


def _objects(sent: Any) -> list[Mapping[str, Any]]:
    items = sent if isinstance(sent, list) else []
    return [item for item in items if isinstance(item, dict)]
