"""Fetch the pages of a window in other threads, while this one writes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from django_orb import mirror
from django_orb.account import in_turn
from django_orb.client import OrbClient, RawPage, next_cursor
from django_orb.db import Timed, in_this_context, timed, uses_copy
from django_orb.exceptions import OrbResponseError
from django_orb.models import SyncWindow

from .page_sizes import size_of_step

T = TypeVar("T")


class _Asked(NamedTuple):
    cursor: str
    limit: int
    answer: Future[Timed[RawPage]]


@dataclass
class Filling:
    """Whether the mirror is being filled: the next page is new if the last one was."""

    is_on: bool = False


class PageReader:
    """
    Reads Orb's list for one window, one page ahead of the writer.

    One thread creates and reads it; the executor's threads only wait for Orb, and map
    what is probably new. Readers of one run share what they know about that.
    """

    def __init__(
        self,
        client: OrbClient,
        page_size: int,
        executor: ThreadPoolExecutor,
        filling: Filling | None = None,
        is_over: Callable[[], bool] = lambda: False,
        most: int = 1,
    ) -> None:
        """
        If `is_over`, requests that wait for their turn are not sent. The executor makes
        `most` requests at a time.
        """
        self._client = client
        self.page_size = page_size
        self._executor = executor
        # Found out here, as the executor's threads are to open no
        # connection of their own.
        self._exact_digits = mirror.digits_kept()
        self._uses_copy = uses_copy()
        self._asked: _Asked | None = None
        self._filling = filling or Filling()
        self._counted = (0, 0)
        self._is_over = is_over
        self.most = most

    @property
    def awaited(self) -> Future[Timed[RawPage]] | None:
        """The page that was asked for and has not been read yet."""
        return self._asked.answer if self._asked else None

    def ask(self, window: SyncWindow) -> None:
        """Ask for the window's next page, unless it was asked for already."""
        limit = size_of_step(window, self.page_size)
        if not self._is_asked(window.cursor, limit):
            self._ask(window, window.cursor, limit)

    def read(self, window: SyncWindow) -> Timed[RawPage]:
        """
        Return the window's next page, and ask for the one after it.

        If an attempt at this page did not finish, no other is asked for ahead, so that it
        is known which page kills the process.
        """
        cursor, limit = window.cursor, size_of_step(window, self.page_size)
        if self._is_asked(cursor, limit):
            assert self._asked is not None  # noqa: S101
            # First, so that a page which failed is asked for again and
            # not waited for twice.
            asked, self._asked = self._asked, None
            answer = asked.answer.result()
        else:
            self._asked = None
            answer = self.fetch(window, cursor=cursor or None, limit=limit)
        self._note_what_was_new(window)
        following = usable_cursor(answer.value)
        leads_on = following not in (None, cursor, window.cursor_mark)
        if following and leads_on and limit == self.page_size and window.attempts <= 1:
            self._ask(window, following, limit)
        return answer

    def submit(self, send: Callable[[], T]) -> Future[T]:
        """Have another thread make a request, in the turn of a read."""
        in_its_turn = in_turn(self._client, send, self._is_over)
        return self._executor.submit(in_this_context(in_its_turn))

    def _note_what_was_new(self, window: SyncWindow) -> None:
        pages, created = self._counted
        if window.pages > pages:
            self._filling.is_on = window.created > created
        self._counted = (window.pages, window.created)

    def _is_asked(self, cursor: str, limit: int) -> bool:
        asked = self._asked
        # A page that was asked for before more was wanted will do.
        return asked is not None and asked.cursor == cursor and asked.limit <= limit

    def _ask(self, window: SyncWindow, cursor: str, limit: int) -> None:
        fetch = self._fetching(window, cursor=cursor or None, limit=limit)
        answer = self._executor.submit(
            in_this_context(
                partial(
                    _fetch_and_prepare,
                    fetch,
                    self._exact_digits,
                    is_filling=self._filling.is_on,
                    to_copy=self._uses_copy,
                )
            )
        )
        self._asked = _Asked(cursor, limit, answer)

    def fetch(self, window: SyncWindow, **options: Any) -> Timed[RawPage]:
        return self._fetching(window, **options)()

    def _fetching(
        self, window: SyncWindow, **options: Any
    ) -> Callable[[], Timed[RawPage]]:
        query = {
            "status": window.statuses,
            "invoice_date_gte": window.invoice_date_gte,
            "invoice_date_lt": window.invoice_date_lt,
            **options,
        }
        ask = partial(self._client.read_invoices_page, **query)
        return in_turn(self._client, partial(timed, ask), self._is_over)


def _fetch_and_prepare(
    fetch: Callable[[], Timed[RawPage]],
    exact_digits: int | None,
    *,
    is_filling: bool,
    to_copy: bool,
) -> Timed[RawPage]:
    """Do ahead what needs no database."""
    answer = fetch()
    for invoice in answer.value.invoices:
        invoice.digest  # noqa: B018  # computed in this thread, and kept
        if is_filling:
            mirror.map_ahead(invoice, exact_digits, to_copy=to_copy)
    return answer


def usable_cursor(page: RawPage) -> str | None:
    """Return the next page's cursor; None if there is none, or Orb does not say it."""
    try:
        return next_cursor(page.envelope)
    except OrbResponseError:
        return None
