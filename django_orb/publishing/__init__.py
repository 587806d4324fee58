"""Celery's messages: sent within a deadline, or run at once where Celery is eager."""

from __future__ import annotations

from .deadline import Broker, broker
from .eager import run as run_eagerly

__all__ = ["Broker", "broker", "run_eagerly"]
