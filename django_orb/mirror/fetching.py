"""Fetch single invoices from Orb and bring them into the mirror."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial

from django.db import models

from django_orb.client import OrbClient, longest_request_seconds
from django_orb.db import Interval, Timed, has_come, is_passing, primary, timed
from django_orb.exact_json import storable_text
from django_orb.exceptions import (
    OrbAuthenticationError,
    OrbConnectionError,
    OrbError,
    OrbNotFoundError,
    OrbRateLimitError,
    OrbServerError,
)
from django_orb.models import Invoice, InvoiceObservation, InvoiceRecheck

from . import writing
from .change_log import FETCHED, Origin
from .writing import Observation, WriteResult

logger = logging.getLogger(__name__)

# Has another thread make the call, in the turn of a read.
Submit = Callable[[Callable[[], Timed[object]]], Future[Timed[object]]]

# Each round that leaves some in doubt was beaten by another writer meanwhile.
MAX_ROUNDS = 5
# How many invoices `recover` fetches at a time.
RECHECKS = 20
# How many attempts an invoice has, with longer and longer waits between them: some hours.
MAX_ATTEMPTS = 10
FIRST_WAIT_SECONDS = 60
MAX_WAIT_SECONDS = 3600
# Longer leases follow TIMEOUT_SECONDS, since one request may outlast five minutes.
MIN_LEASE_SECONDS = 300.0


def observe_invoice(
    client: OrbClient, invoice_id: str, *, supersedes: int | None = None
) -> Observation:
    """
    Ask Orb for one invoice. A 404 about the invoice is an observation too.

    Raises:
        OrbError: Orb did not answer. A 404 about the whole route says nothing about the
            invoice, but that `BASE_URL` is wrong.
    """

    primary.clock().keep_measured()
    return _seen(client, invoice_id, _fetch(client, invoice_id), supersedes)


def observe_existing(client: OrbClient, invoice_id: str) -> Observation:
    """
    Ask Orb for one invoice, which has to be there.

    Raises:
        OrbNotFoundError: Orb has no such invoice. To ask again for this error would not
            do: the second answer may contradict the first.
        OrbError: Orb did not answer.
    """
    primary.clock().keep_measured()
    answer: Timed[object] = timed(lambda: client.fetch_invoice(invoice_id))
    return _seen(client, invoice_id, answer, None)


def _fetch(client: OrbClient, invoice_id: str) -> Timed[object]:
    """Return Orb's answer, None for a 404 about the invoice. It needs no database."""

    def fetch() -> object:
        try:
            return client.fetch_invoice(invoice_id)
        except OrbNotFoundError:
            return None

    return timed(fetch)


def _seen(
    client: OrbClient, invoice_id: str, answer: Timed[object], supersedes: int | None
) -> Observation:
    interval = primary.clock().interval(answer.started, answer.ended)
    if answer.value is None:
        return Observation.absent(invoice_id, interval, supersedes)
    return Observation(invoice_id, answer.value, interval, supersedes, client=client)


def observe_invoices(
    client: OrbClient,
    invoice_ids: Sequence[str],
    *,
    seconds: float = float("inf"),
    stops_at_error: bool = False,
    submit: Submit | None = None,
    most: int = 1,
) -> list[Observation]:
    """
    Ask Orb for each invoice. The answers are certainly newer than what is stored now.

    The stored versions are read before the first request. So an answer is written
    whatever the clocks say, unless another worker has written the invoice meanwhile.
    After `seconds` the rest is left for another time, but one invoice is always asked
    for. With `stops_at_error`, an error ends the call only at the first invoice, and
    otherwise leaves the rest for another time.

    With `submit`, other threads ask for `most` invoices at a time. What is returned is
    always a beginning of `invoice_ids`, in order.
    """
    deadline = time.monotonic() + seconds
    versions = writing.versions(invoice_ids)
    seen: list[Observation] = []
    waiting: deque[Future[Timed[object]]] = deque()
    try:
        for number, invoice_id in enumerate(invoice_ids):
            if seen and time.monotonic() > deadline:
                break
            primary.clock().keep_measured()
            if submit is None:
                answer = _fetch(client, invoice_id)
            else:
                for other in invoice_ids[number + len(waiting) : number + most]:
                    waiting.append(submit(partial(_fetch, client, other)))
                answer = waiting.popleft().result()
            seen.append(_seen(client, invoice_id, answer, versions.get(invoice_id)))
    except OrbError:
        if not (stops_at_error and seen):
            raise
    finally:
        for unused in waiting:
            unused.cancel()
    return seen


def store(
    client: OrbClient, seen: Sequence[Observation], *, origin: Origin = FETCHED
) -> WriteResult:
    """Write what was seen, and fetch again what the writer could not order."""

    def write(observations: Sequence[Observation]) -> WriteResult:
        return writing.write(observations, origin=origin)

    result = write(seen)
    result.failed |= fetch_until_ordered(client, result.doubtful, write=write)
    return result


