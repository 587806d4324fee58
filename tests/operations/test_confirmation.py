"""What was written to Orb comes into the mirror, or is given up in the end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django_orb import services, tasks
from django_orb.db.clock import database_now
from django_orb.models import Invoice, InvoiceOperation
from django_orb.operations.confirmation import LOOK_AFTER_SECONDS
from tests import databases

from .test_api import add, on_postgresql
from .test_recovery import impatient

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

__all__ = ["impatient"]


def end(*, minutes_ago: float) -> None:
    """Let what was done have been done so long ago."""
    ago = database_now(databases.current_alias) - timedelta(minutes=minutes_ago)
    InvoiceOperation.objects.update(finished_at=ago)


@on_postgresql
def test_what_is_undone_in_orb_is_mirrored_so_and_given_up(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    services.update_invoice(issued, metadata={"note": "ours"})
    InvoiceOperation.objects.update(mirrored_at=None)
    orb.update_invoice(issued, metadata={"note": "somebody else's"})

    end(minutes_ago=2)
    tasks.recover()
    metadata = Invoice.objects.get().payload["metadata"]
    assert metadata == {"note": "somebody else's"}

    end(minutes_ago=7 * 60)
    orb.clear_requests()
    tasks.recover()
    assert "fetch_invoice" not in orb.request_counts()


@on_postgresql
def test_edit_is_waited_for_although_an_earlier_one_was_seen(orb: OrbSandbox) -> None:
    issued = add(orb, "issued")
    services.update_invoice(issued, metadata={"note": "first"})
    orb.lag_reads(len(LOOK_AFTER_SECONDS))

    services.update_invoice(issued, metadata={"note": "second"})

    seen = InvoiceOperation.objects.order_by("pk").values_list("mirrored_at", flat=True)
    assert [moment is not None for moment in seen] == [True, False]
    end(minutes_ago=2)
    tasks.recover()
    assert Invoice.objects.get().payload["metadata"] == {"note": "second"}
    assert all(seen.all())
