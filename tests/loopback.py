"""A scripted HTTP server on loopback that records what it is sent, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep  # by name: tests replace the one that the client uses
from typing import Any


@dataclass(frozen=True)
class Recorded:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    """How long to keep the client waiting for the status line."""
    body_seconds: float = 0
    """How long to pause before the last byte of the body."""
    missing_bytes: int = 0
    """How many bytes are announced and never sent."""
    is_cut: bool = False
    """Close the connection without a word."""
    drip_seconds: float = 0
    """How long to pause before each byte of the body."""
    head_drip_seconds: float = 0
    """How long to pause before each byte of a header that goes on and on."""
    is_chunked: bool = False
    """Send the body as one chunk, without a length."""


class Loopback:
    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.requests: list[Recorded] = []
        self.answers: list[Answer] = []
        """Used up one by one; after the last one it is `Answer()`."""

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if self.answers else Answer()


@contextmanager
def loopback() -> Iterator[Loopback]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            recorded.requests.append(
                Recorded(
                    self.command,
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(length),
                )
            )
            answer = recorded.next_answer()
            sleep(answer.seconds)
            if answer.is_cut:
                self.close_connection = True
                return
            try:
                self.write(answer)
            except OSError:  # the client went away
                self.close_connection = True

        def write(self, answer: Answer) -> None:
            self.send_response(answer.status)
            body, length = answer.body, len(answer.body) + answer.missing_bytes
            headers = {
                "Content-Type": "application/json",
                "Content-Length": str(length),
                **answer.headers,
            }
            if answer.is_chunked:
                del headers["Content-Length"]
                headers["Transfer-Encoding"] = "chunked"
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            for name, value in headers.items():
                self.send_header(name, value)
            if answer.head_drip_seconds:
                self.flush_headers()
                self.drip(b"X-Patience: " + b"x" * 1000, answer.head_drip_seconds)
            self.end_headers()
            if answer.drip_seconds:
                self.drip(body, answer.drip_seconds)
                return
            self.wfile.write(body[:-1])
            self.wfile.flush()
            sleep(answer.body_seconds)
            self.wfile.write(body[-1:])
            if answer.missing_bytes:
                self.close_connection = True

        def drip(self, sent: bytes, seconds: float) -> None:
            for byte in sent:
                sleep(seconds)
                self.wfile.write(bytes([byte]))

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  http.server's names

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorded = Loopback(server)
    thread = Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield recorded
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
