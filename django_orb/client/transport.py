"""Send requests to Orb, with headers and retries, and turn its errors into ours."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from requests.exceptions import ChunkedEncodingError, InvalidHeader, ProxyError
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from django_orb import __version__, exact_json, metrics
from django_orb.conf import is_loopback
from django_orb.exceptions import (
    OrbAPIError,
    OrbAuthenticationError,
    OrbBadRequestError,
    OrbConflictError,
    OrbConnectionError,
    OrbConstraintViolationError,
    OrbDuplicateResourceError,
    OrbFeatureNotAvailableError,
    OrbNotFoundError,
    OrbPermissionError,
    OrbRateLimitError,
    OrbRequestValidationError,
    OrbResponseError,
    OrbServerError,
    OrbTimeoutError,
    OrbTooLargeError,
    OrbURLNotFoundError,
)

from .answer import Answer
from .deadline import deadline
from .paths import Path
from .retry_policy import (
    MAX_RETRY_AFTER_SECONDS,
    RetryPolicy,
    may_have_been_done,
    retry_after_seconds,
)

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0  # as in Orb's own SDK
MAX_REDIRECTS = 5
# A request ends after this many time-outs in all. A single one restarts with every byte.
TIMEOUTS_PER_REQUEST = 2

# Errors that requests and urllib3 let through, besides their own.
_FROM_BELOW = (OSError, ValueError, HTTPError, HTTPException)

# Source: https://docs.withorb.com/api-reference/error-responses
_BY_TYPE: dict[tuple[int, str], type[OrbAPIError]] = {
    (400, "400-request-validation-errors"): OrbRequestValidationError,
    (400, "400-constraint-violation"): OrbConstraintViolationError,
    (400, "400-duplicate-resource-creation"): OrbDuplicateResourceError,
    # Orb's table says 404, its schema 400.
    (400, "404-feature-not-available"): OrbFeatureNotAvailableError,
    (404, "404-feature-not-available"): OrbFeatureNotAvailableError,
    (404, "404-resource-not-found"): OrbNotFoundError,
}

# Orb documents no type for 403; its own SDK has an error for it nevertheless.
_BY_STATUS: dict[int, type[OrbAPIError]] = {
    400: OrbBadRequestError,
    401: OrbAuthenticationError,
    403: OrbPermissionError,
    # A 404 that does not name a resource comes from a route or a proxy.
    404: OrbURLNotFoundError,
    409: OrbConflictError,
    413: OrbTooLargeError,
    429: OrbRateLimitError,
}


class BearerAuth(AuthBase):
    """Send the key as an auth object, which takes precedence over a .netrc file."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request

    def fingerprint(self, base_url: str) -> str:
        """Return a hash that tells keys apart without revealing them."""
        return hashlib.sha256(f"{base_url}\n{self._api_key}".encode()).hexdigest()

    def redact(self, text: str) -> str:
        return text.replace(self._api_key, "[API key]")


