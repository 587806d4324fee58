"""
Ask the message broker for something, without waiting long for its answer.

A broker that accepts connections but never answers blocks a caller for minutes, and
one that refuses them for seconds: Celery's time-outs are made for workers. So the
question is asked in a thread of its own, and left there if no answer comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from django.db import connections

from django_orb.db import in_this_context

logger = logging.getLogger(__name__)

# Orb waits five seconds for the answer to a webhook, which is given after this:
# https://docs.withorb.com/guides/integrations-and-exports/webhooks
PATIENCE_SECONDS = 1.0
# After a question that got no answer, nothing is asked for this many seconds.
PAUSE_SECONDS = 10.0
MAX_THREADS = 32


class Broker:
    """Publish from a helper thread, so that a hung broker cannot block a caller."""

    def __init__(
        self,
        *,
        max_threads: int = MAX_THREADS,
        patience_seconds: float = PATIENCE_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._places = threading.BoundedSemaphore(max_threads)
        self._patience_seconds = patience_seconds
        self._pause_seconds = pause_seconds
        self._paused_until = 0.0

    def ask(self, question: Callable[[], bool]) -> bool:
        """Return whether the question was answered with yes within about a second."""
        deadline = time.monotonic() + self._patience_seconds
        if time.monotonic() < self._paused_until:
            return False
        answers: SimpleQueue[bool] = SimpleQueue()
        if not self._places.acquire(timeout=self._patience_seconds):
            return False
        thread = threading.Thread(
            target=self._ask, args=(in_this_context(question), answers), daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the process may not have more threads
            self._places.release()
            return False
        try:
            is_done = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            logger.warning("The broker has not answered for a second.")
            is_done = False
        if not is_done:
            self._paused_until = time.monotonic() + self._pause_seconds
        return is_done

    def _ask(self, question: Callable[[], bool], answers: SimpleQueue[bool]) -> None:
        try:
            answers.put(question())
        finally:
            connections.close_all()  # this thread's, if the project opened any
            self._places.release()


broker = Broker()
