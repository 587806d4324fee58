"""
Read and change Orb's invoices from a project's own code.

`fetch_*`, `list_*` and all operations ask Orb; to read the mirror, use
`Invoice.objects`. Services that fetch invoices store Orb's answers in the mirror.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from . import mirror
from .account import open_account
from .client import OrbClient
from .db import StatementLog, primary, timed
from .exceptions import (
    OrbInputError,
    OrbPayloadError,
    OrbResponseError,
    OrbSyncFailedError,
    in_english,
)
from .exports import CsvStyle, export_operations, export_rows
from .formatting import safe_link, to_moment
from .maintenance import do_all, do_outstanding, erase_customer, undo_erasure
from .mirror import (
    UpcomingInvoice,
    UpcomingLineItem,
    observe_existing,
    read_upcoming,
    store,
)
from .models import Invoice, SyncRun
from .models.operation_matching import require_id
from .operations import (
    NewLineItem,
    create_invoice,
    create_invoice_line_item,
    delete_invoice_line_item,
    issue_invoice,
    mark_invoice_paid,
    new_idempotency_key,
    pay_invoice,
    regenerate_invoice_pdf,
    require_orb_id,
    require_text,
    require_writable,
    update_invoice,
    void_invoice,
)
from .reports import (
    Ageing,
    Statement,
    Totals,
    as_of,
    export_month,
    export_receivables,
    month_of,
    read_by_customer,
    read_receivables,
    read_statement,
    read_totals,
)
from .status import noted
from .sync import STATUSES, runs, verify_invoices

__all__ = [
    "Ageing",
    "CsvStyle",
    "InvoiceLinks",
    "NewLineItem",
    "PortalSession",
    "Statement",
    "UpcomingInvoice",
    "UpcomingLineItem",
    "create_invoice",
    "create_invoice_line_item",
    "create_portal_session",
    "current_links",
    "customer_statement",
    "delete_invoice_line_item",
    "erase_customer",
    "export_month",
    "export_operations",
    "export_receivables",
    "export_rows",
    "fetch_invoice",
    "fetch_upcoming_invoice",
    "issue_invoice",
    "list_invoices",
    "mark_invoice_paid",
    "month_totals",
    "pay_invoice",
    "receivables",
    "receivables_by_customer",
    "regenerate_invoice_pdf",
    "sync_invoices",
    "undo_erasure",
    "update_invoice",
    "verify_invoices",
    "void_invoice",
]


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

    Return a lazy iterator of stored invoices: if you stop early, the rest is not read.
    `status=None` means all five; Orb's own default would hide draft and void. Further
    filters are those of `OrbClient.list_invoices`.

    Raises:
        OrbError: Orb did not answer; pages already read are mirrored.
    """
    clock = primary.clock()
    with open_account() as client:
        pages = client.list_invoices(
            status=list(STATUSES) if status is None else status,
            customer_id=customer_id,
            external_customer_id=external_customer_id,
            subscription_id=subscription_id,
            invoice_date_gte=invoice_date_gte,
            **filters,
        )
        log = StatementLog()
        while True:
            # With DEBUG, Django keeps the text of each statement, and with
            # it the whole page.
            log.forget()
            clock.keep_measured()
            # `next` sends the request, so these are the times of the answer.
            answer = timed(lambda: next(pages, None))
            if answer.value is None:
                return
            interval = clock.interval(answer.started, answer.ended)
            seen = mirror.read_page(answer.value["data"], interval, client=client)
            store(client, seen)
            # What is stored may be newer than the page, if another process
            # has written it since.
            stored = primary.rows(Invoice).in_bulk([s.invoice_id for s in seen])
            for observation in seen:
                if observation.invoice_id in stored:
                    yield stored[observation.invoice_id]


def fetch_invoice(invoice_id: str) -> Invoice:
    """
    Ask Orb for one invoice, mirror it, and return the stored row.

    Raises:
        OrbNotFoundError: the account has no such invoice.
        OrbPayloadError: Orb's answer could not be stored; the reason is recorded.
        OrbResponseError: the answer is older than a change that was just made from here,
            and the mirror does not have the invoice yet.
        OrbError: Orb did not answer.
    """
    require_orb_id(invoice_id, "invoice_id")
    with open_account() as client:
        return _fetch(client, invoice_id)


class InvoiceLinks(NamedTuple):
    """The addresses at which an invoice can be read and paid; "" if there is none."""

    hosted_invoice_url: str
    invoice_pdf: str


