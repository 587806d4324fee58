"""Do what is outstanding, and delete what is finished and old."""

from __future__ import annotations

from .outstanding import are_operations_stuck, do_all, finish_operations
from .retention import prune

__all__ = ["are_operations_stuck", "do_all", "finish_operations", "prune"]
