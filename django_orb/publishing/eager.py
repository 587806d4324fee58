"""
Run tasks in their caller if Celery's `task_always_eager` is on.

Celery then runs a task at once, inside the task that asks for it, and ignores its
countdown. So tasks queue here instead of running inside each other, and work that has
to wait stays in its row until `recover` does it.
"""

from __future__ import annotations

import logging
from collections import deque
from contextvars import ContextVar
from typing import Any

from celery import Task

logger = logging.getLogger(__name__)

Message = tuple["Task[Any, Any]", tuple[object, ...]]

_queue: ContextVar[deque[Message] | None] = ContextVar("django_orb_eager", default=None)


def run(task: Task[Any, Any], args: tuple[object, ...], *, seconds: float) -> bool:
    """
    Run the task after those that wait already. Return whether it ran or will run.

    A task that has to wait for `seconds` does not run: `recover` does its work later.
    """
    if seconds:
        return False
    waiting = _queue.get()
    if waiting is not None:  # one of our tasks is running; this one comes after it
        if (task, args) not in waiting:
            waiting.append((task, args))
        return True
    queue: deque[Message] = deque([(task, args)])
    token = _queue.set(queue)
    try:
        while queue:
            _run_one(*queue.popleft())
    finally:
        _queue.reset(token)
    return True


def _run_one(task: Task[Any, Any], args: tuple[object, ...]) -> None:
    """Run a task and log its failure, which stays its own, as in a worker."""
    try:
        task.apply_async(args=args)
    except Exception:  # with `task_eager_propagates`
        logger.exception("%s failed.", task.name)
