"""Make one call to Orb for one invoice, and say in words what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.contrib import messages
from django.utils.translation import gettext

from django_orb.admin.texts import later
from django_orb.admin.texts import lazy as _
from django_orb.db import primary
from django_orb.exceptions import (
    OrbAuthenticationError,
    OrbBadRequestError,
    OrbConfigurationError,
    OrbConnectionError,
    OrbError,
    OrbInputError,
    OrbNotFoundError,
    OrbOutcomeUnknownError,
    OrbPayloadError,
    OrbRefusedError,
    OrbResponseError,
    OrbServerError,
    OrbTooLargeError,
    OrbURLNotFoundError,
)
from django_orb.formatting import recorded
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations import in_words

# Errors of one invoice. After any other error the rest is not tried: it would fail too,
# each after a time-out.
_OF_ONE_INVOICE = (
    OrbBadRequestError,
    OrbInputError,
    OrbNotFoundError,
    OrbPayloadError,
    OrbResponseError,
    OrbTooLargeError,
)

NOTHING_SENT = _("Nothing was sent.")
NOT_YET = _("The result could not be fetched yet; the next sync shows it.")


@dataclass(frozen=True)
class Outcome:
    """The message about one invoice, and the entry in its history, which is lazy."""

    invoice: Invoice
    level: int
    text: str
    log: str = ""
    ends_batch: bool = False


def attempt_all(
    invoices: Iterable[Invoice], attempt: Callable[[Invoice], Outcome]
) -> Iterator[Outcome]:
    """Yield one outcome for each. Once Orb cannot be reached, the rest is not tried."""
    is_over = False
    for invoice in invoices:
        if is_over:
            yield Outcome(
                invoice,
                messages.WARNING,
                gettext(
                    "Not tried, because of the error above. Nothing was sent for it."
                ),
            )
            continue
        outcome = attempt(invoice)
        is_over = outcome.ends_batch
        yield outcome


def attempt_write(
    invoice: Invoice,
    call: Callable[[], bool],
    *,
    key: str,
    done: str,
    asked: str,
    not_yet: str = "",
) -> Outcome:
    """
    Make one call that changes something in Orb, and say whether the mirror shows it.

    `done` says what has happened then, `asked` what was wanted, for the history. Both
    are lazy, because the history is in English.
    `not_yet` is said instead of `done` if Orb may take its time.
    """
    try:
        is_shown = call()
    except OrbRefusedError as err:
        return _refused(invoice, err, asked)
    except OrbOutcomeUnknownError as err:
        return _unknown(invoice, err, asked)
    except (OrbError, OrbConfigurationError) as err:
        # It may be done, and only the fetch after it have failed: the record knows.
        operations = primary.rows(InvoiceOperation)
        operation = operations.filter(idempotency_key=key).first()
        if _is_done(operation, err):
            return Outcome(invoice, messages.WARNING, f"{done} {NOT_YET}", done)
        # Nothing leaves before it is recorded.
        return _trouble(invoice, err, "" if operation else NOTHING_SENT)
    if not_yet and not is_shown:
        return Outcome(invoice, messages.WARNING, not_yet, asked)
    text = done if is_shown else f"{done} {NOT_YET}"
    return Outcome(invoice, messages.SUCCESS, text, done)


def attempt_read(invoice: Invoice, call: Callable[[], object], *, done: str) -> Outcome:
    """Make one call that only reads from Orb."""
    try:
        call()
    except (OrbError, OrbConfigurationError) as err:
        return _trouble(invoice, err)
    return Outcome(invoice, messages.SUCCESS, done, done)


def explain(err: Exception) -> str:
    """Explain an error to a user who has never seen this code."""
    if isinstance(err, OrbConfigurationError):
        return gettext("The connection to Orb is not set up: %(err)s") % {"err": err}
    if isinstance(err, OrbInputError):
        return _explain_input(err)
    if isinstance(err, OrbConnectionError):
        return gettext(
            "Orb could not be reached; try again in a few minutes. (%(err)s)"
        ) % {"err": err}
    if isinstance(err, OrbAuthenticationError):
        return gettext("Orb did not accept the API key. %(err)s") % {
            "err": in_words(err)
        }
    # A 404 of a route or a proxy does not say that the invoice is gone.
    if isinstance(err, OrbURLNotFoundError):
        return gettext("Orb does not know this address; check BASE_URL. %(err)s") % {
            "err": in_words(err)
        }
    if isinstance(err, OrbNotFoundError):
        return gettext("Orb does not know this invoice. %(err)s") % {
            "err": in_words(err)
        }
    if isinstance(err, OrbPayloadError):
        return gettext(
            "Orb's answer could not be stored, and is kept under failures: %(err)s"
        ) % {"err": err}
    if isinstance(err, OrbServerError):
        return gettext(
            "Orb reported an error of its own; try again in a few minutes. %(err)s"
        ) % {"err": in_words(err)}
    return recorded(in_words(err)) if isinstance(err, OrbError) else str(err)


def _explain_input(err: OrbInputError) -> str:
    if err.field != "idempotency_key":
        return recorded(str(err))
    return gettext(
        "This form was sent before, with other values, and its first outcome stands. "
        "Open the form again to ask for something else."
    )


def _refused(invoice: Invoice, err: OrbRefusedError, asked: str) -> Outcome:
    detail = err.detail
    stored = primary.rows(Invoice).filter(pk=invoice.pk)
    now = stored.only("status").first()

    def news() -> str:
        # The status may have changed: an invoice is fetched after a refusal.
        if now is None or now.status == invoice.status:
            return ""
        return gettext(" In Orb its status is now “%(status)s”.") % {
            "status": now.get_status_display()
        }

    def text() -> str:
        return gettext("Orb refused: %(detail)s%(news)s") % {
            "detail": recorded(detail),
            "news": news(),
        }

    log = later(lambda: f"{asked} {text()}")
    return Outcome(invoice, messages.ERROR, text(), log)


def _unknown(invoice: Invoice, err: OrbOutcomeUnknownError, asked: str) -> Outcome:
    detail = recorded(getattr(err.operation, "detail", ""))
    text = gettext(
        "Orb did not confirm, so it may or may not have happened. It is "
        "recorded as operation %(pk)s, and its outcome is looked up "
        "automatically: do not repeat it."
    ) % {"pk": err.operation.pk}
    if detail:
        text = f"{text} ({detail})"
    pk = err.operation.pk
    log = later(
        lambda: (
            gettext("%(asked)s Orb did not confirm yet; operation %(pk)s.")
            % {"asked": asked, "pk": pk}
        )
    )
    return Outcome(invoice, messages.WARNING, text, log, ends_batch=True)


def _is_done(operation: InvoiceOperation | None, err: Exception) -> bool:
    if operation is None or isinstance(err, OrbInputError):
        return False
    return operation.state == InvoiceOperation.State.SUCCEEDED


def _trouble(invoice: Invoice, err: Exception, note: str = "") -> Outcome:
    text = explain(err)
    # Some errors say it themselves.
    if note and note.lower() not in text.lower():
        text = f"{text} {note}"
    ends_batch = not isinstance(err, _OF_ONE_INVOICE)
    return Outcome(invoice, messages.ERROR, text, ends_batch=ends_batch)
