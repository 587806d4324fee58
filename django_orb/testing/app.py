"""Orb's routes, as a WSGI application."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from .account import Account
from .faults import OUTCOMES, Fault, Faults
from .idempotency import HEADER, IdempotencyKeys, key_of
from .journal import Journal, LoggedRequest
from .new_line import parse_new_line
from .problems import Problem, invalid, payload_for_status
from .query import parse, parse_flag
from .templates import dumps

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

MAX_BODY = 1_000_000
_SLOW_PIECES = 10


class ConnectionCut(Exception):  # noqa: N818
    """The connection is to be cut; `response` is what was about to be sent, if any."""

    def __init__(self, response: Response | None = None) -> None:
        self.response = response


@dataclass
class Options:
    api_key: str
    latency_ms: float = 0.0


def _rules() -> list[Rule]:
    # The fixed paths come before the one with an id (they are invoices to Orb's
    # router otherwise); werkzeug sorts them so by itself.
    return [
        Rule("/ping", methods=["GET"], endpoint="ping"),
        Rule("/invoices", methods=["GET"], endpoint="list_invoices"),
        Rule("/invoices/upcoming", methods=["GET"], endpoint="fetch_upcoming_invoice"),
        Rule("/invoices/<invoice_id>", methods=["GET"], endpoint="fetch_invoice"),
        Rule("/invoices/<invoice_id>/void", methods=["POST"], endpoint="void_invoice"),
        Rule(
            "/invoice_line_items", methods=["POST"], endpoint="create_invoice_line_item"
        ),
    ]


URLS = Map(_rules(), strict_slashes=False, merge_slashes=False, redirect_defaults=False)
ROUTES = frozenset(rule.endpoint for rule in URLS.iter_rules())
NO_ROUTE = "unknown"


class OrbApp:
    """Everything below `/v1`."""

    prefix = "/v1"

    def __init__(
        self, account: Account, faults: Faults, journal: Journal, options: Options
    ) -> None:
        self._account = account
        self._faults = faults
        self._journal = journal
        self._options = options
        self._keys = IdempotencyKeys(account.clock)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        request = Request(environ)
        route, arguments = self._match(request)
        try:
            response = self._answer(request, route, arguments)
        except ConnectionCut:
            self._log(request, route, 0)
            raise
        self._log(request, route, response.status_code)
        return response(environ, start_response)

    def _match(self, request: Request) -> tuple[str, dict[str, Any]]:
        path = request.path.removeprefix(self.prefix)
        if path == request.path:
            return NO_ROUTE, {}
        adapter = URLS.bind("", path_info=path, default_method=request.method)
        try:
            endpoint, arguments = adapter.match()
        except HTTPException:
            # Orb has no type for a wrong method: it is an unknown URL as well.
            return NO_ROUTE, {}
        return str(endpoint), dict(arguments)

    def _log(self, request: Request, route: str, status: int) -> None:
        query = request.query_string.decode("latin-1")
        key = request.headers.get(HEADER)
        self._journal.add(
            LoggedRequest(request.method, request.path, query, status, route, key)
        )

    # Faults around the answer

    def _answer(
        self, request: Request, route: str, arguments: dict[str, Any]
    ) -> Response:
        if self._options.latency_ms:
            time.sleep(self._options.latency_ms / 1000)
        fault = self._faults.take(route, *OUTCOMES)
        if fault and fault.when == "before":
            return _failure(fault)
        response = self._execute(request, route, arguments)
        if fault:
            return _failure(fault, response)
        slow = self._faults.take(route, "slow")
        return _slowed(response, slow.seconds) if slow else response

    def _execute(
        self, request: Request, route: str, arguments: dict[str, Any]
    ) -> Response:
        try:
            self._authenticate(request)
            return self._once(request, route, arguments)
        except Problem as problem:
            return _with_key(request, _json(problem.payload(), problem.status))
        except Exception:
            logger.exception(
                "The sandbox failed at %s %s", request.method, request.path
            )
            body = payload_for_status(500, "The sandbox failed; see its log.")
            return _json(body, 500)

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("Authorization", "")
        expected = f"Bearer {self._options.api_key}"
        if not secrets.compare_digest(given.encode(), expected.encode()):
            raise Problem(
                "401-authentication-error", "The API key is missing or not valid."
            )

    def _once(
        self, request: Request, route: str, arguments: dict[str, Any]
    ) -> Response:
        """Execute the request, or repeat what its idempotency key got before."""
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

    def _run(self, request: Request, route: str, arguments: dict[str, Any]) -> Response:
        # Waiting here keeps the idempotency key in flight, as a slow Orb would.
        delay = self._faults.take(route, "delay")
        if delay:
            time.sleep(delay.seconds)
        try:
            if route == NO_ROUTE:
                raise Problem("404-url-not-found", f"No such URL: {request.path}")
            handler: Callable[..., Response] = getattr(self, f"_{route}")
            return handler(request, **arguments)
        except Problem as problem:
            return _json(problem.payload(), problem.status)

    # The operations

    def _ping(self, request: Request) -> Response:
        return _json({"response": "pong"})

    def _list_invoices(self, request: Request) -> Response:
        account = self._account
        query = parse(request.args, account.clock.now(), account.amount)
        bodies, cursor = account.page(query)
        if not query.zero_quantity_lines:
            bodies = [_without_zero_lines(body) for body in bodies]
        if self._faults.take("list_invoices", "repeat"):
            cursor = request.args.get("cursor") or cursor
        return _page(bodies, cursor)

    def _fetch_invoice(self, request: Request, invoice_id: str) -> Response:
        return _invoice(request, self._account.fetch(invoice_id))

    def _fetch_upcoming_invoice(self, request: Request) -> Response:
        subscription_id = request.args.get("subscription_id")
        if not subscription_id:
            raise invalid("subscription_id: required")
        return _invoice(request, dumps(self._account.upcoming(subscription_id)))

    def _void_invoice(self, request: Request, invoice_id: str) -> Response:
        # 201 is what the first OpenAPI document says; today's names no status.
        return _json(self._account.void(invoice_id), 201)

    def _create_invoice_line_item(self, request: Request) -> Response:
        new = parse_new_line(_body(request))
        return _json(self._account.create_line_item(new), 201)


def _body(request: Request) -> Any:
    if (request.content_length or 0) > MAX_BODY:
        raise Problem("413-request-too-large", f"More than {MAX_BODY} bytes.")
    try:
        return json.loads(request.get_data() or b"null", parse_float=Decimal)
    except ValueError as error:
        raise invalid("body: not JSON") from error


def _json(payload: Any, status: int = 200) -> Response:
    return _raw(dumps(payload), status)


def _raw(body: bytes, status: int = 200) -> Response:
    return Response(body, status=status, content_type="application/json")


def _page(bodies: list[bytes], cursor: str | None) -> Response:
    # Orb's SDK follows any cursor and ignores has_more; others do the reverse.
    metadata = dumps({"has_more": cursor is not None, "next_cursor": cursor})
    data = b",".join(bodies)
    return _raw(
        b"".join((b'{"data":[', data, b'],"pagination_metadata":', metadata, b"}"))
    )


def _invoice(request: Request, body: bytes) -> Response:
    if parse_flag(request.args, "include_zero_quantity_line_items") is False:
        body = _without_zero_lines(body)
    return _raw(body)


def _without_zero_lines(body: bytes) -> bytes:
    payload = json.loads(body)
    lines = payload["line_items"]
    kept = [line for line in lines if line["quantity"]]
    hidden = payload["hidden_line_item_count"] + len(lines) - len(kept)
    return dumps(payload | {"line_items": kept, "hidden_line_item_count": hidden})


def _with_key(request: Request, response: Response) -> Response:
    key = key_of(request)
    if key is not None:
        response.headers.setdefault(HEADER, key)
    return response


def _failure(fault: Fault, response: Response | None = None) -> Response:
    if fault.kind == "cut":
        raise ConnectionCut(response if fault.when == "during" else None)
    if fault.html:
        body = f"<html><body><h1>{fault.status}</h1><hr>cloud edge</body></html>"
        failure = Response(body, status=fault.status, content_type="text/html")
    else:
        detail = _DETAILS.get(fault.status, "Asked for by a test.")
        failure = _json(payload_for_status(fault.status, detail), fault.status)
    failure.headers.update(fault.headers)
    return failure


_DETAILS = {429: "Rate limit exceeded (5 per 1 second)"}


def _slowed(response: Response, seconds: float) -> Response:
    """The same answer, in pieces that take this long altogether."""
    body = response.get_data()
    slowed = Response(
        _pieces(body, seconds), status=response.status_code, headers=response.headers
    )
    slowed.content_length = len(body)
    return slowed


def _pieces(body: bytes, seconds: float) -> Iterator[bytes]:
    size = max(1, -(-len(body) // _SLOW_PIECES))
    for start in range(0, len(body), size):
        time.sleep(seconds / _SLOW_PIECES)
        yield body[start : start + size]
