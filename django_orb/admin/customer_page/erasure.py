"""Erase a customer's personal data, or undo that, from the customer's page."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext

from django_orb import services
from django_orb.db import primary
from django_orb.exceptions import OrbInputError
from django_orb.models import CustomerErasure

# The request should end before proxies and users give up; `recover` does the rest.
SECONDS = 10.0


def read_erasure(customer_id: str) -> CustomerErasure | None:
    """Return the record of the customer's erasure, if the customer is erased."""
    rows = primary.rows(CustomerErasure)
    return rows.filter(active_customer_id=customer_id).first()


def change_erasure(request: HttpRequest, customer_id: str) -> None:
    """Erase or undo, as the form asks, and leave a message about it."""
    if request.POST.get("undo"):
        level, text = _undo(request, customer_id)
    else:
        level, text = _erase(request, customer_id)
    messages.add_message(request, level, text)


def _erase(request: HttpRequest, customer_id: str) -> tuple[int, str]:
    erasure = services.erase_customer(
        customer_id,
        actor=request.user,  # type: ignore[arg-type]
        origin=CustomerErasure.Origin.ADMIN.value,
        seconds=SECONDS,
    )
    if erasure.error:
        return messages.ERROR, erasure.error
    # The time was up before everything had been looked through.
    if erasure.stage:
        return messages.WARNING, gettext(
            "From now on no personal data of this customer is stored. What was stored "
            "before is being erased; this continues automatically."
        )
    return messages.SUCCESS, gettext("The personal data of this customer was erased.")


def _undo(request: HttpRequest, customer_id: str) -> tuple[int, str]:
    try:
        services.undo_erasure(
            customer_id,
            actor=request.user,  # type: ignore[arg-type]
            seconds=SECONDS,
        )
    except OrbInputError:
        return messages.WARNING, gettext(
            "This customer is not erased. Nothing was changed."
        )
    return messages.SUCCESS, gettext(
        "This customer is no longer erased. The next full run fills the invoices again."
    )
