from __future__ import annotations

import secrets
from typing import Any


class Links:
    """The portal and PDF links; signed anew on every read when that is asked for."""

    def __init__(self) -> None:
        self.signed_anew = False

    def of(self, invoice_id: str) -> tuple[str, str]:
        """hosted_invoice_url and invoice_pdf."""
        # Made of the id itself: they are put into every answer, and hashing is dear.
        token = file = f"{invoice_id[::-1]}{invoice_id}"
        if self.signed_anew:
            fresh = secrets.token_hex(16)
            token, file = f"{token}.{fresh}", f"{file}?signature={fresh}"
        return (
            f"https://portal.withorb.com/view?token={token}",
            f"https://assets.withorb.com/invoice/SANDBOX/{file}",
        )

    def fields(self, invoice_id: str) -> dict[str, str]:
        portal, pdf = self.of(invoice_id)
        return {"hosted_invoice_url": portal, "invoice_pdf": pdf}

    def refreshed(self, payload: dict[str, Any]) -> dict[str, Any]:
        if payload["invoice_pdf"] is None:
            return payload
        return payload | self.fields(payload["id"])
