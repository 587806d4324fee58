"""
Hand work to a backend of Django's tasks framework, if `TASK_BACKEND` names one.

All work goes through one task of Django's, `django_orb.tasks.perform`, which is given the
name of the work, so that no backend is needed to import this package. A backend need not
be able to delay tasks: work that has to wait is in a row, where `recover` finds it.
Django has had the framework since 6.0: https://docs.djangoproject.com/en/6.0/topics/tasks/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from . import eager

try:
    from django.tasks import DEFAULT_TASK_QUEUE_NAME, task_backends
    from django.tasks.backends.immediate import ImmediateBackend

    IS_OFFERED = True
except ImportError:  # Django 5.2
    IS_OFFERED = False


PERFORM = "django_orb.tasks.perform"


def backend_alias() -> str | None:
    """Return the alias that the settings name, without checking the other settings."""
    given = getattr(settings, "DJANGO_ORB", {})
    return given.get("TASK_BACKEND") if isinstance(given, dict) else None


def as_django_task(function: Callable[..., None]) -> Any:
    """
    Make a function a task of Django's if the settings name a backend.

    Workers find a task under the name of its function, in its module.
    """
    alias = backend_alias()
    # If the backend does not exist, a check says so.
    return _task(function, alias) if alias and is_there(alias) else function


def is_there(alias: str) -> bool:
    return IS_OFFERED and alias in list(task_backends)


def _task(function: Any, alias: str) -> Any:
    function = getattr(function, "func", function)
    backend = task_backends[alias]
    queues = sorted(backend.queues)
    is_default = not queues or DEFAULT_TASK_QUEUE_NAME in queues
    return backend.task_class(
        func=function,
        backend=alias,
        queue_name=DEFAULT_TASK_QUEUE_NAME if is_default else queues[0],
    )


def runs_at_once(alias: str) -> bool:
    """Return whether the backend runs a task within the call that asks for it."""
    return is_there(alias) and isinstance(task_backends[alias], ImmediateBackend)


def enqueue(args: Sequence[object], *, alias: str, seconds: float = 0.0) -> bool:
    """
    Enqueue a call of `PERFORM`. Return whether the backend took it.

    If the call has to wait for `seconds` and the backend cannot delay it, it is not
    enqueued.
    """
    # By name, since this package is below the tasks.
    task = _task(import_string(PERFORM), alias)
    if runs_at_once(alias):
        call = partial(task.enqueue, *args)
        return eager.run(call, (alias, *args), seconds=seconds)
    if seconds:
        # Such a backend raises InvalidTask for a time that is given.
        if not task_backends[alias].supports_defer:
            return False
        task = task.using(run_after=timezone.now() + timedelta(seconds=seconds))
    task.enqueue(*args)
    return True
