"""Send Celery's messages within a deadline, or run them at once if Celery is eager."""

from __future__ import annotations

from .deadline import broker
from .eager import run as run_eagerly

__all__ = ["broker", "run_eagerly"]
