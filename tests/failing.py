"""The demands of a walk on the reasons of failures: see `every_path`."""

from __future__ import annotations

import json
from typing import Any

from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceFailureReason,
    WebhookEvent,
)

from .histories import Stale

FAILED, SUCCEEDED = "invoice.payment_failed", "invoice.payment_succeeded"


class Reasons:
    """
    Which failures are known to be over, and which are told; each has a number.

    The numbers grow, and a failure's event gives its number as the reason.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.over = 0
        self.told: frozenset[int] = frozenset()
        self.looked_at: frozenset[str] = frozenset()

    def save(self) -> Any:
        return self.over, self.told, self.looked_at

    def restore(self, saved: Any) -> None:
        self.over, self.told, self.looked_at = saved

    def look(self, failed: int, is_paid: bool) -> None:
        """Look at the row of an invoice that is there, and at what is shown of it."""
        processed = WebhookEvent.objects.using(self.using).filter(
            type__in=[FAILED, SUCCEEDED], state=WebhookEvent.State.PROCESSED
        )
        for event in processed.exclude(pk__in=self.looked_at):
            self.looked_at |= {event.pk}
            number = json.loads(event.body)["properties"]["number"]
            if event.type == FAILED:
                self.told |= {number}
            else:
                self.over = max(self.over, number)
        if is_paid:
            self.over = max(self.over, failed)
        shown = self.shown()
        if shown is None:
            return
        # An event also tells the reason of a state that cannot be stored: the row is then
        # known to be behind.
        is_behind = InvoiceFailure.objects.using(self.using).exists()
        fits = shown >= failed if is_behind else shown == failed
        if shown <= self.over or not fits:
            raise Stale(f"reason {shown} is shown of {failed}; over are {self.over}")

    def shown(self) -> int | None:
        current = InvoiceFailureReason.objects.using(self.using).current()
        reason = current.values_list("reason", flat=True).first()
        return None if reason is None else int(reason)

    def check_end(self, failed: int) -> None:
        """Demand the reason of a failure that has never been over, if it was told."""
        is_there = Invoice.objects.using(self.using).filter(missing_since=None).exists()
        if is_there and failed in self.told and self.shown() != failed:
            raise Stale(f"the reason of {failed} is lost: {self.shown()} is shown")
