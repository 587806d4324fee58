"""Refuse the answers of any Orb account but the one that a database mirrors."""

# Note [One account in one mirror]
# A key is accepted if Orb shows it an invoice that is stored. An empty mirror has none, so
# it accepts any key, and perhaps another one later. Meanwhile a worker with the first key
# may hold answers that it has not written yet. So the transaction that stores them locks
# the account's row for reading, and checks that its key is still there; and the one that
# replaces the key locks the row, and checks that the mirror is still empty. Once a client
# has stored something, it need not check again.

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.utils import timezone

from django_orb.client import OrbClient
from django_orb.db import SHARED_LOCK, claim, primary, run_in_transaction, upsert
from django_orb.exceptions import (
    OrbAccountError,
    OrbError,
    OrbNotFoundError,
    OrbResponseError,
    OrbServerError,
    OrbTimeoutError,
)
from django_orb.mirror import NO_ID
from django_orb.models import Invoice, InvoiceFailure, InvoiceOperation, MirroredAccount
from django_orb.models.operation_matching import require_id

from .rate_limit import PacedClient

# How many ids of each source are tried. The search also ends after as many failures of
# Orb, since each costs all of its retries while Orb is down.
PROBES = 3


@contextmanager
def open_account(*, retries: int = 2) -> Iterator[OrbClient]:
    """
    Open a client for the account in `settings.DJANGO_ORB`, within the mirror's budgets.

    Raises:
        OrbConfigurationError: there is no API key, or something else is wrong.
        OrbAccountError: it is not the account that this database mirrors.
    """
    with PacedClient.connect(retries=retries) as client:
        require_same_account(client)
        yield client


def require_same_account(client: OrbClient) -> None:
    """
    Make sure that the client's key belongs to the account of the mirror.

    The first key is remembered. A new key, such as after a rotation, is accepted if
    Orb shows it any invoice that the mirror has.

    Raises:
        OrbAccountError: Orb shows it none of them; nothing was written.
        OrbError: Orb did not answer.
    """
    # That the key is still there is checked later, by the transaction that stores the
    # first invoices: here it would cost every caller more.
    client.before_first_commit = partial(_require_still, client)
    known = primary.rows(MirroredAccount).first()
    if known and known.fingerprint == client.fingerprint:
        return
    probes = _probes()
    # An empty mirror proves nothing, so it accepts any key.
    if probes and not _knows_any(client, probes):
        raise OrbAccountError(
            "This API key belongs to another Orb account than the mirror in this "
            f"database: it does not know {', '.join(probes)}. Use a key of the "
            "mirror's account, or a database of its own for the other one. If it is "
            "a new key of the same account, in which all of these were deleted, say "
            "so with orb_sync_invoices --accept-key."
        )
    if known is None:
        # If two first keys come at once, only one of them is stored.
        claim(MirroredAccount, [_row_of(client)])
        require_same_account(client)
    elif probes:
        upsert(MirroredAccount, [_row_of(client)], key=["id"])
    elif not run_in_transaction(partial(_take_empty_mirror, client)):
        require_same_account(client)


def _take_empty_mirror(client: OrbClient) -> bool:
    """Remember the key if nothing is stored. See Note [One account in one mirror]."""
    # This writes first, so that it waits for transactions that store the first invoices,
    # and later ones wait for this.
    primary.rows(MirroredAccount).update(confirmed_at=timezone.now())
    if _probes():
        return False
    upsert(MirroredAccount, [_row_of(client)], key=["id"])
    return True


def _require_still(client: OrbClient) -> None:
    """
    Make sure, until the transaction ends, that no other key has taken the mirror.

    Raises:
        OrbAccountError: another key has.
    """
    connection = primary.connection()
    lock = SHARED_LOCK.get(connection.vendor, "")
    table = MirroredAccount._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT fingerprint FROM {table} {lock}")  # noqa: S608
        found = [row[0] for row in cursor.fetchall()]
    if found != [client.fingerprint]:
        raise OrbAccountError(
            "Another API key has taken this database's mirror while it was empty, so "
            "nothing was stored. If both keys are of the same account, try again; "
            "otherwise use a database of its own for each account."
        )

    def is_proven() -> None:
        client.before_first_commit = None

    primary.on_commit(is_proven)