class Transport:
    """Send requests to one Orb account, and raise an error unless they succeed."""

    def __init__(
        self,
        *,
        base_url: str,
        auth: BearerAuth,
        session: requests.Session,
        timeout_seconds: float,
        retries: int,
    ) -> None:
        self.base_url = base_url
        self.session = session
        self._auth = auth
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self.before_request: Callable[[str], None] = lambda method: None

    @property
    def fingerprint(self) -> str:
        return self._auth.fingerprint(self.base_url)

    @property
    def worst_case_seconds(self) -> float:
        return worst_case_seconds(self._timeout_seconds, self._retries)

    def get(
        self,
        path: Path,
        params: list[tuple[str, str]] | None = None,
        read: Callable[[bytes], Any] = exact_json.loads,
    ) -> Any:
        """Return what `read` makes of the body; it raises ValueError if it cannot."""
        return self._request("GET", path, {"params": params}, {}, self._retries, read)

    def post(
        self, path: Path, body: Any = None, *, idempotency_key: str | None = None
    ) -> Any:
        # Without a key, a second try might be a second charge.
        retries = self._retries if idempotency_key else 0
        return self._change("POST", path, body, idempotency_key, {}, retries)

    def put(self, path: Path, body: Any, *, idempotency_key: str | None = None) -> Any:
        return self._change("PUT", path, body, idempotency_key)

    def delete(self, path: Path, *, idempotency_key: str | None = None) -> Any:
        # As Orb's own SDK does, since it expects no content.
        headers = {"Accept": "*/*"}
        return self._change("DELETE", path, None, idempotency_key, headers)

    def _change(
        self,
        method: str,
        path: Path,
        body: Any,
        idempotency_key: str | None,
        more_headers: dict[str, str] | None = None,
        retries: int = 0,
    ) -> Any:
        # Sent even without a body, as Orb's own SDK does.
        headers = {"Content-Type": "application/json", **(more_headers or {})}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        data = None if body is None else exact_json.dumps(body)
        return self._request(method, path, {"data": data}, headers, retries)

    def _request(
        self,
        method: str,
        path: Path,
        content: dict[str, Any],
        headers: dict[str, str],
        retries: int,
        read: Callable[[bytes], Any] = exact_json.loads,
    ) -> Any:
        name = f"{method} {path}"
        policy = RetryPolicy.of(retries)
        is_in_doubt = False
        while True:
            answer = self._try(name, method, path, content, headers)
            seconds = policy.seconds_to_wait(method, answer)
            if seconds is None:
                break
            # A void that is refused when it is repeated may have been done by the
            # attempt before, whose answer was lost. The caller has to look before it
            # believes so.
            is_in_doubt |= may_have_been_done(answer)
            logger.info("%s: %s; again in %.1f s", name, _outline(answer), seconds)
            policy = policy.increment(method, path)
            time.sleep(seconds)
        if isinstance(answer, Exception):
            raise answer
        if not answer.is_success:
            error = self._error(name, answer.response)
            error.follows_doubt = is_in_doubt
            raise error
        return self._read(name, answer, read)

    def _try(
        self,
        name: str,
        method: str,
        path: Path,
        content: dict[str, Any],
        headers: dict[str, str],
    ) -> Answer | OrbConnectionError | OrbResponseError:
        self.before_request(method)
        try:
            with deadline(TIMEOUTS_PER_REQUEST * self._timeout_seconds):
                return self._send(name, method, path, content, headers)
        except OrbResponseError as err:
            _forget_frames(err)
            return err
        except _FROM_BELOW as err:
            _forget_frames(err)
            return self._failure(name, err)

    def _failure(self, name: str, err: Exception) -> OrbConnectionError:
        """Return an error that hides a proxy's address, which may have a password."""
        cause: BaseException | None = err
        if isinstance(err, ValueError) and not isinstance(err, InvalidHeader):
            problem = OrbConnectionError(
                f"No answer from Orb to {name}: {type(err).__name__}. Check the "
                "addresses that this process was given, such as HTTPS_PROXY."
            )
            cause = None
        else:
            if isinstance(err, ProxyError):
                cause = _root(err)
            reason = self._auth.redact(f"{type(err).__name__}: {cause}")
            if isinstance(err, ChunkedEncodingError | ProtocolError):
                text = f"Orb's answer to {name} broke off: {reason}"
                problem = OrbConnectionError(text)
            elif _is_timeout(err):
                text = f"No answer from Orb in time to {name}: {reason}"
                problem = OrbTimeoutError(text)
            else:
                problem = OrbConnectionError(f"No answer from Orb to {name}: {reason}")
        problem.__cause__ = cause
        return problem

    @metrics.measures_request
    def _send(
        self,
        name: str,
        method: str,
        path: Path,
        content: dict[str, Any],
        headers: dict[str, str],
    ) -> Answer:
        url = self.base_url + path
        connect_seconds = min(CONNECT_SECONDS, self._timeout_seconds)
        # Loopback is reached without a proxy, even if no_proxy does not say so.
        proxies = {"http": "", "https": ""} if is_loopback(url) else None
        for _ in range(MAX_REDIRECTS + 1):
            # Left alone, requests would accept encodings that `answer` cannot unpack,
            # read the body without a limit, and repeat a redirected POST as a GET, whose
            # success would pass for the POST's.
            response = self.session.request(
                method,
                url,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                    "User-Agent": f"django-orb/{__version__}",
                    **headers,
                },
                auth=self._auth,
                timeout=(connect_seconds, self._timeout_seconds),
                allow_redirects=False,
                proxies=proxies,
                stream=True,
                **content,
            )
            answer = Answer.read(name, response)
            # A response that is logged or pickled must not contain the key.
            response.request.headers.pop("Authorization", None)
            target = self._target_here(url, response)
            if method != "GET" or target is None:
                break
            # The target has a query of its own.
            url, content = target, {}
        return answer

    def _target_here(self, url: str, response: requests.Response) -> str | None:
        """Return a redirect's target if it is another address of the same host."""
        try:
            target = urljoin(url, self.session.get_redirect_target(response) or "")
            return target if target != url and _origin(target) == _origin(url) else None
        except ValueError:
            return None

    def _read(self, name: str, answer: Answer, read: Callable[[bytes], Any]) -> Any:
        if not answer.body:
            return None
        try:
            return read(answer.body)
        except ValueError as err:
            headers = answer.response.headers
            kind = headers.get("Content-Type", "no content type")
            raise OrbResponseError(
                f"Orb answered {answer.response.status_code} to {name} with {kind} "
                f"that cannot be read as JSON: {err}"
            ) from err

    def _error(self, name: str, response: requests.Response) -> OrbAPIError:
        status = response.status_code
        problem = _problem(response)
        # Only what follows the "#" stays the same: the host was docs.billwithorb.com
        # once.
        problem_type = _text(problem.get("type")).rpartition("#")[2]
        title = self._auth.redact(_text(problem.get("title")))
        detail = self._auth.redact(_text(problem.get("detail")))
        # Objects according to Orb's SDK, texts according to other clients.
        # Source: https://github.com/MaterializeInc/rust-orb-billing (src/client.rs)
        given = problem.get("validation_errors")
        reasons = [
            self._auth.redact(reason) if isinstance(reason, str) else reason
            for reason in (given if isinstance(given, list) else [])
        ]
        explanation = detail or title or self._auth.redact(_hint(response))
        if reasons:
            explanation += f" ({'; '.join(map(str, reasons))})"
        values: dict[str, Any] = {
            "status_code": status,
            "type": problem_type,
            "title": title,
            "detail": detail,
            "validation_errors": reasons,
            "request_id": response.headers.get("X-Request-Id"),
            "response": response,
            "retry_after_seconds": retry_after_seconds(response),
        }
        kind = _BY_TYPE.get((status, problem_type)) or _BY_STATUS.get(status)
        if kind is None:
            kind = OrbServerError if status >= 500 else OrbAPIError
        return kind(f"Orb answered {status} to {name}: {explanation}", **values)


