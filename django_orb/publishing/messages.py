"""Publish a message for a task, through Celery or a backend of Django's tasks."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import Task

from django_orb.conf import get_settings
from django_orb.db import ends_work

from . import eager
from .deadline import broker
from .django_tasks import enqueue, runs_at_once

logger = logging.getLogger(__name__)


def wake(task: Task[Any, Any], *args: object) -> bool:
    """Publish a message within about a second, because a user may wait for it."""
    alias = get_settings().TASK_BACKEND
    # A task that runs within this call may take longer than a second,
    # and needs no broker.
    if runs_at_once(alias) if alias else task.app.conf.task_always_eager:
        return publish(task, *args)
    return broker.ask(lambda: publish(task, *args))


def publish(task: Task[Any, Any], *args: object, seconds: float = 0.0) -> bool:
    """
    Send a message if the broker takes it at once. Return whether it did.

    The rows are the queue, so an unreachable broker delays work but loses none.
    """
    settings = get_settings()
    alias = settings.TASK_BACKEND
    if not alias and task.app.conf.task_always_eager:
        call = partial(task.apply_async, args=args)
        return eager.run(call, (task.name, *args), seconds=seconds)
    options: dict[str, Any] = {"countdown": seconds} if seconds else {}
    if settings.CELERY_QUEUE:
        options["queue"] = settings.CELERY_QUEUE
    try:
        if alias:
            named = (task.name.rpartition(".")[2], *args)
            return enqueue(named, alias=alias, seconds=seconds)
        # Celery would otherwise try several times, while the caller waits.
        task.apply_async(args=args, retry=False, **options)
    except Exception as err:
        if ends_work(err):
            raise
        logger.warning("The broker took no message for %s.", task.name, exc_info=True)
        return False
    return True
