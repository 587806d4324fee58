"""
Every kind of operation, one entry for each: how it is sent, when it may be, how Orb
shows it, who may do it, and its words. All that depends on the kind is here.

To add one, see "Adding an operation" in `.github/ARCHITECTURE.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from django_orb.exceptions import OrbError, OrbResponseError
from django_orb.parsing import parse_datetime

from .invoice_status import InvoiceStatus
from .operation_matching import (
    is_as_asked,
    is_asked_for,
    merged_edits,
    shares_metadata,
    shows_before,
)
from .operation_type import (
    NOT_SHOWN,
    SHOWN,
    UNCLEAR,
    Finding,
    OperationKind,
    OperationType,
    Sight,
    Topic,
)

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    from django_orb.client import OrbClient

    from .invoices import Invoice
    from .operations import InvoiceOperation

_DRAFT, _ISSUED = InvoiceStatus.DRAFT, InvoiceStatus.ISSUED
_UNPAID = (_DRAFT, _ISSUED, InvoiceStatus.SYNCED)
_DAY = timedelta(days=1)


class Void(OperationType):
    kind = OperationKind.VOID
    asks_for_note = True
    permission = ("void_invoice", "Can void an issued invoice in Orb")
    done = _("%(who)s voided it")
    asked = _("%(who)s asked to void it")
    button = _("Void invoice")
    statuses = (_ISSUED,)
    # Orb has no operation that leads out of the status.
    happens_once = is_lasting = True

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        return bool(payload.get("status") == InvoiceStatus.VOID)

    def why_not_now(self, status: str, words: str) -> str:
        reasons = {
            _DRAFT.value: gettext(
                "It is a draft, and only issued invoices can be voided."
            ),
            InvoiceStatus.PAID.value: gettext(
                "It is paid, and only unpaid invoices can be voided."
            ),
            InvoiceStatus.SYNCED.value: gettext(
                "It was handed over to another system, and Orb can no longer void it."
            ),
            InvoiceStatus.VOID.value: gettext("It is already void."),
        }
        return reasons.get(status) or super().why_not_now(status, words)


class Issue(OperationType):
    kind = OperationKind.ISSUE
    permission = ("issue_invoice", "Can issue a draft in Orb")
    done = _("%(who)s issued it")
    asked = _("%(who)s asked to issue it")
    button = _("Issue")
    statuses = (_DRAFT,)
    happens_once = is_lasting = True

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        # Orb may have answered before it issued.
        is_to_come = operation.result.get("status") == _DRAFT
        return payload.get("status") != _DRAFT or is_to_come

    def why_not(self, invoice: Invoice) -> str:
        if reason := super().why_not(invoice):
            return reason
        # Orb issues by request only drafts that it does not issue itself:
        # "will_auto_issue" must be false (the SDK's resources/invoices.py).
        payload = invoice.payload if isinstance(invoice.payload, dict) else {}
        if payload.get("will_auto_issue"):
            return gettext("Orb issues it automatically.")
        return ""

    def why_not_now(self, status: str, words: str) -> str:
        text = gettext("Its status is “%(status)s”, and only drafts can be issued.")
        return text % {"status": words}


class MarkPaid(OperationType):
    kind = OperationKind.MARK_PAID
    asks_for_note = True
    permission = ("mark_paid_invoice", "Can mark an invoice as paid in Orb")
    done = _("%(who)s marked it as paid")
    asked = _("%(who)s asked to mark it as paid")
    button = _("Mark as paid")
    # Neither once nor lasting: a payment can be undone in Orb, which then sends the
    # event invoice.undo_mark_as_paid.
    statuses = (_ISSUED, InvoiceStatus.SYNCED)

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        # A void invoice is not unpaid either, but no payment made it so.
        if payload.get("status") == InvoiceStatus.VOID:
            return NOT_SHOWN
        return super().find(operation, payload)

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        return payload.get("status") not in _UNPAID

    def why_not_now(self, status: str, words: str) -> str:
        text = gettext(
            "Its status is “%(status)s”, and only issued and synced invoices can be "
            "marked as paid."
        )
        return text % {"status": words}


class Pay(OperationType):
    kind = OperationKind.PAY
    permission = ("pay_invoice", "Can collect the payment of an invoice in Orb")
    done = _("%(who)s collected its payment")
    asked = _("%(who)s asked to collect its payment")
    button = _("Collect payment")
    statuses = (_ISSUED,)

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        """A payment is shown if it succeeded; one that was tried may be this one's."""
        attempts = payload.get("payment_attempts") or []
        # Paid without a successful attempt: it may have been marked as paid meanwhile.
        if payload.get("status") == InvoiceStatus.PAID:
            return SHOWN if any(one.get("succeeded") for one in attempts) else UNCLEAR
        return UNCLEAR if attempts else NOT_SHOWN

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        """Return whether it shows as much as Orb's answer did, which may be earlier."""
        answered, attempts = operation.result, payload.get("payment_attempts") or []
        if len(attempts) < len(answered.get("payment_attempts") or []):
            return False
        is_to_come = bool(answered) and answered.get("status") in _UNPAID
        return is_to_come or payload.get("status") not in _UNPAID

    def why_not_now(self, status: str, words: str) -> str:
        text = gettext(
            "Its status is “%(status)s”, and only issued invoices can be collected."
        )
        return text % {"status": words}


