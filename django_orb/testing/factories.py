"""Make invoices in the mirror without a sync."""

from __future__ import annotations

import time
from typing import Any

from django_orb import mirror
from django_orb.db import primary
from django_orb.mirror import Observation, Origin
from django_orb.models import Invoice, InvoiceChange, InvoiceLineItem

from .account import Account, Clock, MadeUpOrb

# No signal is sent: to the project, a factory's invoices have always been there.
_ORIGIN = Origin(InvoiceChange.Origin.FETCH.value, tells_new=False)


class InvoiceFactory:
    """
    Makes invoices whose sums are right, and stores them in the mirror.

        make_invoice = InvoiceFactory()
        invoice = make_invoice(status="paid", external_customer_id="crm-17")

    Takes the arguments of `OrbSandbox.add_invoice`: `status`, `amount` and `name`, or
    `lines`, `days_ago`, a customer, and values to set on the payload last. With a
    sandbox they are in its account too, so that they can be fetched, voided and
    synced. Without one, they are the same each time for the same `seed`.
    """

    def __init__(self, orb: MadeUpOrb | None = None, *, seed: int = 1) -> None:
        self._orb = orb or _empty(seed)

    def payload(self, **facts: Any) -> dict[str, Any]:
        """Return the JSON that Orb would answer, as a dict; nothing is stored."""
        return self._orb.add_invoice(**facts)

    def __call__(self, **facts: Any) -> Invoice:
        """Make and store an invoice, of any status."""
        return _mirrored(self.payload(**facts))

    def line_item(
        self, invoice: Invoice | str | None = None, **facts: Any
    ) -> InvoiceLineItem:
        """
        Add a line to an invoice that this factory made, or to a new draft.

        `facts` are name, amount (the line's total), quantity, start_date and
        end_date. The invoice's sums change in the mirror: refresh your instance.
        """
        if invoice is None:
            invoice = self.payload(status="draft", lines=[])["id"]
        invoice_id = invoice if isinstance(invoice, str) else invoice.pk
        line = self._orb.add_line(invoice_id, **facts)
        stored = _mirrored(self._orb.invoice(invoice_id))
        return stored.line_items.get(orb_id=line["id"])


def _empty(seed: int) -> MadeUpOrb:
    clock = Clock()
    return MadeUpOrb(Account(0, seed, clock, clock.now()))


def _mirrored(payload: dict[str, Any]) -> Invoice:
    """Store a payload, over whatever the mirror has of this invoice."""
    invoice_id, now = payload["id"], time.monotonic()
    known = mirror.versions([invoice_id]).get(invoice_id)
    interval = primary.clock().interval(now, now)
    seen = Observation(invoice_id, payload, interval, supersedes=known)
    result = mirror.write([seen], origin=_ORIGIN)
    for reason in result.failed.values():
        raise ValueError(f"The mirror cannot store the invoice: {reason}")
    return Invoice.objects.get(pk=invoice_id)
