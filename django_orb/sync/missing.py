"""
How many invoices may be marked as missing without asking.

With the key of another account Orb truly answers 404 for each invoice of the mirror.
"""

from __future__ import annotations

from collections.abc import Iterable

from django_orb.db import primary
from django_orb.models import Invoice

MAX_MISSING = 50
MAX_MISSING_SHARE = 0.01


def newly_missing(ids: Iterable[str]) -> set[str]:
    """Return which of these are in the mirror and not marked as missing yet."""
    stored = primary.rows(Invoice).filter(pk__in=ids, missing_since=None)
    return set(stored.values_list("pk", flat=True))


def refusal(count: int) -> str:
    """Return why so many may not be marked without asking, or ""."""
    if count <= MAX_MISSING:
        return ""
    limit = max(MAX_MISSING, int(primary.rows(Invoice).count() * MAX_MISSING_SHARE))
    if count <= limit:
        return ""
    return (
        f"Orb no longer knows {count} of the mirrored invoices, more than the {limit} "
        "that are accepted without asking; none was marked. Check that API_KEY belongs "
        "to the account of this mirror. If they are really gone, run orb_sync_invoices "
        "--mode full --accept-missing."
    )
