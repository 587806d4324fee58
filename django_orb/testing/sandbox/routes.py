"""Orb's routes, and a method for each of them."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from django_orb.testing.account import (
    Account,
    CustomerRecords,
    EventQuery,
    Operations,
    Problem,
    dumps,
    invalid,
    json_body,
    parse,
    parse_flag,
    unknown,
)

from .responses import (
    json_response,
    page_response,
    raw_response,
    summary,
    without_zero_lines,
)

PREFIX = "/v1"
NO_ROUTE = "unknown"

_ROUTES = """
    GET    /ping                                           ping
    GET    /invoices                                       list_invoices
    POST   /invoices                                       create_invoice
    GET    /invoices/summary                               list_invoice_summaries
    POST   /invoices/summary/<invoice_id>/issue            issue_invoice_summary
    GET    /invoices/upcoming                              fetch_upcoming_invoice
    GET    /invoices/<invoice_id>                          fetch_invoice
    PUT    /invoices/<invoice_id>                          update_invoice
    POST   /invoices/<invoice_id>/issue                    issue_invoice
    POST   /invoices/<invoice_id>/mark_paid                mark_invoice_paid
    POST   /invoices/<invoice_id>/pay                      pay_invoice
    POST   /invoices/<invoice_id>/void                     void_invoice
    POST   /invoices/<invoice_id>/regenerate_invoice_pdf   regenerate_invoice_pdf
    POST   /invoices/<invoice_id>/regenerate_receipt_pdf   regenerate_receipt_pdf
    POST   /invoice_line_items                             create_invoice_line_item
    DELETE /invoices/<invoice_id>/invoice_line_items/<line_item_id> \
                                                           delete_invoice_line_item
    GET    /customers                                      list_customers
    GET    /customers/external_customer_id/<external_id>   fetch_customer_by_external_id
    GET    /customers/<customer_id>                        fetch_customer
    GET    /customers/<customer_id>/balance_transactions   list_balance_transactions
    POST   /customers/<customer_id>/balance_transactions   create_balance_transaction
    POST   /customers/<customer_id>/portal_sessions        create_portal_session
    POST   /customers/external_customer_id/<external_id>/portal_sessions \
                                              create_portal_session_by_external_id
    GET    /webhook_events                                 list_webhook_events
    GET    /webhook_events/<event_id>                      fetch_webhook_event
