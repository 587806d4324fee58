"""Do outstanding work, delete old rows, and erase personal data."""

from __future__ import annotations

from .erasing import erase_customer, undo_erasure
from .outstanding import are_operations_stuck, do_all, do_outstanding, finish_operations
from .retention import prune

__all__ = [
    "are_operations_stuck",
    "do_all",
    "do_outstanding",
    "erase_customer",
    "finish_operations",
    "prune",
    "undo_erasure",
]
