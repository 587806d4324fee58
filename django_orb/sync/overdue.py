"""
Notice invoices that became overdue by a number of days, to send `invoice_overdue`.
"""

# Note [Announced once per threshold]
# Each number of `OVERDUE_DAYS` is a threshold. What a sync notices is recorded as a
# change, in one transaction with a notice that keeps it from being recorded again: once
# for each invoice and threshold, whatever becomes of its due date. Then `change_log`
# announces it, unless the invoice has been paid meanwhile.
#
# - Only a threshold that is crossed while it is watched counts. It is watched from the
#   first sync that knows it, so neither a new installation nor a new number in the
#   setting sends reminders for old debts. Without a receiver nothing is watched.
# - Only the highest threshold that an invoice has reached is announced and none below
#   it, after a time without syncs for instance, or if it was issued long after its due
#   date.
# - A run that did not succeed announces nothing: the mirror may be behind, and
#   reminders would go to customers who have paid. For the same reason an invoice waits
#   as long as the mirror has not taken in all that Orb showed of it: the next run that
#   succeeds after that records it. That is asked again when it is announced.
# - Invoices that crossed the highest threshold more than `LOOKBACK` ago are not looked
#   at, so that the search does not grow with debts that are never paid. It reads the
#   index of statuses and due dates.

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

from django.db.models import Exists, OuterRef

from django_orb.conf import get_settings
from django_orb.db import (
    claim,
    ends_work,
    insert,
    primary,
    renew_connection,
    run_in_transaction,
)
from django_orb.mirror import change_log
from django_orb.models import (
    Invoice,
    InvoiceChange,
    OverdueNotice,
    OverdueThreshold,
    SyncRun,
)
from django_orb.models.invoice_status import less_late_than, overdue_at
from django_orb.signals import invoice_overdue

logger = logging.getLogger(__name__)

LOOKBACK = timedelta(days=400)
# The most invoices that a run records for a threshold; the next run goes on.
MOST = 10_000


def notice(run: SyncRun) -> int:
    """
    Record which invoices became overdue, and announce it. Return how many.

    If that fails, the run still counts as succeeded, and the next one does it.
    """
    try:
        if not invoice_overdue.has_listeners(Invoice):
            primary.rows(OverdueThreshold).all().delete()
            return 0
        thresholds = sorted(set(get_settings().OVERDUE_DAYS))
        invoice_ids = run_in_transaction(partial(_record, thresholds, run))
    except Exception as err:
        if ends_work(err):
            raise
        logger.exception("Run %s did not look for overdue invoices.", run.pk)
        renew_connection()
        return 0
    # `recover` announces the others.
    change_log.announce_on_commit(invoice_ids[: change_log.BATCH])
    return len(invoice_ids)


def _record(thresholds: Sequence[int], run: SyncRun) -> list[str]:
    now = primary.now()
    # Others wait here, in the transaction that writes first.
    claim(OverdueThreshold, [{"days": days, "since": now} for days in thresholds])
    watched = primary.rows(OverdueThreshold)
    watched.exclude(days__in=thresholds).delete()
    locked = watched.select_for_update().order_by("days")
    since = dict(locked.values_list("days", "since"))
    found: list[tuple[str, int, str]] = []
    beyond = thresholds[-1] + LOOKBACK.days if thresholds else 0
    for days, following in pairwise([*thresholds, beyond]):
        crossed = _crossed(days, following, since[days], now)
        found += [(pk, days, status) for pk, status in crossed]
    insert(OverdueNotice, [{"invoice": pk, "days": days} for pk, days, _ in found])
    insert(
        InvoiceChange,
        [
            {
                "change_id": uuid.uuid4(),
                "invoice": pk,
                "kind": InvoiceChange.Kind.OVERDUE.value,
                "previous_status": status,
                "status": status,
                "changed_fields": [],
                "days_overdue": days,
                "origin": InvoiceChange.Origin.SYNC.value,
                "origin_id": str(run.pk),
                "created_at": now,
                "announced_at": None,
                "attempts": 0,
                "error": "",
            }
            for pk, days, status in found
        ],
    )
    return [pk for pk, *_ in found]


def _crossed(
    days: int, following: int, since: datetime, now: datetime
) -> list[tuple[str, str]]:
    """Return invoices past this threshold and not the following, and their statuses."""
    # Not that late already when it began to be watched.
    fresh = less_late_than(since, days) & less_late_than(now, following)
    told = primary.rows(OverdueNotice).filter(invoice=OuterRef("pk"), days__gte=days)
    late = primary.rows(Invoice).filter(overdue_at(now, days=days), fresh)
    late = late.filter(~Exists(told), ~change_log.may_be_behind())
    late = late.order_by("due_date")
    return list(late.values_list("pk", "status")[:MOST])
