"""
Answers of Orb, as JSON.

The values are invented; the shape is that of Orb's own SDK under strict
validation, and the sums are right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django_orb import exact_json


def load(name: str) -> dict[str, Any]:
    """Read a fresh copy of one sample, numbers exact."""
    text = (Path(__file__).parent / f"{name}.json").read_bytes()
    payload: dict[str, Any] = exact_json.loads(text)
    return payload


def load_full(**changes: Any) -> dict[str, Any]:
    """Read a paid invoice that carries some of all that an invoice may carry."""
    payload = load("invoice_paid")
    attempt, balance = (
        payload["payment_attempts"][0],
        payload["customer_balance_transactions"][0],
    )
    note = {
        "id": "cnA3sD5fG7hJ9kL1",
        "credit_note_number": "CN-00007",
        "type": "refund",
        "total": "50.10",
        "reason": "Order change",
        "memo": "Agreed with the customer",
        "voided_at": None,
    }
    applied = {
        "id": "btxQ1wE3rT5yU7iO",
        "action": "credit_note_applied",
        "credit_note": {"id": note["id"]},
    }
    return {
        **payload,
        "credit_notes": [
            note,
            {
                **note,
                "id": "cnZ2xC4vB6nM8aS0",
                "credit_note_number": "CN-00008",
                "total": "7.25",
                "voided_at": "2026-04-02T10:00:00+00:00",
            },
        ],
        "payment_attempts": [
            {**attempt, "id": "patFailedBefore1", "succeeded": False},
            attempt,
        ],
        "customer_balance_transactions": [balance, {**balance, **applied}],
        **changes,
    }
