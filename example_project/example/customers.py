"""Names of customers for the admin, and a search: see DJANGO_ORB in the settings."""

from __future__ import annotations

from collections.abc import Sequence

from django.urls import reverse

from .models import Account


def customer_labels(customers: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return a name and the address of a page for each id that is known here."""
    ids = [external_customer_id for _, external_customer_id in customers]
    return {
        account.external_customer_id: (
            account.name,
            reverse("admin:example_account_change", args=[account.pk]),
        )
        for account in Account.objects.filter(external_customer_id__in=ids)
    }


def find_customers(text: str) -> list[str]:
    """Return the ids of customers whose name contains the text."""
    found = Account.objects.filter(name__icontains=text)
    return list(found.values_list("external_customer_id", flat=True)[:100])
