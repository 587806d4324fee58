"""
Do all outstanding work, in one place.

`recover` calls this in a worker, and a sync in one process, such as cron's, at its end,
even if it fails. The rows say what is to be done, so either may stop at any point.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial

from django_orb import mirror
from django_orb.account import open_account
from django_orb.db import ends_work, primary, renew_connection
from django_orb.exceptions import OrbError
from django_orb.mirror import change_log, fetching
from django_orb.models import InvoiceOperation, SyncRun
from django_orb.operations import confirmation, recovery
from django_orb.sync import runs
from django_orb.webhooks import processing

from .erasing import resume_all

logger = logging.getLogger(__name__)


def do_all(*parts: Callable[[], object]) -> None:
    """
    Do each part, even if an earlier one failed: the parts are independent.

    Raises:
        Exception: the first error, after all parts were tried. Later ones are logged.
    """
    first: Exception | None = None
    for part in parts:
        try:
            part()
        except Exception as err:
            if ends_work(err):
                raise
            if first is not None:
                logger.exception("A part of what is outstanding failed, too.")
            renew_connection()
            first = first or err
    if first is not None:
        raise first


def do_outstanding(
    *,
    process_event: Callable[[str], object] = processing.process_event,
    resume_run: Callable[[SyncRun], object] = runs.resume_here,
    finish: Callable[[], object] | None = None,
) -> None:
    """
    Process events that are due, announce changes, resume runs whose worker died, and
    finish operations and erasures (`finish_operations`).

    All is done here, except what a caller with workers hands on to them.

    Raises:
        Exception: the first error, after all of it was tried.
    """
    do_all(
        partial(processing.process_due, process_event),
        change_log.announce,
        partial(_resume_runs, resume_run),
        finish or finish_operations,
    )


def _resume_runs(resume_run: Callable[[SyncRun], object]) -> None:
    active = primary.rows(SyncRun).filter(state=SyncRun.State.RUNNING)
    do_all(*(partial(resume_run, run) for run in active))


def finish_operations(*, seconds: float = float("inf")) -> bool:
    """
    Send queued operations, resolve stuck ones, and fetch the invoices that do not show
    them yet, and those whose answers could not be put in order. Then resume erasures of
    customers that were interrupted.

    End after `seconds`, or if Orb does not answer. Return whether Orb always answered.
    """
    answers: list[bool] = []
    do_all(
        lambda: answers.append(_recover_operations(seconds=seconds)),
        partial(_read_back, seconds=seconds),
        partial(_recheck, seconds=seconds),
        # Last, as it blanks the operations that have ended by now.
        partial(resume_all, seconds=seconds),
    )
    return all(answers)


def are_operations_stuck() -> bool:
    """Tell whether pending operations wait for a worker."""
    return recovery.stuck_operations().exists()


def _recover_operations(*, seconds: float) -> bool:
    if not are_operations_stuck():
        return True
    has_answered = True
    with open_account() as client:
        for operation in recovery.recover_operations(client=client, seconds=seconds):
            has_answered = operation.state != InvoiceOperation.State.PENDING
            # One fetch, without waits: if Orb lags, `_read_back` fetches it
            # again a minute later.
            if operation.state == InvoiceOperation.State.SUCCEEDED:
                confirmation.read_back(client, operation, waits=(0.0,))
            elif (
                operation.state == InvoiceOperation.State.REFUSED
                and operation.invoice_id
            ):
                # The user probably asked for it because the mirror was out of date.
                with contextlib.suppress(OrbError):
                    ids = [operation.invoice_id]
                    mirror.store(client, mirror.observe_invoices(client, ids))
    return has_answered


def _read_back(*, seconds: float) -> None:
    """Fetch invoices that do not show their successful operations yet."""
    if confirmation.unmirrored_operations().exists():
        # Without retries: whatever fails waits in its row.
        with open_account(retries=0) as client, contextlib.suppress(OrbError):
            confirmation.read_back_due(client, seconds=seconds)


def _recheck(*, seconds: float) -> None:
    """Fetch invoices whose answers could not be put in order."""
    if fetching.due_rechecks().exists():
        with open_account(retries=0) as client, contextlib.suppress(OrbError):
            fetching.recheck(client, seconds=seconds)
