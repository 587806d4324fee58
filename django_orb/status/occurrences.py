"""When scheduled tasks last ran, and when a webhook was last refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from django.db import Error

from django_orb.db import claim, primary, upsert
from django_orb.exact_json import storable_text
from django_orb.models import LastOccurrence

logger = logging.getLogger(__name__)

INCREMENTAL = "sync_invoices incremental"
FULL = "sync_invoices full"
RECOVER = "recover"
PRUNE = "prune"
SCHEDULED = (INCREMENTAL, FULL, RECOVER, PRUNE)

REFUSED = "webhook refused"
#: A request that does not even claim to be Orb's, as strangers send.
REFUSED_UNSIGNED = "webhook refused unsigned"

MAX_DETAIL = 500
PAUSE_SECONDS = 60.0

# When this process last noted each kind of refusal, by `time.monotonic()`.
_noted_at: dict[str, float] = {}


@contextmanager
def noted(*names: str) -> Iterator[None]:
    """Note when scheduled tasks of these names end, and how; one statement."""
    try:
        yield
    except Exception as err:
        _note(names, f"{type(err).__name__}: {err}")
        raise
    _note(names, "")


def _note(given: Sequence[str], detail: str) -> None:
    names = [name for name in given if name in SCHEDULED]
    if not names:
        return
    text = storable_text(detail)[:MAX_DETAIL]
    try:
        now = primary.now()
        rows = [{"name": name, "at": now, "detail": text} for name in sorted(names)]
        upsert(LastOccurrence, rows, key=["name"])
    except Error:
        # A note that fails must not change how the work itself ended.
        logger.warning("It was not noted that %s ran.", names, exc_info=True)


def note_refusal(reason: str, *, is_signed: bool) -> None:
    """
    Note why a webhook was refused, at most once a minute, into one row.

    Strangers send what they like: most of it costs no statement, and nothing of it is
    stored.
    """
    name = REFUSED if is_signed else REFUSED_UNSIGNED
    if time.monotonic() - _noted_at.get(name, float("-inf")) < PAUSE_SECONDS:
        return
    # Noted before the statements, so that failing ones are not repeated for strangers.
    _noted_at[name] = time.monotonic()
    try:
        now = primary.now()
        row = {"name": name, "at": now, "detail": storable_text(reason)[:MAX_DETAIL]}
        # Other processes have a memory of their own: the row decides which of them
        # notes.
        claim(LastOccurrence, [row])
        old = primary.rows(LastOccurrence).filter(
            pk=name, at__lt=now - timedelta(seconds=PAUSE_SECONDS)
        )
        old.update(at=now, detail=row["detail"])
    except Error:
        logger.warning("It was not noted that a webhook was refused.", exc_info=True)
