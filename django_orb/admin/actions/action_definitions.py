"""The procedures of the invoices' admin, in its words."""

from __future__ import annotations

from typing import Any

from django_orb import services
from django_orb.admin.texts import lazy as _
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations import payment_body

from .confirmed_actions import Procedure
from .forms import PaymentForm
from .selection import (
    why_no_pdf,
    why_not_collect,
    why_not_issue,
    why_not_paid,
    why_not_void,
)

Kind = InvoiceOperation.Kind
Status = Invoice.Status


def _void(*args: Any, **kwargs: Any) -> Invoice:
    return services.void_invoice(*args, **kwargs)


def _issue(*args: Any, **kwargs: Any) -> Invoice:
    return services.issue_invoice(*args, **kwargs)


def _mark_paid(*args: Any, **kwargs: Any) -> Invoice:
    return services.mark_invoice_paid(*args, **kwargs)


def _pay(*args: Any, **kwargs: Any) -> Invoice:
    return services.pay_invoice(*args, **kwargs)


def _regenerate_pdf(*args: Any, **kwargs: Any) -> Invoice:
    return services.regenerate_invoice_pdf(*args, **kwargs)


VOID = Procedure(
    kind=Kind.VOID.value,
    serve=_void,
    why_not=why_not_void,
    title=_("Void {}?"),
    yes_one=_("Yes, void this invoice"),
    yes_many=_("Yes, void {} invoices"),
    done=_("Voided in Orb."),
    asked=_("Asked Orb to void it."),
    is_done=lambda invoice: invoice.status == Status.VOID,
    template="void_confirmation.html",
    is_grave=True,
)

ISSUE = Procedure(
    kind=Kind.ISSUE.value,
    serve=_issue,
    why_not=why_not_issue,
    title=_("Issue {}?"),
    yes_one=_("Yes, issue this invoice"),
    yes_many=_("Yes, issue {} invoices"),
    done=_("Issued in Orb."),
    asked=_("Asked Orb to issue it."),
    explanation=[
        _(
            "Its lines and amounts are final then; tax is worked out, and the customer's "
            "balance is used."
        ),
        _(
            "Orb may send it to the customer by e-mail, and collect it where automatic "
            "collection is on."
        ),
        _("There is no way back to a draft: an issued invoice can only be voided."),
    ],
    is_done=lambda invoice: invoice.status != Status.DRAFT,
    not_yet=_("Orb has taken it and issues it in a moment; the next sync shows it."),
    is_grave=True,
)

MARK_PAID = Procedure(
    kind=Kind.MARK_PAID.value,
    serve=_mark_paid,
    why_not=why_not_paid,
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

PAY = Procedure(
    kind=Kind.PAY.value,
    serve=_pay,
    why_not=why_not_collect,
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
        "Orb was asked to collect it, and it is not paid so far; see the payment "
        "attempts on its page."
    ),
    is_grave=True,
)

REGENERATE_PDF = Procedure(
    kind=Kind.REGENERATE_PDF.value,
    serve=_regenerate_pdf,
    why_not=why_no_pdf,
    title=_("Make the PDF of {} anew?"),
    yes_one=_("Yes, make a new PDF"),
    yes_many=_("Yes, make {} new PDFs"),
    done=_("Orb makes the PDF anew."),
    asked=_("Asked Orb for a new PDF."),
    explanation=[
        _(
            "For changes that the PDF does not show yet, such as the customer's address. "
            "Amounts stay as they are; nothing is sent to the customer."
        ),
    ],
)
