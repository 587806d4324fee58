"""Where Orb delivers its webhooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from django.contrib.auth.decorators import login_not_required
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from . import mirror, tasks
from .conf import get_settings
from .exceptions import OrbPayloadError, OrbWebhookVerificationError
from .webhooks import OrbEvent, inbox, parse_event, processing, verify_signature

logger = logging.getLogger(__name__)

# One invoice may be large: others take as much.
MAX_BODY_BYTES = 10 * 1024 * 1024


def _outside_transactions(
    view: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """An event must stay stored whatever becomes of the request."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


@csrf_exempt
@login_not_required
@_outside_transactions
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """
    Keep what Orb delivers and answer at once; it is processed afterwards.

    200 once it is stored, 400 where it is not Orb's, 413 where it is too large.
    """
    try:
        body = _read(request)
        if body is None:
            return _refuse("The body is too large.", 413)
        # Nothing of it is believed, and nothing stored, before this.
        verify_signature(body, request.headers, get_settings().WEBHOOK_SECRETS)
        event = parse_event(body)
    except UnreadablePostError:
        return _refuse("The body broke off.", 400)
    except (OrbWebhookVerificationError, OrbPayloadError) as err:
        return _refuse(str(err), 400)
    _accept(event, body.decode())
    return HttpResponse()


def _read(request: HttpRequest) -> bytes | None:
    """The body, past Django's own limit; None where it exceeds ours."""
    body = bytearray()
    while chunk := request.read(MAX_BODY_BYTES + 1 - len(body)):
        body += chunk
    return None if len(body) > MAX_BODY_BYTES else bytes(body)


def _refuse(reason: str, status: int) -> HttpResponse:
    logger.warning("A webhook was refused: %s", reason)
    return HttpResponse(status=status)


def _accept(event: OrbEvent, body: str) -> None:
    using = mirror.database_alias()
    inbox.store(event, body, using=using)
    if get_settings().WEBHOOK_IN_PROCESS:
        processing.process_event(event.id, using=using)
        return
    wake = partial(tasks.wake, tasks.process_webhook_event, event.id)
    transaction.on_commit(wake, using=using)
