"""
Change something in Orb; `services` offers these functions.

Each records an operation and commits that, sends it once, and records its outcome;
then it fetches the invoice until that shows the change. Each takes an
`idempotency_key` (the same key again sends nothing and has the same outcome), and
the `actor`, the `origin` and a `note` to record. It raises:

    OrbInputError: an argument cannot be right; `field` names it.
    OrbRefusedError: Orb said no, and nothing happened; `detail` says why.
    OrbOutcomeUnknownError: Orb gave no answer; `recover` will find out.
    OrbTransactionError: called inside a transaction.
    OrbReadOnlyError: `READ_ONLY` is on.
    OrbResponseError: it is done, but the mirror does not have the invoice yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from django.contrib.auth.base_user import AbstractBaseUser

from django_orb.account import open_account
from django_orb.client import OrbClient
from django_orb.db import primary
from django_orb.exceptions import OrbError, OrbRefusedError, OrbResponseError
from django_orb.mirror import map_columns, observe_invoice, store
from django_orb.models import Invoice, InvoiceLineItem, InvoiceOperation
from django_orb.models.operation_matching import require_id

from . import ledger
from .arguments import (
    UNCHANGED,
    NewLineItem,
    Unchanged,
    invoice_body,
    line_item_body,
    payment_body,
    require_orb_id,
    require_text,
    update_body,
)
from .confirmation import read_back
from .ledger import Request

if TYPE_CHECKING:
    from typing_extensions import Unpack

_KIND = InvoiceOperation.Kind


class Asker(TypedDict, total=False):
    """The user who asks, the origin of the operation, its key, and why it is done."""

    idempotency_key: str | None
    actor: AbstractBaseUser | None
    origin: str
    note: str | None


def create_invoice(
    *,
    customer_id: str | None = None,
    external_customer_id: str | None = None,
    currency: str,
    invoice_date: date,
    line_items: Sequence[NewLineItem],
    net_terms: int | None = None,
    due_date: date | None = None,
    auto_collection: bool | None = None,
    will_auto_issue: bool = False,
    memo: str | None = None,
    discount: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    **asker: Unpack[Asker],
) -> Invoice:
    """
    Create a one-off invoice, once, and return the stored row.

    It is for one customer, by Orb's id or yours, in that customer's currency. Each
    line has an item, a quantity and a unit price; dates are read in the customer's
    time zone. Orb decides what is not given; `net_terms` and `due_date` exclude each
    other. The invoice is a draft, unless `will_auto_issue` is true: then Orb issues it
    on its `invoice_date`, or at once if that has come.

    Source: https://docs.withorb.com/api-reference/invoice/create-one-off-invoice

    Raises:
        OrbRefusedError: Orb said no, for instance to another currency.
        OrbError: one of the others at the top of this module.
    """
    body = invoice_body(
        customer_id=customer_id,
        external_customer_id=external_customer_id,
        currency=currency,
        invoice_date=invoice_date,
        line_items=line_items,
        net_terms=net_terms,
        due_date=due_date,
        auto_collection=auto_collection,
        will_auto_issue=will_auto_issue,
        memo=memo,
        discount=discount,
        metadata=metadata,
    )
    with open_account() as client:
        answer = _do(client, Request(_KIND.CREATE_INVOICE.value, "", body, **asker))
    return _stored(_id_in(answer))


def create_invoice_line_item(
    invoice: Invoice | str,
    *,
    name: str | None = None,
    item_id: str | None = None,
    quantity: Decimal | int | str,
    amount: Decimal | int | str,
    start_date: date,
    end_date: date,
    **asker: Unpack[Asker],
) -> InvoiceLineItem:
    """
    Add a one-off line to a draft invoice, once.

    `amount` is the line's total in the invoice's currency, not a unit price, and
    may be negative. The dates are read in the customer's time zone. `name` alone
    finds or creates an item of that name; `item_id` alone takes the item's name.

    If Orb's reads lag for long, the line returned has no `pk` yet.

    Source: https://docs.withorb.com/api-reference/invoice/create-invoice-line-item

    Raises:
        OrbRefusedError: Orb said no, for instance because it is not a draft.
        OrbError: one of the others at the top of this module.
    """
    body = line_item_body(
        name=name,
        item_id=item_id,
        quantity=quantity,
        amount=amount,
        start_date=start_date,
        end_date=end_date,
    )
    invoice_id = _id_of(invoice)
    # If Orb's answer is lost, a line that was there before is certainly not this one.
    lines = primary.rows(InvoiceLineItem).filter(invoice_id=invoice_id)
    before = {"line_item_ids": list(lines.values_list("orb_id", flat=True))}
    request = Request(_KIND.CREATE_LINE_ITEM.value, invoice_id, body, before, **asker)
    with open_account() as client:
        line = _do(client, request)
    stored = lines.filter(orb_id=_id_in(line)).first()
    return stored or InvoiceLineItem(
        invoice_id=invoice_id, position=0, **map_columns(InvoiceLineItem, line)
    )


def delete_invoice_line_item(
    invoice: Invoice | str, line_item: InvoiceLineItem | str, **asker: Unpack[Asker]
) -> Invoice:
    """
    Delete a one-off line of a draft invoice, and return the stored invoice.

    `line_item` is a stored line or Orb's id of one. A line that is gone already
    counts as deleted.

    Source: https://docs.withorb.com/api-reference/invoice/delete-invoice-line-item

    Raises:
        OrbRefusedError: Orb said no, for instance because it is not a one-off line.
        OrbError: one of the others at the top of this module.
    """
    line_id = line_item.orb_id if isinstance(line_item, InvoiceLineItem) else line_item
    require_orb_id(line_id, "line_item")
    lines = primary.rows(InvoiceLineItem)
    # For the audit trail, since Orb no longer shows the line afterwards.
    stored = lines.filter(invoice_id=_id_of(invoice), orb_id=line_id).first()
    before = {"name": stored.name, "amount": str(stored.amount)} if stored else {}
    body = {"line_item_id": line_id}
    return _do_to(invoice, _KIND.DELETE_LINE_ITEM, body, asker, before=before)


def issue_invoice(invoice: Invoice | str, **asker: Unpack[Asker]) -> Invoice:
    """
    Issue a draft that is not issued automatically, and return the stored row.

    If Orb takes a moment, the row is still a draft until the next sync.

    Source: https://docs.withorb.com/api-reference/invoice/issue-invoice

    Raises:
        OrbRefusedError: Orb said no, for instance because it is not eligible yet.
        OrbError: one of the others at the top of this module.
    """
    return _do_to(invoice, _KIND.ISSUE, {}, asker)


def mark_invoice_paid(
    invoice: Invoice | str,
    *,
    payment_received_date: date,
    external_id: str | None = None,
    notes: str | None = None,
    **asker: Unpack[Asker],
) -> Invoice:
    """
    Record that an issued or synced invoice was paid outside Orb. Return the row.

    `external_id` is the payment's id in the other system, such as a bank's reference.

    Source: https://docs.withorb.com/api-reference/invoice/mark-invoice-as-paid

    Raises:
        OrbRefusedError: Orb said no, for instance because it is void.
        OrbError: one of the others at the top of this module.
    """
    body = payment_body(
        payment_received_date=payment_received_date,
        external_id=external_id,
        notes=notes,
    )
    return _do_to(invoice, _KIND.MARK_PAID, body, asker)


def pay_invoice(
    invoice: Invoice | str,
    *,
    shared_payment_token_id: str | None = None,
    **asker: Unpack[Asker],
) -> Invoice:
    """
    Collect an issued invoice now, and return the stored row.

    By default the customer's default payment method is charged. If the payment fails
    or takes longer, the row is still issued.

    Source: https://docs.withorb.com/api-reference/invoice/pay-invoice

    Raises:
        OrbRefusedError: Orb said no, for instance because it is paid.
        OrbError: one of the others at the top of this module.
    """
    body = {}
    if shared_payment_token_id is not None:
        require_text(shared_payment_token_id, "shared_payment_token_id")
        body = {"shared_payment_token_id": shared_payment_token_id}
    return _do_to(invoice, _KIND.PAY, body, asker)


def regenerate_invoice_pdf(invoice: Invoice | str, **asker: Unpack[Asker]) -> Invoice:
    """
    Ask Orb to regenerate the PDF of an invoice. Return the stored row.

    Source: https://docs.withorb.com/api-reference/invoice/regenerate-invoice-pdf

    Raises:
        OrbRefusedError: Orb said no, for instance because it is a draft.
        OrbError: one of the others at the top of this module.
    """
    return _do_to(invoice, _KIND.REGENERATE_PDF, {}, asker)


def update_invoice(
    invoice: Invoice | str,
    *,
    metadata: Mapping[str, str | None] | Unchanged | None = UNCHANGED,
    net_terms: int | Unchanged | None = UNCHANGED,
    due_date: date | Unchanged | None = UNCHANGED,
    **asker: Unpack[Asker],
) -> Invoice:
    """
    Edit an invoice, and return the stored row.

    Metadata is merged, in every status: a value of None removes its key, and None
    instead of a mapping removes all. `net_terms` (days) and `due_date` (read in the
    customer's time zone) are for drafts; give one of them.

    The metadata before is recorded, so that an edit that got no answer is repeated
    only if it would not undo another user's.

    Source: https://docs.withorb.com/api-reference/invoice/update-invoice

    Raises:
        OrbRefusedError: Orb said no, for instance because it is no longer a draft.
        OrbError: one of the others at the top of this module.
    """
    body = update_body(metadata=metadata, net_terms=net_terms, due_date=due_date)
    invoice_id = _id_of(invoice)
    # `perform` refuses as well, but Orb would have been asked for the metadata by then.
    ledger.require_writable()
    ledger.require_no_transaction()
    with open_account() as client:
        before = {}
        if "metadata" in body:
            # From Orb, not from the mirror, which may be behind: it decides whether
            # sending the edit again would undo another user's.
            before = _metadata_of(client, invoice_id)
        _do(client, Request(_KIND.UPDATE.value, invoice_id, body, before, **asker))
    return _stored(invoice_id)


def void_invoice(invoice: Invoice | str, **asker: Unpack[Asker]) -> Invoice:
    """
    Void an issued invoice, once, and return the stored row.

    Customer balance that it used goes back to the customer; a credit block that it
    sold and that is not paid is voided. This cannot be undone.

    Source: https://docs.withorb.com/api-reference/invoice/void-invoice

    Raises:
        OrbRefusedError: Orb said no, for instance because it is paid.
        OrbError: one of the others at the top of this module.
    """
    return _do_to(invoice, _KIND.VOID, {}, asker)


def _do_to(
    invoice: Invoice | str,
    kind: InvoiceOperation.Kind,
    body: dict[str, Any],
    asker: Asker,
    *,
    before: dict[str, Any] | None = None,
) -> Invoice:
    request = Request(kind.value, _id_of(invoice), body, before or {}, **asker)
    with open_account() as client:
        _do(client, request)
    return _stored(request.invoice_id)


def _stored(invoice_id: str) -> Invoice:
    found = primary.rows(Invoice).filter(pk=invoice_id).first()
    if found is None:
        raise OrbResponseError(
            f"It is done, but invoice {invoice_id} is not in the mirror yet, and Orb "
            "does not show the change yet; the next sync will fetch it."
        )
    return found


def _do(client: OrbClient, request: Request) -> dict[str, Any]:
    """Perform an operation and fetch the invoice, even if Orb refuses it."""
    try:
        operation, answer = ledger.perform(request, client=client)
    except OrbRefusedError:
        # The mirror was behind: it showed an invoice on which this seemed possible.
        if request.invoice_id:
            with contextlib.suppress(OrbError):
                seen = observe_invoice(client, request.invoice_id)
                store(client, [seen])
        raise
    if operation.invoice_id:
        read_back(client, operation)
    return answer


def _id_in(answer: dict[str, Any]) -> str:
    """
    Return the id of what was created.

    Raises:
        OrbResponseError: a person found it done, and did not say under which id.
    """
    if not answer.get("id"):
        raise OrbResponseError(
            "It is done, as a person found in Orb; the next sync will fetch it."
        )
    return str(answer["id"])


def _metadata_of(client: OrbClient, invoice_id: str) -> dict[str, Any]:
    """
    Return the metadata before an edit, or nothing if Orb knows no such invoice.

    Raises:
        OrbError: Orb gave no answer, or another than the invoice.
    """
    seen = observe_invoice(client, invoice_id)
    if seen.is_absent:
        return {}
    store(client, [seen])
    invoice = require_id(seen.payload, invoice_id)
    return {"metadata": invoice.get("metadata") or {}}


def _id_of(invoice: Invoice | str) -> str:
    invoice_id = invoice.pk if isinstance(invoice, Invoice) else invoice
    require_orb_id(invoice_id, "invoice")
    return str(invoice_id)