def current_links(invoice: Invoice) -> InvoiceLinks:
    """
    Return links that work: the stored ones, or new ones if those may have expired.

    Anyone who has a link can see the invoice: give it only to the customer.

    Raises:
        OrbNotFoundError: Orb no longer knows the invoice.
        OrbResponseError: the answer is not the invoice.
        OrbError: Orb did not answer.
    """
    if invoice.has_fresh_links:
        return InvoiceLinks(
            safe_link(invoice.hosted_invoice_url), safe_link(invoice.invoice_pdf)
        )
    with open_account() as client:
        seen = observe_existing(client, invoice.pk)
        store(client, [seen])
    # From the answer, since the row keeps its old links if nothing else changed.
    answer = require_id(seen.payload, invoice.pk)
    return InvoiceLinks(
        safe_link(answer.get("hosted_invoice_url")),
        safe_link(answer.get("invoice_pdf")),
    )


#: The longest that a portal session lasts, as Orb's SDK says (`orb-billing` 4.58.0 and
#: later, `resources/customers.py`).
MAX_PORTAL_MINUTES = 180


@dataclass(frozen=True)
class PortalSession:
    """
    A session in Orb's portal, in which a customer sees and pays all invoices.

    Until `expires_at` (UTC), whoever has `url` can do there what the customer can. So it
    is neither stored nor logged, nor in the session's `repr`.
    """

    url: str = field(repr=False)
    expires_at: datetime | None


def create_portal_session(
    *,
    customer_id: str | None = None,
    external_customer_id: str | None = None,
    expires_in_minutes: int = 60,
    invalidate_existing: bool = False,
) -> PortalSession:
    """
    Ask Orb for a link to a customer's portal, by Orb's id or by yours.

    It is for accounts whose invoices have no public links. Each call opens another
    session; unlike Orb's API by default, it leaves the customer's other sessions valid.
    No operation is recorded: if Orb's answer is lost, a link that no one has seen
    expires.

    Raises:
        OrbInputError: neither or both ids were given, or the minutes are not 1 to 180.
        OrbReadOnlyError: `READ_ONLY` is on.
        OrbNotFoundError: there is no such customer.
        OrbResponseError: Orb's answer has no link that a browser may open.
        OrbError: Orb did not answer.

    Source: https://docs.withorb.com/guides/invoicing/invoice-portal
    """
    minutes = expires_in_minutes
    # Not `isinstance`, for which True is a number.
    if type(minutes) is not int or not 1 <= minutes <= MAX_PORTAL_MINUTES:
        raise OrbInputError(
            f"A portal session lasts for 1 to {MAX_PORTAL_MINUTES} minutes, "
            f"not {minutes!r}.",
            field="expires_in_minutes",
        )
    # It changes no invoice, but the link lets its holder act for the customer: a copy
    # of production must not give it out.
    require_writable()
    with open_account() as client:
        session = client.create_portal_session(
            customer_id=customer_id,
            external_customer_id=external_customer_id,
            expires_in_minutes=minutes,
            invalidate_existing=invalidate_existing,
            # For the client's own retries, which would otherwise open a session each.
            idempotency_key=new_idempotency_key(),
        )
    url = safe_link(session.get("url"))
    if not url:
        raise OrbResponseError("Orb's answer has no link to the customer's portal.")
    return PortalSession(url, to_moment(session.get("expires_at")))


