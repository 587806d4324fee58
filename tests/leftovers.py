"""What a test may change in its process, and must put back: the next one relies on it."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import _state
from django.conf import settings
from django.db import connections
from django.dispatch import Signal
from django.utils import timezone, translation

from django_orb import metrics, signals
from django_orb.client import deadline
from django_orb.publishing import eager

from . import databases

_OUR_SIGNALS = {
    name: value for name, value in vars(signals).items() if isinstance(value, Signal)
}


def restore() -> None:
    """Put back what any request may change, such as the reader's language."""
    translation.deactivate()
    timezone.deactivate()


def snapshot() -> dict[str, Any]:
    """Return what is compared before and after a test, by its name."""
    return {
        "Celery's current app": getattr(_state, "_tls").current_app,  # noqa: B009
        "Celery's default app": getattr(_state, "default_app"),  # noqa: B009
        "os.environ": {
            name: value
            for name, value in os.environ.items()
            if name != "PYTEST_CURRENT_TEST"
        },
        "the working directory": os.getcwd(),
        "what handles SIGINT": signal.getsignal(signal.SIGINT),
        "what handles SIGTERM": signal.getsignal(signal.SIGTERM),
        "Django's settings": getattr(settings, "_wrapped"),  # noqa: B009
        "DJANGO_ORB": dict(settings.DJANGO_ORB),
        "the database that tests are routed to": databases.current_alias,
        "the settings of the databases": _settings_of_databases(),
        "the deadline of requests": deadline._ends_at.get(),
        "the queue of eager tasks": eager._queue.get(),
        "where metrics go": metrics._sinks or (),
        **{
            f"the receivers of {name}": _receivers(s)
            for name, s in _OUR_SIGNALS.items()
        },
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say what is not as it was."""
    return [
        f"{name}: {value!r} became {after[name]!r}"
        for name, value in before.items()
        if after[name] != value
    ]


def _receivers(sent: Signal) -> list[Any]:
    """Who is connected and still there; the dead are removed when it is next sent."""
    return [
        entry[0]
        for entry in sent.receivers
        if not hasattr(entry[1], "__callback__") or entry[1]() is not None
    ]


def _settings_of_databases() -> dict[str, dict[str, Any]]:
    # Their names change once, to those of the tests' own.
    return {
        alias: {name: value for name, value in given.items() if name != "NAME"}
        for alias, given in connections.settings.items()
    }
