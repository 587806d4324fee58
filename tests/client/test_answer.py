"""What bounds an answer: its size, its time, and what can be read of it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import requests

from django_orb.client import answer as answers
from django_orb.client.orb_client import OrbClient
from django_orb.exceptions import (
    OrbAPIError,
    OrbConnectionError,
    OrbResponseError,
    OrbResponseTooLargeError,
    OrbServerError,
    OrbTimeoutError,
)
from tests.loopback import Answer, loopback

KEY = "sk-very-secret-0123456789"
GZIP = {"Content-Encoding": "gzip"}
BODY = b'{"id": "inv1"}'


@pytest.fixture
def server():
    with loopback() as recorded:
        yield recorded


@pytest.fixture
def client(server):
    with OrbClient(KEY, server.base_url, timeout_seconds=5, retries=0) as client:
        yield client


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(answers, "MAX_BODY_BYTES", 1000)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_body_up_to_the_limit_is_read(
    server, client, small_limit, is_chunked, is_packed
):
    headers = GZIP if is_packed else {}
    for size, is_read in ((1000, True), (1001, False)):
        body = b'"' + b"x" * (size - 2) + b'"'
        sent = gzip.compress(body, mtime=0) if is_packed else body
        server.answers = [Answer(sent, headers=headers, is_chunked=is_chunked)]
        if is_read:
            with pytest.raises(OrbResponseError, match="should be a JSON object"):
                client.fetch_invoice("inv1")
            continue
        with pytest.raises(OrbResponseTooLargeError, match="larger than 1000 bytes"):
            client.fetch_invoice("inv1")
    assert client.fetch_invoice("inv1") == {}


def test_a_bomb_is_not_unpacked(server, client, small_limit):
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100))
    server.answers = [Answer(bomb + packer.flush(), headers=GZIP)]

    tracemalloc.start()
    try:
        with pytest.raises(OrbResponseTooLargeError):
            client.fetch_invoice("inv1")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 30_000_000


def test_what_is_announced_too_large_is_not_waited_for(server, client, small_limit):
    server.answers = [Answer(b"x", missing_bytes=2000)]

    with pytest.raises(OrbResponseTooLargeError):
        client.fetch_invoice("inv1")


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("headers", [{}, GZIP], ids=["too large", "not gzip"])
def test_answer_that_is_given_up_keeps_no_connection(
    server, small_limit, status, headers
):
    size = answers.PIECE_BYTES + 100_000  # not read in one piece
    server.answers = [Answer(b"x" * size, status, headers)]
    responses = []

    class Session(requests.Session):
        def send(self, *args, **options):
            responses.append(super().send(*args, **options))
            return responses[-1]

    with (
        Session() as session,
        OrbClient(KEY, server.base_url, session=session, retries=0) as client,
    ):
        with pytest.raises((OrbResponseError, OrbServerError)):
            client.fetch_invoice("inv1")

        assert [one.raw.closed for one in responses] == [True]


@pytest.mark.parametrize("headers", [{}, GZIP])
def test_an_error_that_is_too_large_stays_that_error(server, client, headers):
    body = b"x" * (answers.MAX_ERROR_BYTES + 100_000)
    server.answers = [
        Answer(gzip.compress(body, mtime=0) if headers else body, 503, headers)
    ]

    with pytest.raises(OrbServerError, match="no readable explanation") as caught:
        client.fetch_invoice("inv1")
    assert caught.value.response is not None
    assert caught.value.response.content == b"x" * answers.MAX_ERROR_BYTES
    assert client.fetch_invoice("inv1") == {}


def test_an_error_that_cannot_be_unpacked_stays_that_error(server, client):
    server.answers = [Answer(b"not gzip", 503, GZIP)]

    with pytest.raises(OrbServerError, match="Orb answered 503"):
        client.fetch_invoice("inv1")


@pytest.mark.parametrize(
    "sent",
    [
        gzip.compress(BODY, mtime=0),
        gzip.compress(BODY[:5], mtime=0) + gzip.compress(BODY[5:], mtime=0),
    ],
)
def test_what_is_packed_is_unpacked(server, client, sent):
    server.answers = [Answer(sent, headers=GZIP)]

    assert client.fetch_invoice("inv1") == {"id": "inv1"}
    assert server.requests[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        (gzip.compress(BODY, mtime=0)[:-3], "gzip"),
        (gzip.compress(BODY, mtime=0) + b"more", "gzip"),
        (b"not gzip", "gzip"),
        (BODY, "br"),
    ],
)
def test_what_cannot_be_unpacked_is_said_to_be_so(server, client, sent, encoding):
    server.answers = [Answer(sent, headers={"Content-Encoding": encoding})]

    with pytest.raises(OrbResponseError, match="GET /invoices/inv1 could not be unp"):
        client.fetch_invoice("inv1")


def test_an_empty_body_may_say_that_it_is_packed(server, client):
    server.answers = [Answer(b"", headers=GZIP)]

    assert client.void_invoice("inv1") == {}


@pytest.mark.parametrize(
    "drip",
    [
        {"drip_seconds": 0.05},
        {"drip_seconds": 0.05, "is_chunked": True},
        {"head_drip_seconds": 0.05},
        {"status": 503, "drip_seconds": 0.05},
        {"status": 302, "headers": {"Location": "/x"}, "drip_seconds": 0.05},
    ],
    ids=["body", "chunk", "head", "error", "redirect"],
)
def test_an_answer_that_drips_ends(server, drip):
    server.answers = [Answer(b"x" * 1000, **drip)]
    with (
        OrbClient(KEY, server.base_url, timeout_seconds=0.2, retries=0) as client,
        pytest.raises(OrbTimeoutError, match="in time to GET /invoices/inv1"),
    ):
        client.fetch_invoice("inv1")


def test_a_slow_answer_leaves_the_next_one_its_time(server, client):
    server.answers = [Answer(BODY, body_seconds=0.1), Answer(BODY, body_seconds=0.1)]

    assert client.fetch_invoice("inv1") == client.fetch_invoice("inv1")


@pytest.mark.parametrize("location", ["http://[::1", "http://x:y/", "//[", "/\xff"])
def test_a_redirect_that_cannot_be_read_is_said_to_be_one(server, client, location):
    server.answers = [Answer(b"", 302, {"Location": location})]

    with pytest.raises(OrbAPIError, match=r"302 to GET .*: a redirect to "):
        client.fetch_invoice("inv1")


# What this process was given


@pytest.fixture
def environment(monkeypatch):
    """Proxies and certificates of the environment, of which there are none."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def said(err):
    words = []
    while err is not None:
        words += [repr(err), str(vars(err))]
        err = err.__cause__ or (None if err.__suppress_context__ else err.__context__)
    return "".join(words)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://[hidden",
        "http://user:p@hidden:word:x",
        "http://user:hidden@127.0.0.1:99999",
        "http://user:hidden@127.0.0.1:9",
        "user:hidden@127.0.0.1:9",
        "ftp://user:hidden@127.0.0.1:9",
        "http://user:hidden@" + "a" * 70 + ".test:9",
        "http://user:hidden@exa mple:9",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_used_is_no_answer(environment, scheme, proxy):
    environment.setenv(f"{scheme}_proxy", proxy)
    with (
        OrbClient(KEY, f"{scheme}://orb.invalid/v1", retries=0) as client,
        pytest.raises(
            OrbConnectionError, match="No answer from Orb to GET /ping: "
        ) as caught,
    ):
        client.ping()

    text = said(caught.value)
    assert "hidden" not in text
    assert KEY not in text
    assert ("HTTPS_PROXY" in text) is not ("refused" in text)


@pytest.mark.parametrize("is_there", [True, False])
def test_certificates_that_cannot_be_read_are_no_answer(
    environment, tmp_path, server, is_there
):
    bundle = tmp_path / "bundle.pem"
    if is_there:
        bundle.write_text("no certificate")
    environment.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    url = f"https://127.0.0.1:{server.port}/v1"
    with (
        OrbClient(KEY, url, retries=0) as client,
        pytest.raises(OrbConnectionError, match="No answer from Orb to GET /ping: "),
    ):
        client.ping()


def test_a_session_of_ones_own_keeps_to_the_limit_too(server, small_limit):
    server.answers = [
        Answer(b"x" * 1001),
        Answer(gzip.compress(BODY, mtime=0), headers=GZIP),
    ]
    with (
        requests.Session() as session,
        OrbClient(KEY, server.base_url, session=session) as client,
    ):
        with pytest.raises(OrbResponseTooLargeError):
            client.fetch_invoice("inv1")
        assert client.fetch_invoice("inv1") == {"id": "inv1"}
