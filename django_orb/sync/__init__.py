"""Read Orb's list of invoices in runs, and compare it with the mirror."""

from __future__ import annotations

from . import runs, windows
from .comparison import NOTHING, Difference
from .planning import STATUSES
from .verification import Verification, verify_invoices

__all__ = [
    "NOTHING",
    "STATUSES",
    "Difference",
    "Verification",
    "runs",
    "verify_invoices",
    "windows",
]
