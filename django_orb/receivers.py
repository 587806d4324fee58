"""Calling the receivers of a signal inside a transaction, each on its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.db import OperationalError, models, transaction
from django.dispatch import Signal

from .database import is_contention

logger = logging.getLogger(__name__)


def call_receivers(
    signal: Signal, sender: type[models.Model], *, using: str, **named: Any
) -> None:
    """
    Call each receiver in a savepoint: one that raises is logged and undone alone.

    `Signal.send_robust` would leave a transaction behind that a failed statement of
    one receiver has spoilt for all.

    Raises:
        OperationalError: others were in the way of the whole transaction, which has
            to be done again.
    """
    for receiver in _live_receivers(signal, sender):
        try:
            with transaction.atomic(using=using):
                receiver(signal=signal, sender=sender, **named)
        except Exception as err:
            if isinstance(err, OperationalError) and is_contention(err):
                raise
            logger.exception("A receiver of a signal failed: %r", receiver)


def _live_receivers(
    signal: Signal, sender: type[models.Model]
) -> list[Callable[..., Any]]:
    plain, asynchronous = signal._live_receivers(sender)
    return [*plain, *map(async_to_sync, asynchronous)]
