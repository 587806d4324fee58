"""
End each request in time, however slowly its answer comes.

The time-out of a socket begins again with every byte. So the answer is read through
a stream that also knows when the whole request must be over.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ends_at: ContextVar[float] = ContextVar("ends_at", default=math.inf)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` from reads inside the block once the time is over."""
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def seconds_left() -> float:
    """
    Return the seconds left until the deadline.

    Raises:
        TimeoutError: the deadline has passed.
    """
    left = _ends_at.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class DeadlineSession(requests.Session):
    """A session that keeps to the deadline and leaves redirects to its caller."""

    def __init__(self) -> None:
        super().__init__()
        self.mount("https://", _DeadlineAdapter())
        self.mount("http://", _DeadlineAdapter())

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Any:
        # requests calls this even for a redirect that is not followed. Its own version
        # would read the whole body, and fail at a malformed address.
        return iter(())


class _DeadlineAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # The same pool is returned for every request to its host, so its class may be
        # one with a deadline already.
        pool.ConnectionCls = _with_deadline(pool.ConnectionCls)
        return pool


@cache
def _with_deadline(connection: type) -> type:
    if getattr(connection, "response_class", None) is _Response:
        return connection
    return type(connection.__name__, (connection,), {"response_class": _Response})


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # `http.client` has wrapped the socket in a buffer of its own, which nothing has
        # been read into yet.
        self.fp: Any = io.BufferedReader(_Stream(self.fp.detach(), sock))


class _Stream(io.RawIOBase):
    def __init__(self, stream: io.RawIOBase, sock: socket.socket) -> None:
        self._stream = stream
        self._socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        # It is not set back: urllib3 sets the time-out again before each request and
        # each answer.
        left, timeout = seconds_left(), self._socket.gettimeout()
        if timeout is None or left < timeout:
            self._socket.settimeout(left if left < math.inf else None)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()
