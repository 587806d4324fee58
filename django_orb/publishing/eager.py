"""
Run tasks in their caller if Celery's `task_always_eager` or Django is set to.

A task then runs at once, inside the task that asks for it, and a countdown is ignored.
So tasks queue here instead of running inside each other, and work that has to wait
stays in its row until `recover` does it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar

logger = logging.getLogger(__name__)

Message = tuple[tuple[Hashable, ...], Callable[[], object]]

_queue: ContextVar[deque[Message] | None] = ContextVar("django_orb_eager", default=None)


def run(
    call: Callable[[], object], names: tuple[Hashable, ...], *, seconds: float
) -> bool:
    """
    Run the task after those that are waiting. Return whether it ran or will run.

    `names` are its name and arguments: while it waits, the same task is not added again.
    A task that has to wait for `seconds` does not run; `recover` does its work later.
    """
    if seconds:
        return False
    waiting = _queue.get()
    if waiting is not None:  # a task is running already, and this one comes after it
        if names not in [other for other, _ in waiting]:
            waiting.append((names, call))
        return True
    queue: deque[Message] = deque([(names, call)])
    token = _queue.set(queue)
    try:
        while queue:
            _run_one(*queue.popleft())
    finally:
        _queue.reset(token)
    return True


def _run_one(names: tuple[Hashable, ...], call: Callable[[], object]) -> None:
    """Run a task and log its failure, which stays its own, as in a worker."""
    try:
        call()
    except Exception:  # with `task_eager_propagates`
        logger.exception("%s failed.", names[0])
