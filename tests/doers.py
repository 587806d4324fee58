"""
Processes that ask Orb for something and may be killed in the middle of it.

One process, set up once, forks another for each deed, which is quick. It takes a
line of JSON with what its children are to do and answers with how each ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from datetime import date
from types import FrameType, SimpleNamespace
from typing import Any

import django

# Where a process may be killed, as functions of these modules that it calls.
POINTS = {
    "not recorded": ("django_orb.operations.ledger", "_record"),
    "recorded": ("django_orb.operations.sending", "send"),
    "begun": ("django_orb.client.transport", "_send"),
    "sent": ("http.client", "getresponse"),
    "answered": ("django_orb.client.transport", "_read"),
    "read": ("django_orb.operations.sending", "settle"),
    "settled": ("django_orb.operations.confirmation", "read_back"),
    "seen": ("django_orb.mirror.fetching", "store"),
}
# The part of a deed in which a kill by number may come: from its record on.
CALLS = 4000


class Doers:
    """What a test holds of the process that forks."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doers"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, *deeds: dict[str, Any]) -> list[str]:
        """Have these done at the same time: "done", "refused" or "killed" for each."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(deeds) + "\n")
        self._process.stdin.flush()
        ends: list[str] = json.loads(self._process.stdout.readline())
        assert "broken" not in ends, "see the process's standard error"
        return ends

    def stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def main() -> None:
    django.setup()
    be_quick()
    for line in sys.stdin:
        children = [fork(deed) for deed in json.loads(line)]
        print(json.dumps([end_of(pid) for pid in children]), flush=True)


def be_quick() -> None:
    """Nobody waits for an Orb that recovers at once."""
    import time

    from django_orb.client import transport
    from django_orb.operations import confirmation, ledger

    clock = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    vars(transport).update(time=clock)
    confirmation.LOOK_AFTER_SECONDS = (0.0, 0.0)  # type: ignore[assignment]
    ledger.WAIT_SECONDS = 1


def fork(deed: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(do(**deed))
    except BaseException:  # noqa: BLE001 - whatever it is, the test shows it
        traceback.print_exc()
    finally:
        os._exit(2)


def end_of(pid: int) -> str:
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "killed"
    return {0: "done", 1: "refused"}.get(os.WEXITSTATUS(status), "broken")


def do(kind: str, invoice_id: str, key: str, kill: str | int | None = None) -> int:
    from django_orb import services
    from django_orb.exceptions import OrbError

    asker: dict[str, Any] = {"idempotency_key": key}
    if kill is not None:
        sys.setprofile(Killer(kill))
    try:
        if kind == "void":
            services.void_invoice(invoice_id, **asker)
        elif kind == "line":
            day = date(2026, 1, 31)
            services.create_invoice_line_item(
                invoice_id,
                name=key,
                quantity=1,
                amount="1.00",
                start_date=day,
                end_date=day,
                **asker,
            )
        elif kind == "delete":
            line = key.partition(" ")[0]
            services.delete_invoice_line_item(invoice_id, line, **asker)
        elif kind == "edit":
            services.update_invoice(invoice_id, metadata={key: "edited"}, **asker)
        else:
            services.issue_invoice(invoice_id, **asker)
    except OrbError:
        return 1
    return 0


class Killer:
    """Kills its process when it comes to a point, or after so many calls."""

    def __init__(self, kill: str | int) -> None:
        self._point = POINTS[kill] if isinstance(kill, str) else None
        self._left = kill if isinstance(kill, int) else 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        if self._point is None:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        elif self._point == (frame.f_globals.get("__name__"), frame.f_code.co_name):
            self._strike(frame)

    def _strike(self, frame: FrameType) -> None:
        # Of the requests, the one that changes something.
        method = frame.f_locals.get("method") or self._method_above(frame)
        if method != "GET":
            os.kill(os.getpid(), signal.SIGKILL)

    def _method_above(self, frame: FrameType) -> str:
        above: FrameType | None = frame
        while above is not None:
            if above.f_code.co_name == "_request" and "policy" in above.f_locals:
                return str(above.f_locals["method"])
            above = above.f_back
        return ""


if __name__ == "__main__":
    main()
