"""Keep what is slow to read in the project's cache for a while."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.core.cache import cache
from django.db.models import F, Func, Subquery
from django.utils import timezone

from django_orb import __version__
from django_orb.db import primary
from django_orb.models import CustomerErasure, ErasureGate, MirroredAccount

logger = logging.getLogger(__name__)

T = TypeVar("T")


def keep(name: str, seconds: int, read: Callable[[], T]) -> tuple[T, datetime]:
    """
    Return what `read` returned in the last so many seconds, and when it was read.

    An entry of another account, database or release is not found; a tenant of the same
    database and cache is another account. Nor is one that was read before a customer was
    erased, or before that was complete. If the cache is out of reach, `read` is called
    each time.
    """
    key = _key(name)
    try:
        found: tuple[T, datetime] | None = cache.get(key)
    except Exception:
        # Each cache raises the errors of its own library.
        logger.warning("The cache cannot be read.", exc_info=True)
        found = None
    if found is None:
        now = timezone.now()
        found = read(), now
        try:
            cache.set(key, found, seconds)
        except Exception:
            logger.warning("The cache cannot be written.", exc_info=True)
    return found


def _key(name: str) -> str:
    accounts = primary.rows(MirroredAccount)
    # Tenants in schemas of one database also share the cache's keys.
    account = accounts.values_list("fingerprint", flat=True).first()
    where = primary.connection().settings_dict
    database = f"{where['HOST']} {where['PORT']} {where['NAME']}"
    # With the release, whose classes are what was pickled.
    parts = "\n".join([__version__, database, account or "", _erasures(), name])
    # Some caches refuse long keys, and characters that an id may have.
    return f"django_orb:{hashlib.sha256(parts.encode()).hexdigest()}"


def _erasures() -> str:
    """
    Return a text that changes when an erasure begins and when it is complete.

    In between, what is read may still show the customer. One query.
    """
    unfinished = CustomerErasure.objects.exclude(stage="").order_by()
    count = unfinished.annotate(count=Func(F("pk"), function="COUNT")).values("count")
    # Where the pages read: a replica that lags still has what was erased, and has the
    # older token too.
    gates = ErasureGate.objects.annotate(unfinished=Subquery(count))
    return " ".join(map(str, gates.values_list("token", "unfinished").first() or ()))