def fetch_until_ordered(
    client: OrbClient,
    doubtful: Sequence[str],
    *,
    write: Callable[[Sequence[Observation]], WriteResult],
) -> dict[str, str]:
    """
    Fetch what the writer could not order in time, until it can.

    Return the ids that could not be stored, with the reasons. What could not be ordered
    because of an error, or changes faster than it can be fetched, is left to `recover`.
    """
    failed: dict[str, str] = {}
    for _ in range(MAX_ROUNDS):
        if not doubtful:
            return failed
        try:
            result = write(observe_invoices(client, doubtful))
        except BaseException:
            # The answer that was left out may have been the newest, and whoever asked
            # may not ask again.
            writing.fetch_later(doubtful)
            raise
        failed |= result.failed
        doubtful = result.doubtful
    if doubtful:
        for invoice_id in doubtful:
            logger.warning(
                "Invoice %s still changes after %s fetches.",
                invoice_id,
                MAX_ROUNDS,
                extra={"orb_invoice_id": invoice_id},
            )
        writing.fetch_later(doubtful)
    return failed


# What Orb would probably answer for any other invoice now, too.
_AWAY = (OrbAuthenticationError, OrbConnectionError, OrbRateLimitError, OrbServerError)


def says_away(err: Exception) -> bool:
    """Tell whether to leave Orb alone for now, whatever the next request is for."""
    return isinstance(err, _AWAY)


def answers(client: OrbClient) -> bool:
    """Tell whether Orb answers at all, with this key."""
    try:
        client.read_invoices_page(limit=1, status=Invoice.Status.values)
    except OrbError:
        return False
    return True


def recheck_lease() -> timedelta:
    """Return for how long a fetch is left to the worker that began it."""
    request = longest_request_seconds(retries=2)
    return timedelta(seconds=max(MIN_LEASE_SECONDS, request + 60))


def due_rechecks() -> models.QuerySet[InvoiceRecheck]:
    """
    Return the invoices whose time to be fetched again has come.

    Those of which fewest attempts failed come first, so that they never wait for others
    that cannot be fetched.
    """
    longest = recheck_lease() + timedelta(seconds=MAX_WAIT_SECONDS)
    due = primary.rows(InvoiceRecheck).filter(
        has_come("due_at", primary.now(), longest=longest)
    )
    return due.order_by("attempts", "due_at", "pk")


def recheck(client: OrbClient, *, seconds: float = float("inf")) -> None:
    """
    Fetch a batch of the invoices of which an answer was left out.

    If the worker dies, nothing is lost: its rows come due again. An invoice that cannot
    be fetched, or that kills each worker, is recorded as failed in the end.

    Raises:
        OrbError: Orb did not answer; the rest waits.
    """
    deadline = time.monotonic() + seconds
    for row in list(due_rechecks()[:RECHECKS]):
        if time.monotonic() > deadline:
            return
        mine = primary.rows(InvoiceRecheck).filter(pk=row.pk)
        until = primary.now() + max(recheck_lease(), _wait(row.attempts + 1))
        # Another worker has taken it since it was read.
        if not mine.filter(due_at=row.due_at).update(
            due_at=until, attempts=row.attempts + 1
        ):
            continue
        # Unless an answer was left out meanwhile: then it is due again, at another
        # time.
        taken = mine.filter(due_at=until)
        if row.attempts >= MAX_ATTEMPTS:
            _give_up(row, f"{MAX_ATTEMPTS} attempts to fetch it did not end.")
            taken.delete()
            continue
        try:
            if not _is_decided(row):
                store(client, observe_invoices(client, [row.pk]))
        except Exception as err:
            if is_passing(err):
                raise
            _note_failure(row, taken, err, client)
            if says_away(err):
                raise
        else:
            taken.delete()


def _note_failure(
    row: InvoiceRecheck,
    taken: models.QuerySet[InvoiceRecheck],
    err: Exception,
    client: OrbClient,
) -> None:
    """Let the invoice wait, or record it as failed if all its attempts were in vain."""
    ids = {"orb_invoice_id": row.pk}
    logger.warning("Invoice %s was not fetched again.", row.pk, exc_info=err, extra=ids)
    attempts = row.attempts + 1
    if attempts >= MAX_ATTEMPTS:
        if not isinstance(err, OrbError) or answers(client):
            _give_up(row, f"{type(err).__name__}: {err}")
            taken.delete()
            return
        # Orb may be away for days, and it is not the invoice's fault.
        attempts = MAX_ATTEMPTS - 1
    taken.update(due_at=primary.now() + _wait(attempts), attempts=attempts)


def _wait(attempts: int) -> timedelta:
    seconds = FIRST_WAIT_SECONDS * 2 ** min(attempts - 1, 20)
    return timedelta(seconds=min(seconds, MAX_WAIT_SECONDS))


def _give_up(row: InvoiceRecheck, reason: str) -> None:
    """Record the invoice as failed, which people see and every run tries again."""
    now = primary.now()
    refusal = f"It could not be fetched again: {storable_text(reason)}"
    seen = Observation(row.pk, None, Interval(now, now), refusal=refusal)
    writing.write([seen])


def _is_decided(row: InvoiceRecheck) -> bool:
    """Return whether any worker has asked Orb for it since then."""
    seen = primary.rows(InvoiceObservation).filter(pk=row.pk, started_at__gt=row.due_at)
    return seen.exists()
