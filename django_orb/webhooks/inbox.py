"""Store each webhook event once, without personal data of erased customers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import DataError

from django_orb import exact_json
from django_orb.db import claim, primary
from django_orb.mirror import erased, personal
from django_orb.models import WebhookEvent

from .payload import OrbEvent

# How long an event's message may take to arrive before `recover` sends a second one.
MESSAGE_SECONDS = 60

State = WebhookEvent.State


def store(
    event: OrbEvent, body: str, *, source: str = WebhookEvent.Source.WEBHOOK.value
) -> None:
    """Store an event, unless it is already stored."""
    store_all([(event, body)], source=source)


def store_all(events: Sequence[tuple[OrbEvent, str]], *, source: str) -> None:
    """Store events in one statement, and check in another which customers are erased."""
    now = primary.now()
    # In the order of ids, so that two processes which store the same events cannot
    # wait for each other.
    rows = [
        {
            "id": event.id,
            "type": event.type,
            "state": State.RECEIVED.value,
            "source": source,
            "invoice_id": event.invoice_id,
            "created_at": event.created_at,
            "received_at": now,
            "body": body,
            "attempts": 0,
            "deaths": 0,
            "next_attempt_at": now + timedelta(seconds=MESSAGE_SECONDS),
            "lease": "",
            "error": "",
        }
        for event, body in sorted(events, key=lambda pair: pair[0].id)
    ]
    try:
        _claim(rows)
    except DataError:
        for row in rows:
            _store_or_hint(row)


def _store_or_hint(row: dict[str, Any]) -> None:
    """Store an event; if its body does not fit, leave the invoice out of it."""
    try:
        _claim([row])
    except DataError:
        # On MariaDB a table may have a narrower character set than Orb's
        # texts, such as latin1.
        payload = {**exact_json.loads(row["body"]), "invoice": row["invoice_id"]}
        body = exact_json.dumps(payload)
        _claim([{**row, "body": body}])


def _claim(rows: Sequence[dict[str, Any]]) -> None:
    """
    Store rows, without personal data of erased customers.

    Orb waits for the answer, so this locks nothing. Once the rows are stored, it checks
    whether this process knew all erased customers. An erasure that is committed later
    finds the rows itself. A process that is killed before the check has not answered, so
    Orb sends the event again: by then the row exists and may hold personal data, which
    the check removes.
    """
    known = erased.probably()
    stored = [_kept(row, known) for row in rows]
    claim(WebhookEvent, stored)
    gone = erased.customers()
    for row, before in zip(rows, stored, strict=True):
        body = (before if gone == known else _kept(row, gone))["body"]
        if body != row["body"] or body != before["body"]:
            primary.rows(WebhookEvent).filter(pk=row["id"]).update(body=body)


def _kept(row: dict[str, Any], gone: frozenset[str]) -> dict[str, Any]:
    """Return the row itself, or one without personal data if it is of these customers."""
    if not gone:
        return row
    sent = exact_json.loads(row["body"])
    is_theirs = not gone.isdisjoint(personal.customers_in(sent))
    if not is_theirs and not erased.is_of(row["invoice_id"], gone):
        return row
    return {**row, "body": exact_json.dumps(personal.blank_event(sent, is_hint=True))}
