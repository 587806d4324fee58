from __future__ import annotations

import json
import socket

import pytest

from django_orb.testing.sandbox import server

from .test_operations import LINE


@pytest.fixture
def talk(orb):
    """Send bytes, return all that comes until the server closes or falls silent."""

    def talk(*pieces):
        with socket.create_connection((orb.host, orb.port), timeout=0.3) as connection:
            for piece in pieces:
                connection.sendall(piece)
            received = b""
            try:
                while chunk := connection.recv(65_536):
                    received += chunk
            except TimeoutError:
                pass
            return received

    return talk


def head(orb, line, *more):
    lines = [line, "Host: orb", f"Authorization: Bearer {orb.api_key}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def test_two_requests_in_one_piece(orb, talk):
    ping = head(orb, "GET /v1/ping HTTP/1.1")
    assert talk(ping + ping).count(b"pong") == 2


def test_a_body_in_chunks(orb, talk):
    body = json.dumps(LINE | {"invoice_id": orb.invoice_ids("draft")[0]}).encode()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    request = head(
        orb, "POST /v1/invoice_line_items HTTP/1.1", "Transfer-Encoding: chunked"
    )
    ping = head(orb, "GET /v1/ping HTTP/1.1")
    answer = talk(request, chunks, ping)
    assert answer.startswith(b"HTTP/1.1 201")
    assert b"pong" in answer


def test_it_may_be_asked_before_a_body_is_sent(orb, talk):
    body = b"{}"
    request = head(
        orb,
        "POST /v1/invoice_line_items HTTP/1.1",
        "Expect: 100-continue",
        f"Content-Length: {len(body)}",
    )
    answer = talk(request, body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400")


LINES = "POST /v1/invoice_line_items HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("length", ["ten", "-5", "-1", "+5", "1_0", "5, 5", "9" * 30])
def test_a_length_that_is_none(orb, talk, length):
    answer = talk(head(orb, LINES, f"Content-Length: {length}"))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Connection: close" in answer
    assert b"Content-Length is not a number of bytes." in answer


@pytest.mark.parametrize("chunks", [b"nonsense\r\n", b"-5\r\n", b"5\r\n{}xx"])
def test_chunks_that_are_none(orb, talk, chunks):
    answer = talk(head(orb, LINES, CHUNKED), chunks, b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b" in the body." in answer


def test_a_body_that_is_too_large(orb, talk, api):
    assert talk(head(orb, LINES, f"Content-Length: {10**12}")).startswith(
        b"HTTP/1.1 413"
    )
    body = b"x" * (server.MAX_BODY_BYTES + 100_000)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = talk(head(orb, LINES, CHUNKED), chunks)
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.endswith(b'"detail":"The body has more than 16777216 bytes."}')
    answer = api.post("/invoice_line_items", data=body)
    assert answer.status_code == 413


def test_a_body_that_breaks_off(orb):
    with socket.create_connection((orb.host, orb.port), timeout=5) as connection:
        connection.sendall(head(orb, LINES, "Content-Length: 10") + b"{}")
        connection.shutdown(socket.SHUT_WR)
        assert b"The body is shorter than Content-Length." in connection.recv(65_536)


def test_an_old_client_is_told_that_the_connection_closes(orb, talk):
    answer = talk(head(orb, "GET /v1/ping HTTP/1.0"))
    assert b"Connection: close" in answer
    assert answer.endswith(b'{"response":"pong"}')


def test_a_client_that_gives_up(orb, api, capfd):
    with socket.create_connection((orb.host, orb.port)) as connection:
        connection.sendall(head(orb, "GET /v1/invoices?limit=100 HTTP/1.1"))
        connection.recv(10)
    assert api.get("/ping").status_code == 200
    assert capfd.readouterr() == ("", "")


def test_what_is_not_http(orb, talk, api, capfd):
    assert b"400" in talk(b"nonsense\r\n\r\n")
    assert api.get("/ping").status_code == 200
    assert capfd.readouterr() == ("", "")
