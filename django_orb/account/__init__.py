"""Open a client of the mirrored Orb account, within the budget of all processes."""

from __future__ import annotations

from .identity import accept_key, is_of_account, open_account, require_same_account
from .rate_limit import READS, PacedClient, hold_back, in_turn

__all__ = [
    "READS",
    "PacedClient",
    "accept_key",
    "hold_back",
    "in_turn",
    "is_of_account",
    "open_account",
    "require_same_account",
]
