"""Define the actions of the invoices' admin, with the words of those that are alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from django.http import HttpResponse

from django_orb import services
from django_orb.admin.texts import lazy as _
from django_orb.models import Invoice, operation_types
from django_orb.models.operation_type import OperationType
from django_orb.operations import payment_body

from . import add_line_item, confirmed_actions, delete_line_item, edit_invoice
from .action_context import ActionContext
from .confirmed_actions import ConfirmedAction
from .forms import NoteForm, PaymentForm

Status = Invoice.Status


# Source of what its template says about the balance, credits and top-ups:
# https://docs.withorb.com/api-reference/invoice/void-invoice
VOID = ConfirmedAction(
    operation_type=operation_types.VOID,
    serve=services.void_invoice,
    title=_("Void {}?"),
    yes_one=_("Yes, void this invoice"),
    yes_many=_("Yes, void {} invoices"),
    done=_("Voided in Orb."),
    asked=_("Asked Orb to void it."),
    is_done=lambda invoice: invoice.status == Status.VOID,
    template="void_confirmation.html",
    form_class=NoteForm,
    is_grave=True,
)

ISSUE = ConfirmedAction(
    operation_type=operation_types.ISSUE,
    serve=services.issue_invoice,
    title=_("Issue {}?"),
    yes_one=_("Yes, issue this invoice"),
    yes_many=_("Yes, issue {} invoices"),
    done=_("Issued in Orb."),
    asked=_("Asked Orb to issue it."),
    explanation=[
        _(
            "Its lines and amounts are final then; tax is calculated, and the "
            "customer's balance is used."
        ),
        _(
            "Orb may send it to the customer by e-mail, and collect it if automatic "
            "collection is on."
        ),
        _("An issued invoice cannot become a draft again: it can only be voided."),
    ],
    # Orb issues asynchronously, unless it is asked for the opposite.
    is_done=lambda invoice: invoice.status != Status.DRAFT,
    not_yet=_("Orb accepted this and will issue it shortly; the next sync shows it."),
    is_grave=True,
)

# Orb's API has no operation that undoes this.
MARK_PAID = ConfirmedAction(
    operation_type=operation_types.MARK_PAID,
    serve=services.mark_invoice_paid,
    title=_("Mark {} as paid?"),
    yes_one=_("Yes, mark as paid"),
    yes_many=_("Yes, mark {} invoices as paid"),
    done=_("Marked as paid in Orb."),
    asked=_("Asked Orb to mark it as paid."),
    explanation=[
        _(
            "For money that came in outside Orb, such as by bank transfer. Nothing is "
            "charged."
        ),
        _("Orb makes no further attempt to collect it."),
    ],
    is_done=lambda invoice: invoice.status == Status.PAID,
    form_class=PaymentForm,
    body_of=lambda values: payment_body(**values),
)

# Without a shared payment token Orb takes the customer's default payment method (the
# SDK's resources/invoices.py, at `pay`).
PAY = ConfirmedAction(
    operation_type=operation_types.PAY,
    serve=services.pay_invoice,
    title=_("Collect the payment of {} now?"),
    yes_one=_("Yes, charge the customer now"),
    yes_many=_("Yes, charge for {} invoices now"),
    done=_("Paid: Orb has collected it."),
    asked=_("Asked Orb to collect its payment."),
    explanation=[
        _("Orb charges the customer's default payment method with the amount due."),
        _("Money that was collected is given back with a credit note only."),
    ],
    is_done=lambda invoice: invoice.status == Status.PAID,
    not_yet=_(
        "Orb was asked to collect it, but it is not paid yet; see the payment attempts "
        "on its page."
    ),
    is_grave=True,
)

REGENERATE_PDF = ConfirmedAction(
    operation_type=operation_types.REGENERATE_PDF,
    serve=services.regenerate_invoice_pdf,
    title=_("Regenerate the PDF of {}?"),
    yes_one=_("Yes, regenerate the PDF"),
    yes_many=_("Yes, regenerate {} PDFs"),
    done=_("Orb is regenerating the PDF."),
    asked=_("Asked Orb to regenerate the PDF."),
    explanation=[
        _(
            "For changes that the PDF does not show yet, such as the customer's address. "
            "Amounts stay as they are; nothing is sent to the customer."
        )
    ],
)


@dataclass(frozen=True)
class InvoiceAction:
    """
    An action on one invoice, on a page of its own, and on many from the list.

    `page` is the name of that page; `list_name` and `list_label` are those of the
    list's action, if there is one.
    """

    page: str
    operation_type: OperationType
    respond: Callable[[ActionContext], HttpResponse | None]
    list_name: str = ""
    list_label: str = ""


# In the order of the buttons.
ACTIONS = (
    InvoiceAction(
        "line_item",
        operation_types.CREATE_LINE_ITEM,
        add_line_item.respond,
        "add_line_item",
        _("Add line item to selected drafts"),
    ),
    InvoiceAction(
        "issue",
        operation_types.ISSUE,
        partial(confirmed_actions.respond, action=ISSUE),
        "issue_selected",
        _("Issue selected drafts"),
    ),
    InvoiceAction(
        "pay",
        operation_types.PAY,
        partial(confirmed_actions.respond, action=PAY),
        "pay_selected",
        _("Collect payment of selected invoices"),
    ),
    InvoiceAction(
        "mark_paid",
        operation_types.MARK_PAID,
        partial(confirmed_actions.respond, action=MARK_PAID),
        "mark_selected_paid",
        _("Mark selected invoices as paid"),
    ),
    InvoiceAction(
        "void",
        operation_types.VOID,
        partial(confirmed_actions.respond, action=VOID),
        "void_selected",
        _("Void selected invoices"),
    ),
    InvoiceAction("edit", operation_types.UPDATE, edit_invoice.respond),
    InvoiceAction(
        "regenerate_pdf",
        operation_types.REGENERATE_PDF,
        partial(confirmed_actions.respond, action=REGENERATE_PDF),
        "regenerate_selected_pdfs",
        _("Regenerate PDFs of selected invoices"),
    ),
    InvoiceAction(
        "delete_line", operation_types.DELETE_LINE_ITEM, delete_line_item.respond
    ),
)
ACTIONS_BY_PAGE = {action.page: action for action in ACTIONS}
