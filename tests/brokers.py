"""
What becomes of the messages of a test, instead of what a broker would do with them.

They are Celery's, or those of Django's tasks, which a test asks for by `use_django_tasks`.
"""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.task import Task
from celery.exceptions import OperationalError

from django_orb.publishing import django_tasks

Message = tuple[str, tuple[Any, ...]]
IMMEDIATE = "django.tasks.backends.immediate.ImmediateBackend"

try:
    from django.tasks.backends.base import BaseTaskBackend
except ImportError:  # Django 5.2
    BaseTaskBackend = object  # type: ignore[assignment, misc]


class CatchingBackend(BaseTaskBackend):
    """Keeps what is enqueued, and does nothing with it; it cannot wait."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.validate_task(task)
        self.options["messages"].append((args[0], tuple(args[1:])))


class WaitingBackend(CatchingBackend):
    supports_defer = True


class RefusingBackend(BaseTaskBackend):
    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        raise ConnectionError("The backend does not answer.")


def use_django_tasks(settings: Any, backend: str, **options: Any) -> None:
    """Have our tasks run by a backend of Django's, which is the test's second one."""
    if not django_tasks.IS_OFFERED:
        pytest.skip("Django has tasks since 6.0.")
    path = backend if "." in backend else f"{__name__}.{backend}"
    of_project = {"BACKEND": IMMEDIATE}
    ours = {"BACKEND": path, "QUEUES": ["billing"], "OPTIONS": options}
    settings.TASKS = {"default": of_project, "orb": ours}
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TASK_BACKEND": "orb"}


def catch_messages(patch: pytest.MonkeyPatch) -> list[Message]:
    """Return a list of what is sent from now on, by name; nothing is done with it."""
    messages: list[Message] = []

    def send(task: Any, args: Any = (), **options: Any) -> None:
        messages.append((task.name.rpartition(".")[2], tuple(args)))

    patch.setattr(Task, "apply_async", send)
    return messages


AWAY = OperationalError("The broker does not answer.")


def refuse_messages(patch: pytest.MonkeyPatch, error: Exception = AWAY) -> None:
    """Have no message sent from now on, as if the broker were away."""

    def refuse(task: Any, *args: Any, **options: Any) -> None:
        raise error

    patch.setattr(Task, "apply_async", refuse)
