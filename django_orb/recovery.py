"""
Take up operations whose sender died, got no answer, or left them in the queue.

# Note [Defined ends]
Under the same key the same request is sent again until 47 hours after it was first
sent. After that, and for an edit always, Orb is looked at: is it there? Where that
does not tell, a person is asked. Nothing is sent from an installation that only
reads, such as a copy of production with production's pending rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_noop

from .client import OrbClient
from .clock import SLACK, clock_of, is_free
from .conf import get_settings
from .exceptions import OrbError, OrbNotFoundError
from .models import InvoiceOperation
from .payloads import parse_datetime, parse_decimal
from .sending import in_words, lease_of, note, send, settle

# Orb keeps a key for 48 hours; after that sending again would do it again.
RESEND_HOURS = 47
DAY = timedelta(days=1)
# A sender of ours needs minutes, whatever its time-outs are.
LONGEST_LEASE = timedelta(hours=1)

_STATE = InvoiceOperation.State
_KIND = InvoiceOperation.Kind

SHOWN = gettext_noop("Orb gave no answer, but shows that it happened.")


def stuck_operations(*, using: str) -> QuerySet[InvoiceOperation]:
    """Those in nobody's hands: queued, or silent for longer than sending takes."""
    pending = InvoiceOperation.objects.using(using).filter(
        is_free(clock_of(using).latest(), longest=LONGEST_LEASE),
        state=_STATE.PENDING,
    )
    return pending.none() if get_settings().READ_ONLY else pending


def recover_operations(
    *, client: OrbClient, using: str, seconds: float = float("inf")
) -> Iterator[InvoiceOperation]:
    """
    Settle what is stuck, oldest first; yields each that was tried.

    Ends after `seconds`, and once Orb gives no answer: the next one would get none.
    """
    deadline = time.monotonic() + seconds
    for pk in list(stuck_operations(using=using).order_by("pk").values_list("pk")):
        if time.monotonic() > deadline:
            return
        operation = stuck_operations(using=using).filter(pk=pk[0]).first()
        if operation and _take_lease(operation, client, using=using):
            recover_one(operation, client=client, using=using)
            yield operation
            if operation.state == _STATE.PENDING:
                return


def recover_one(operation: InvoiceOperation, *, client: OrbClient, using: str) -> None:
    """Send again what may be sent again, and look for the rest."""
    now = clock_of(using).latest()
    is_new = operation.first_sent_at is None
    if is_new or (operation.is_repeatable and _is_remembered(operation, now)):
        send(operation, client=client, using=using)
    else:
        look(operation, client=client, using=using)


def look_again(operation: InvoiceOperation, *, client: OrbClient, using: str) -> None:
    """For a person: look whether Orb shows it by now, and send nothing."""
    asked = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, state=_STATE.NEEDS_ATTENTION
    )
    lease = clock_of(using).latest() + lease_of(client)
    if asked.update(state=_STATE.PENDING, lease_expires_at=lease):
        operation.refresh_from_db(using=using)
        look(operation, client=client, using=using, may_send=False)


def close(
    operation: InvoiceOperation, *, was_done: bool, detail: str, using: str
) -> bool:
    """End what a person has looked up; whether it still needed one."""
    asked = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, state=_STATE.NEEDS_ATTENTION
    )
    # Its time stays: the mirror waits to see only what has just been done.
    closed = asked.update(
        state=_STATE.SUCCEEDED if was_done else _STATE.REFUSED,
        detail=detail,
        mirrored_at=clock_of(using).latest() if was_done else None,
    )
    operation.refresh_from_db(using=using)
    return bool(closed)


def look(
    operation: InvoiceOperation,
    *,
    client: OrbClient,
    using: str,
    may_send: bool = True,
) -> None:
    """Settle by what Orb shows, without doing it again where that does not tell."""
    try:
        payload = client.fetch_invoice(operation.invoice_id)
    except OrbNotFoundError:
        detail = gettext_noop("Orb no longer knows the invoice.")
        settle(operation, _STATE.NEEDS_ATTENTION, detail, using=using)
        return
    except OrbError as err:
        note(operation, in_words(err), using=using)
        return
    result = _find(operation, payload, using=using)
    if result is not None:
        settle(operation, _STATE.SUCCEEDED, SHOWN, using=using, result=result)
    elif may_send and _is_untouched(operation, payload, using=using):
        send(operation, client=client, using=using)
    else:
        settle(operation, _STATE.NEEDS_ATTENTION, _question(operation), using=using)


