"""What is outstanding is done, and what is old enough is deleted."""

from __future__ import annotations

from .outstanding import are_operations_stuck, do_all, finish_operations
from .retention import prune

__all__ = ["are_operations_stuck", "do_all", "finish_operations", "prune"]
