from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_orb.admin.actions.selection import new_token
from django_orb.admin.invoices import LIST_ACTIONS
from django_orb.models import Invoice, InvoiceOperation, SyncRun
from tests.factories import make_invoice, operate

from .pages import LIST, OPERATIONS, choose, page_of

pytestmark = pytest.mark.django_db

LINE = {
    "name": "Support",
    "item_id": "",
    "quantity": "1",
    "amount": "12.00",
    "start_date": "2026-01-01",
    "end_date": "2026-01-31",
}
# Action, the page of one invoice that does the same, and the permission for both.
WAYS = [
    ("void_selected", "void", "void_invoice"),
    ("issue_selected", "issue", "issue_invoice"),
    ("mark_selected_paid", "mark-paid", "mark_paid_invoice"),
    ("pay_selected", "pay", "pay_invoice"),
    ("regenerate_selected_pdfs", "regenerate-pdf", "regenerate_pdf_invoice"),
    ("add_line_item", "line-item", "create_invoicelineitem"),
    ("fetch_from_orb", "fetch", "sync_invoice"),
    (None, "edit", "update_invoice"),
    (None, "delete-line", "delete_invoicelineitem"),
]
ACTIONS = [way for way in WAYS if way[0]]
VIEWS = [view for _, view, _ in WAYS]
ALL = [permission for _, _, permission in WAYS]
LogIn = Callable[..., Client]