def _is_remembered(operation: InvoiceOperation, now: datetime) -> bool:
    first = operation.first_sent_at
    if first is None:
        return True
    # Sent in the future: the clock was set back, and nothing tells how long ago it was.
    return -SLACK < now - first < timedelta(hours=RESEND_HOURS)


def _find(
    operation: InvoiceOperation, payload: Mapping[str, Any], *, using: str
) -> dict[str, Any] | None:
    """What stands for Orb's answer if the invoice shows what was to be done."""
    if operation.kind == _KIND.CREATE_LINE_ITEM:
        return _find_line(operation, payload, using=using)
    is_visible = operation.kind != _KIND.REGENERATE_PDF and (
        operation.kind != _KIND.UPDATE or "metadata" in operation.body
    )
    return {} if is_visible and operation.is_shown_in(payload) else None


def _find_line(
    operation: InvoiceOperation, payload: Mapping[str, Any], *, using: str
) -> dict[str, Any] | None:
    """The one line that is as asked for and that no other operation made."""
    others = InvoiceOperation.objects.using(using).filter(
        invoice_id=operation.invoice_id,
        kind=_KIND.CREATE_LINE_ITEM,
        state=_STATE.SUCCEEDED,
    )
    taken = {one.line_item_id for one in others}
    lines: list[dict[str, Any]] = payload.get("line_items") or []
    found = [
        line
        for line in lines
        if line.get("id") not in taken and _is_as_asked(line, operation.body)
    ]
    return found[0] if len(found) == 1 else None


def _is_as_asked(line: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    item = ((line.get("price") or {}).get("item") or {}).get("id")
    if "name" in body and line.get("name") != body["name"]:
        return False
    if "item_id" in body and item != body["item_id"]:
        return False
    try:
        numbers = all(
            parse_decimal(line.get(name)) == parse_decimal(body.get(name))
            for name in ("quantity", "amount")
        )
        days = all(
            _is_near(line.get(name), body.get(name))
            for name in ("start_date", "end_date")
        )
    except (ValueError, ArithmeticError):
        return False
    return numbers and days


def _is_near(shown: Any, asked: Any) -> bool:
    """Orb shows the asked day as the customer's midnight, in UTC."""
    moment, day = parse_datetime(shown), parse_datetime(f"{asked}T00:00:00+00:00")
    return abs(moment - day) <= DAY


def _is_untouched(
    operation: InvoiceOperation, payload: Mapping[str, Any], *, using: str
) -> bool:
    """Whether an edit would still replace what it was meant to replace."""
    if operation.kind != _KIND.UPDATE or "metadata" not in operation.body:
        return False
    now = clock_of(using).latest()
    before = operation.before.get("metadata")
    shown = payload.get("metadata") or {}
    wanted = operation.body["metadata"]
    if before is None or not _is_remembered(operation, now):
        return False
    if wanted is None:
        return bool(shown == before)
    return all(shown.get(key) == before.get(key) for key in wanted)


def _question(operation: InvoiceOperation) -> str:
    """What a person is asked when looking does not tell."""
    if operation.kind == _KIND.UPDATE:
        return gettext_noop(
            "No answer came, and what Orb shows is neither what was asked for nor what "
            "was there before, or cannot be seen on the invoice. Look in Orb, and edit "
            "again if it is still wanted."
        )
    if operation.kind == _KIND.CREATE_LINE_ITEM:
        return gettext_noop(
            "No answer for two days, and the invoice does not show one such line that "
            "nobody else added. Look in Orb whether it happened."
        )
    return gettext_noop(
        "No answer for two days, and the invoice does not show it. Look in Orb whether "
        "it happened."
    )


def _take_lease(operation: InvoiceOperation, client: OrbClient, *, using: str) -> bool:
    expected = operation.lease_expires_at
    operation.lease_expires_at = clock_of(using).latest() + lease_of(client)
    mine = InvoiceOperation.objects.using(using).filter(
        pk=operation.pk, lease_expires_at=expected, state=_STATE.PENDING
    )
    return bool(mine.update(lease_expires_at=operation.lease_expires_at))
