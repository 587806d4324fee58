from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import ExactCharField, OrbIdField, PayloadField

from .operation_type import OperationKind, OperationType
from .operation_types import type_of

_ACTOR_LENGTH = 255


def describe_actor(actor: AbstractBaseUser | None) -> dict[str, str]:
    """Return the columns of an operation that say which user asked for it."""
    if actor is None or actor.pk is None:
        return {}
    columns = {
        "actor_id": str(actor.pk),
        "actor_username": _username_of(actor),
        "actor_name": full_name_of(actor),
    }
    return {name: value[:_ACTOR_LENGTH] for name, value in columns.items()}


def full_name_of(user: AbstractBaseUser) -> str:
    """
    Return what people call a user: the full name, or else the username.

    A project's own model need not have the former, and neither need be a text.
    """
    full_name = getattr(user, "get_full_name", str)()
    return str(full_name or "").strip() or _username_of(user)


def _username_of(user: AbstractBaseUser) -> str:
    username: object = user.get_username()
    return "" if username is None else str(username)


class InvoiceOperation(models.Model):
    """
    A call that changes something in Orb, committed before it is sent.

    The idempotency key makes sending it again harmless, so a crash between the
    request and its answer neither loses nor doubles it. The table is the audit
    trail of who asked for what.
    """

    Kind: TypeAlias = OperationKind

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        SUCCEEDED = "succeeded", _("Succeeded")
        REFUSED = "refused", _("Refused")
        NEEDS_ATTENTION = "needs_attention", _("Needs attention")
        CANCELLED = "cancelled", _("Cancelled")

    class Origin(models.TextChoices):
        SERVICE = "service", _("Code")
        ADMIN = "admin", _("Admin")
        TASK = "task", _("Task")

    kind = models.CharField(_("kind"), max_length=32, choices=Kind.choices)
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.PENDING
    )
    # Empty until an invoice that is to be created exists.
    invoice_id = OrbIdField(_("invoice"), db_index=True)
    body = PayloadField(_("body"), default=dict, blank=True)
    # Orb takes keys of up to 64 characters
    # (https://docs.withorb.com/reference/idempotency).
    idempotency_key = ExactCharField(_("idempotency key"), max_length=64, unique=True)
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
        help_text=_("Shared by the operations that were queued together."),
    )
    before = PayloadField(
        _("before"),
        default=dict,
        blank=True,
        help_text=_("What an edit found, so that it does not undo another user's."),
    )
    note = models.TextField(
        _("note"),
        blank=True,
        help_text=_(
            "Why it was done, in the words of the user who asked. It is not sent to Orb."
        ),
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
        help_text=_("When the mirror first showed the change."),
    )
    # Until then a worker that fetches its invoice is left alone, or its failure is waited
    # for.
    look_after = models.DateTimeField(null=True, blank=True)
    detail = models.TextField(_("detail"), blank=True)
    result = PayloadField(_("result"), default=dict, blank=True)
    erased_at = models.DateTimeField(
        _("erased at"),
        null=True,
        blank=True,
        help_text=_("When personal data was removed from it."),
    )

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("invoice operation")
        verbose_name_plural = _("invoice operations")
        permissions = [("resolve_invoiceoperation", "Can resolve operations")]
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(
                # What is pending and leased to no worker.
                fields=["state", "lease_expires_at"],
                name="orb_operation_recover",
            ),
            models.Index(
                # What succeeded and is not shown by the mirror yet.
                fields=["state", "mirrored_at"],
                name="orb_operation_read_back",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.invoice_id}".strip()

    def find_actor(self) -> AbstractBaseUser | None:
        """Return the user who asked, if there is still one with that id and username."""
        if not self.actor_id:
            return None
        try:
            user = get_user_model()._default_manager.filter(pk=self.actor_id).first()
        except (ValueError, ValidationError):  # the id is not a key of this user model
            return None
        # The key alone may be another user's by now.
        is_the_same = user and _username_of(user)[:_ACTOR_LENGTH] == self.actor_username
        return user if is_the_same else None

    def others_alike(self) -> list[InvoiceOperation]:
        """
        Return operations of the same kind for the same invoice that Orb did, or may
        have done.

        If they create invoices, those are returned whose invoice is not known yet.
        """
        return list(self._others().filter(invoice_id=self.invoice_id))

    def certainly_preceded(self, other: InvoiceOperation) -> bool:
        """
        Return whether it was done, or seen as done, before the other was asked for.
        """
        was_seen_before = (
            self.state == self.State.SUCCEEDED
            and self.finished_at is not None
            and self.finished_at < other.created_at
        )
        # Only Orb's own answer has a result.
        return bool(self.result) or was_seen_before

    def taken_by_others(self, invoice_ids: Sequence[str]) -> list[str]:
        """
        Return those of these invoices that other operations of the same kind are for.
        """
        others = self._others().filter(invoice_id__in=invoice_ids)
        return list(others.values_list("invoice_id", flat=True).distinct())

    def _others(self) -> models.QuerySet[InvoiceOperation]:
        alike = InvoiceOperation.objects.using(self._state.db).filter(kind=self.kind)
        undone = [self.State.REFUSED, self.State.CANCELLED]
        return alike.exclude(pk=self.pk).exclude(state__in=undone)

    @property
    def type(self) -> OperationType:
        """The entry that says everything that depends on the kind."""
        return type_of(self.kind)

    def is_shown_in(self, payload: Mapping[str, Any]) -> bool:
        """Return whether the invoice, as Orb shows it, has what this operation did."""
        return self.type.is_shown(self, payload)

    @property
    def subject(self) -> str:
        """
        Name the part of an invoice that it is about.

        A later operation on the same part usually hides this one.
        """
        return self.type.subject(self)

    def hides(self, earlier: InvoiceOperation) -> bool:
        """Return whether an invoice may no longer show the earlier one after this one."""
        return self.type.hides(self, earlier)

    def after(self, earlier: InvoiceOperation) -> InvoiceOperation:
        """Return what an invoice shows after both, which are about the same part."""
        return self.type.following(earlier, self)

    @property
    def line_item_id(self) -> str:
        """Orb's id of the line that was deleted or created; "" before that."""
        return self.type.line_item_id(self)
