"""Serve HTTP/1.1 on loopback; unlike werkzeug's own, connections stay open."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from django_orb.testing.account import payload_for_status

from .app import ConnectionCut
from .responses import json_response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

# More than any request needs; the account checks Orb's own limit.
MAX_BODY_BYTES = 16 * 1024 * 1024
_LENGTH = re.compile(r"[0-9]{1,18}")


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise an answer waits 40 ms for the acknowledgement of the one before.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        connections_of(self.server).add(self.connection)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        connections_of(self.server).discard(self.connection)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing: stderr belongs to the program that uses the sandbox."""

    def make_environ(self) -> WSGIEnvironment:
        # An encoded slash inside an id must not separate parts of the path.
        self.path = self.path.replace("%2F", "%252F").replace("%2f", "%252F")
        environ = super().make_environ()
        # All of the body is read now: a rest would be taken for the next request.
        environ["wsgi.input"] = io.BytesIO(self._body(environ))
        return environ

    def _body(self, environ: WSGIEnvironment) -> bytes:
        if environ.pop("wsgi.input_terminated", False):
            # The body is read here, so it is not in chunks any more.
            del environ["HTTP_TRANSFER_ENCODING"]
            try:
                body: bytes = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
            except OSError as error:
                raise _RefusalError(400, f"{error} in the body.") from error
        else:
            given = environ.get("CONTENT_LENGTH") or "0"
            if not _LENGTH.fullmatch(given):
                raise _RefusalError(400, "Content-Length is not a number of bytes.")
            length = int(given)
            if length > MAX_BODY_BYTES:
                raise _too_large()
            body = self.rfile.read(length)
            if len(body) < length:
                raise _RefusalError(400, "The body is shorter than Content-Length.")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        environ["CONTENT_LENGTH"] = str(len(body))
        return body

    def run_wsgi(self) -> None:
        answer = _Answer()
        try:
            self.environ = self.make_environ()
        except _RefusalError as refusal:
            self._refuse(refusal)
            return
        try:
            body = self.server.app(self.environ, answer.start)
            self._send(answer, body)
        except ConnectionCut as cut:
            self._cut(cut)

    def _refuse(self, refusal: _RefusalError) -> None:
        # It is unknown where the next request begins.
        self.close_connection = True
        response = json_response(
            payload_for_status(refusal.status, str(refusal)), refusal.status
        )
        answer = _Answer(response.status, list(response.headers))
        with suppress(OSError):
            self._send(answer, [response.get_data()])
            # Read the rest of the request: unread, it would reset the connection before
            # the client has read the answer.
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            for _ in range(1000):
                if not self.connection.recv(65_536):
                    break

    def _send(self, answer: _Answer, body: Iterable[bytes]) -> None:
        pieces = iter(body)
        # A small body is sent together with the head, in one packet.
        self.wfile.write(self._head(answer.status, answer.headers) + next(pieces, b""))
        for piece in pieces:
            self.wfile.write(piece)

    def _head(self, status: str, headers: Headers) -> bytes:
        if self.close_connection:
            headers = [*headers, ("Connection", "close")]
        lines = [f"HTTP/1.1 {status}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _cut(self, cut: ConnectionCut) -> None:
        """Close without an answer, or in the middle of one."""
        self.close_connection = True
        if cut.response is not None:
            status = HTTPStatus(cut.response.status_code)
            headers = list(cut.response.headers)
            body = cut.response.get_data()
            head = self._head(f"{status.value} {status.phrase}", headers)
            self.wfile.write(head + body[: len(body) // 2])
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _RefusalError(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def _too_large() -> _RefusalError:
    return _RefusalError(413, f"The body has more than {MAX_BODY_BYTES} bytes.")


class _Answer:
    """The status and headers that the application gives before the body."""

    def __init__(self, status: str = "", headers: Headers | None = None) -> None:
        self.status = status
        self.headers = headers or [("Content-Length", "0")]

    def start(self, status: str, headers: Headers, _: Any = None) -> Any:
        self.status, self.headers = status, headers
        return None


class _Connections:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def discard(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def connections_of(server: BaseWSGIServer) -> _Connections:
    connections: _Connections = server.__dict__.setdefault(
        "connections", _Connections()
    )
    return connections


class Server:
    """A threaded server that runs in its own thread."""

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        self._server = make_server(
            host, port, app, threaded=True, request_handler=Handler
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="orb-sandbox",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        # A client's pooled connection would still get answers from a stopped sandbox.
        connections_of(self._server).close()
