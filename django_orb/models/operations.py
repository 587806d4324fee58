from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from django_orb.fields import OrbIdField, PayloadField

from .invoices import Invoice

_ACTOR_LENGTH = 255


def describe_actor(actor: AbstractBaseUser | None) -> dict[str, str]:
    """Return the columns of an operation that say which user asked for it."""
    if actor is None or actor.pk is None:
        return {}
    username = actor.get_username()
    full_name = getattr(actor, "get_full_name", str)().strip()
    columns = {
        "actor_id": str(actor.pk),
        "actor_username": username,
        "actor_name": full_name or username,
    }
    return {name: value[:_ACTOR_LENGTH] for name, value in columns.items()}


class InvoiceOperation(models.Model):
    """
    A call that changes something in Orb, committed before it is sent.

    The idempotency key makes sending it again harmless, so a crash between the
    request and its answer neither loses nor doubles it. The table is the audit
    trail of who asked for what.
    """

    class Kind(models.TextChoices):
        VOID = "void_invoice", pgettext_lazy("operation", "Void")
        CREATE_LINE_ITEM = "create_invoice_line_item", _("Add line item")
        DELETE_LINE_ITEM = "delete_invoice_line_item", _("Delete line item")
        ISSUE = "issue_invoice", _("Issue")
        MARK_PAID = "mark_invoice_paid", _("Mark as paid")
        PAY = "pay_invoice", _("Collect payment")
        UPDATE = "update_invoice", _("Edit")
        REGENERATE_PDF = "regenerate_invoice_pdf", _("Make PDF anew")

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        SUCCEEDED = "succeeded", _("Succeeded")
        REFUSED = "refused", _("Refused")
        NEEDS_ATTENTION = "needs_attention", _("Needs a person")
        CANCELLED = "cancelled", _("Cancelled")

    class Origin(models.TextChoices):
        SERVICE = "service", _("Code")
        ADMIN = "admin", _("Admin")
        TASK = "task", _("Task")

    kind = models.CharField(_("kind"), max_length=32, choices=Kind.choices)
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.PENDING
    )
    invoice_id = OrbIdField(_("invoice"), db_index=True)
    body = PayloadField(_("body"), default=dict, blank=True)
    idempotency_key = models.CharField(_("idempotency key"), max_length=64, unique=True)
    # As texts, not as a foreign key: users may live in another database, and the
    # names stay when a user is deleted.
    actor_id = models.CharField(_("user id"), max_length=_ACTOR_LENGTH, blank=True)
    actor_username = models.CharField(
        _("username"), max_length=_ACTOR_LENGTH, blank=True
    )
    actor_name = models.CharField(
        _("asked by"),
        max_length=_ACTOR_LENGTH,
        blank=True,
        help_text=_("The full name, or the username, when it was asked for."),
    )
    origin = models.CharField(
        _("origin"), max_length=16, choices=Origin.choices, default=Origin.SERVICE
    )
    batch = models.CharField(
        _("batch"),
        max_length=64,
        blank=True,
        db_index=True,
        help_text=_("What those have in common that were queued together."),
    )
    before = PayloadField(
        _("before"),
        default=dict,
        blank=True,
        help_text=_("What an edit found, so that it does not undo somebody else's."),
    )
    created_at = models.DateTimeField(_("created at"))
    first_sent_at = models.DateTimeField(_("first sent at"), null=True, blank=True)
    lease_expires_at = models.DateTimeField(
        _("lease expires at"), null=True, blank=True
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    mirrored_at = models.DateTimeField(
        _("mirrored at"),
        null=True,
        blank=True,
        help_text=_("When Orb had shown what was done, and the mirror had it."),
    )
    detail = models.TextField(_("detail"), blank=True)
    result = PayloadField(_("result"), default=dict, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invoice operation")
        verbose_name_plural = _("invoice operations")
        permissions = [("settle_invoiceoperation", "Can settle operations")]
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(
                fields=["state", "lease_expires_at"], name="orb_operation_recover"
            ),
            models.Index(
                fields=["state", "mirrored_at"], name="orb_operation_read_back"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.invoice_id}"

    def find_actor(self) -> AbstractBaseUser | None:
        """Return the user who asked, if there still is one of that id and username."""
        if not self.actor_id:
            return None
        try:
            user = get_user_model()._default_manager.filter(pk=self.actor_id).first()
        except (ValueError, ValidationError):  # not a key of this user model
            return None
        is_the_same = user and user.get_username() == self.actor_username
        return user if is_the_same else None

    def is_shown_in(self, payload: Mapping[str, Any]) -> bool:
        """Whether the invoice, as Orb shows it, has what this operation did."""
        kind, status = self.Kind, payload.get("status")
        if self.kind == kind.VOID:
            return status == Invoice.Status.VOID
        if self.kind in (kind.CREATE_LINE_ITEM, kind.DELETE_LINE_ITEM):
            lines = payload.get("line_items") or []
            is_there = any(line.get("id") == self.line_item_id for line in lines)
            return is_there == (self.kind == kind.CREATE_LINE_ITEM)
        if self.kind == kind.ISSUE:
            # Orb may have answered before it issued.
            is_to_come = self.result.get("status") == Invoice.Status.DRAFT
            return status != Invoice.Status.DRAFT or is_to_come
        if self.kind == kind.MARK_PAID:
            return status not in _UNPAID
        if self.kind == kind.PAY:
            return self._shows_payment(payload)
        if self.kind == kind.UPDATE:
            return self._shows_metadata(payload)
        return True

    def _shows_payment(self, payload: Mapping[str, Any]) -> bool:
        """Whether it shows as much as Orb's answer did, which may come before it."""
        answered, attempts = self.result, payload.get("payment_attempts") or []
        if len(attempts) < len(answered.get("payment_attempts") or []):
            return False
        is_to_come = bool(answered) and answered.get("status") in _UNPAID
        return is_to_come or payload.get("status") not in _UNPAID

    def _shows_metadata(self, payload: Mapping[str, Any]) -> bool:
        """Of what can be edited, invoices show the metadata alone for sure."""
        if "metadata" not in self.body:
            return True
        shown, wanted = payload.get("metadata") or {}, self.body["metadata"]
        if wanted is None:
            return not shown
        return all(shown.get(key) == value for key, value in wanted.items())

    @property
    def subject(self) -> str:
        """What of an invoice it is about: a later one of the same hides it."""
        kind = self.Kind
        if self.kind in (kind.CREATE_LINE_ITEM, kind.DELETE_LINE_ITEM):
            return f"line {self.line_item_id}"
        if self.kind in (kind.UPDATE, kind.REGENERATE_PDF):
            return self.kind
        return "status"

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it again does nothing twice while Orb knows its key."""
        return self.kind != self.Kind.UPDATE

    @property
    def line_item_id(self) -> str:
        """Orb's id of the line that was deleted, or created, once it was."""
        if self.kind == self.Kind.DELETE_LINE_ITEM:
            return str(self.body.get("line_item_id", ""))
        if self.kind != self.Kind.CREATE_LINE_ITEM:
            return ""
        result: dict[str, Any] = self.result
        return str(result.get("id", ""))


_UNPAID = (Invoice.Status.DRAFT, Invoice.Status.ISSUED, Invoice.Status.SYNCED)
