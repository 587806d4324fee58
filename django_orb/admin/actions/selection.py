"""Decide which of the selected invoices an operation is for, and its keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from django.core import signing

from django_orb.db import primary
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations import new_idempotency_key

# One request's limit; each is a call to Orb and a fetch of the result.
MAX_INVOICES = 25
# What one form may queue: Django takes 1,000 fields of a form.
MAX_QUEUED = 500
# The user waits for so many; more are queued, or fetched by a run.
HANDFUL = 5

# Such as `new_idempotency_key` makes.
_TOKEN = re.compile(r"[A-Za-z0-9-]{20,64}")


@dataclass(frozen=True)
class Skipped:
    invoice: Invoice
    reason: str


@dataclass(frozen=True)
class Batch:
    """The invoices that an operation is for, and the others with the reasons."""

    chosen: list[Invoice]
    skipped: list[Skipped]


WhyNot = Callable[[Invoice], str]


def sort_out(
    invoices: Iterable[Invoice], why_not: WhyNot, *, begun: Collection[str] = ()
) -> Batch:
    """
    Separate the invoices that allow it. Those in `begun` stay, whatever they are now.

    A form that is sent twice must end in the first outcome, not in "is void already".
    """
    chosen: list[Invoice] = []
    skipped: list[Skipped] = []
    for invoice in invoices:
        reason = "" if invoice.pk in begun else why_not(invoice)
        if reason:
            skipped.append(Skipped(invoice, reason))
        else:
            chosen.append(invoice)
    return Batch(chosen, skipped)


@dataclass(frozen=True)
class FormToken:
    """
    A token of one rendered form, so that sending it twice does nothing twice.

    Each invoice's idempotency key follows from it: all are the same if the same form
    comes again, and others in every other form.
    """

    value: str
    user_id: str
    kind: str
    # What the form that was sent had been rendered for, signed.
    seal: str = ""

    def sealed(
        self, selected: Iterable[str], shown: Iterable[str], fields: object = None
    ) -> str:
        """
        Return what a form carries that shows these invoices of those selected.

        `fields` are the values that it shows, unless they are filled in there.
        """
        content = {
            "selected": _digest(sorted(selected)),
            "shown": sorted(shown),
            "fields": None if fields is None else _digest(fields),
        }
        # Signed, since the browser keeps it, and compressed, since it may name
        # hundreds.
        seal = signing.dumps(content, salt=self._salt, compress=True)
        return f"{self.value}.{seal}"

    def covers(
        self, selected: Iterable[str], chosen: Iterable[str], fields: object = None
    ) -> bool:
        """Return whether the form that was sent had shown all of it to this user."""
        try:
            content = signing.loads(self.seal, salt=self._salt)
        except signing.BadSignature:
            return False
        return (
            content["selected"] == _digest(sorted(selected))
            # Fewer may allow it by now, but none that the form had not shown.
            and {*chosen} <= {*content["shown"]}
            and content["fields"] in (None, _digest(fields))
        )

    @property
    def _salt(self) -> str:
        # A seal of another form, user or action does not fit.
        return "\0".join(["django_orb", self.value, self.user_id, self.kind])

    def key_for(self, invoice_id: str) -> str:
        parts = [self.value, self.user_id, self.kind, invoice_id]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        # Orb takes keys of up to 64 characters.
        return f"django-orb-{digest[:40]}"

    @property
    def batch(self) -> str:
        """Return the batch that the operations of this form share."""
        return self.key_for("")

    def begun(self, invoice_ids: Iterable[str]) -> set[str]:
        """The invoices for which this very form was sent before."""
        keys = {self.key_for(invoice_id): invoice_id for invoice_id in invoice_ids}
        recorded = primary.rows(InvoiceOperation)
        found = recorded.filter(idempotency_key__in=keys)
        return {keys[key] for key in found.values_list("idempotency_key", flat=True)}


def read_token(raw: str, *, user_id: object, kind: str) -> FormToken | None:
    """Return the token of a form that was sent, if it looks like one of ours."""
    value, _, seal = raw.partition(".")
    if not _TOKEN.fullmatch(value):
        return None
    return FormToken(value, str(user_id), kind, seal)


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def new_token(*, user_id: object, kind: str) -> FormToken:
    return FormToken(new_idempotency_key(), str(user_id), kind)
