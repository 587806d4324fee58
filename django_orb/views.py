"""Receive Orb's webhooks."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from . import metrics, publishing, tasks
from .conf import get_settings
from .db import primary
from .exceptions import OrbPayloadError, OrbWebhookVerificationError
from .status import note_refusal
from .webhooks import (
    SIGNATURE_HEADER,
    OrbEvent,
    inbox,
    parse_event,
    processing,
    verify_signature,
)

logger = logging.getLogger(__name__)

_SIGNATURE = re.compile(r"\bv1=[0-9a-f]{64}\b")

# A single invoice may be large; other receivers of webhooks allow as much.
MAX_BODY_BYTES = 10 * 1024 * 1024


def _outside_transactions(
    view: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Exempt a view from `ATOMIC_REQUESTS`, so that a stored event stays stored."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


# Orb has neither a session nor a token: its signature is verified instead.
@csrf_exempt
@login_not_required
@_outside_transactions
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """
    Store what Orb delivers and answer; a task processes it later, unless
    `WEBHOOK_IN_PROCESS` is set.

    The status is 200 once it is stored, 400 if it is not Orb's, 411 if the server
    hides the end of a body without a length, 413 if it is too large, and 415 if it is
    compressed in another way than gzip.
    """
    try:
        sent = _read(request)
        body = _unpack(request, sent)
        # Nothing is believed or stored before this.
        _verify(request, body, sent)
        event = parse_event(body)
    except _RefusalError as err:
        return _refuse(request, str(err), err.status)
    except (OrbWebhookVerificationError, OrbPayloadError) as err:
        return _refuse(request, str(err), 400)
    _accept(event, body.decode())
    return HttpResponse()


class _RefusalError(Exception):
    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def _read(request: HttpRequest) -> bytes:
    """Return the body, which may exceed Django's own limit, but not ours."""
    source, announced = _source(request), _announced_length(request)
    too_large = _RefusalError("The body is too large.", 413)
    if announced > MAX_BODY_BYTES:
        raise too_large  # without waiting for it
    body = bytearray()
    # The byte beyond the limit tells a body that is too large from
    # one that fits exactly.
    while chunk := _read_some(source, MAX_BODY_BYTES + 1 - len(body)):
        body += chunk
    if len(body) > MAX_BODY_BYTES:
        raise too_large
    if len(body) < announced:
        raise _RefusalError("The body broke off.", 400)
    return bytes(body)


def _read_some(source: Any, size: int) -> bytes:
    try:
        return source.read(size)  # type: ignore[no-any-return]
    except Exception as err:  # each server has errors of its own for chunks
        reason = "The body broke off, or its chunks are malformed."
        raise _RefusalError(reason, 400) from err


def _announced_length(request: HttpRequest) -> int:
    """Return the announced length; 0 without one, or if the body was read before."""
    if hasattr(request, "_body"):
        return 0
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _source(request: HttpRequest) -> Any:
    environ = getattr(request, "environ", None)
    if environ is not None and not environ.get("CONTENT_LENGTH"):
        # Django takes a body without a length for an empty one.
        if environ.get("wsgi.input_terminated"):
            return environ["wsgi.input"]
        if environ.get("HTTP_TRANSFER_ENCODING"):
            reason = "The body has no length, and the server does not mark its end."
            raise _RefusalError(reason, 411)
    if getattr(request, "_read_started", False) and not hasattr(request, "_body"):
        raise _RefusalError("A middleware has read the body before the view.", 400)
    return request


def _unpack(request: HttpRequest, sent: bytes) -> bytes:
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return sent
    if encoding not in ("gzip", "x-gzip"):
        raise _RefusalError("The body is compressed in another way than gzip.", 415)
    # 16 more means gzip, with its header: https://docs.python.org/3/library/zlib.html
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        # Bounded, since a few kilobytes may unpack to gigabytes.
        body = unpacker.decompress(sent, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise _RefusalError("The body cannot be decompressed.", 400) from None
    if len(body) > MAX_BODY_BYTES:
        raise _RefusalError("The decompressed body is too large.", 413)
    if not unpacker.eof:
        raise _RefusalError("The compressed body broke off.", 400)
    return body


def _verify(request: HttpRequest, body: bytes, sent: bytes) -> None:
    """Accept a signature of the decompressed bytes, or of those that were sent."""
    secrets = get_settings().WEBHOOK_SECRETS
    try:
        verify_signature(body, request.headers, secrets)
    except OrbWebhookVerificationError:
        if body == sent:
            raise
        verify_signature(sent, request.headers, secrets)


def _refuse(request: HttpRequest, reason: str, status: int) -> HttpResponse:
    logger.warning("A webhook was refused: %s", reason)
    metrics.webhook_refused()
    # A stranger's requests do not look like Orb's, as a rule.
    is_signed = bool(_SIGNATURE.search(request.headers.get(SIGNATURE_HEADER, "")))
    note_refusal(reason, is_signed=is_signed)
    return HttpResponse(status=status)


def _accept(event: OrbEvent, body: str) -> None:
    inbox.store(event, body)
    if get_settings().WEBHOOK_IN_PROCESS:
        processing.process_event(event.id)
        return
    # A worker that is woken before the commit would not find the row.
    wake = partial(publishing.wake, tasks.process_webhook_event, event.id)
    primary.on_commit(wake)
