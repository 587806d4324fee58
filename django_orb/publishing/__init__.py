"""
Send messages within a deadline: through Celery, or to a backend of Django's tasks.

If tasks are set to run in their caller, they run here, one after the other.
"""

from __future__ import annotations

from .django_tasks import as_django_task
from .messages import publish, wake

__all__ = ["as_django_task", "publish", "wake"]
