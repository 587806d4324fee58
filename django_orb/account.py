"""One Orb account per database: another account's answers are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils import timezone

from .client import OrbClient
from .exceptions import OrbAccountError, OrbNotFoundError, OrbURLNotFoundError
from .models import Invoice, MirroredAccount
from .pacing import PacedClient
from .tables import upsert

PROBES = 3


@contextmanager
def open_account(*, using: str, retries: int = 2) -> Iterator[OrbClient]:
    """
    A client for the account in `settings.DJANGO_ORB`, within the mirror's budgets.

    Raises:
        OrbConfigurationError: there is no API key, or something else is wrong.
        OrbAccountError: it is not the account that this database mirrors.
    """
    with PacedClient.connect(using=using, retries=retries) as client:
        require_same_account(client, using=using)
        yield client


def require_same_account(client: OrbClient, *, using: str) -> None:
    """
    Make sure that the client's key belongs to the account of the mirror.

    The first key is remembered. A key not seen before, such as after a rotation,
    is believed when it knows one of the newest invoices that are mirrored.

    Raises:
        OrbAccountError: it knows none of them; nothing was written.
        OrbError: Orb did not answer.
    """
    accounts = MirroredAccount.objects.using(using)
    known = accounts.first()
    if known and known.fingerprint == client.fingerprint:
        return
    newest = (
        Invoice.objects.using(using)
        .exclude(status=Invoice.Status.DRAFT)
        .filter(missing_since=None)
        .order_by("-invoice_date", "-pk")
    )
    probes = list(newest.values_list("pk", flat=True)[:PROBES])
    if probes and not any(_knows(client, pk) for pk in probes):
        raise OrbAccountError(
            "This API key belongs to another Orb account than the mirror in this "
            f"database: it does not know {', '.join(probes)}. Use a key of the "
            "mirror's account, or a database of its own for the other one."
        )
    row = {
        "id": 1,
        "fingerprint": client.fingerprint,
        "confirmed_at": timezone.now(),
    }
    upsert(MirroredAccount, [row], key=["id"], using=using)


def _knows(client: OrbClient, invoice_id: str) -> bool:
    try:
        client.fetch_invoice(invoice_id)
    except OrbURLNotFoundError:
        raise
    except OrbNotFoundError:
        return False
    return True
