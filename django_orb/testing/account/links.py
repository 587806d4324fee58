from __future__ import annotations

import secrets
from typing import Any


def links(invoice_id: str) -> tuple[str, str]:
    """hosted_invoice_url and invoice_pdf, as they are kept."""
    # Made of the id itself: they are put into every answer, and hashing is dear.
    key = f"{invoice_id[::-1]}{invoice_id}"
    return _portal(key), _pdf(key)


def signed_links(invoice_id: str) -> tuple[str, str]:
    """The same with a signature that is never the same."""
    key = f"{invoice_id[::-1]}{invoice_id}"
    fresh = secrets.token_hex(16)
    return _portal(f"{key}.{fresh}"), _pdf(f"{key}?signature={fresh}")


def _portal(token: str) -> str:
    return f"https://portal.withorb.com/view?token={token}"


def _pdf(file: str) -> str:
    return f"https://assets.withorb.com/invoice/SANDBOX/{file}"


def with_signed_links(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["invoice_pdf"] is None:
        return payload
    portal, pdf = signed_links(payload["id"])
    return payload | {"hosted_invoice_url": portal, "invoice_pdf": pdf}
