"""
The database that the mirror is written to.

Reads that decide something use it too: a router may send other reads to a replica that
lags behind.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.apps import apps
from django.db import connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .clock import DatabaseClock, clock_of

Model = TypeVar("Model", bound=models.Model)


def alias() -> str:
    """Return the database's alias, as the project's router says."""
    # By name, since this package is below the models.
    return router.db_for_write(apps.get_model("django_orb", "Invoice"))


def rows(model: type[Model]) -> models.QuerySet[Model]:
    """Return all rows of a model in it."""
    return model._default_manager.using(alias())


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to it."""
    return connections[alias()]


def atomic(*, durable: bool = False) -> transaction.Atomic:
    """Return a block that is a transaction, or a savepoint inside one."""
    return transaction.atomic(using=alias(), durable=durable)


def on_commit(call: Callable[[], object]) -> None:
    """Call once the open transaction is committed; at once if none is open."""
    transaction.on_commit(call, using=alias())


def clock() -> DatabaseClock:
    """Return this process's knowledge of the database's clock."""
    return clock_of(alias())


def now() -> datetime:
    """Return an instant that is certainly not before the present."""
    return clock().latest()
