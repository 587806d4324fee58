from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F

from django_orb.maintenance.erasing import erase_customer
from django_orb.models import CustomerErasure, Invoice
from django_orb.status.facts import read_facts
from django_orb.status.findings import Verdict, judge
from tests.factories import store

from .poison import CUSTOMER, WORD, personal, places

pytestmark = pytest.mark.django_db(databases=["default"])


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("orb_erase_customer", *arguments, stdout=output)
    return output.getvalue()


def test_command_erases_and_undoes() -> None:
    store(personal())

    assert "1 invoices" in run(CUSTOMER)

    assert places() == []
    assert CustomerErasure.objects.get().origin == "command"
    assert "orb_sync_invoices --mode full" in run(CUSTOMER, "--undo")
    assert store(personal()).memo == WORD


def test_command_refuses_what_it_does_not_know() -> None:
    with pytest.raises(CommandError, match="Nothing was erased"):
        run("nobody")
    with pytest.raises(CommandError, match="is not erased"):
        run(CUSTOMER, "--undo")


def test_erasing_again_is_harmless() -> None:
    store(personal())
    run(CUSTOMER)
    before = CustomerErasure.objects.values("erased_at").get()

    assert "1 invoices" in run(CUSTOMER)

    assert CustomerErasure.objects.values("erased_at").get() == before
    assert Invoice.objects.get().memo == ""


def test_what_cannot_be_mapped_is_told() -> None:
    store(personal())
    store(personal("odd"))
    Invoice.objects.filter(pk="odd").update(payload={"customer": {"id": CUSTOMER}})

    with pytest.raises(CommandError, match=r"could not be mapped: odd"):
        run(CUSTOMER)

    assert Invoice.objects.get(pk="inv1").memo == ""
    assert CustomerErasure.objects.get().finished_at is None
    attention = {one.name: one for one in judge(read_facts())}["attention"]
    assert attention.summary == "1 erasure of a customer is incomplete."
    assert "customer's page" in attention.next_step


def test_erasure_that_was_interrupted_is_told() -> None:
    store(personal())
    erase_customer(CUSTOMER, seconds=-1.0)
    CustomerErasure.objects.update(erased_at=F("erased_at") - timedelta(minutes=20))

    backlog = {one.name: one for one in judge(read_facts())}["backlog"]

    assert backlog.summary == "1 erasure of a customer is still running."
    assert backlog.verdict == Verdict.WARNING
