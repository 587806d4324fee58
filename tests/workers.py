"""Celery workers as processes of their own, on a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from kombu import Connection

START_SECONDS = 60


class Workers:
    """A worker with its children, on a queue that nobody else uses."""

    def __init__(
        self,
        broker_url: str,
        environment: dict[str, str],
        log: Path,
        processes: int = 2,
    ) -> None:
        self.queue = f"django-orb-test-{uuid.uuid4().hex}"
        self.broker_url = broker_url
        self._log = log
        self._processes = processes
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **environment,
            "DJANGO_ORB_TEST_BROKER_URL": broker_url,
            "DJANGO_ORB_TEST_QUEUE": self.queue,
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker"]
        options = ["-c", str(self._processes), "-l", "info", "--without-gossip"]
        options += ["--without-mingle", "-n", f"{uuid.uuid4().hex}@localhost"]
        with self._log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [*command, *options],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready(begin)

    def _wait_until_ready(self, begin: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while b"ready." not in self._log.read_bytes()[begin:]:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no worker:\n{self.log_text()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the worker and its children in the middle of whatever they do."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        with Connection(self.broker_url) as connection:
            connection.SimpleQueue(self.queue).queue.delete()

    def _signal(self, number: int) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
        self._process = None

    def log_text(self) -> str:
        return self._log.read_text(errors="replace")


def wait_for(
    condition: Callable[[], bool], *, seconds: float, every: float = 0.1
) -> bool:
    """Wait until it holds; whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