"""


def _rules() -> list[Rule]:
    rules = []
    for line in _ROUTES.replace("\\\n", " ").split("\n"):
        if line.strip():
            method, path, endpoint = line.split()
            rules.append(Rule(path, methods=[method], endpoint=endpoint))
    return rules


# werkzeug tries fixed paths before those with an id, as it must be here.
_URLS = Map(_rules(), strict_slashes=False, merge_slashes=False)
ROUTES = frozenset(str(rule.endpoint) for rule in _URLS.iter_rules())


def match(request: Request) -> tuple[str, dict[str, Any]]:
    path = request.path.removeprefix(PREFIX)
    if path == request.path:
        return NO_ROUTE, {}
    adapter = _URLS.bind("", path_info=path, default_method=request.method)
    try:
        endpoint, arguments = adapter.match()
    except HTTPException:
        # Orb has no type for a wrong method, so it is an unknown URL as well.
        return NO_ROUTE, {}
    return str(endpoint), dict(arguments)


class Routes:
    """A method for each route; those that return a dict answer 200."""

    def __init__(
        self, account: Account, operations: Operations, customers: CustomerRecords
    ) -> None:
        self._account = account
        self._operations = operations
        self._customers = customers
        self.has_webhook_events = True

    def run(self, request: Request, route: str, arguments: dict[str, Any]) -> Response:
        handler = getattr(self, f"_{route}", None)
        if handler is None:
            raise Problem("404-url-not-found", f"No such URL: {request.path}")
        answer = handler(request, **arguments)
        return answer if isinstance(answer, Response) else json_response(answer)

    def _ping(self, request: Request) -> Any:
        return {"response": "pong"}

    # Reading invoices

    def _list_invoices(self, request: Request) -> Response:
        return page_response(*self._page(request))

    def _list_invoice_summaries(self, request: Request) -> Response:
        bodies, cursor = self._page(request)
        return page_response([summary(body) for body in bodies], cursor)

    def _page(self, request: Request) -> tuple[list[bytes], str | None]:
        account = self._account
        query = parse(request.args, account.clock.now(), account.amount)
        bodies, cursor = account.page(query)
        if not query.zero_quantity_lines:
            bodies = [without_zero_lines(body) for body in bodies]
        return bodies, cursor

    def _fetch_invoice(self, request: Request, invoice_id: str) -> Response:
        return _invoice(request, self._account.fetch(invoice_id))

    def _fetch_upcoming_invoice(self, request: Request) -> Response:
        subscription_id = request.args.get("subscription_id")
        if not subscription_id:
            raise invalid("subscription_id: required")
        return _invoice(request, dumps(self._account.upcoming(subscription_id)))

    # Changing invoices

    def _create_invoice_line_item(self, request: Request) -> Response:
        return json_response(self._operations.create_line_item(json_body(request)), 201)

    def _delete_invoice_line_item(
        self, request: Request, invoice_id: str, line_item_id: str
    ) -> Response:
        self._operations.delete_line_item(invoice_id, line_item_id)
        return Response(status=204)

    def _create_invoice(self, request: Request) -> Response:
        # Own choice of 201, by analogy with line items.
        return json_response(self._operations.create_invoice(json_body(request)), 201)

    def _update_invoice(self, request: Request, invoice_id: str) -> Any:
        return self._operations.update_invoice(invoice_id, json_body(request))

    def _issue_invoice(self, request: Request, invoice_id: str) -> Any:
        return self._operations.issue(invoice_id, json_body(request))

    def _issue_invoice_summary(self, request: Request, invoice_id: str) -> Response:
        issued = self._operations.issue(invoice_id, json_body(request))
        return raw_response(summary(dumps(issued)))

    def _mark_invoice_paid(self, request: Request, invoice_id: str) -> Any:
        return self._operations.mark_paid(invoice_id, json_body(request))

    def _pay_invoice(self, request: Request, invoice_id: str) -> Any:
        return self._operations.pay(invoice_id, json_body(request))

    def _void_invoice(self, request: Request, invoice_id: str) -> Response:
        # Orb's first OpenAPI document says 201; today's does not name the status.
        return json_response(self._operations.void(invoice_id), 201)

    def _regenerate_invoice_pdf(self, request: Request, invoice_id: str) -> Any:
        return self._operations.regenerate(invoice_id, "invoice")

    def _regenerate_receipt_pdf(self, request: Request, invoice_id: str) -> Any:
        return self._operations.regenerate(invoice_id, "receipt")

    # Customers

    def _list_customers(self, request: Request) -> Response:
        return page_response(*self._customers.page(request.args))

    def _fetch_customer(self, request: Request, customer_id: str) -> Any:
        return self._customers.fetch(customer_id)

    def _fetch_customer_by_external_id(self, request: Request, external_id: str) -> Any:
        return self._customers.fetch_by_external_id(external_id)

    def _list_balance_transactions(
        self, request: Request, customer_id: str
    ) -> Response:
        return page_response(*self._customers.transactions(customer_id, request.args))

    def _create_balance_transaction(
        self, request: Request, customer_id: str
    ) -> Response:
        entry = self._customers.adjust(customer_id, json_body(request))
        return json_response(entry, 201)

    def _create_portal_session(self, request: Request, customer_id: str) -> Response:
        session = self._customers.open_portal(customer_id, json_body(request))
        return json_response(session, 201)

    def _create_portal_session_by_external_id(
        self, request: Request, external_id: str
    ) -> Response:
        customer_id = self._customers.id_of(external_id)
        return self._create_portal_session(request, customer_id)

    # Events

    def _list_webhook_events(self, request: Request) -> Response:
        self._demand_webhook_events()
        query = EventQuery.parse(request.args)
        with self._account.opened():
            found = query.select(self._account.events)
        page, more = found[: query.limit], len(found) > query.limit
        bodies = [dumps(event.listed(query.include_payload)) for event in page]
        return page_response(bodies, query.cursor(page[-1]) if more else None)

    def _fetch_webhook_event(self, request: Request, event_id: str) -> Any:
        self._demand_webhook_events()
        with self._account.opened():
            event = self._account.events.find(event_id)
        if event is None:
            raise unknown("WebhookEvent", event_id)
        return event.listed(include_payload=True)

    def _demand_webhook_events(self) -> None:
        if not self.has_webhook_events:
            raise Problem("404-feature-not-available", "No webhook events here.")


def _invoice(request: Request, body: bytes) -> Response:
    if parse_flag(request.args, "include_zero_quantity_line_items") is False:
        body = without_zero_lines(body)
    return raw_response(body)
