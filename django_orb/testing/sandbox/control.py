"""
The control API below `/_sandbox`, for tests in other processes.

It does what the methods of `OrbSandbox` do, and takes their arguments as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from django_orb.testing.account import Problem, dumps

from .misbehaving_orb import MisbehavingOrb

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = "/_sandbox"

URLS = Map(
    [
        Rule("/", methods=["GET"], endpoint="state"),
        Rule("/faults/<kind>", methods=["POST"], endpoint="add_fault"),
        Rule("/faults", methods=["DELETE"], endpoint="clear_faults"),
        Rule("/options", methods=["PUT"], endpoint="set_options"),
        Rule("/clock", methods=["POST"], endpoint="move_clock"),
        Rule("/endpoints", methods=["POST"], endpoint="add_endpoint"),
        Rule("/requests", methods=["GET"], endpoint="requests"),
        Rule("/requests", methods=["DELETE"], endpoint="clear_requests"),
        Rule("/customers", methods=["POST"], endpoint="add_customer"),
        Rule("/invoices", methods=["POST"], endpoint="add_invoice"),
        Rule("/invoices/<invoice_id>", methods=["PATCH"], endpoint="update_invoice"),
        Rule("/invoices/<invoice_id>", methods=["DELETE"], endpoint="delete_draft"),
        Rule("/invoices/<invoice_id>/<action>", methods=["POST"], endpoint="act"),
    ],
    strict_slashes=False,
)
_FAULTS = {"fail", "cut", "delay", "slow", "repeat", "shift_pages"}
_ACTIONS = {
    *("attempt_payment", "fail_issue", "fail_sync", "issue", "mark_paid", "sync"),
    *("sync_accounting", "undo_mark_paid", "void"),
}
_OPTIONS = {"sign_links", "latency_ms", "rate_limits", "has_webhook_events"}


class Switch:
    """Sends a request to the control API or to Orb's."""

    def __init__(self, orb: WSGIApplication, control: WSGIApplication) -> None:
        self._orb = orb
        self._control = control

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        is_control = environ["PATH_INFO"].startswith(PREFIX)
        return (self._control if is_control else self._orb)(environ, start_response)


class ControlApp:
    def __init__(self, orb: MisbehavingOrb) -> None:
        self._orb = orb

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        request = Request(environ)
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.path.removeprefix(PREFIX) or "/"
        adapter = URLS.bind("", path_info=path, default_method=request.method)
        try:
            endpoint, arguments = adapter.match()
            result = getattr(self, f"_{endpoint}")(_body(request), **arguments)
        except HTTPException as error:
            return _json({"error": error.name}, error.code or 404)
        except Problem as problem:
            return _json({"error": problem.detail}, problem.status)
        except (TypeError, ValueError, KeyError) as error:
            return _json({"error": str(error)}, 400)
        return _json(result)

    def _state(self, _: Any) -> Any:
        orb = self._orb
        return {
            "now": orb.clock.now().isoformat(),
            "status_counts": orb.status_counts(),
            "request_counts": orb.request_counts(),
            "waiting_faults": orb.waiting_faults,
        }

    def _add_fault(self, body: dict[str, Any], kind: str) -> Any:
        if kind not in _FAULTS:
            raise ValueError(f"{kind!r} is not one of {sorted(_FAULTS)}")
        name = kind if kind == "shift_pages" else f"{kind}_next"
        getattr(self._orb, name)(**body)
        return {"waiting_faults": self._orb.waiting_faults}

    def _clear_faults(self, _: Any) -> Any:
        self._orb.clear_faults()
        return {"waiting_faults": 0}

    def _set_options(self, body: dict[str, Any]) -> Any:
        for name, value in body.items():
            if name == "lag_reads":
                self._orb.lag_reads(value)
            elif name in _OPTIONS:
                setattr(self._orb, name, value)
            else:
                raise ValueError(f"{name!r} is not an option")
        return body

    def _move_clock(self, body: dict[str, Any]) -> Any:
        if "set" in body:
            self._orb.clock.set(datetime.fromisoformat(body["set"]))
        if "advance_seconds" in body:
            self._orb.advance(timedelta(seconds=body["advance_seconds"]))
        return {"now": self._orb.clock.now().isoformat()}

    def _add_endpoint(self, body: dict[str, Any]) -> Any:
        self._orb.webhooks.deliver_to(**body)
        return {"delivers_to": body["url"]}

    def _requests(self, _: Any) -> Any:
        return [request._asdict() for request in self._orb.requests]

    def _clear_requests(self, _: Any) -> Any:
        self._orb.clear_requests()
        return []

    def _add_customer(self, body: dict[str, Any]) -> Any:
        return self._orb.add_customer(**body)

    def _add_invoice(self, body: dict[str, Any]) -> Any:
        return self._orb.add_invoice(**body)

    def _update_invoice(self, body: dict[str, Any], invoice_id: str) -> Any:
        return self._orb.update_invoice(invoice_id, **body)

    def _delete_draft(self, _: Any, invoice_id: str) -> Any:
        self._orb.delete_draft(invoice_id)
        return {"deleted": invoice_id}

    def _act(self, body: dict[str, Any], invoice_id: str, action: str) -> Any:
        if action not in _ACTIONS:
            raise ValueError(f"{action!r} is not one of {sorted(_ACTIONS)}")
        return getattr(self._orb, action)(invoice_id, **body)


def _body(request: Request) -> dict[str, Any]:
    body = json.loads(request.get_data() or b"{}")
    if not isinstance(body, dict):
        raise TypeError("the body must be a JSON object")
    return body


def _json(payload: Any, status: int = 200) -> Response:
    return Response(dumps(payload), status=status, content_type="application/json")