class Update(OperationType):
    """An edit; Orb ignores the keys of a PUT."""

    kind = OperationKind.UPDATE
    asks_for_note = True
    permission = ("update_invoice", "Can edit metadata and terms of an invoice in Orb")
    done = _("%(who)s edited its %(what)s")
    asked = _("%(who)s asked to edit its %(what)s")
    button = _("Edit")
    topic = Topic.EDIT
    is_repeatable = False
    has_key = False
    question = gettext_noop(
        "No answer came, and what Orb shows is neither what was asked for nor what was "
        "there before, or cannot be seen on the invoice. Check in Orb, and edit again "
        "if it is still wanted."
    )

    def call(self, client: OrbClient, operation: InvoiceOperation) -> dict[str, Any]:
        return client.update_invoice(
            operation.invoice_id,
            operation.body,
            idempotency_key=operation.idempotency_key,
        )

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        if "metadata" not in operation.body:
            return UNCLEAR
        if self.is_shown(operation, payload):
            return SHOWN
        return NOT_SHOWN if shows_before(operation, payload) else UNCLEAR

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        """Of what can be edited, invoices show the metadata alone for sure."""
        if "metadata" not in operation.body:
            return True
        shown, wanted = payload.get("metadata") or {}, operation.body["metadata"]
        if wanted is None:
            return not shown
        return all(shown.get(key) == value for key, value in wanted.items())

    def subject(self, operation: InvoiceOperation) -> str:
        return self.kind

    def hides(self, operation: InvoiceOperation, earlier: InvoiceOperation) -> bool:
        is_same = super().hides(operation, earlier)
        return is_same and shares_metadata(operation.body, earlier.body)

    def following(
        self, earlier: InvoiceOperation, operation: InvoiceOperation
    ) -> InvoiceOperation:
        both = copy(operation)
        both.body = merged_edits(earlier.body, operation.body)
        return both


class RegeneratePDF(OperationType):
    kind = OperationKind.REGENERATE_PDF
    permission = ("regenerate_pdf_invoice", "Can regenerate an invoice's PDF in Orb")
    done = _("%(who)s regenerated its PDF")
    asked = _("%(who)s asked to regenerate its PDF")
    button = _("Regenerate PDF")
    renews_links = True

    def read_answer(
        self, operation: InvoiceOperation, answer: dict[str, Any]
    ) -> dict[str, Any]:
        # Orb's documents do not say what it answers, and nothing of value is at stake.
        return answer

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        # A new link proves nothing: Orb may sign the links in each answer again.
        return UNCLEAR

    def subject(self, operation: InvoiceOperation) -> str:
        return self.kind

    def why_not(self, invoice: Invoice) -> str:
        if reason := super().why_not(invoice):
            return reason
        if invoice.status == _DRAFT:
            return gettext("It is a draft, and drafts have no PDF.")
        return ""


