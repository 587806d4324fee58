"""Fetch and store an invoice after an operation, until it shows the change."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

from django_orb import mirror
from django_orb.client import OrbClient
from django_orb.db import has_come, is_passing, primary
from django_orb.exceptions import OrbError
from django_orb.mirror import Observation, Origin, fetching, observe_invoices, store
from django_orb.models import InvoiceChange, InvoiceOperation
from django_orb.models.operation_matching import is_invoice

logger = logging.getLogger(__name__)

# Orb's reads may lag behind its writes: how long to wait before each fetch.
LOOK_AFTER_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0)
# For how long only the sender fetches, and after how long `recover` stops fetching.
OWN_LOOK = timedelta(minutes=1)
LAST_LOOK = timedelta(hours=6)
# How many operations `recover` looks at in one go.
READ_BACKS = 20


def read_back(
    client: OrbClient,
    operation: InvoiceOperation,
    *,
    waits: Sequence[float] | None = None,
) -> bool:
    """
    Fetch and store the invoice until it shows the change. Return whether it did.

    The operation has succeeded already: errors here are logged and left to `recover`.
    """
    ids = _ids(operation)
    for seconds in LOOK_AFTER_SECONDS if waits is None else waits:
        time.sleep(seconds)
        try:
            if _look(client, operation):
                return True
        except OrbError as err:
            invoice_id = operation.invoice_id
            logger.warning(
                "Invoice %s was not read back: %s", invoice_id, err, extra=ids
            )
    logger.warning(
        "Orb does not show the change of invoice %s yet.",
        operation.invoice_id,
        extra=ids,
    )
    return False


def read_back_due(client: OrbClient, *, seconds: float = float("inf")) -> None:
    """
    Fetch the invoices of a batch of operations that the mirror was not seen to show.

    Each is left to the worker that takes it up. One that cannot be fetched waits about as
    long as it has waited already, and so does one that killed its worker.

    Raises:
        OrbError: Orb seems to be away; the rest waits.
    """
    deadline = time.monotonic() + seconds
    for operation in list(unmirrored_operations()[:READ_BACKS]):
        if time.monotonic() > deadline:
            return
        now = primary.now()
        waited = now - (operation.finished_at or now)
        until = now + max(fetching.recheck_lease(), min(waited, LAST_LOOK))
        mine = primary.rows(InvoiceOperation).filter(pk=operation.pk, mirrored_at=None)
        if not mine.filter(look_after=operation.look_after).update(look_after=until):
            continue  # another worker has taken it up since it was read
        again: datetime | None = None  # by the next `recover`, as Orb may lag
        trouble: Exception | None = None
        try:
            _look(client, operation)
        except Exception as err:
            if is_passing(err):
                raise
            logger.warning(
                "Invoice %s was not read back.",
                operation.invoice_id,
                exc_info=True,
                extra=_ids(operation),
            )
            again = primary.now() + min(waited, LAST_LOOK)
            trouble = err
        mine.filter(look_after=until).update(look_after=again)
        if trouble is not None and fetching.says_away(trouble):
            raise trouble


def _look(client: OrbClient, operation: InvoiceOperation) -> bool:
    """
    Fetch and store the invoice. Return whether it shows the change.

    Raises:
        OrbError: Orb did not answer.
    """
    invoice_id = operation.invoice_id
    if operation.type.renews_links:
        # A new link alone counts as unchanged, but this one must be stored.
        mirror.write_again([invoice_id])
    is_mirrored = _fetch_and_store(client, operation)
    if is_mirrored:
        mine = primary.rows(InvoiceOperation).filter(pk=operation.pk)
        mine.update(mirrored_at=primary.now())
    return is_mirrored


def _ids(operation: InvoiceOperation) -> dict[str, object]:
    """Return the fields that name it in log records."""
    return {"orb_invoice_id": operation.invoice_id, "orb_operation_id": operation.pk}


def _fetch_and_store(client: OrbClient, operation: InvoiceOperation) -> bool:
    """Fetch and store the invoice once. Return whether it shows the change."""
    invoice_id = operation.invoice_id
    (seen,) = observe_invoices(client, [invoice_id])
    is_mirrored = _shows(seen, operation)
    if is_mirrored or _is_believed(seen, operation):
        origin = Origin(InvoiceChange.Origin.OPERATION.value, str(operation.pk))
        store(client, [seen], origin=origin)
    return is_mirrored


def _shows(seen: Observation, operation: InvoiceOperation) -> bool:
    """Tell whether the answer is the invoice, and no earlier than the change."""
    if not is_invoice(seen.payload, operation.invoice_id):
        return False
    try:
        is_shown = operation.is_shown_in(seen.payload)
    except (AttributeError, TypeError):  # parts of it have another form
        return False
    return is_shown or _is_hidden(operation)


def _is_believed(seen: Observation, operation: InvoiceOperation) -> bool:
    """Tell whether Orb can no longer lag: an invoice without the change is then newer."""
    finished_at = operation.finished_at
    return finished_at is None or seen.interval.started_at > finished_at + mirror.LAG


def _is_hidden(operation: InvoiceOperation) -> bool:
    """Tell whether a later operation undid this one, so that Orb no longer shows it."""
    later = primary.rows(InvoiceOperation).filter(
        invoice_id=operation.invoice_id,
        state=InvoiceOperation.State.SUCCEEDED,
        pk__gt=operation.pk,
    )
    return any(other.hides(operation) for other in later)


def unmirrored_operations() -> models.QuerySet[InvoiceOperation]:
    """
    Return operations that succeeded and that the mirror was not seen to show, the latest
    first, and none that another worker is at or that has to wait.
    """
    now = primary.now()
    longest = max(fetching.recheck_lease(), LAST_LOOK)
    found = primary.rows(InvoiceOperation).filter(
        Q(look_after=None) | has_come("look_after", now, longest=longest),
        has_come("finished_at", now - OWN_LOOK, longest=OWN_LOOK),
        state=InvoiceOperation.State.SUCCEEDED,
        mirrored_at=None,
        finished_at__gt=now - LAST_LOOK,
    )
    return found.order_by("-finished_at", "-pk")
