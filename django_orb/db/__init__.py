"""Use what the ORM does not offer: retried transactions, bulk writing, the clock."""

from __future__ import annotations

from . import primary
from .bulk import claim, format_rows, insert, is_text_taken, upsert, uses_copy
from .clock import SLACK, Interval, Timed, epoch_sql, timed
from .leases import has_come, is_free, take
from .threads import in_this_context
from .transactions import (
    SHARED_LOCK,
    StatementLog,
    ends_work,
    is_passing,
    is_spoilt,
    renew_connection,
    require_outside_transaction,
    run_in_transaction,
    snapshot,
    uncompiled,
    why_refused,
)

__all__ = [
    "SHARED_LOCK",
    "SLACK",
    "Interval",
    "StatementLog",
    "Timed",
    "claim",
    "ends_work",
    "epoch_sql",
    "format_rows",
    "has_come",
    "in_this_context",
    "insert",
    "is_free",
    "is_passing",
    "is_spoilt",
    "is_text_taken",
    "primary",
    "renew_connection",
    "require_outside_transaction",
    "run_in_transaction",
    "snapshot",
    "take",
    "timed",
    "uncompiled",
    "upsert",
    "uses_copy",
    "why_refused",
]
