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
from types import FrameType
from typing import Any

import django
import pytest

# Where a process may be killed, as functions of these modules that it calls.
POINTS = {
    "not recorded": ("django_orb.operations.ledger", "_record"),
    "recorded": ("django_orb.operations.sending", "send"),
    "begun": ("django_orb.client.transport", "_send"),
    "sent": ("http.client", "getresponse"),
    "answered": ("django_orb.client.transport", "_read"),
    "read": ("django_orb.operations.sending", "finish"),
    "settled": ("django_orb.operations.confirmation", "read_back"),
    "seen": ("django_orb.mirror.fetching", "store"),
}
# The part of a deed in which a kill by number may come: from its record on.
CALLS = 4000


class Doers:
    """A test's handle on the process that forks."""

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
    from django_orb.client import transport
    from django_orb.operations import confirmation, ledger

    from . import times

    times.rule(
        pytest.MonkeyPatch(), among=transport.__name__, sleep=lambda seconds: None
    )
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


def do(how: str, kill: str | int | None = None, **wanted: Any) -> int:
    from django_orb import operations, tasks
    from django_orb.exceptions import OrbError

    if kill is not None:
        sys.setprofile(Killer(kill))
    try:
        if how == "ask":
            ask(**wanted)
        elif how == "queue":
            batch = wanted["invoice_id"]
            operations.queue([request_for(**wanted)], batch=batch)
        elif how == "cancel":
            operations.cancel(wanted["invoice_id"], detail="Stopped.")
        else:
            tasks.recover()
    except OrbError:
        return 1
    return 0


def ask(kind: str, invoice_id: str, key: str, **details: Any) -> None:
    from django_orb import services

    asker: dict[str, Any] = {"idempotency_key": key}
    if kind == "void":
        services.void_invoice(invoice_id, **asker)
    elif kind == "line":
        services.create_invoice_line_item(invoice_id, **a_line(details), **asker)
    elif kind == "delete":
        services.delete_invoice_line_item(invoice_id, details["line"], **asker)
    elif kind == "edit":
        services.update_invoice(invoice_id, metadata={key: "edited"}, **asker)
    elif kind == "create":
        services.create_invoice(**an_invoice(key, details), **asker)
    else:
        services.issue_invoice(invoice_id, **asker)


def request_for(kind: str, invoice_id: str, key: str, **details: Any) -> Any:
    from django_orb.operations import Request, invoice_body, line_item_body

    names = {
        "void": "void_invoice",
        "line": "create_invoice_line_item",
        "delete": "delete_invoice_line_item",
        "edit": "update_invoice",
        "issue": "issue_invoice",
        "create": "create_invoice",
    }
    bodies: dict[str, Any] = {
        "line": lambda: line_item_body(**a_line(details), item_id=None),
        "delete": lambda: {"line_item_id": details["line"]},
        "edit": lambda: {"metadata": {key: "edited"}},
        "create": lambda: invoice_body(
            **an_invoice(key, details), external_customer_id=None, will_auto_issue=False
        ),
    }
    body = bodies.get(kind, dict)()
    about = "" if kind == "create" else invoice_id
    return Request(names[kind], about, body, idempotency_key=key)


def an_invoice(key: str, details: dict[str, Any]) -> dict[str, Any]:
    day = date(2026, 1, 31)
    line = {
        "item_id": details["item"],
        "name": "Workshop",
        "quantity": 1,
        "unit_amount": details.get("amount", "1.00"),
        "start_date": day,
        "end_date": day,
    }
    return {
        "customer_id": details["customer"],
        "currency": "USD",
        "invoice_date": day,
        "line_items": [line],
        "metadata": {"key": key},
    }


def a_line(details: dict[str, Any]) -> dict[str, Any]:
    day = date(2026, 1, 31)
    return {
        "name": details["name"],
        "quantity": 1,
        "amount": details.get("amount", "1.00"),
        "start_date": day,
        "end_date": day,
    }


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
