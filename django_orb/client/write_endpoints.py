"""Offer the calls that change something in Orb, as methods of `OrbClient`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django_orb.exceptions import OrbInputError, OrbResponseError

from .paths import path_to
from .transport import Transport

MAX_IDEMPOTENCY_KEY_LENGTH = 64

# requests refuses a header with a line break or a space at its beginning. Spaces at the
# end do not belong to the value (RFC 9110, section 5.5), so Orb would see another key.
_HEADER_TEXT = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class InvoiceWrites:
    """
    The calls that change something in Orb.

    Orb obeys idempotency keys only on POST, so PUT and DELETE are never repeated here.

    Source: https://docs.withorb.com/api-reference/idempotency
    """

    _transport: Transport

    def create_invoice(
        self,
        *,
        currency: str,
        invoice_date: date | str,
        line_items: Sequence[Mapping[str, Any]],
        customer_id: str | None = None,
        external_customer_id: str | None = None,
        net_terms: int | None = None,
        due_date: date | str | None = None,
        auto_collection: bool | None = None,
        will_auto_issue: bool | None = None,
        memo: str | None = None,
        discount: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Create a one-off invoice for a customer. Return the invoice.

        One of `customer_id` and `external_customer_id` is needed. `invoice_date` is a
        day or a time in the customer's time zone, a year ahead at most. `line_items`
        have Orb's form. The invoice is a draft, unless `will_auto_issue` is true and
        its date has come.

        Raises:
            OrbBadRequestError: a value is wrong, such as another currency than the
                customer's.
            OrbNotFoundError: there is no such customer or item.

        Source: https://docs.withorb.com/api-reference/invoice/create-one-off-invoice
        """
        body = {
            "currency": currency,
            "invoice_date": _moment(invoice_date),
            "line_items": [dict(line) for line in line_items],
            "customer_id": customer_id,
            "external_customer_id": external_customer_id,
            "net_terms": net_terms,
            "due_date": None if due_date is None else _moment(due_date),
            "auto_collection": auto_collection,
            "will_auto_issue": will_auto_issue,
            "memo": memo,
            "discount": discount,
            "metadata": metadata,
        }
        answer = self._transport.post(
            path_to("/invoices"),
            {key: value for key, value in body.items() if value is not None},
            idempotency_key=_idempotency_key(idempotency_key),
        )
        invoice = as_object("POST /invoices", answer)
        # Only this tells the operation which invoice it made.
        if not isinstance(invoice.get("id"), str) or not invoice["id"]:
            raise OrbResponseError("Orb's answer to POST /invoices has no id.")
        return invoice

    def create_invoice_line_item(
        self,
        *,
        invoice_id: str,
        amount: str,
        quantity: Decimal | int,
        start_date: date | str,
        end_date: date | str,
        name: str | None = None,
        item_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Add a one-off charge to a draft invoice. Return the line item.

        `amount` is the line's total in the invoice's currency. The days are those
        of the customer's time zone, as "2026-01-31". One of `name` and `item_id`
        is needed; a name that Orb does not know makes a new item.

        Raises:
            OrbBadRequestError: the invoice is not a draft, or a value is wrong.
            OrbNotFoundError: there is no such invoice or item.

        Source: https://docs.withorb.com/api-reference/invoice/create-invoice-line-item
        """
        # The amount is a text in Orb's API, and the quantity a number; both keep their
        # digits.
        body = {
            "invoice_id": invoice_id,
            "amount": amount,
            "quantity": quantity,
            "start_date": _day(start_date, "start_date"),
            "end_date": _day(end_date, "end_date"),
            "name": name,
            "item_id": item_id,
        }
        path = path_to("/invoice_line_items")
        answer = self._transport.post(
            path,
            {key: value for key, value in body.items() if value is not None},
            idempotency_key=_idempotency_key(idempotency_key),
        )
        return as_object(f"POST {path}", answer)

    def delete_invoice_line_item(
        self, invoice_id: str, line_item_id: str, *, idempotency_key: str | None = None
    ) -> Any:
        """
        Remove a one-off line from a draft invoice. Return the content of the answer,
        None if it has none, as Orb's own does not.

        Raises:
            OrbBadRequestError: the invoice is not a draft, or the line not a one-off.
            OrbNotFoundError: there is no such invoice, or the line is gone.

        Source: https://docs.withorb.com/api-reference/invoice/delete-invoice-line-item
        """
        path = path_to(
            "/invoices/{invoice_id}/invoice_line_items/{line_item_id}",
            invoice_id=invoice_id,
            line_item_id=line_item_id,
        )
        key = _idempotency_key(idempotency_key)
        return self._transport.delete(path, idempotency_key=key)

    def issue_invoice(
        self,
        invoice_id: str,
        *,
        synchronous: bool | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Issue an eligible draft that is not issued automatically. Return the invoice.

        Orb issues it a little later, unless `synchronous` is true, which invoices with
        usage fees do not allow.

        Raises:
            OrbBadRequestError: it cannot be issued, or not yet.
            OrbNotFoundError: there is no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/issue-invoice
        """
        # Orb's own SDK sends an empty object too, but with a void no body at all.
        body = {} if synchronous is None else {"synchronous": synchronous}
        return self._post_to_invoice(invoice_id, "issue", idempotency_key, body)

    def mark_invoice_paid(
        self,
        invoice_id: str,
        *,
        payment_received_date: date | str,
        external_id: str | None = None,
        notes: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Record that an issued or synced invoice was paid elsewhere. Return the invoice.

        Raises:
            OrbBadRequestError: it is neither issued nor synced.
            OrbNotFoundError: there is no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/mark-invoice-as-paid
        """
        body = {
            "payment_received_date": _day(
                payment_received_date, "payment_received_date"
            ),
            "external_id": external_id,
            "notes": notes,
        }
        body = {key: value for key, value in body.items() if value is not None}
        return self._post_to_invoice(invoice_id, "mark_paid", idempotency_key, body)

    def pay_invoice(
        self,
        invoice_id: str,
        *,
        shared_payment_token_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Collect an issued invoice now, by default from the customer's default
        payment method. Return the invoice.

        Raises:
            OrbBadRequestError: it is not issued, or cannot be collected.
            OrbNotFoundError: there is no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/pay-invoice
        """
        body = (
            {"shared_payment_token_id": shared_payment_token_id}
            if shared_payment_token_id is not None
            else {}
        )
        return self._post_to_invoice(invoice_id, "pay", idempotency_key, body)

    def regenerate_invoice_pdf(
        self, invoice_id: str, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """
        Ask Orb to regenerate the PDF of an invoice. Return the invoice.

        Raises:
            OrbBadRequestError: the invoice has no PDF, for instance as a draft.
            OrbNotFoundError: there is no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/regenerate-invoice-pdf
        """
        return self._post_to_invoice(
            invoice_id, "regenerate_invoice_pdf", idempotency_key
        )

    def create_portal_session(
        self,
        *,
        customer_id: str | None = None,
        external_customer_id: str | None = None,
        expires_in_minutes: int | None = None,
        invalidate_existing: bool | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Open a session in a customer's portal. Return it, with its address as `url`.

        It lasts for 60 minutes, or for `expires_in_minutes`, at most 180. It ends the
        customer's other sessions unless `invalidate_existing` is false.

        Raises:
            OrbInputError: neither or both ids were given.
            OrbNotFoundError: there is no such customer.

        Source: https://docs.withorb.com/guides/invoicing/invoice-portal, and
        `customers.create_portal_session` of Orb's SDK since 4.58.0
        """
        if (customer_id is None) == (external_customer_id is None):
            raise OrbInputError(
                "Give either customer_id or external_customer_id.", field="customer_id"
            )
        if customer_id is not None:
            path = path_to(
                "/customers/{customer_id}/portal_sessions", customer_id=customer_id
            )
        else:
            path = path_to(
                "/customers/external_customer_id/{external_customer_id}/portal_sessions",
                external_customer_id=external_customer_id or "",
            )
        body = {
            "expires_in_minutes": expires_in_minutes,
            "invalidate_existing": invalidate_existing,
        }
        answer = self._transport.post(
            path,
            {key: value for key, value in body.items() if value is not None},
            idempotency_key=_idempotency_key(idempotency_key),
        )
        return as_object(f"POST {path}", answer)

    def update_invoice(
        self,
        invoice_id: str,
        changes: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """
        Change `metadata`, `net_terms` or `due_date`. Return the invoice.

        Metadata is merged: a null value removes its key, and null removes all. It
        may change in every status, the others only while the invoice is a draft.

        Raises:
            OrbBadRequestError: it is no longer a draft, or a value is wrong.
            OrbNotFoundError: there is no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/update-invoice
        """
        path = path_to("/invoices/{invoice_id}", invoice_id=invoice_id)
        key = _idempotency_key(idempotency_key)
        # Nulls, which are left out elsewhere, are sent: here they remove something.
        answer = self._transport.put(path, dict(changes), idempotency_key=key)
        return as_object(f"PUT {path}", answer)

    def void_invoice(
        self, invoice_id: str, *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """
        Void an issued invoice for good. Return it, or {} if Orb sent no body.

        Raises:
            OrbBadRequestError: the invoice is not in status issued.
            OrbNotFoundError: there is no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/void-invoice
        """
        return self._post_to_invoice(invoice_id, "void", idempotency_key)

    def _post_to_invoice(
        self,
        invoice_id: str,
        action: str,
        idempotency_key: str | None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        path = path_to(f"/invoices/{{invoice_id}}/{action}", invoice_id=invoice_id)
        key = _idempotency_key(idempotency_key)
        # Orb's first API document gives a void the status 201, today's names none. So
        # any 2xx will do, with a body or without.
        answer = self._transport.post(path, body, idempotency_key=key)
        return {} if answer is None else as_object(f"POST {path}", answer)


def as_object(name: str, answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        found = "nothing" if answer is None else type(answer).__name__
        raise OrbResponseError(
            f"Orb's answer to {name} should be a JSON object and is {found}."
        )
    return answer


def _day(value: date | str, field: str) -> str:
    # Orb takes days of the customer's time zone, where a time may be on another day.
    if isinstance(value, datetime):
        raise OrbInputError(f"{field} must be a date without a time.", field=field)
    return value if isinstance(value, str) else value.isoformat()


def _moment(value: date | str) -> str:
    return value if isinstance(value, str) else value.isoformat()


def _idempotency_key(key: str | None) -> str | None:
    # The limit: https://docs.withorb.com/api-reference/idempotency
    if key is not None and (
        len(key) > MAX_IDEMPOTENCY_KEY_LENGTH or not _HEADER_TEXT.fullmatch(key)
    ):
        raise OrbInputError(
            "An idempotency key has 1 to 64 ASCII characters, "
            "none of them a line break, and no space at its ends.",
            field="idempotency_key",
        )
    return key