class _LineItem(OperationType):
    """The base of adding and deleting a line."""

    permission_model = "invoicelineitem"
    topic = Topic.LINE
    statuses = (_DRAFT,)

    def is_there(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        lines = payload.get("line_items") or []
        line_id = self.line_item_id(operation)
        return any(line.get("id") == line_id for line in lines)

    def subject(self, operation: InvoiceOperation) -> str:
        return f"line {self.line_item_id(operation)}"


class CreateLineItem(_LineItem):
    kind = OperationKind.CREATE_LINE_ITEM
    asks_for_note = True
    permission = ("create_invoicelineitem", "Can add a line item to a draft in Orb")
    done = _("%(who)s added %(what)s")
    asked = _("%(who)s asked to add %(what)s")
    button = _("Add line item")
    question = gettext_noop(
        "No answer came, and the invoice does not show exactly one such line that "
        "nothing else added. Check in Orb whether it happened."
    )

    def read_answer(
        self, operation: InvoiceOperation, answer: dict[str, Any]
    ) -> dict[str, Any]:
        # Only its id tells later which line it made.
        if not isinstance(answer.get("id"), str) or not answer["id"]:
            raise OrbResponseError("Orb's answer is not the new line item.")
        return answer

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        """Find the line that matches, if no other operation can have made it."""
        others = operation.others_alike()
        taken = {other.line_item_id for other in others}
        # Of operations that were pruned since, and of whatever else adds lines in Orb.
        taken.update(operation.before.get("line_item_ids", []))
        lines: list[dict[str, Any]] = payload.get("line_items") or []
        found = [
            line
            for line in lines
            if line.get("id") not in taken and is_as_asked(line, operation.body)
        ]
        if not found:
            return NOT_SHOWN
        # Another operation that asked for the same, and whose line is not known, may have
        # made it.
        has_rival = any(
            not other.line_item_id and is_as_asked(found[0], other.body)
            for other in others
        )
        if len(found) > 1 or has_rival:
            return UNCLEAR
        return Finding(Sight.SHOWN, found[0])

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        return self.is_there(operation, payload)

    def line_item_id(self, operation: InvoiceOperation) -> str:
        return str(operation.result.get("id", ""))

    def why_not_now(self, status: str, words: str) -> str:
        text = gettext(
            "Its status is “%(status)s”, and line items can be added to drafts only."
        )
        return text % {"status": words}


class DeleteLineItem(_LineItem):
    kind = OperationKind.DELETE_LINE_ITEM
    asks_for_note = True
    permission = ("delete_invoicelineitem", "Can delete a line item of a draft in Orb")
    done = _("%(who)s deleted %(what)s")
    asked = _("%(who)s asked to delete %(what)s")
    gone_already = gettext_noop("The line was already gone.")
    # Orb ignores keys of a DELETE too (https://docs.withorb.com/reference/idempotency).
    # A line's id is never used again, so a repeated one does nothing more.
    has_key = False
    is_lasting = True

    def call(self, client: OrbClient, operation: InvoiceOperation) -> dict[str, Any]:
        content = client.delete_invoice_line_item(
            operation.invoice_id,
            self.line_item_id(operation),
            idempotency_key=operation.idempotency_key,
        )
        # Orb sends none, so it may come from a proxy that did not ask Orb.
        if content is not None and not self._is_gone(client, operation):
            raise OrbResponseError(
                "The answer to a deletion should be empty and is not, and the line is "
                "still there."
            )
        return {}

    def _is_gone(self, client: OrbClient, operation: InvoiceOperation) -> bool:
        try:
            return self.look(client, operation).sight == Sight.SHOWN
        except OrbError:
            return False

    def read_answer(
        self, operation: InvoiceOperation, answer: dict[str, Any]
    ) -> dict[str, Any]:
        return answer

    def is_shown(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> bool:
        return not self.is_there(operation, payload)

    def line_item_id(self, operation: InvoiceOperation) -> str:
        return str(operation.body.get("line_item_id", ""))

    def line(self, operation: InvoiceOperation) -> Mapping[str, Any]:
        before: dict[str, Any] = operation.before
        return before or {"item_id": self.line_item_id(operation)}

    def why_not_now(self, status: str, words: str) -> str:
        text = gettext(
            "Its status is “%(status)s”, and line items can be deleted from drafts only."
        )
        return text % {"status": words}


class CreateInvoice(OperationType):
    """A one-off invoice, whose id is known once it was made."""

    kind = OperationKind.CREATE_INVOICE
    permission = ("create_invoice", "Can create a one-off invoice in Orb")
    done = _("%(who)s created it")
    asked = _("%(who)s asked to create an invoice for %(what)s")
    button = _("Create invoice")
    topic = Topic.CUSTOMER
    question = gettext_noop(
        "No answer came, and Orb does not show exactly one such invoice of the "
        "customer that nothing else created. Check in Orb whether it happened."
    )

    def call(self, client: OrbClient, operation: InvoiceOperation) -> dict[str, Any]:
        return client.create_invoice(
            **operation.body, idempotency_key=operation.idempotency_key
        )

    def read_answer(
        self, operation: InvoiceOperation, answer: dict[str, Any]
    ) -> dict[str, Any]:
        return answer  # the client demands the new id

    def look(self, client: OrbClient, operation: InvoiceOperation) -> Finding:
        """Find the invoice that matches, if no other operation can have made it."""
        body = operation.body
        day = parse_datetime(body["invoice_date"])
        pages = client.list_invoices(
            # Unless they are asked for, Orb's list leaves out drafts and voids.
            status=InvoiceStatus.values,
            customer_id=body.get("customer_id"),
            external_customer_id=body.get("external_customer_id"),
            # Wider than what `is_asked_for` accepts, which decides.
            invoice_date_gte=day - 2 * _DAY,
            invoice_date_lte=day + 2 * _DAY,
        )
        alike = {
            str(invoice.get("id")): invoice
            for page in pages
            for invoice in page["data"]
            if is_asked_for(invoice, operation)
        }
        for invoice_id in operation.taken_by_others(list(alike)):
            del alike[invoice_id]
        if not alike:
            return NOT_SHOWN
        found = next(iter(alike.values()))
        # Another one that may have asked for this, and whose invoice is not known, may
        # be its maker.
        has_rival = any(
            is_asked_for(found, other) for other in operation.others_alike()
        )
        if len(alike) > 1 or has_rival:
            return UNCLEAR
        return Finding(Sight.SHOWN, found)

    def invoice_id(self, operation: InvoiceOperation, result: Mapping[str, Any]) -> str:
        return str(result.get("id", ""))

    def subject(self, operation: InvoiceOperation) -> str:
        return self.kind


VOID = Void()
ISSUE = Issue()
MARK_PAID = MarkPaid()
PAY = Pay()
UPDATE = Update()
REGENERATE_PDF = RegeneratePDF()
CREATE_LINE_ITEM = CreateLineItem()
DELETE_LINE_ITEM = DeleteLineItem()
CREATE_INVOICE = CreateInvoice()

OPERATION_TYPES: dict[str, OperationType] = {
    one.kind.value: one
    for one in (
        VOID,
        ISSUE,
        MARK_PAID,
        PAY,
        UPDATE,
        REGENERATE_PDF,
        CREATE_LINE_ITEM,
        DELETE_LINE_ITEM,
        CREATE_INVOICE,
    )
}


class _Unknown(OperationType):
    """A kind that a newer release recorded: only that release knows what shows it."""

    def find(self, operation: InvoiceOperation, payload: Mapping[str, Any]) -> Finding:
        return UNCLEAR


_UNKNOWN = _Unknown()


def type_of(kind: str) -> OperationType:
    """Return the entry of a kind, or the defaults for one that only a newer release knows."""
    return OPERATION_TYPES.get(kind, _UNKNOWN)


def permissions_on(model: str) -> list[tuple[str, StrOrPromise]]:
    """The permissions for operations that belong to a model."""
    return [
        one.permission
        for one in OPERATION_TYPES.values()
        if one.permission_model == model
    ]
