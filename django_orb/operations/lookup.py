"""
Decide whether a key is still known to Orb, and what a person is asked after that.

An operation's type tells whether Orb shows it (`models/operation_types.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import gettext_noop

from django_orb.db import SLACK
from django_orb.models import InvoiceOperation

# Orb keeps a key for 48 hours; after that it would execute the request again:
# https://docs.withorb.com/reference/idempotency
RESEND_HOURS = 47
# After that Orb is asked for so long what it shows, until a person is asked.
LOOK_HOURS = 24

SHOWN = gettext_noop("Orb gave no answer, but shows that it happened.")
NOT_DONE = gettext_noop("Orb shows that it did not happen.")
ANOTHERS = gettext_noop("Orb did it for another operation, and not for this one.")
UNKNOWN_INVOICE = gettext_noop("Orb no longer knows the invoice.")
NOT_SEEN = gettext_noop(
    "No answer came, and for a day Orb did not show the invoice in a form that can be "
    "read. Check in Orb whether it happened."
)


def is_remembered(operation: InvoiceOperation, now: datetime) -> bool:
    """
    Tell whether Orb still knows the operation's key, if it ever got it.

    The row's own age counts too: a row in a restored backup looks as if it had never
    been sent, or had been sent for the first time just now.
    """
    moments = [operation.created_at, operation.first_sent_at]
    # If a time is in the future, the clock was set back, and its age is unknown.
    return all(
        -SLACK < now - moment < timedelta(hours=RESEND_HOURS)
        for moment in moments
        if moment is not None
    )


def is_given_up(operation: InvoiceOperation, now: datetime) -> bool:
    """Tell whether Orb was asked long enough what it shows of the operation."""
    moments = [operation.created_at, operation.first_sent_at]
    oldest = min(moment for moment in moments if moment is not None)
    return now - oldest > timedelta(hours=RESEND_HOURS + LOOK_HOURS)


def has_open_rival(operation: InvoiceOperation) -> bool:
    """Tell whether another operation that got no answer yet may have done the same."""
    return operation.type.happens_once and any(
        other.state == InvoiceOperation.State.PENDING and other.first_sent_at
        for other in operation.others_alike()
    )


def was_seen_before(operation: InvoiceOperation) -> bool:
    """
    Tell whether its effect was seen, as another's doing, before it was first sent.

    In a restored backup an operation may look as if it had not been sent yet, so this
    proves nothing as long as its key may bring Orb's answer.
    """
    first = operation.first_sent_at
    if first is None or not operation.type.happens_once:
        return False
    others = operation.others_alike()
    done = [one for one in others if one.state == InvoiceOperation.State.SUCCEEDED]
    return any(one.finished_at and one.finished_at < first for one in done)


def question(operation: InvoiceOperation) -> str:
    """Return what a person is asked if the invoice does not tell."""
    if operation.first_sent_at is None and operation.type.is_repeatable:
        return gettext_noop(
            "It waited for two days, and the invoice does not show it for sure. If a "
            "backup was restored, it may have been sent all the same. Check in Orb whether "
            "it happened."
        )
    return operation.type.question
