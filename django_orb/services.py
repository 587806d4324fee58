"""
What a project calls.

`fetch_*`, `list_*` and everything that writes ask Orb; to read the mirror use
`Invoice.objects`. Reading services bring what they saw into the mirror.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from django.contrib.auth.base_user import AbstractBaseUser

from . import changes, events, mirror, operations, runs
from .account import open_account
from .changes import FETCHED, Origin
from .client import OrbClient
from .clock import clock_of, timed
from .exceptions import (
    OrbError,
    OrbInputError,
    OrbPayloadError,
    OrbSyncFailedError,
)
from .inputs import line_item_body, require_text
from .mirror import Observation, WriteResult
from .models import Invoice, InvoiceChange, InvoiceLineItem, InvoiceOperation, SyncRun
from .operations import Request
from .payloads import map_columns
from .refresh import observe_invoice, settle_doubts
from .runs import STATUSES
from .upcoming import UpcomingInvoice, UpcomingLineItem, read_upcoming
from .verification import verify_invoices

__all__ = [
    "UpcomingInvoice",
    "UpcomingLineItem",
    "create_invoice_line_item",
    "fetch_invoice",
    "fetch_upcoming_invoice",
    "list_invoices",
    "sync_invoices",
    "verify_invoices",
    "void_invoice",
]

logger = logging.getLogger(__name__)

# Orb's reads may lag behind its writes: how long to wait before each look.
LOOK_AFTER_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0)


def list_invoices(
    *,
    status: str | Sequence[str] | None = None,
    customer_id: str | None = None,
    external_customer_id: str | None = None,
    subscription_id: str | None = None,
    invoice_date_gte: date | datetime | None = None,
    **filters: Any,
) -> Iterator[Invoice]:
    """
    Ask Orb for invoices, newest `invoice_date` first, and mirror each page.

    A lazy iterator of stored invoices: stop early and the rest is not read.
    `status=None` is all five; Orb's own default would hide draft and void. Further
    filters are those of `OrbClient.list_invoices`.

    Raises:
        OrbError: Orb did not answer; pages already read are mirrored.
    """
    using = mirror.database_alias()
    clock = clock_of(using)
    with open_account(using=using) as client:
        pages = client.list_invoices(
            status=list(STATUSES) if status is None else status,
            customer_id=customer_id,
            external_customer_id=external_customer_id,
            subscription_id=subscription_id,
            invoice_date_gte=invoice_date_gte,
            **filters,
        )
        while True:
            clock.keep_measured()
            answer = timed(lambda: next(pages, None))
            if answer.value is None:
                return
            interval = clock.interval(answer.started, answer.ended)
            seen = mirror.read_page(answer.value["data"], interval)
            _write(client, seen, using=using)
            stored = Invoice.objects.using(using).in_bulk([s.invoice_id for s in seen])
            for one in seen:
                if one.invoice_id in stored:
                    yield stored[one.invoice_id]


def fetch_invoice(invoice_id: str) -> Invoice:
    """
    Ask Orb for one invoice, mirror it, and return the stored row.

    Raises:
        OrbNotFoundError: the account has no such invoice.
        OrbPayloadError: Orb's answer could not be stored; it is recorded with why.
        OrbError: Orb did not answer.
    """
    require_text(invoice_id, "invoice_id")
    using = mirror.database_alias()
    with open_account(using=using) as client:
        return _fetch(client, invoice_id, using=using)


def fetch_upcoming_invoice(subscription_id: str) -> UpcomingInvoice:
    """
    Ask Orb what a subscription's next invoice would be; nothing is stored.

    Raises:
        OrbNotFoundError: no such subscription, or it has no upcoming invoice.
        OrbError: Orb did not answer.
    """
    require_text(subscription_id, "subscription_id")
    with open_account(using=mirror.database_alias()) as client:
        return read_upcoming(client.fetch_upcoming_invoice(subscription_id))


def create_invoice_line_item(
    invoice: Invoice | str,
    *,
    name: str | None = None,
    item_id: str | None = None,
    quantity: Decimal | int | str,
    amount: Decimal | int | str,
    start_date: date,
    end_date: date,
    idempotency_key: str | None = None,
    actor: AbstractBaseUser | None = None,
    origin: str = InvoiceOperation.Origin.SERVICE.value,
) -> InvoiceLineItem:
    """
    Add a one-off line to a draft invoice, once.

    `amount` is the line's total in the invoice's currency, not a unit price, and
    may be negative. The dates are read in the customer's time zone. `name` alone
    finds or creates an item of that name; `item_id` alone takes the item's name.
    The same `idempotency_key` again adds nothing and returns the same line.

    Should Orb's reads lag for long, the line returned has no `pk` yet.

    Raises:
        OrbInputError: an argument cannot be right; `field` names it.
        OrbRefusedError: Orb said no, for instance because it is no draft.
        OrbOutcomeUnknownError: no answer; it is recorded and will be settled.
        OrbTransactionError: called inside a transaction.
        OrbReadOnlyError: `READ_ONLY` is on.
    """
    body = line_item_body(
        name=name,
        item_id=item_id,
        quantity=quantity,
        amount=amount,
        start_date=start_date,
        end_date=end_date,
    )
    request = Request(
        kind=InvoiceOperation.Kind.CREATE_LINE_ITEM.value,
        invoice_id=_id_of(invoice),
        body=body,
        idempotency_key=idempotency_key,
        actor=actor,
        origin=origin,
    )
    using = mirror.database_alias()
    with open_account(using=using) as client:
        operation, line = operations.perform(request, client=client, using=using)
        _look(client, operation, using=using)
    lines = InvoiceLineItem.objects.using(using)
    stored = lines.filter(invoice_id=request.invoice_id, orb_id=line["id"]).first()
    return stored or InvoiceLineItem(
        invoice_id=request.invoice_id, position=0, **map_columns(InvoiceLineItem, line)
    )


def void_invoice(
    invoice: Invoice | str,
    *,
    idempotency_key: str | None = None,
    actor: AbstractBaseUser | None = None,
    origin: str = InvoiceOperation.Origin.SERVICE.value,
) -> Invoice:
    """
    Void an issued invoice, once, and return the stored row.

    Customer balance that it used goes back to the customer; a credit block that it
    sold and that is not paid is voided. There is no way back.

    Source: https://docs.withorb.com/api-reference/invoice/void-invoice

    Raises:
        OrbRefusedError: Orb said no, for instance because it is paid.
        OrbOutcomeUnknownError: no answer; it is recorded and will be settled.
        OrbTransactionError: called inside a transaction.
        OrbReadOnlyError: `READ_ONLY` is on.
        OrbError: it is void, but could not be read back; the next sync shows it.
    """
    request = Request(
        kind=InvoiceOperation.Kind.VOID.value,
        invoice_id=_id_of(invoice),
        idempotency_key=idempotency_key,
        actor=actor,
        origin=origin,
    )
    using = mirror.database_alias()
    with open_account(using=using) as client:
        operation, _ = operations.perform(request, client=client, using=using)
        _look(client, operation, using=using)
    return Invoice.objects.using(using).get(pk=request.invoice_id)


def sync_invoices(
    *,
    mode: Literal["incremental", "full"] = "incremental",
    since: datetime | None = None,
    invoice_ids: Sequence[str] | None = None,
    accept_missing: bool = False,
    announce: bool = False,
    on_step: Callable[[SyncRun], None] = lambda run: None,
) -> SyncRun:
    """
    Bring the mirror up to date in this process; the finished run.

    "full" reads everything and finds what is gone from Orb; "incremental" reads
    what is unsettled or dated within `LOOKBACK_DAYS`, or for `SWEEP_MINUTES` after
    that only Orb's webhook events, where the account lists them. `since` reads every invoice
    dated at or after it and marks nothing missing; `invoice_ids` fetches just
    those. A run of the same kind that lost its worker is taken up where it stopped.
    Until a full run has succeeded once, invoices that a sync finds new are announced
    by no signal; `announce` has them announced. `on_step` is called after each page with the run.

    Raises:
        OrbInputError: arguments that exclude each other.
        OrbSyncRunningError: a run of this kind is at work elsewhere.
        OrbSyncFailedError: the run ended without finishing; `run.error` says why.
    """
    using = mirror.database_alias()
    with open_account(using=using, retries=0) as client:
        run = runs.start_or_resume(
            run_kind(mode=mode, since=since, invoice_ids=invoice_ids),
            using=using,
            since=since,
            invoice_ids=invoice_ids or (),
            accept_missing=accept_missing,
            announce=announce,
        )
        events.process_due(using=using)
        changes.announce(using=using)
        runs.work_here(run, client=client, using=using, on_step=on_step)
    if run.state != SyncRun.State.SUCCEEDED:
        raise OrbSyncFailedError(f"{run} did not finish. {run.error}", run=run)
    return run


def run_kind(
    *,
    mode: str,
    since: datetime | None = None,
    invoice_ids: Sequence[str] | None = None,
) -> str:
    """
    The kind of run that these arguments of `sync_invoices` ask for.

    Raises:
        OrbInputError: they exclude each other.
    """
    if mode not in {"incremental", "full"}:
        raise OrbInputError(
            f'mode is "incremental" or "full", not {mode!r}.', field="mode"
        )
    if invoice_ids is not None:
        if since or mode != "incremental":
            raise OrbInputError("invoice_ids goes with neither mode nor since.")
        for invoice_id in invoice_ids:
            require_text(invoice_id, "invoice_ids")
        return SyncRun.Kind.ONE.value
    if since is None:
        return mode
    if since.tzinfo is None:
        raise OrbInputError("since needs a time zone.", field="since")
    return SyncRun.Kind.PARTIAL.value


def _fetch(client: OrbClient, invoice_id: str, *, using: str) -> Invoice:
    seen = observe_invoice(client, invoice_id, using=using)
    if seen.is_absent:
        client.fetch_invoice(invoice_id)  # once more, for the error in Orb's words
    result = _write(client, [seen], using=using)
    if result.failed:
        raise OrbPayloadError(result.failed[invoice_id])
    return Invoice.objects.using(using).get(pk=invoice_id)


def _write(
    client: OrbClient,
    seen: Sequence[Observation],
    *,
    using: str,
    origin: Origin = FETCHED,
) -> WriteResult:
    def write(observations: Sequence[Observation]) -> WriteResult:
        return mirror.write(observations, using=using, origin=origin)

    result = write(seen)
    settle_doubts(client, result.doubtful, using=using, write=write)
    return result


def _look(client: OrbClient, operation: InvoiceOperation, *, using: str) -> None:
    """
    Bring what was just written to Orb into the mirror, once Orb shows it.

    What happened has happened: trouble here is logged, and left to the next sync.
    """
    invoice_id = operation.invoice_id
    for seconds in LOOK_AFTER_SECONDS:
        time.sleep(seconds)
        try:
            seen = observe_invoice(client, invoice_id, using=using)
        except OrbError as err:
            logger.warning("Invoice %s was not read back: %s", invoice_id, err)
            continue
        if not seen.is_absent and operation.is_shown_in(seen.payload):
            kind = InvoiceChange.Origin.OPERATION.value
            origin = Origin(kind, str(operation.pk))
            _write(client, [seen], using=using, origin=origin)
            return
    logger.warning("Orb does not show the change of invoice %s yet.", invoice_id)


def _id_of(invoice: Invoice | str) -> str:
    invoice_id = invoice.pk if isinstance(invoice, Invoice) else invoice
    require_text(invoice_id, "invoice")
    return str(invoice_id)
