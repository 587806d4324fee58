"""Orb over HTTP, as parsed JSON; knows no database and no Django model."""

from __future__ import annotations

from .list_page import (
    RawPage,
)
from .orb_client import (
    OrbClient,
    next_cursor,
)
from .raw_invoice import (
    RawInvoice,
    Shape,
)
from .transport import (
    worst_case_seconds,
)

__all__ = [
    "OrbClient",
    "RawInvoice",
    "RawPage",
    "Shape",
    "next_cursor",
    "worst_case_seconds",
]
