"""Webhooks behind the servers that people run: each hands on a body in its own way."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from django_orb.models import WebhookEvent
from django_orb.views import MAX_BODY_BYTES
from tests.conftest import environment_of
from tests.deliveries import as_bytes, event, headers

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]
# Both take a socket that listens already, so that no request comes too early.
COMMANDS = {
    "gunicorn": ["gunicorn", "--bind", "fd://{fd}", "tests.serve:wsgi()"],
    "uvicorn": ["uvicorn", "--fd", "{fd}", "--factory", "tests.serve:asgi"],
}
CHUNKED = {"Transfer-Encoding": "chunked"}
GZIP = {"Content-Encoding": "gzip"}
LAST_CHUNK = b"0\r\n\r\n"
BLANK = b" " * 2**20


@contextmanager
def server(name: str, home: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(fd=fd) for part in COMMANDS[name])],
            cwd=ROOT,
            # Gunicorn leaves a socket in the home.
            env={**environment_of("default"), "HOME": home, "XDG_RUNTIME_DIR": home},
            pass_fds=[fd],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = int(listener.getsockname()[1])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def ports(django_db_setup: None) -> Iterator[dict[str, int]]:
    """Run the servers, on the database of the tests."""
    with ExitStack() as stack:
        # A socket's path must be short.
        home = stack.enter_context(tempfile.TemporaryDirectory())
        yield {name: stack.enter_context(server(name, home)) for name in COMMANDS}


@pytest.fixture(params=COMMANDS)
def port(request: pytest.FixtureRequest, ports: dict[str, int]) -> int:
    return ports[request.param]


def chunk(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part)


def connect(port: int, head: dict[str, Any]) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 60)
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    start = "POST /orb/webhook/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n"
    connection.sendall(f"{start}{lines}\r\n".encode())
    return connection


def post(port: int, head: dict[str, Any], parts: Iterable[bytes]) -> int:
    """Send a request, or as much of it as the server takes; the answer's status."""
    with connect(port, head) as connection:
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
        return int(connection.makefile("rb").readline().split()[1])


def deliver(port: int) -> int:
    body = as_bytes(event())
    return post(port, {**headers(body), "Content-Length": len(body)}, [body])


@pytest.mark.parametrize("packs", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
def test_a_body_is_stored_however_it_is_sent(port, chunks, packs):
    body = as_bytes(event())
    sent = gzip.compress(body) if packs else body
    head = {**headers(body), **(GZIP if packs else {})}
    if chunks:
        parts = [chunk(sent[:100]), chunk(sent[100:]), LAST_CHUNK]
        assert post(port, {**head, **CHUNKED}, parts) == 200
    else:
        assert post(port, {**head, "Content-Length": len(sent)}, [sent]) == 200

    assert WebhookEvent.objects.get().body == body.decode()


def test_a_body_that_is_too_large_is_refused(port):
    count = MAX_BODY_BYTES // len(BLANK) + 1
    length = {**headers(b""), "Content-Length": count * len(BLANK)}
    assert post(port, length, [BLANK] * count) == 413

    parts = [*[chunk(BLANK)] * count, LAST_CHUNK]
    assert post(port, {**headers(b""), **CHUNKED}, parts) == 413


def test_a_body_that_is_announced_as_too_large_is_not_waited_for(ports):
    """Under ASGI Django reads every body to its end before it calls the view."""
    length = {**headers(b""), "Content-Length": MAX_BODY_BYTES + 1}

    assert post(ports["gunicorn"], length, [b" "]) == 413


def test_malformed_chunks_are_refused(port):
    body = as_bytes(event())

    assert post(port, {**headers(body), **CHUNKED}, [b"zz\r\n", body]) == 400
    assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
def test_a_body_that_breaks_off_is_not_stored_and_does_no_harm(port, chunks):
    body = as_bytes(event())
    length = CHUNKED if chunks else {"Content-Length": len(body) + 1}
    with connect(port, {**headers(body), **length}) as connection:
        connection.sendall(chunk(body) if chunks else body)

    assert deliver(port) == 200
    assert WebhookEvent.objects.count() == 1


def test_a_client_that_stops_and_stays_does_not_stop_the_others(ports):
    body = as_bytes(event())
    length = {"Content-Length": len(body)}
    with connect(ports["uvicorn"], {**headers(body), **length}) as connection:
        connection.sendall(body[:-1])
        assert deliver(ports["uvicorn"]) == 200

        connection.sendall(body[-1:])
        assert b" 200 " in connection.makefile("rb").readline()
