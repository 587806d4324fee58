"""Offer Orb's API for invoices as methods that return parsed JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import requests

from django_orb.conf import (
    DEFAULT_BASE_URL,
    api_key_problem,
    base_url_problem,
    get_settings,
)
from django_orb.exceptions import OrbConfigurationError, OrbResponseError

from .deadline import DeadlineSession
from .list_page import RawPage, split_page, split_page_of_one
from .paths import Path, path_to
from .query import InvoiceFilters, list_query
from .transport import BearerAuth, Transport, worst_case_seconds
from .write_endpoints import InvoiceWrites, as_object

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


_INVOICES = path_to("/invoices")


class OrbClient(InvoiceWrites):
    """
    Call Orb with one API key.

    Requests that fail temporarily (no connection, 408, 409, 429, 5xx) are repeated
    up to `retries` times with growing pauses, a POST only if it has an idempotency key.
    A `session` given by the caller is used as it is and not closed; `timeout_seconds`
    is then the only limit on an answer that comes byte by byte.

    Raises:
        OrbConfigurationError: the key or the address is malformed.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        *,
        timeout_seconds: float = 30.0,
        session: requests.Session | None = None,
        retries: int = 2,
    ) -> None:
        if problem := api_key_problem(api_key):
            api_key = ""  # error reports show the variables of a frame
            raise OrbConfigurationError(f"The API key for Orb {problem}.")
        if problem := base_url_problem(base_url):
            raise OrbConfigurationError(f"The base URL for Orb {problem}.")
        #: If it is set, the transaction that stores the first answers of this client
        #: calls it.
        self.before_first_commit: Callable[[], None] | None = None
        self._owns_session = session is None
        self._transport = Transport(
            base_url=base_url.rstrip("/"),
            auth=BearerAuth(api_key),
            session=session or DeadlineSession(),
            timeout_seconds=timeout_seconds,
            retries=retries,
        )

    @classmethod
    def from_settings(cls, *, retries: int = 2) -> Self:
        """
        Make a client for the account in `settings.DJANGO_ORB`.

        Raises:
            OrbConfigurationError: there is no API key, or something else is wrong.
        """
        conf = get_settings()
        if not conf.API_KEY:
            raise OrbConfigurationError(
                'There is no API key for Orb: set DJANGO_ORB = {"API_KEY": "..."}, '
                "or ORB_API_KEY in the environment."
            )
        return cls(
            conf.API_KEY,
            conf.BASE_URL,
            timeout_seconds=conf.TIMEOUT_SECONDS,
            retries=retries,
        )

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    @property
    def fingerprint(self) -> str:
        """A hash of the key and the base URL, which reveals neither."""
        return self._transport.fingerprint

    def before_request(self, hook: Callable[[str], None]) -> None:
        """Call `hook` with the HTTP method before each request and each retry."""
        self._transport.before_request = hook

    @property
    def worst_case_seconds(self) -> float:
        """The most that a call may take with retries, however slowly bytes come."""
        return self._transport.worst_case_seconds

    def close(self) -> None:
        if self._owns_session:
            self._transport.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __repr__(self) -> str:
        # Error reports call this even if `__init__` has failed.
        transport = vars(self).get("_transport")
        return f"<{type(self).__name__} {transport.base_url if transport else '?'}>"

    def ping(self) -> dict[str, Any]:
        """Check that the address and the key are right."""
        return as_object("GET /ping", self._transport.get(path_to("/ping")))

    def fetch_invoice(self, invoice_id: str) -> dict[str, Any]:
        """
        Fetch one invoice in any status.

        Raises:
            OrbNotFoundError: the account has no such invoice.

        Source: https://docs.withorb.com/api-reference/invoice/fetch-invoice
        """
        path = path_to("/invoices/{invoice_id}", invoice_id=invoice_id)
        return as_object(f"GET {path}", self._transport.get(path))

    def fetch_upcoming_invoice(self, subscription_id: str) -> dict[str, Any]:
        """
        Fetch the next invoice of a subscription, as Orb expects it to be.

        It has a `target_date` instead of an `invoice_date`.

        Source: https://docs.withorb.com/api-reference/invoice/fetch-upcoming-invoice
        """
        path = path_to("/invoices/upcoming")
        answer = self._transport.get(path, [("subscription_id", subscription_id)])
        return as_object(f"GET {path}", answer)

    def fetch_invoices_page(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        **filters: Unpack[InvoiceFilters],
    ) -> dict[str, Any]:
        """
        Fetch one page: `{"data": [...], "pagination_metadata": {...}}`.

        To read on, give the page's `next_cursor` with the same filters.

        Raises:
            OrbInputError: a filter's value is ambiguous.
            OrbResponseError: the answer is not such a page.
        """
        return self._page(list_query(limit, filters), cursor)

    def read_invoices_page(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        summaries: bool = False,
        **filters: Unpack[InvoiceFilters],
    ) -> RawPage:
        """
        Fetch one page as `fetch_invoices_page` does, but leave its invoices as text.

        With a `limit` of 1 even an unreadable invoice is returned. The cursor is not
        checked here: `next_cursor` does that. `summaries` asks for invoices without
        their lines, which costs Orb less.

        Raises:
            OrbInputError: a filter's value is ambiguous.
            OrbResponseError: the answer is not such a page.
        """
        query = list_query(limit, filters)
        if cursor is not None:
            query.append(("cursor", cursor))
        # Orb has no filter that leaves the lines out, but a separate list without them.
        path = path_to("/invoices/summary") if summaries else _INVOICES
        read = split_page_of_one if limit == 1 else split_page
        page = self._transport.get(path, query, read=read)
        if page is None:
            raise OrbResponseError(f"Orb's answer to GET {path} is empty.")
        return cast("RawPage", page)

    def list_invoices(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        **filters: Unpack[InvoiceFilters],
    ) -> Iterator[dict[str, Any]]:
        """
        Yield pages of invoices, newest `invoice_date` first, from `cursor` on.

        A page is fetched only when the iterator reaches it, and has the form that
        `fetch_invoices_page` returns.

        Raises:
            OrbInputError: a filter's value is ambiguous.
            OrbResponseError: an answer is not a page, or Orb gives a cursor twice.
        """
        return self._pages(list_query(limit, filters), cursor)

    def _pages(
        self, query: list[tuple[str, str]], cursor: str | None
    ) -> Iterator[dict[str, Any]]:
        # Orb promises nothing about a cursor while invoices change. If one is repeated,
        # this would never end.
        seen = {cursor}
        while True:
            page = self._page(query, cursor)
            yield page
            cursor = next_cursor(page)
            if cursor is None:
                return
            if cursor in seen:
                raise OrbResponseError("Orb gave the same cursor of a list twice.")
            seen.add(cursor)

    def _page(
        self, query: list[tuple[str, str]], cursor: str | None, path: Path = _INVOICES
    ) -> dict[str, Any]:
        if cursor is not None:
            query = [*query, ("cursor", cursor)]
        name = f"GET {path}"
        page = as_object(name, self._transport.get(path, query))
        if not isinstance(page.get("data"), list):
            what = path[1:].replace("_", " ")
            raise OrbResponseError(f"Orb's answer to {name} has no list of {what}.")
        next_cursor(page)
        return page

    def fetch_webhook_events_page(
        self,
        *,
        created_at_gte: datetime,
        limit: int = 100,
        cursor: str | None = None,
        include_payload: bool = True,
        delivery_success: bool | None = None,
    ) -> dict[str, Any]:
        """
        Fetch one page of webhook events, `{"data": [...], "pagination_metadata": ...}`.

        Each event has the webhook's body as its `payload`; without `include_payload`
        only its `id`, `type` and `created_at`, which costs Orb less. `created_at_gte`
        is aware. `delivery_success=False` asks for events that Orb could not deliver.

        Raises:
            OrbResponseError: the answer is not such a page.

        Source: https://docs.withorb.com/api-reference/webhook/list-webhook-events
        """
        query = [("created_at[gte]", created_at_gte.isoformat()), ("limit", str(limit))]
        if not include_payload:
            query.append(("include_payload", "false"))
        if delivery_success is not None:
            query.append(("delivery_success", str(delivery_success).lower()))
        return self._page(query, cursor or None, path=path_to("/webhook_events"))


def longest_request_seconds(*, retries: int) -> float:
    """Return the most that a call may take under the project's settings, with retries."""
    return worst_case_seconds(get_settings().TIMEOUT_SECONDS, retries)


def next_cursor(page: dict[str, Any]) -> str | None:
    """
    Return where the next page begins, or None after the last one.

    Raises:
        OrbResponseError: the page does not say whether there is more.
    """
    metadata = page.get("pagination_metadata")
    cursor = metadata.get("next_cursor") if isinstance(metadata, dict) else 0
    if not isinstance(cursor, str | None):
        raise OrbResponseError("A page of Orb's list has no readable next_cursor.")
    # Orb's SDK goes by the cursor alone, Orb's Fivetran connector by `has_more`. Here
    # `has_more` decides, or the cursor if it is missing. If there is more but no cursor,
    # that is an error: what was not read must not count as read.
    has_more = cast("dict[str, Any]", metadata).get("has_more", bool(cursor))
    if has_more and not cursor:
        raise OrbResponseError("Orb's list has more, but does not say where.")
    return cursor if has_more else None
