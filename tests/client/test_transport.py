from __future__ import annotations

import gzip
import json
import logging
import os
import pickle
import traceback
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import requests
import responses

from django_orb import exceptions
from django_orb.client.orb_client import OrbClient
from django_orb.conf import DEFAULT_BASE_URL
from django_orb.exceptions import (
    OrbAPIError,
    OrbConnectionError,
    OrbRateLimitError,
    OrbResponseError,
    OrbServerError,
    OrbTimeoutError,
    OrbURLNotFoundError,
)
from tests import times
from tests.loopback import Answer, loopback

KEY = "sk-very-secret-0123456789"
INVOICE_URL = f"{DEFAULT_BASE_URL}/invoices/inv1"
VOID_URL = f"{INVOICE_URL}/void"
TYPES = "https://docs.withorb.com/reference/error-responses#"


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between tries, which are not slept."""
    slept: list[float] = []
    times.rule(monkeypatch, sleep=slept.append)
    return slept


@pytest.fixture
def orb_answers():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def client():
    with OrbClient(KEY) as client:
        yield client


@pytest.fixture
def server():
    with loopback() as recorded:
        yield recorded


@pytest.fixture
def local_client(server):
    with OrbClient(KEY, server.base_url, timeout_seconds=0.3) as client:
        yield client


def problem(status, name="", **extra):
    body = {"status": status, "title": "A title", "detail": "A detail.", **extra}
    return {"status": status, "json": {"type": f"{TYPES}{name}", **body}}


def everything_said(err):
    """The error, its causes, the variables of their frames, and its attributes."""
    err = err.with_traceback(err.__traceback__.tb_next)  # the test knows the key
    report = traceback.TracebackException.from_exception(err, capture_locals=True)
    return "".join(report.format()) + repr(err) + repr(vars(err))


# Errors


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        (400, "400-request-validation-errors", "OrbRequestValidationError"),
        (400, "400-constraint-violation", "OrbConstraintViolationError"),
        (400, "400-duplicate-resource-creation", "OrbDuplicateResourceError"),
        (400, "404-feature-not-available", "OrbFeatureNotAvailableError"),
        (404, "404-feature-not-available", "OrbFeatureNotAvailableError"),
        (400, "400-something-new", "OrbBadRequestError"),
        (400, "404-resource-not-found", "OrbBadRequestError"),
        (401, "401-authentication-error", "OrbAuthenticationError"),
        (403, "", "OrbPermissionError"),
        (404, "404-resource-not-found", "OrbNotFoundError"),
        (404, "404-url-not-found", "OrbURLNotFoundError"),
        (404, "404-something-new", "OrbURLNotFoundError"),
        (408, "", "OrbAPIError"),
        (409, "409-resource-conflict", "OrbConflictError"),
        (413, "413-request-too-large", "OrbTooLargeError"),
        (413, "413-resource-too-large", "OrbTooLargeError"),
        (418, "", "OrbAPIError"),
        (422, "", "OrbAPIError"),
        (429, "429-too-many-requests", "OrbRateLimitError"),
        (500, "500-internal-server-error", "OrbServerError"),
        (500, "404-resource-not-found", "OrbServerError"),
        (503, "", "OrbServerError"),
    ],
)
def test_each_problem_of_orb_is_an_error_of_its_own(
    orb_answers, client, pauses, status, name, expected
):
    orb_answers.get(INVOICE_URL, **problem(status, name, validation_errors=["x is y"]))

    with pytest.raises(OrbAPIError) as caught:
        client.fetch_invoice("inv1")

    error = caught.value
    assert type(error) is getattr(exceptions, expected)
    assert str(error) == (
        f"Orb answered {status} to GET /invoices/inv1: A detail. (x is y)"
    )
    assert (error.status_code, error.type) == (status, name)
    assert (error.title, error.detail) == ("A title", "A detail.")
    assert error.validation_errors == ["x is y"]
    assert error.response is not None


def test_the_host_of_a_problem_type_does_not_matter(orb_answers, client):
    older = "https://docs.billwithorb.com/errors#404-resource-not-found"
    orb_answers.get(INVOICE_URL, **{**problem(404), "json": {"type": older}})

    with pytest.raises(exceptions.OrbNotFoundError) as caught:
        client.fetch_invoice("inv1")
    assert type(caught.value) is exceptions.OrbNotFoundError


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Bad gateway</html>", "text/html"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b"", "text/plain"),
        (b"\xff\xfe", "application/json"),
        (b'{"type": 7, "title": [], "detail": {}, "validation_errors": 1}', "a/b"),
    ],
)
@pytest.mark.parametrize(
    ("status", "expected"), [(502, OrbServerError), (404, OrbURLNotFoundError)]
)
def test_an_error_in_another_form_is_a_clear_error_too(
    orb_answers, client, pauses, body, content_type, status, expected
):
    orb_answers.get(INVOICE_URL, status=status, body=body, content_type=content_type)

    with pytest.raises(expected) as caught:
        client.fetch_invoice("inv1")
    assert str(caught.value) == (
        f"Orb answered {status} to GET /invoices/inv1: "
        f"no readable explanation ({content_type})"
    )
    assert (caught.value.type, caught.value.validation_errors) == ("", [])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Please log in</html>", "text/html"),
        (b'{"id": "inv1", "total": ', "application/json"),
        (b'{"total": NaN}', "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 100_000, "application/json"),
    ],
)
def test_a_success_that_is_not_json_is_an_error(
    orb_answers, client, body, content_type
):
    orb_answers.get(INVOICE_URL, body=body, content_type=content_type)

    with pytest.raises(OrbResponseError) as caught:
        client.fetch_invoice("inv1")
    assert str(caught.value).startswith(
        f"Orb answered 200 to GET /invoices/inv1 with {content_type} that cannot be"
    )


def test_a_body_that_cannot_be_unpacked_is_an_error(server, local_client):
    server.answers = [Answer(b"not gzip", headers={"Content-Encoding": "gzip"})]

    with pytest.raises(OrbResponseError, match="could not be unpacked"):
        local_client.fetch_invoice("inv1")
    assert len(server.requests) == 1


def test_a_compressed_body_is_unpacked(server, local_client):
    packed = gzip.compress(b'{"id": "inv1"}')
    server.answers = [Answer(packed, headers={"Content-Encoding": "gzip"})]

    assert local_client.fetch_invoice("inv1") == {"id": "inv1"}


def test_the_id_of_a_request_is_kept_for_orbs_support(orb_answers, client):
    headers = {"X-Request-Id": "req-1"}
    orb_answers.get(INVOICE_URL, **problem(400), headers=headers)

    with pytest.raises(OrbAPIError) as caught:
        client.fetch_invoice("inv1")
    assert caught.value.request_id == "req-1"


# Retries


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 599])
def test_a_passing_failure_is_tried_again(orb_answers, client, pauses, status):
    failure = orb_answers.get(INVOICE_URL, **problem(status))
    orb_answers.get(INVOICE_URL, json={"id": "inv1"})

    assert client.fetch_invoice("inv1") == {"id": "inv1"}
    assert failure.call_count == 1
    assert len(pauses) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_lasting_failure_is_not_tried_again(orb_answers, client, pauses, status):
    failure = orb_answers.get(INVOICE_URL, **problem(status))

    with pytest.raises(OrbAPIError):
        client.fetch_invoice("inv1")
    assert failure.call_count == 1
    assert pauses == []


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_pauses_double_with_some_jitter_up_to_a_limit(orb_answers, pauses, retries):
    failure = orb_answers.get(INVOICE_URL, **problem(500))

    with OrbClient(KEY, retries=retries) as client, pytest.raises(OrbServerError):
        client.fetch_invoice("inv1")

    assert failure.call_count == retries + 1
    assert len(pauses) == retries
    for pause, longest in zip(pauses, [0.5, 1, 2, 4, 8], strict=False):
        assert 0.75 * longest <= pause <= longest


def test_pauses_stop_growing(orb_answers, pauses):
    orb_answers.get(INVOICE_URL, **problem(500))

    with OrbClient(KEY, retries=9) as client, pytest.raises(OrbServerError):
        client.fetch_invoice("inv1")
    assert max(pauses) <= 8


def test_pauses_differ_between_workers(orb_answers, client, pauses):
    orb_answers.get(INVOICE_URL, **problem(500))

    for _ in range(5):
        with pytest.raises(OrbServerError):
            client.fetch_invoice("inv1")
    assert len(set(pauses)) == 10


def in_seconds(seconds):
    return format_datetime(
        datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True
    )


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("advice", "at_least", "at_most"),
    [
        ("7", 7, 7),
        ("60", 60, 60),
        (20, 15, 20),
        (-20, 0.3, 0.5),
        ("0", 0.3, 0.5),
        ("soon", 0.3, 0.5),
        ("-5", 0.3, 0.5),
        ("", 0.3, 0.5),
    ],
)
def test_the_advised_pause_is_kept(
    orb_answers, client, pauses, status, advice, at_least, at_most
):
    as_date = isinstance(advice, int)
    headers = {"Retry-After": in_seconds(advice) if as_date else advice}
    orb_answers.get(INVOICE_URL, **problem(status), headers=headers)
    orb_answers.get(INVOICE_URL, json={})

    client.fetch_invoice("inv1")

    assert at_least <= pauses[0] <= at_most


def test_a_long_advised_pause_is_left_to_the_caller(orb_answers, client, pauses):
    headers = {"Retry-After": "61"}
    limit = orb_answers.get(INVOICE_URL, **problem(429), headers=headers)

    with pytest.raises(OrbRateLimitError) as caught:
        client.fetch_invoice("inv1")
    assert caught.value.retry_after_seconds == 61
    assert (limit.call_count, pauses) == (1, [])


@pytest.mark.parametrize("status", [408, 409, 503])
def test_the_advice_of_any_error_is_left_to_the_caller(orb_answers, client, status):
    headers = {"Retry-After": "61"}
    orb_answers.get(INVOICE_URL, **problem(status), headers=headers)

    with pytest.raises(OrbAPIError) as caught:
        client.fetch_invoice("inv1")

    assert caught.value.retry_after_seconds == 61


def test_without_advice_a_rate_limit_has_none(orb_answers, client, pauses):
    orb_answers.get(INVOICE_URL, **problem(429))

    with pytest.raises(OrbRateLimitError) as caught:
        client.fetch_invoice("inv1")
    assert caught.value.retry_after_seconds is None


@pytest.mark.parametrize("status", [409, 429, 500])
def test_a_post_is_repeated_with_its_key_only(orb_answers, client, pauses, status):
    failure = orb_answers.post(VOID_URL, **problem(status))

    with pytest.raises(OrbAPIError):
        client.void_invoice("inv1")
    assert failure.call_count == 1

    with pytest.raises(OrbAPIError):
        client.void_invoice("inv1", idempotency_key="key-1")
    sent = [call.request for call in orb_answers.calls][1:]
    assert [one.headers["Idempotency-Key"] for one in sent] == ["key-1"] * 3


def test_a_post_that_was_cut_off_is_repeated_with_its_key_only(
    server, local_client, pauses
):
    server.answers = [Answer(is_cut=True)]
    with pytest.raises(OrbConnectionError):
        local_client.void_invoice("inv1")
    assert len(server.requests) == 1

    server.answers = [Answer(is_cut=True), Answer(b'{"a": 1}', missing_bytes=5)]
    assert local_client.void_invoice("inv1", idempotency_key="key-1") == {}
    first, second, third = server.requests[1:]
    assert first.body == second.body == third.body
    assert first.headers == second.headers == third.headers


@pytest.mark.parametrize(
    "trouble", [Answer(is_cut=True), Answer(b'{"id": "inv1"}', missing_bytes=10)]
)
def test_a_get_that_was_cut_off_is_repeated(server, local_client, pauses, trouble):
    server.answers = [trouble, Answer(b'{"id": "inv1"}')]

    assert local_client.fetch_invoice("inv1") == {"id": "inv1"}
    assert len(server.requests) == 2


def test_a_body_that_breaks_off_is_named_so(server, local_client, pauses):
    server.answers = [Answer(b'{"id": "inv1"}', missing_bytes=10)] * 3

    with pytest.raises(OrbConnectionError, match="GET /invoices/inv1 broke off"):
        local_client.fetch_invoice("inv1")


@pytest.mark.parametrize("trouble", [{"seconds": 0.6}, {"body_seconds": 0.6}])
def test_a_slow_answer_is_a_time_out(server, trouble):
    server.answers = [Answer(**trouble)]
    with (
        OrbClient(KEY, server.base_url, timeout_seconds=0.1, retries=0) as client,
        pytest.raises(OrbTimeoutError, match="in time to GET /invoices/inv1"),
    ):
        client.fetch_invoice("inv1")


def test_an_address_where_nobody_listens_is_a_connection_error(pauses):
    with (
        OrbClient(KEY, "http://127.0.0.1:9/v1") as client,
        pytest.raises(OrbConnectionError, match=r"to GET /invoices/inv1.*refused"),
    ):
        client.fetch_invoice("inv1")
    assert len(pauses) == 2


def test_a_retry_is_logged_in_one_line(orb_answers, client, pauses, caplog):
    caplog.set_level(logging.INFO, "django_orb")
    orb_answers.get(INVOICE_URL, **problem(503))
    orb_answers.get(INVOICE_URL, json={})

    client.fetch_invoice("inv1")

    (line,) = caplog.messages
    assert line.startswith("GET /invoices/inv1: Orb answered 503; again in 0.")


@pytest.mark.parametrize(("timeout", "sent"), [(30, (5, 30)), (2, (2, 2))])
def test_every_call_has_time_outs(orb_answers, monkeypatch, timeout, sent):
    orb_answers.get(INVOICE_URL, json={})
    orb_answers.post(VOID_URL, json={})
    seen = []
    request = requests.Session.request

    def spy(self, *args, **kwargs):
        seen.append(kwargs["timeout"])
        return request(self, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", spy)
    with OrbClient(KEY, timeout_seconds=timeout) as client:
        client.fetch_invoice("inv1")
        client.void_invoice("inv1")
    assert seen == [sent, sent]


# Redirects and the network around


def redirect(url, status=302):
    return Answer(b"", status, {"Location": url})


def test_a_get_follows_a_redirect_on_the_same_host(server, local_client):
    server.answers = [redirect("/v2/x"), redirect(f"{server.base_url}/y"), Answer()]

    local_client.fetch_invoice("inv1")

    assert [one.target for one in server.requests] == [
        "/v1/invoices/inv1",
        "/v2/x",
        "/v1/y",
    ]
    assert {one.headers["authorization"] for one in server.requests} == {
        f"Bearer {KEY}"
    }


def test_a_redirect_keeps_to_the_query_it_names(server, local_client):
    server.answers = [redirect("/v2/x?page=2"), Answer()]

    local_client.fetch_upcoming_invoice("sub1")

    assert server.requests[1].target == "/v2/x?page=2"


def test_endless_redirects_end(server, local_client):
    server.answers = [redirect(f"/v1/{n}") for n in range(50)]

    with pytest.raises(OrbAPIError, match="a redirect to /v1/5; check BASE_URL"):
        local_client.fetch_invoice("inv1")
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_post_follows_no_redirect(server, local_client, status):
    server.answers = [redirect("/v2/x", status)]

    with pytest.raises(OrbAPIError, match=r"a redirect to /v2/x") as caught:
        local_client.void_invoice("inv1", idempotency_key="key-1")
    assert caught.value.status_code == status
    assert len(server.requests) == 1


def test_the_key_never_reaches_another_host(server, local_client):
    with loopback() as other:
        server.answers = [redirect(f"{other.base_url}/steal")]

        with pytest.raises(OrbAPIError, match=rf"to 127\.0\.0\.1:{other.port}; check"):
            local_client.fetch_invoice("inv1")
        assert other.requests == []


def test_a_netrc_file_does_not_replace_the_key(
    server, local_client, tmp_path, monkeypatch
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", os.fspath(netrc))

    local_client.fetch_invoice("inv1")

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_proxy_is_not_asked_for_loopback(server, local_client, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    local_client.fetch_invoice("inv1")

    assert len(server.requests) == 1


def test_a_proxy_of_the_environment_is_used_for_orb(server, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")

    with OrbClient(KEY, "http://orb.invalid/v1") as client:
        client.fetch_invoice("inv1")

    assert server.requests[0].target == "http://orb.invalid/v1/invoices/inv1"


# Secrets


def test_no_error_holds_the_key(server, pauses):
    echo = {"detail": f"Bad key {KEY}", "title": KEY, "validation_errors": [KEY, 7]}
    with OrbClient(KEY, server.base_url, timeout_seconds=0.2, retries=1) as client:
        for answer in (
            Answer(is_cut=True),
            Answer(missing_bytes=9),
            Answer(seconds=0.4),
            Answer(b"x", headers={"Content-Encoding": "gzip"}),
            Answer(b"<html>"),
            Answer(b"[]"),
            Answer(json.dumps(echo).encode(), 401),
            Answer(json.dumps(echo).encode(), 500),
            redirect("http://other.invalid/"),
        ):
            server.answers = [answer, answer]
            with pytest.raises(exceptions.OrbError) as caught:
                client.fetch_invoice("inv1")

            assert KEY not in everything_said(caught.value)
            assert KEY not in str(vars(caught.value))
            sent = getattr(caught.value, "response", None)
            assert sent is None or KEY not in str(sent.request.headers)


def test_no_error_of_the_connection_holds_the_key(pauses):
    for url in ("http://127.0.0.1:9/v1", "https://orb.invalid/v1"):
        client = OrbClient(KEY, url)
        with pytest.raises(OrbConnectionError) as caught:
            client.ping()
        assert KEY not in everything_said(caught.value)
        assert isinstance(caught.value.__cause__, requests.RequestException)
        assert KEY.encode() not in pickle.dumps(vars(caught.value.__cause__))


def test_a_broken_key_is_not_in_the_report_of_its_error():
    with pytest.raises(exceptions.OrbConfigurationError) as caught:
        OrbClient(KEY + "\n")

    report = everything_said(caught.value)
    assert "problem = " in report
    assert KEY not in report


def test_no_log_line_or_repr_holds_the_key(server, local_client, pauses, caplog):
    caplog.set_level(logging.DEBUG)
    server.answers = [Answer(is_cut=True), Answer(status=500), Answer()]

    local_client.fetch_invoice("inv1")

    assert caplog.text
    assert KEY not in caplog.text
    transport = local_client._transport
    for one in (local_client, transport, transport._auth, transport.session):
        assert KEY not in repr(one)
    assert repr(local_client) == f"<OrbClient {server.base_url}>"
    assert repr(OrbClient.__new__(OrbClient)) == "<OrbClient ?>"
