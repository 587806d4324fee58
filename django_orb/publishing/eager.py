"""
Celery's `task_always_eager`: what would be a message runs here, in its caller.

Celery then calls a task at once, inside the one that asks for it, and ignores for how
long it was to wait. So tasks wait here for their turn instead of running inside each
other, and work that has to wait is left to its row and to `recover`.
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
    Run the task, after those that wait already; whether it ran or will run.

    A task that was to wait does not: `recover` takes it up once its time has come.
    """
    if seconds:
        return False
    waiting = _queue.get()
    if waiting is not None:  # a task of ours is running: it comes next
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
    """A failure is the task's own, as it would be in a worker."""
    try:
        task.apply_async(args=args)
    except Exception:  # with `task_eager_propagates`
        logger.exception("%s failed.", task.name)
