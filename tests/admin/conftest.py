from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.factories import make_staff

EVERYTHING = (
    "view_invoice",
    "void_invoice",
    "sync_invoice",
    "export_invoice",
    "open_portal_invoice",
    "erase_customer",
    "issue_invoice",
    "mark_paid_invoice",
    "pay_invoice",
    "update_invoice",
    "regenerate_pdf_invoice",
    "create_invoice",
    "create_invoicelineitem",
    "delete_invoicelineitem",
    "view_invoicelineitem",
    "view_invoicecreditnote",
    "view_invoicepaymentattempt",
    "view_invoiceoperation",
    "resolve_invoiceoperation",
    "view_invoicefailure",
    "view_syncrun",
    "view_invoicechange",
    "tell_invoicechange",
    "view_webhookevent",
    "retry_webhookevent",
)


@pytest.fixture(autouse=True)
def _no_waiting(waits: list[float]) -> None:
    """No test here is about how long is waited."""


@pytest.fixture
def log_in() -> Callable[..., Client]:
    """Return a function giving a client of somebody with these permissions."""

    def give(*permissions: str, name: str = "staff") -> Client:
        client = Client()
        client.force_login(make_staff(*permissions, name=name))
        return client

    return give


@pytest.fixture
def finance(log_in: Callable[..., Client], db: Any) -> Client:
    """A client of somebody who may do everything, and is no superuser."""
    return log_in(*EVERYTHING, name="finance")
