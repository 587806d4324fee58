"""
Where a process may die in a test: at a request, at a statement, after a commit.

Nothing of the package is replaced for it, only what it calls in other libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from django.db import connections, transaction


def before_requests(
    patch: pytest.MonkeyPatch, act: Callable[[requests.PreparedRequest], None]
) -> None:
    """Call `act` before each request is sent. What it raises, sending raises."""
    send = requests.Session.send

    def watched(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        act(request)
        return send(session, request, **options)

    patch.setattr(requests.Session, "send", watched)


def dies_at_request(
    patch: pytest.MonkeyPatch, path: str, error: type[BaseException] = KeyboardInterrupt
) -> None:
    """Die before each request whose path ends like this is sent."""

    def die(request: requests.PreparedRequest) -> None:
        if request.path_url.partition("?")[0].endswith(path):
            raise error

    before_requests(patch, die)


@contextmanager
def before_statements(using: str, act: Callable[[str, Any], None]) -> Iterator[None]:
    """Call `act` with each statement and its parameters before it is executed."""

    def watched(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        act(sql, params)
        return execute(sql, params, *rest)

    with connections[using].execute_wrapper(watched):
        yield


@contextmanager
def dying_at_statement(
    using: str,
    is_the_last: Callable[[str, Any], bool],
    error: type[BaseException] = KeyboardInterrupt,
) -> Iterator[None]:
    """Die before each statement that is the last one by its text and parameters."""

    def die(sql: str, params: Any) -> None:
        if is_the_last(sql, params):
            raise error

    with before_statements(using, die):
        yield


def dies_after_commit(patch: pytest.MonkeyPatch) -> None:
    """Die after each commit: what was to be done then is not."""
    patch.setattr(transaction, "on_commit", lambda *args, **options: None)
