"""Calling the receivers of a signal inside a transaction, each on its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.sync import async_to_sync
from django.db import models
from django.dispatch import Signal

from django_orb.db import ends_work, is_passing, is_spoilt, primary

logger = logging.getLogger(__name__)


def call_receivers(signal: Signal, sender: type[models.Model], **named: Any) -> None:
    """
    Call each receiver in a savepoint: one that fails is logged and undone alone.

    After `Signal.send_robust`, a failed statement of one receiver would leave a
    transaction that none can use. A failure that is not the receiver's own undoes the
    whole transaction, because the same call may succeed later: the connection was lost,
    another transaction interfered, or the time or the memory was used up.

    Raises:
        Exception: a failure that is not the receiver's own; the caller rolls back.
    """
    # Django has no public way to call receivers one by one.
    for receiver in _live_receivers(signal, sender):
        try:
            with primary.atomic():
                _call(receiver, signal=signal, sender=sender, **named)
        except Exception as err:
            if is_passing(err) or isinstance(err, _LostError) or is_spoilt():
                raise
            logger.exception(
                "A receiver of a signal failed: %r", receiver, extra=_ids_of(named)
            )


def send_robust(signal: Signal, sender: type[models.Model], **named: Any) -> None:
    """
    Call all receivers, whichever of them fail.

    Raises:
        SoftTimeLimitExceeded: it met a receiver, but is meant for the process.
    """
    for _, outcome in signal.send_robust(sender, **named):
        if isinstance(outcome, Exception) and ends_work(outcome):
            raise outcome


class _LostError(Exception):
    """A receiver's work was lost, and it raised no error."""


def _call(receiver: Callable[..., Any], **named: Any) -> None:
    """Call a receiver, and raise an error if it returns although its work is lost."""
    connection: Any = primary.connection()
    # Django sets it and never clears it: an earlier receiver's error would be blamed.
    connection.rollback_exc = None
    receiver(**named)
    if not is_spoilt():
        return
    text = "A receiver returned, but the transaction that it ran in cannot be committed"
    if connection.rollback_exc is not None:
        # The receiver swallowed this error of the database. As the cause it decides
        # whether the same call may succeed later.
        raise RuntimeError(text) from connection.rollback_exc
    raise _LostError(text)


def _live_receivers(
    signal: Signal, sender: type[models.Model]
) -> list[Callable[..., Any]]:
    plain, asynchronous = signal._live_receivers(sender)
    return [*plain, *map(async_to_sync, asynchronous)]


def _ids_of(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a signal is about, for the log."""
    about = ("run", "invoice", "event")
    return {f"orb_{name}_id": named[name].pk for name in about if name in named}
