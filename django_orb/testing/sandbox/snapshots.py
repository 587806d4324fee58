"""
The account's state as JSON: all that does not follow from the seed.

Faults, options and the journal are not part of it.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from django_orb.testing.account import (
    Account,
    BillKey,
    Clock,
    Event,
    Lagging,
    Row,
    Terms,
    dumps,
)

VERSION = 1


def dump(account: Account) -> dict[str, Any]:
    with account.opened():
        return {
            "version": VERSION,
            "invoices": account.size,
            "seed": account.seed,
            "started": account.started.isoformat(),
            "clock": account.clock.dump(),
            "numbers": account.numbers,
            "serial": account.serial,
            "lag": account.lag,
            "customers": account.let_in_later,
            "balances": {k: str(v) for k, v in account.balances.items()},
            "adjustments": account.adjustments,
            "terms": {k: [t.net_terms, t.due] for k, t in account.terms.items()},
            "items": account.items,
            "deleted": account.deleted,
            "changed": [_dump_row(row, account) for row in _changed(account)],
            "lagging": [_dump_lagging(*item) for item in account.lagging.items()],
            "events": [_dump_event(e) for e in account.events.oldest_first()],
        }


def _changed(account: Account) -> list[Row]:
    return [
        row
        for row in account.index.newest_first()
        if row.changed or row.number > account.size
    ]


def _dump_row(row: Row, account: Account) -> dict[str, Any]:
    return {
        "number": row.number,
        "period": row.period,
        "customer": row.customer.id,
        "bill": list(row.bill),
        "payload": account.read(row),
    }


def _dump_event(event: Event) -> list[Any]:
    return [event.moment, event.type, json.loads(event.body), event.properties]


def _dump_lagging(row_id: str, lagging: Lagging) -> list[Any]:
    return [row_id, json.loads(lagging.body), lagging.reads]


def load(dumped: dict[str, Any]) -> Account:
    """
    Return the account as it was.

    Raises:
        ValueError: the snapshot has another version.
    """
    if dumped.get("version") != VERSION:
        raise ValueError(f"The snapshot does not have version {VERSION}.")
    clock = Clock.load(dumped["clock"])
    started = datetime.fromisoformat(dumped["started"]).astimezone(timezone.utc)
    account = Account(dumped["invoices"], dumped["seed"], clock, started)
    with account.lock:
        for customer_id, facts in dumped["customers"].items():
            account.let_in(customer_id, **facts)
        _restore_invoices(account, dumped)
        _restore_rest(account, dumped)
    return account


def _restore_invoices(account: Account, dumped: dict[str, Any]) -> None:
    for row_id in dumped["deleted"]:
        row = account.index.by_id.get(row_id)
        if row is not None:
            account.index.remove(row)
    for fields in dumped["changed"]:
        payload = fields["payload"]
        row = account.index.by_id.get(payload["id"])
        if row is None:
            row = _new_row(account, fields)
        else:
            account.index.remove(row)
        row.become(payload, dumps(payload))
        account.add(row)


def _new_row(account: Account, fields: dict[str, Any]) -> Row:
    payload = fields["payload"]
    return Row(
        id=payload["id"],
        number=fields["number"],
        date=0,
        due=None,
        status=payload["status"],
        source=payload["invoice_source"],
        customer=account.customers[fields["customer"]],
        bill=BillKey(*fields["bill"]),
        period=fields["period"],
        created=0,
    )


def _restore_rest(account: Account, dumped: dict[str, Any]) -> None:
    account.numbers = dumped["numbers"]
    account.serial = dumped["serial"]
    account.lag = dumped["lag"]
    account.items = dumped["items"]
    account.deleted = dumped["deleted"]
    account.adjustments = dumped["adjustments"]
    account.balances = {k: Decimal(v) for k, v in dumped["balances"].items()}
    account.terms = {k: Terms(*v) for k, v in dumped["terms"].items()}
    account.lagging = {k: Lagging(dumps(p), n) for k, p, n in dumped["lagging"]}
    for moment, kind, invoice, properties in dumped["events"]:
        account.events.add(kind, dumps(invoice), moment, properties)
