"""Decide operations that need attention, and stop those that should not be sent."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext

from django_orb import operations
from django_orb.account import open_account
from django_orb.admin.texts import later
from django_orb.admin.texts import lazy as _
from django_orb.db import primary
from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.formatting import (
    CHECKED_DONE,
    CHECKED_NOT_DONE,
    STOPPED,
    recorded,
    short,
)
from django_orb.models import InvoiceOperation
from django_orb.models.operations import full_name_of
from django_orb.operations import recovery

from .outcomes import explain

DECISIONS = {"done": CHECKED_DONE, "not_done": CHECKED_NOT_DONE}


def resolve(
    model_admin: Any, request: HttpRequest, operation: InvoiceOperation
) -> None:
    """Check Orb again, or finish it by what the user found in Orb."""
    if operation.state != InvoiceOperation.State.NEEDS_ATTENTION:
        text = gettext("This operation no longer needs attention. Nothing was changed.")
        model_admin.message_user(request, text, messages.WARNING)
        return
    decision = request.POST.get("decision", "")
    if decision == "look":
        look(model_admin, request, operation)
    elif decision in DECISIONS:
        close(model_admin, request, operation, decision)


def look(model_admin: Any, request: HttpRequest, operation: InvoiceOperation) -> None:
    try:
        with open_account() as client:
            trouble = recovery.look_again(operation, client=client)
    except (OrbError, OrbConfigurationError) as err:
        model_admin.message_user(request, explain(err), messages.ERROR)
        return
    if trouble:
        text = gettext("It could not be checked in Orb. %(detail)s") % {
            "detail": recorded(trouble)
        }
        model_admin.message_user(request, text, messages.ERROR)
        return
    is_done = operation.state == InvoiceOperation.State.SUCCEEDED
    level = messages.SUCCESS if is_done else messages.WARNING
    text = later(
        lambda: (
            gettext("Checked in Orb. %(detail)s")
            % {"detail": recorded(operation.detail)}
        )
    )
    model_admin.message_user(request, text, level)
    model_admin.log_change(request, operation, text)


def close(
    model_admin: Any, request: HttpRequest, operation: InvoiceOperation, decision: str
) -> None:
    was_done = decision == "done"
    detail = DECISIONS[decision] % {"who": name_of(request)}
    # Another user, or a worker, may have been faster.
    if recovery.close(operation, was_done=was_done, detail=detail):
        model_admin.message_user(request, recorded(detail), messages.SUCCESS)
        model_admin.log_change(request, operation, detail)


def stop(model_admin: Any, request: HttpRequest, batch: str) -> None:
    """Cancel the operations that no worker has begun to send."""
    waiting = primary.rows(InvoiceOperation).filter(
        batch=batch, state=InvoiceOperation.State.PENDING, first_sent_at=None
    )
    # Read first and looked at afterwards: a worker may begin one in between, and what
    # was begun is not cancelled.
    stopped = list(waiting)
    count = operations.cancel(batch, detail=STOPPED % {"who": name_of(request)})
    for operation in stopped:
        operation.refresh_from_db(using=primary.alias())
        if operation.state == InvoiceOperation.State.CANCELLED:
            model_admin.log_change(request, operation, _("Stopped before it was sent."))
    told = gettext("%(count)s were stopped before they were sent.") % {"count": count}
    level = messages.SUCCESS if count else messages.WARNING
    model_admin.message_user(request, told, level)


def name_of(request: HttpRequest) -> str:
    user: Any = request.user  # staff, since the admin lets no one else in
    return short(full_name_of(user))