@pytest.fixture(autouse=True)
def nothing_reaches_orb(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("A user without permission reached Orb.")

    monkeypatch.setattr(requests.Session, "send", refuse)


def forged(user_id: object) -> dict[str, Any]:
    """Everything a confirmed form could carry."""
    token = new_token(user_id=user_id, kind="any").value
    return {
        **LINE,
        "post": "yes",
        "token": token,
        "newest_operation": "0",
        "line": "liE3rT5yU7iO9pAs",
        "payment_received_date": "2026-01-31",
        "metadata": "a = b",
        "shown": "{}",
    }


def nothing_happened() -> bool:
    return not (
        InvoiceOperation.objects.exists()
        or SyncRun.objects.exists()
        or LogEntry.objects.exists()
    )


@pytest.mark.parametrize(("action", "view", "permission"), ACTIONS)
@pytest.mark.parametrize("confirmed", [False, True])
def test_an_action_needs_its_own_permission(
    log_in: LogIn, action: str, view: str, permission: str, confirmed: bool
) -> None:
    others = [one for one in ALL if one != permission]
    client = log_in("view_invoice", *others)
    for sample in ("draft", "issued"):
        make_invoice(sample, id=sample)
    assert action not in client.get(LIST).content.decode()

    data = choose(action, "draft", "issued")
    if confirmed:
        del data["index"]
        data |= forged(1)
    response = client.post(LIST, data)

    assert response.status_code == 302
    assert nothing_happened()


@pytest.mark.parametrize(("action", "view", "permission"), WAYS)
def test_a_page_of_an_action_needs_its_own_permission(
    log_in: LogIn, action: str, view: str, permission: str
) -> None:
    client = log_in("view_invoice", *[one for one in ALL if one != permission])
    for sample in ("draft", "issued"):
        make_invoice(sample, id=sample)
        url = page_of(sample, view)
        assert url not in client.get(page_of(sample)).content.decode()
        assert client.get(url).status_code == 403
        assert client.post(url).status_code == 403
        assert client.post(url, forged(1)).status_code == 403
        assert client.get(page_of("unknown", view)).status_code == 403

    assert nothing_happened()


@pytest.mark.parametrize(("action", "view", "permission"), WAYS)
def test_an_action_without_the_view_permission_is_not_enough(
    log_in: LogIn, action: str, view: str, permission: str
) -> None:
    client = log_in(*ALL)
    invoice = make_invoice()

    assert client.get(LIST).status_code == 403
    assert client.post(LIST, choose(action or "", invoice.pk)).status_code == 403
    assert client.get(page_of(invoice.pk)).status_code == 403
    assert client.get(page_of(invoice.pk, view)).status_code == 403
    assert client.post(page_of(invoice.pk, view), forged(1)).status_code == 403
    assert nothing_happened()


def test_sync_now_needs_its_own_permission(log_in: LogIn) -> None:
    client = log_in("view_invoice", *[one for one in ALL if one != "sync_invoice"])

    assert "Sync now" not in client.get(LIST).content.decode()
    assert client.get(f"{LIST}sync/").status_code == 403
    assert client.post(f"{LIST}sync/").status_code == 403
    assert log_in("sync_invoice", name="blind").post(f"{LIST}sync/").status_code == 403
    assert nothing_happened()


def test_creating_an_invoice_needs_its_own_permission(log_in: LogIn) -> None:
    client = log_in("view_invoice", *ALL)
    url = f"{LIST}create/"

    assert url not in client.get(LIST).content.decode()
    assert client.get(url).status_code == 403
    assert client.post(url, forged(1)).status_code == 403
    blind = log_in("create_invoice", name="blind")
    assert blind.get(url).status_code == 403
    assert blind.post(url, forged(1)).status_code == 403
    stranger = Client().post(url, forged(1))
    assert "/admin/login/" in stranger.headers["Location"]
    allowed = log_in("view_invoice", "create_invoice", name="allowed")
    assert url in allowed.get(LIST).content.decode()
    assert nothing_happened()


@pytest.mark.parametrize("view", ["fetch", "sync"])
def test_reading_anew_takes_a_post(log_in: LogIn, view: str) -> None:
    client = log_in("view_invoice", "sync_invoice")
    invoice = make_invoice()
    url = f"{LIST}sync/" if view == "sync" else page_of(invoice.pk, view)

    assert client.get(url).status_code == 405
    assert nothing_happened()


@pytest.mark.parametrize("view", VIEWS)
def test_strangers_are_sent_to_the_login(client: Client, view: str) -> None:
    invoice = make_invoice()

    for response in (
        client.get(page_of(invoice.pk, view)),
        client.post(page_of(invoice.pk, view), forged(1)),
        client.post(f"{LIST}sync/"),
    ):
        assert response.status_code == 302
        assert "/admin/login/" in response.headers["Location"]
    assert nothing_happened()


@pytest.mark.parametrize("view", VIEWS)
def test_a_post_from_another_site_is_refused(log_in: LogIn, view: str) -> None:
    invoice = make_invoice()
    victim = log_in("view_invoice", *ALL)
    session = victim.cookies
    client = Client(enforce_csrf_checks=True)
    client.cookies = session

    assert client.post(page_of(invoice.pk, view), forged(1)).status_code == 403
    assert client.post(f"{LIST}sync/").status_code == 403
    assert nothing_happened()


@pytest.mark.parametrize(
    "model",
    ["invoice", "invoicelineitem", "invoiceoperation", "invoicefailure", "syncrun"],
)
def test_each_list_needs_its_own_view_permission(log_in: LogIn, model: str) -> None:
    url = f"/admin/django_orb/{model}/"
    allowed = log_in(f"view_{model}", name="allowed")

    assert allowed.get(url).status_code == 200
    assert allowed.get(f"{url}add/").status_code == 403
    assert log_in(name="nobody").get(url).status_code == 403


def test_every_action_and_page_that_writes_is_tried_here() -> None:
    actions = {action for action, _, _ in WAYS if action}
    views = {
        str(pattern.pattern).split("/")[1]
        for pattern in site.get_model_admin(Invoice).get_urls()
        if str(pattern.pattern).startswith("<path:object_id>/")
    }

    assert actions == {*LIST_ACTIONS, "fetch_from_orb"}
    # Django's own, of which a read-only admin answers what only shows.
    django = {"", "change", "delete", "history"}
    assert views == {*VIEWS, "upcoming", "portal", "pdf", *django}


@pytest.mark.parametrize("decision", ["look", "done", "not_done"])
def test_settling_an_operation_needs_its_own_permission(
    log_in: LogIn, decision: str
) -> None:
    invoice = make_invoice()
    operation = operate(invoice, state="needs_attention")
    url = f"{OPERATIONS}{operation.pk}/"
    data = {"decision": decision}

    viewer = log_in("view_invoice", "view_invoiceoperation", *ALL)
    assert "It was done" not in viewer.get(f"{url}change/").content.decode()
    assert viewer.get(f"{url}resolve/").status_code == 403
    assert viewer.post(f"{url}resolve/", data).status_code == 403
    blind = log_in("resolve_invoiceoperation", name="blind")
    assert blind.post(f"{url}resolve/", data).status_code == 403
    operation.refresh_from_db()
    assert operation.state == "needs_attention"


def test_stopping_a_queue_needs_its_own_permission(log_in: LogIn) -> None:
    operation = operate(make_invoice(), state="pending", batch="batch")
    url = f"{OPERATIONS}batch/batch/"

    viewer = log_in("view_invoice", "view_invoiceoperation", *ALL)
    assert "Stop the 1" not in viewer.get(url).content.decode()
    assert viewer.post(f"{url}stop/").status_code == 403
    blind = log_in("resolve_invoiceoperation", name="blind")
    assert blind.get(url).status_code == 403
    assert blind.post(f"{url}stop/").status_code == 403
    operation.refresh_from_db()
    assert operation.state == "pending"
