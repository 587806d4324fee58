"""An invoice full of one word wherever something personal may be, and where it is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import connections

from django_orb.client.raw_invoice import RawInvoice
from django_orb.mirror import Observation
from django_orb.models import InvoiceOperation
from tests import databases
from tests.deliveries import event_of
from tests.payloads import load_full

WORD = "Zanzibar"
CUSTOMER = "cusW4eR6tYu8IoPa"
OTHER = "cusOther00000001"
_ADDRESS = dict.fromkeys(("line1", "line2", "city", "state", "postal_code"), WORD)


def personal(invoice_id: str = "inv1", **changes: Any) -> dict[str, Any]:
    """A payload of all that an invoice may carry, with the word in each place."""
    whole = load_full()
    line = {
        **whole["line_items"][0],
        "grouping": WORD,
        "filter": WORD,
        "adjustments": [{"id": "adj", "amount": "1.00", "reason": WORD}],
        "sub_line_items": [
            {
                "type": "matrix",
                "name": WORD,
                "quantity": 2,
                "amount": "3.00",
                "grouping": {"key": "user", "value": WORD},
                "matrix_config": {"dimension_values": [WORD]},
            }
        ],
    }
    line["price"] = {**line["price"], "metadata": {"for": WORD}}
    return {
        **whole,
        "id": invoice_id,
        "customer": {
            "id": CUSTOMER,
            "external_customer_id": f"{WORD}@example.com",
            "name": WORD,
        },
        "customer_name": WORD,
        "billing_address": {**_ADDRESS, "country": "US"},
        "shipping_address": {**_ADDRESS, "country": "US"},
        "customer_tax_id": {"country": "US", "type": "us_ein", "value": WORD},
        "memo": WORD,
        "metadata": {"contact": WORD},
        "discount": {"discount_type": "percentage", "reason": WORD},
        "discounts": [{"discount_type": "percentage", "reason": WORD}],
        "hosted_invoice_url": f"https://portal.example.com/{WORD}",
        "invoice_pdf": f"https://pdf.example.com/{WORD}",
        "line_items": [line, *whole["line_items"][1:]],
        "credit_notes": [
            {**note, "reason": WORD, "memo": WORD} for note in whole["credit_notes"]
        ],
        "payment_attempts": [
            {**one, "receipt_pdf": f"https://receipt.example.com/{WORD}"}
            for one in whole["payment_attempts"]
        ],
        "customer_balance_transactions": [
            {**one, "description": WORD}
            for one in whole["customer_balance_transactions"]
        ],
        **changes,
    }


def of_other(invoice_id: str = "inv2") -> dict[str, Any]:
    """An invoice of another customer, which an erasure leaves alone."""
    customer = {"id": OTHER, "external_customer_id": "kept@example.com"}
    return personal(invoice_id, customer=customer) | {"memo": "kept"}


def event(invoice: Any, type: str = "invoice.issued", **changes: Any) -> dict[str, Any]:
    secrets = {"reason": WORD, "notes": WORD, "failure_reason": WORD}
    body: dict[str, Any] = event_of(invoice, type, properties=secrets, **changes)
    return body


def observed(payload: Any, interval: Any, *, as_text: bool = True) -> Observation:
    sent = RawInvoice.of(payload) if as_text else payload
    return Observation(payload["id"], sent, interval)


def places() -> list[str]:
    """The columns, of any table, in which the word stands in a row."""
    return sorted(set(_places()))


def _places() -> Iterator[str]:
    connection = connections[databases.current_alias]
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(include_views=False):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for name, value in zip(names, row, strict=True):
                    if WORD.lower() in str(value).lower():
                        yield f"{table}.{name}"


def operated(invoice_id: str, **values: Any) -> InvoiceOperation:
    """An operation that is over, with the word wherever a person or Orb may write."""
    from django_orb.db import primary

    now = primary.now()
    defaults = {
        "kind": InvoiceOperation.Kind.UPDATE,
        "state": InvoiceOperation.State.SUCCEEDED,
        "invoice_id": invoice_id,
        "body": {"metadata": {"contact": WORD}},
        "before": {"metadata": {"contact": WORD}},
        "result": personal(invoice_id),
        "note": f"{WORD} asked for it.",
        "detail": WORD,
        "idempotency_key": f"key {InvoiceOperation.objects.count()}",
        "created_at": now,
        "finished_at": now,
        "mirrored_at": now,
    }
    return InvoiceOperation.objects.create(**{**defaults, **values})


def logged(user: Any, subject: Any, text: str = WORD) -> None:
    LogEntry.objects.create(
        user=user,
        content_type=_type_of(subject),
        object_id=None if isinstance(subject, type) else str(subject.pk),
        object_repr="-",
        action_flag=2,
        change_message=text,
    )


def _type_of(subject: Any) -> Any:
    from django.contrib.contenttypes.models import ContentType

    return ContentType.objects.get_for_model(subject)
