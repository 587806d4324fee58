from __future__ import annotations

import secrets
from typing import Any


def links(invoice_id: str) -> tuple[str, str]:
    """Return the hosted_invoice_url and invoice_pdf that are stored."""
    # Made from the id itself: every answer has them, and a hash would take longer.
    key = f"{invoice_id[::-1]}{invoice_id}"
    return _portal(key), _pdf(key)


def signed_links(invoice_id: str) -> tuple[str, str]:
    """Return both with a signature that is different each time."""
    key = f"{invoice_id[::-1]}{invoice_id}"
    fresh = secrets.token_hex(16)
    return _portal(f"{key}.{fresh}"), _pdf(f"{key}?signature={fresh}")


def portal_session(session_id: str) -> str:
    """Return the address of a session, which only its answer ever has."""
    return _portal(f"{session_id}.{secrets.token_hex(16)}")


def _portal(token: str) -> str:
    return f"https://portal.withorb.com/view?token={token}"


def _pdf(file: str) -> str:
    return f"https://assets.withorb.com/invoice/SANDBOX/{file}"


def with_signed_links(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["invoice_pdf"] is None:
        return payload
    portal, pdf = signed_links(payload["id"])
    return payload | {"hosted_invoice_url": portal, "invoice_pdf": pdf}
