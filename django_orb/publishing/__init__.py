"""
Send messages within a deadline: through Celery, or to a backend of Django's tasks.

If tasks are set to run in their caller, they run here, one after the other.
"""

from __future__ import annotations

from .deadline import broker
from .django_tasks import as_django_task, enqueue, runs_at_once
from .eager import run as run_eagerly

__all__ = ["as_django_task", "broker", "enqueue", "run_eagerly", "runs_at_once"]