def worst_case_seconds(timeout_seconds: float, retries: int) -> float:
    """Return the most seconds that a request may take with all of its retries."""
    # Leases are computed from this. If it were too little, another worker would take
    # what is still under way.
    once = min(CONNECT_SECONDS, timeout_seconds)
    once += TIMEOUTS_PER_REQUEST * timeout_seconds
    return (retries + 1) * once + retries * MAX_RETRY_AFTER_SECONDS


def _outline(answer: Answer | Exception) -> str:
    if isinstance(answer, Exception):
        return str(answer)
    return f"Orb answered {answer.response.status_code}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _is_timeout(err: Exception) -> bool:
    return isinstance(err, requests.Timeout | Urllib3TimeoutError | TimeoutError)


def _root(err: BaseException) -> BaseException:
    while following := err.__cause__ or err.__context__:
        err = following
    return err


def _forget_frames(err: BaseException | None) -> None:
    """Drop the frames below an error: their variables hold the request's headers."""
    request = getattr(err, "request", None)
    if isinstance(request, requests.PreparedRequest):
        request.headers.pop("Authorization", None)
    while err is not None:
        err.__traceback__ = None
        err = err.__cause__ or err.__context__


def _problem(response: requests.Response) -> dict[str, Any]:
    try:
        problem = exact_json.loads(response.content)
    except ValueError:
        return {}
    # Its texts are stored with the operation that Orb refused.
    return exact_json.storable(problem) if isinstance(problem, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _hint(response: requests.Response) -> str:
    if response.is_redirect:
        try:
            target = urlsplit(response.headers["Location"])
        except ValueError:
            return "a redirect to an address that cannot be read; check BASE_URL"
        return f"a redirect to {target.netloc or target.path}; check BASE_URL"
    kind = response.headers.get("Content-Type", "no content type")
    return f"no readable explanation ({kind})"
