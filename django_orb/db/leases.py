"""
Leases and waits, which are times in rows.

A worker that holds a lease may work on a row until then; the next one takes it over.
Where a row may be kept in hand longer than it was leased for, it also carries a token,
by which the holder finds out (`sync.windows`, `webhooks.attempts`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model, Q

from . import primary
from .clock import SLACK


def has_come(field: str, now: datetime, *, longest: timedelta) -> Q:
    """
    Match rows whose time, in a field of this name, has come.

    No wait is longer than `longest`. A time that is further away than that was noted
    before the clock was set back, and must not delay anything until it is reached.
    """
    too_far = now + longest + SLACK
    return Q(**{f"{field}__lte": now}) | Q(**{f"{field}__gt": too_far})


def is_free(now: datetime, *, longest: timedelta) -> Q:
    """Match rows that no worker holds: never leased, or with an expired lease."""
    return Q(lease_expires_at=None) | has_come("lease_expires_at", now, longest=longest)


def take(row: Any, *, until: datetime, **conditions: Any) -> bool:
    """
    Lease a row that was free when it was read, if it still meets the conditions.

    Return False if another worker has leased it since: the lease that was read is part
    of the condition, so that one of two gets it.
    """
    model: type[Model] = type(row)
    mine = primary.rows(model).filter(
        pk=row.pk, lease_expires_at=row.lease_expires_at, **conditions
    )
    if not mine.update(lease_expires_at=until):
        return False
    row.lease_expires_at = until
    return True
