"""Define the entry that each kind of operation fills in, with its defaults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.utils.translation import gettext, gettext_noop, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from .operation_matching import require_invoice

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    from django_orb.client import OrbClient

    from .invoices import Invoice
    from .operations import InvoiceOperation


class OperationKind(models.TextChoices):
    """The names under which operations are stored; `InvoiceOperation.Kind` for users."""

    VOID = "void_invoice", pgettext_lazy("operation", "Void")
    CREATE_LINE_ITEM = "create_invoice_line_item", _("Add line item")
    DELETE_LINE_ITEM = "delete_invoice_line_item", _("Delete line item")
    ISSUE = "issue_invoice", _("Issue")
    MARK_PAID = "mark_invoice_paid", _("Mark as paid")
    PAY = "pay_invoice", _("Collect payment")
    UPDATE = "update_invoice", _("Edit")
    REGENERATE_PDF = "regenerate_invoice_pdf", _("Regenerate PDF")
    CREATE_INVOICE = "create_invoice", _("Create invoice")


class Sight(Enum):
    """Whether Orb shows the effect of an operation."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    # It is shown, but another operation did it, which Orb confirmed.
    ANOTHERS = "another's"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Finding:
    """
    The effect of an operation in Orb; `result` stands for Orb's answer if it is shown.
    """

    sight: Sight
    result: dict[str, Any] = field(default_factory=dict)


SHOWN, NOT_SHOWN = Finding(Sight.SHOWN), Finding(Sight.NOT_SHOWN)
UNCLEAR, ANOTHERS = Finding(Sight.UNCLEAR), Finding(Sight.ANOTHERS)


class Topic(Enum):
    """The part of an invoice that an operation is about, for its description."""

    INVOICE = "invoice"
    LINE = "line"
    EDIT = "edit"
    CUSTOMER = "customer"


class OperationType:
    """
    One kind of operation. Here are the defaults, and subclasses say how they differ.

    They have no state: the operation is an argument.
    """

    kind: ClassVar[OperationKind]
    # Codename and name of the permission, and the model that it belongs to.
    permission: ClassVar[tuple[str, StrOrPromise]]
    permission_model: ClassVar[str] = "invoice"

    # What the history says, with %(who)s and %(what)s; the label of the admin's button.
    done: ClassVar[StrOrPromise] = ""
    asked: ClassVar[StrOrPromise] = ""
    button: ClassVar[StrOrPromise] = ""
    topic: ClassVar[Topic] = Topic.INVOICE

    # Whether the admin asks for a note, which `NOTES_REQUIRED` demands.
    asks_for_note: ClassVar[bool] = False

    # The statuses that the invoice must have; any if there are none.
    statuses: ClassVar[Collection[str]] = ()

    # Whether it may be sent again while Orb knows its key, without taking effect twice.
    # One that may not is sent again only if Orb shows that it has not happened.
    is_repeatable: ClassVar[bool] = True
    # Whether Orb recognises it by its key if it comes again, which it does for POST.
    has_key: ClassVar[bool] = True
    # Whether an invoice undergoes it at most once.
    happens_once: ClassVar[bool] = False
    # Whether an invoice shows it forever, so that what is not shown never happened.
    is_lasting: ClassVar[bool] = False
    # What is recorded if Orb answers that there is no such object, and the invoice shows
    # that it is done; without such words that answer is a refusal.
    gone_already: ClassVar[str] = ""
    # Whether it brings new links, which alone do not count as a change.
    renews_links: ClassVar[bool] = False
    # What users are asked to do if neither an answer nor Orb shows the outcome.
    question: ClassVar[str] = gettext_noop(
        "No answer came, and the invoice does not show for certain whether it "
        "happened. Check in Orb."
    )

    def call(self, client: OrbClient, operation: InvoiceOperation) -> dict[str, Any]:
        """Send the operation's request under its key, and return Orb's answer."""
        # A kind is stored under the name of the client's method.
        send = getattr(client, self.kind)
        answer: dict[str, Any] | None = send(
            invoice_id=operation.invoice_id,
            **operation.body,
            idempotency_key=operation.idempotency_key,
        )
        return answer or {}

    def read_answer(
        self, operation: InvoiceOperation, answer: dict[str, Any]
    ) -> dict[str, Any]:
        """
        Return a success's body if it is what Orb answers this kind with.

        Raises:
            OrbResponseError: it is something else, so that nothing may have happened.
        """
        return require_invoice(answer, operation.invoice_id)

    def look(self, client: OrbClient, operation: InvoiceOperation) -> Finding:
        """
        Ask Orb whether the operation has happened; nothing is sent again.

        Raises:
            OrbNotFoundError: Orb does not know the invoice.
            OrbResponseError: the answer is not the invoice.
            OrbError: Orb did not answer.
        """
        invoice_id = operation.invoice_id
        payload = require_invoice(client.fetch_invoice(invoice_id), invoice_id)
        return self.find(operation, payload)

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        """
        Look for the effect in the invoice. If that cannot tell, the finding says so.
        """
        if not self.is_shown(operation, payload):
            return NOT_SHOWN
        is_anothers = self.happens_once and any(
            other.certainly_preceded(operation) for other in operation.others_alike()
        )
        return ANOTHERS if is_anothers else SHOWN

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        """Return whether the invoice, as Orb shows it, has what this operation did."""
        return True

    def invoice_id(self, operation: InvoiceOperation, result: Mapping[str, Any]) -> str:
        """Return the id of the invoice that it is about, once Orb has answered this."""
        invoice_id: str = operation.invoice_id
        return invoice_id

    def subject(self, operation: InvoiceOperation) -> str:
        """
        Name the part of an invoice that it is about.

        A later operation on the same part usually hides this one.
        """
        return "status"

    def hides(self, operation: InvoiceOperation, earlier: InvoiceOperation) -> bool:
        """Return whether an invoice may no longer show the earlier one after this one."""
        return self.subject(operation) == earlier.subject

    def following(
        self, earlier: InvoiceOperation, operation: InvoiceOperation
    ) -> InvoiceOperation:
        """
        Return what an invoice shows after both, which are about the same part.
        """
        return operation

    def line_item_id(self, operation: InvoiceOperation) -> str:
        """Return Orb's id of the line that was deleted or created; "" before that."""
        return ""

    def line(self, operation: InvoiceOperation) -> Mapping[str, Any]:
        """Return the line that it is about, as far as that was recorded."""
        body: dict[str, Any] = operation.body
        return body

    def why_not(self, invoice: Invoice) -> str:
        """Return why an invoice does not allow it, as the mirror knows it, or ""."""
        if invoice.missing_since is not None:
            return gettext("Orb no longer knows it.")
        if not self.statuses or invoice.status in self.statuses:
            return ""
        return self.why_not_now(invoice.status, invoice.get_status_display())

    def why_not_now(self, status: str, words: str) -> str:
        """Return the reason if an invoice's status is not one of `statuses`."""
        return gettext("Its status is “%(status)s”.") % {"status": words}