def fetch_upcoming_invoice(subscription_id: str) -> UpcomingInvoice:
    """
    Ask Orb what a subscription's next invoice would be; nothing is stored.

    Raises:
        OrbNotFoundError: there is no such subscription, or it has no upcoming invoice.
        OrbError: Orb did not answer.
    """
    require_text(subscription_id, "subscription_id")
    with open_account() as client:
        return read_upcoming(client.fetch_upcoming_invoice(subscription_id))


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
    Bring the mirror up to date in this process. Return the finished run.

    "full" reads everything and finds invoices that are gone from Orb. "incremental"
    reads invoices that are unsettled or dated within `LOOKBACK_DAYS`; for
    `SWEEP_MINUTES` after that it reads only Orb's webhook events, if the account lists
    them.
    `since` reads every invoice dated at or after it and marks nothing missing;
    `invoice_ids` fetches only those. A run of the same kind that lost its worker is
    resumed where it stopped. Until a full run has succeeded, new invoices are not
    announced by signals, unless `announce` is set. `on_step` is called with the run
    after each page, and while waiting.

    "full" and "incremental" then do what else is outstanding, even if they failed: events,
    changes, operations, erasures, and runs whose worker died.

    Raises:
        OrbInputError: the arguments exclude each other, or are not valid.
        OrbSyncRunningError: another process works on a run of this kind.
        OrbSyncFailedError: the run ended without finishing; `run.error` says why.
    """
    kind = run_kind(mode=mode, since=since, invoice_ids=invoice_ids)
    sync = partial(
        _sync,
        kind,
        since=since,
        invoice_ids=invoice_ids or (),
        accept_missing=accept_missing,
        announce=announce,
        on_step=on_step,
    )
    if kind not in (SyncRun.Kind.FULL, SyncRun.Kind.INCREMENTAL):
        return sync()
    finished: list[SyncRun] = []
    # Where no workers run, this call, which cron makes, is all that does it.
    do_all(lambda: finished.append(_noted_sync(kind, sync)), _do_outstanding)
    return finished[0]


def _noted_sync(kind: str, sync: Callable[[], SyncRun]) -> SyncRun:
    # The modes have the names of kinds of runs, and the schedule those of modes.
    with noted(f"sync_invoices {kind}"):
        return sync()


def _do_outstanding() -> None:
    with noted("recover"):
        do_outstanding()


def _sync(kind: str, *, on_step: Callable[[SyncRun], None], **options: Any) -> SyncRun:
    # Without retries, since a window that fails waits in its row. Opened before the run
    # is recorded, so that a key which is missing or of another account leaves no run.
    with open_account(retries=0) as client:
        run = runs.start_or_resume(kind, **options)
        runs.work_here(run, client=client, on_step=on_step)
    if run.state != SyncRun.State.SUCCEEDED:
        reason = f"{in_english(run)} did not finish. {run.error}"
        raise OrbSyncFailedError(reason, run=run)
    return run


def receivables(day: date | str | None = None) -> list[Ageing]:
    """
    Return what was owed by age at the end of a day, for each currency.

    `day` is today by default, which means as of now; days end in `REPORT_TIME_ZONE`.
    Only the mirror is asked. `django_orb.reports.owed` says what that cannot know.

    Raises:
        OrbInputError: it is not a day, or has not come yet.
    """
    return read_receivables(primary.rows(Invoice), as_of(day))


def receivables_by_customer(day: date | str | None = None) -> Iterator[Ageing]:
    """
    Yield what each customer owed by age in each currency, as `receivables` does.

    Raises:
        OrbInputError: it is not a day, or has not come yet.
    """
    return read_by_customer(primary.rows(Invoice), as_of(day))


def customer_statement(
    customer_id: str, since: date | str, until: date | str | None = None
) -> Statement:
    """
    Return what a customer owed before and after a period, and what changed it.

    `customer_id` is Orb's. The period includes both days, in `REPORT_TIME_ZONE`; `until`
    is today by default. Only the mirror is asked.

    Raises:
        OrbInputError: a day is not valid, has not come yet or is too long ago, `since` is
            after `until`, or more than 1,000 invoices changed in the period.
    """
    invoices = primary.rows(Invoice).filter(customer_id=customer_id)
    return read_statement(invoices, since, until)


def month_totals(month: str | None = None) -> list[Totals]:
    """
    Return a month's sums by currency: invoiced, credited, paid and outstanding.

    `month` is given as "2026-01", and is by default the last one that is over. Only the
    mirror is asked. Recognised revenue cannot be told from invoices.

    Raises:
        OrbInputError: it is not a month, or has not begun.
    """
    return read_totals(primary.rows(Invoice), month_of(month))


def run_kind(
    *,
    mode: str,
    since: datetime | None = None,
    invoice_ids: Sequence[str] | None = None,
) -> str:
    """
    Return the kind of run that these arguments of `sync_invoices` ask for.

    Raises:
        OrbInputError: they exclude each other, or are not valid.
    """
    if mode not in {"incremental", "full"}:
        raise OrbInputError(
            f'mode is "incremental" or "full", not {mode!r}.', field="mode"
        )
    if invoice_ids is not None:
        # "incremental" is the default, so it cannot be told whether it was given.
        if since or mode != "incremental":
            raise OrbInputError("invoice_ids cannot be combined with mode or since.")
        for invoice_id in invoice_ids:
            require_orb_id(invoice_id, "invoice_ids")
        return SyncRun.Kind.ONE.value
    if since is None:
        # The modes have the names of kinds of runs.
        return mode
    if since.tzinfo is None:
        raise OrbInputError("since needs a time zone.", field="since")
    return SyncRun.Kind.PARTIAL.value


def _fetch(client: OrbClient, invoice_id: str) -> Invoice:
    seen = observe_existing(client, invoice_id)
    result = store(client, [seen])
    if result.failed:
        raise OrbPayloadError(result.failed[invoice_id])
    found = primary.rows(Invoice).filter(pk=invoice_id).first()
    if found is None:
        raise OrbResponseError(
            f"Orb's answer does not show yet what was just done to invoice {invoice_id}, "
            "and the mirror does not have the invoice. Try again in a minute."
        )
    return found
