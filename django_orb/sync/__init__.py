"""Runs that read Orb's list of invoices, and the comparison of list and mirror."""

from __future__ import annotations

from . import (
    runs,
    windows,
)
from .comparison import (
    NOTHING,
    Difference,
)
from .planning import (
    STATUSES,
)
from .verification import (
    Verification,
    verify_invoices,
)

__all__ = [
    "NOTHING",
    "STATUSES",
    "Difference",
    "Verification",
    "runs",
    "verify_invoices",
    "windows",
]
