from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import models

from django_orb.fields import OrbIdField, PayloadField

from .invoices import Invoice


class InvoiceOperation(models.Model):
    """
    A call that changes something in Orb, committed before it is sent.

    The idempotency key makes sending it again harmless, so a crash between the
    request and its answer neither loses nor doubles it. The table is the audit
    trail of who asked for what.
    """

    class Kind(models.TextChoices):
        VOID = "void_invoice", "Void"
        CREATE_LINE_ITEM = "create_invoice_line_item", "Add line item"

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        SUCCEEDED = "succeeded", "Succeeded"
        REFUSED = "refused", "Refused"
        NEEDS_ATTENTION = "needs_attention", "Needs a person"

    class Origin(models.TextChoices):
        SERVICE = "service", "Code"
        ADMIN = "admin", "Admin"
        TASK = "task", "Task"

    kind = models.CharField(max_length=32, choices=Kind.choices)
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.PENDING
    )
    invoice_id = OrbIdField(db_index=True)
    body = PayloadField(default=dict, blank=True)
    idempotency_key = models.CharField(max_length=64, unique=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    origin = models.CharField(
        max_length=16, choices=Origin.choices, default=Origin.SERVICE
    )
    created_at = models.DateTimeField()
    first_sent_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True, blank=True)
    detail = models.TextField(blank=True)
    result = PayloadField(default=dict, blank=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(
                fields=["state", "lease_expires_at"], name="orb_operation_recover"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.invoice_id}"

    def is_shown_in(self, payload: Mapping[str, Any]) -> bool:
        """Whether the invoice, as Orb shows it, has what this operation did."""
        if self.kind == self.Kind.VOID:
            return payload.get("status") == Invoice.Status.VOID
        lines = payload.get("line_items") or []
        return any(line.get("id") == self.line_item_id for line in lines)

    @property
    def line_item_id(self) -> str:
        """Orb's id of the line that was created, once it was."""
        if self.kind != self.Kind.CREATE_LINE_ITEM:
            return ""
        result: dict[str, Any] = self.result
        return str(result.get("id", ""))
