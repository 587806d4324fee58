"""How the admin calls the customers, and finds them: see DJANGO_ORB in the settings."""

from __future__ import annotations

from collections.abc import Sequence

from django.urls import reverse

from .models import Account


def customer_labels(customers: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """By their ids, a name and the address of a page."""
    ids = [external_customer_id for _, external_customer_id in customers]
    return {
        account.external_customer_id: (
            account.name,
            reverse("admin:example_account_change", args=[account.pk]),
        )
        for account in Account.objects.filter(external_customer_id__in=ids)
    }


def find_customers(text: str) -> list[str]:
    """The ids of those whose name has this in it."""
    found = Account.objects.filter(name__icontains=text)
    return list(found.values_list("external_customer_id", flat=True)[:100])
