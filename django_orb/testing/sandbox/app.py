"""The WSGI application: keys, limits, faults and the journal around each route."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from django_orb.testing.account import Problem, payload_for_status

from .faults import Fault, Faults
from .idempotency import HEADER, IdempotencyKeys, key_of
from .journal import Journal, LoggedRequest
from .limits import RateLimits
from .responses import json_response, slowed
from .routes import Routes, match

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

Arguments = dict[str, Any]


class ConnectionCut(Exception):  # noqa: N818
    """The connection must be cut, in the middle of `response` if there is one."""

    def __init__(self, response: Response | None = None) -> None:
        self.response = response


@dataclass
class Options:
    api_key: str
    latency_ms: float = 0.0


class OrbApp:
    """Everything below `/v1`, as a WSGI application."""

    def __init__(
        self,
        routes: Routes,
        options: Options,
        *,
        keys: IdempotencyKeys,
        faults: Faults,
        limits: RateLimits,
        journal: Journal,
    ) -> None:
        self._routes = routes
        self._options = options
        self._keys = keys
        self._faults = faults
        self._limits = limits
        self._journal = journal

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        request = Request(environ)
        route, arguments = match(request)
        try:
            response = self._answer(request, route, arguments)
        except ConnectionCut:
            self._log(request, route, 0)
            raise
        self._log(request, route, response.status_code)
        self._happen_after(route, response)
        return response(environ, start_response)

    def _log(self, request: Request, route: str, status: int) -> None:
        query = request.query_string.decode("latin-1")
        key = request.headers.get(HEADER)
        self._journal.add(
            LoggedRequest(request.method, request.path, query, status, route, key)
        )

    def _happen_after(self, route: str, response: Response) -> None:
        if response.status_code < 300:
            fault = self._faults.take(route, "then")
            if fault is not None and fault.action is not None:
                fault.action()

    # Faults around the answer

    def _answer(self, request: Request, route: str, arguments: Arguments) -> Response:
        if self._options.latency_ms:
            time.sleep(self._options.latency_ms / 1000)
        fault = self._faults.take(route, "fail", "cut")
        if fault and fault.when == "before":
            return _failure(fault)
        response = self._execute(request, route, arguments)
        if fault:
            return _failure(fault, response)
        slow = self._faults.take(route, "slow")
        return slowed(response, slow.seconds) if slow else response

    def _execute(self, request: Request, route: str, arguments: Arguments) -> Response:
        try:
            self._authenticate(request)
            self._limits.check(request.method)
            return self._once(request, route, arguments)
        except Problem as problem:
            return _with_key(request, json_response(problem.payload(), problem.status))
        except Exception:
            logger.exception(
                "The sandbox failed at %s %s", request.method, request.path
            )
            body = payload_for_status(500, "The sandbox failed; see its log.")
            return json_response(body, 500)

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("Authorization", "")
        expected = f"Bearer {self._options.api_key}"
        if not secrets.compare_digest(given.encode(), expected.encode()):
            raise Problem(
                "401-authentication-error", "The API key is missing or not valid."
            )

    def _once(self, request: Request, route: str, arguments: Arguments) -> Response:
        """Execute the request, or replay the answer that its idempotency key got."""
        kept = self._keys.begin(request)
        if kept is not None:
            return kept
        try:
            response = self._run(request, route, arguments)
        except BaseException:
            self._keys.forget(request)
            raise
        response = _with_key(request, response)
        self._keys.finish(request, response)
        return response

    def _run(self, request: Request, route: str, arguments: Arguments) -> Response:
        go_on = partial(self._run_route, request, route, arguments)
        for handler in self._faults.handlers:
            go_on = partial(handler, route, request, go_on)
        return go_on()

    def _run_route(
        self, request: Request, route: str, arguments: Arguments
    ) -> Response:
        # During this wait the idempotency key is in flight, as with a slow Orb.
        delay = self._faults.take(route, "delay")
        if delay:
            time.sleep(delay.seconds)
        try:
            response = self._routes.run(request, route, arguments)
        except Problem as problem:
            return json_response(problem.payload(), problem.status)
        if self._faults.take(route, "repeat"):
            return _with_cursor(response, request.args.get("cursor"))
        return response


def _with_key(request: Request, response: Response) -> Response:
    key = key_of(request)
    if key is not None:
        response.headers.setdefault(HEADER, key)
    return response


def _with_cursor(response: Response, cursor: str | None) -> Response:
    payload = response.get_json()
    if cursor is not None:
        payload["pagination_metadata"] = {"has_more": True, "next_cursor": cursor}
    return json_response(payload)


def _failure(fault: Fault, response: Response | None = None) -> Response:
    if fault.kind == "cut":
        raise ConnectionCut(response if fault.when == "during" else None)
    if fault.html:
        body = f"<html><body><h1>{fault.status}</h1><hr>cloud edge</body></html>"
        failure = Response(body, status=fault.status, content_type="text/html")
    else:
        detail = _DETAILS.get(fault.status, "Asked for by a test.")
        failure = json_response(payload_for_status(fault.status, detail), fault.status)
    failure.headers.update(fault.headers)
    return failure


_DETAILS = {429: "Rate limit exceeded (5 per 1 second)"}
