"""What Celery is told to do with the messages of a test, instead of its broker."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.task import Task
from celery.exceptions import OperationalError

Message = tuple[str, tuple[Any, ...]]


def catch_messages(patch: pytest.MonkeyPatch) -> list[Message]:
    """Return a list of what is sent from now on, by name; nothing is done with it."""
    messages: list[Message] = []

    def send(task: Any, args: Any = (), **options: Any) -> None:
        messages.append((task.name.rpartition(".")[2], tuple(args)))

    patch.setattr(Task, "apply_async", send)
    return messages


def refuse_messages(patch: pytest.MonkeyPatch) -> None:
    """Have no message sent from now on, as if the broker were away."""

    def refuse(task: Any, *args: Any, **options: Any) -> None:
        raise OperationalError("The broker does not answer.")

    patch.setattr(Task, "apply_async", refuse)
