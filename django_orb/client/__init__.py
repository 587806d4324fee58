"""Call Orb over HTTP and parse its JSON, without a database or Django's models."""

from __future__ import annotations

from .list_page import RawPage
from .orb_client import OrbClient, longest_request_seconds, next_cursor
from .paths import is_id
from .raw_invoice import SIGNED_LINKS, RawInvoice, Shape

__all__ = [
    "SIGNED_LINKS",
    "OrbClient",
    "RawInvoice",
    "RawPage",
    "Shape",
    "is_id",
    "longest_request_seconds",
    "next_cursor",
]
