"""Fetch invoices again from Orb: a few at once, more in the background."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.contrib import messages
from django.utils.translation import gettext, ngettext

from django_orb import publishing, services, tasks
from django_orb.admin.texts import lazy as _
from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.models import Invoice, SyncRun
from django_orb.sync import runs

from .action_context import ActionContext
from .outcomes import Outcome, attempt_all, attempt_read, explain
from .selection import HANDFUL

MAX_FETCHED = 1000


def respond(call: ActionContext) -> None:
    """Fetch a handful now. For more, start a run that shows its progress."""
    if len(call.invoices) > MAX_FETCHED:
        text = gettext("Choose at most %(most)s invoices, or use “Sync now”.") % {
            "most": MAX_FETCHED
        }
        call.say(messages.ERROR, text)
    elif len(call.invoices) > HANDFUL:
        fetch_later(call)
    else:
        call.report(attempt_all(call.invoices, fetch), logged=set())


def fetch(invoice: Invoice) -> Outcome:
    return attempt_read(
        invoice,
        lambda: services.fetch_invoice(invoice.pk),
        done=_("Fetched again from Orb."),
    )


def fetch_later(call: ActionContext) -> None:
    read_later(call, [invoice.pk for invoice in call.invoices])


def read_later(call: ActionContext, invoice_ids: Sequence[str]) -> None:
    """Start a run for them, also for those that are not in the mirror."""
    ids = list(invoice_ids)
    run = runs.start_run(SyncRun.Kind.ONE.value, invoice_ids=ids)
    # Gives up after about a second: users should not wait for a silent broker, and
    # `recover` finds the run anyway.
    runs.send_due(run, partial(publishing.wake, tasks.sync_page))
    text = ngettext(
        "Fetching %(count)s invoice again from Orb.",
        "Fetching %(count)s invoices again from Orb.",
        len(ids),
    )
    say_started(call, run, text % {"count": len(ids)})


def sync_now(call: ActionContext) -> None:
    """Start an incremental run, or join the one in progress."""
    kind = SyncRun.Kind.INCREMENTAL.value
    try:
        run = runs.start_or_join(kind, sweep=True)
    except (OrbError, OrbConfigurationError) as err:
        call.say(messages.ERROR, explain(err))
        return
    runs.send_due(run, partial(publishing.wake, tasks.sync_page))
    say_started(call, run, gettext("Bringing the mirror up to date with Orb."))


def say_started(call: ActionContext, run: SyncRun, text: str) -> None:
    """Say that the work began, or that it waits because no broker took it."""
    if was_taken(run):
        call.say_of_run(messages.SUCCESS, text, run)
        return
    waits = gettext(
        "The message broker cannot be reached: the run is recorded, and starts "
        "automatically once the broker is back."
    )
    call.say_of_run(messages.WARNING, f"{text} {waits}", run)


def was_taken(run: SyncRun) -> bool:
    """Return whether a worker was asked for each part of a new run."""
    return not runs.due_windows(run=run)