def accept_key() -> None:
    """
    Accept the key in the settings for the mirror's account, because a person says so.

    It is for a new key of an account in which nothing is left that could prove it.

    Raises:
        OrbConfigurationError: there is no API key, or something else is wrong.
        OrbError: Orb refuses the key; nothing was written.
    """
    with PacedClient.connect() as client:
        # Orb answers a wrong key with 401, and then the row stays as it was.
        next(client.list_invoices(limit=1))
        upsert(MirroredAccount, [_row_of(client)], key=["id"])


def _row_of(client: OrbClient) -> dict[str, Any]:
    return {"id": 1, "fingerprint": client.fingerprint, "confirmed_at": timezone.now()}


def is_of_account(payload: Mapping[str, Any]) -> bool:
    """
    Tell whether an invoice that was not fetched with the key belongs to the account.

    Orb's ids belong to one account: an invoice, a customer or a subscription that is
    mirrored proves it. An invoice of a new customer does not, and nor does the
    project's own id of the customer, which may be the same in two accounts.
    """
    invoices = primary.rows(Invoice)
    proofs = {"pk": payload.get("id")}
    for name in ("customer", "subscription"):
        part = payload.get(name)
        proofs[f"{name}_id"] = part.get("id") if isinstance(part, dict) else None
    return any(
        invoices.filter(**{name: value}).exists()
        for name, value in proofs.items()
        if value and isinstance(value, str)
    )


def _probes() -> list[str]:
    """
    Return ids that the mirror's account knows, the surest first.

    A draft may have been deleted, and a missing invoice may have come back; so these
    come after the invoices that stay. Among equals chance decides, as an invoice may
    end each worker that fetches it.
    """
    invoices = primary.rows(Invoice).order_by("-invoice_date", "-pk")
    drafts = invoices.filter(status=Invoice.Status.DRAFT)
    final = invoices.exclude(status=Invoice.Status.DRAFT)
    failures = primary.rows(InvoiceFailure).order_by("-failed_at")
    operations = (
        primary.rows(InvoiceOperation)
        .filter(state=InvoiceOperation.State.SUCCEEDED)
        # A creation that a user closed as done has no invoice.
        .exclude(invoice_id="")
    )
    sources = [
        final.filter(missing_since=None).values_list("pk", flat=True),
        drafts.filter(missing_since=None).values_list("pk", flat=True),
        operations.order_by("-pk").values_list("invoice_id", flat=True),
        failures.exclude(pk__startswith=NO_ID).values_list("pk", flat=True),
        invoices.exclude(missing_since=None).values_list("pk", flat=True),
    ]
    found: dict[str, None] = {}
    for source in sources:
        probes = list(source[:PROBES])
        random.shuffle(probes)
        found.update(dict.fromkeys(probes))
    return list(found)


def _knows_any(client: OrbClient, invoice_ids: Sequence[str]) -> bool:
    """
    Fetch invoices until Orb knows one under this key. Return whether it knows any.

    If Orb fails at an invoice, now or always, the others decide.

    Raises:
        OrbError: Orb failed at some, and knows none of the rest.
    """
    errors: list[OrbError] = []
    for invoice_id in invoice_ids:
        try:
            require_id(client.fetch_invoice(invoice_id), invoice_id)
        # Only Orb's own kind of 404: that of a whole route comes from a wrong BASE_URL
        # and says nothing about the account.
        except OrbNotFoundError:
            continue
        except (OrbResponseError, OrbServerError, OrbTimeoutError) as err:
            errors.append(err)
            if len(errors) == PROBES:
                break
        else:
            return True
    if errors:
        raise errors[0]
    return False
