"""The admin of a project that registers some of the models only."""

from __future__ import annotations

import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client, override_settings
from django.urls import include, path

from django_orb import services
from django_orb.models import Invoice, InvoiceLineItem, InvoiceOperation, SyncRun
from tests.admin.everything import WITHOUT_ROWS, make_one_of_everything
from tests.admin.pages import LIST, choose, fields_of, page_of
from tests.factories import operate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_orb.testing import OrbSandbox

pytestmark = pytest.mark.django_db

MODELS: dict[Any, Any] = {
    model: type(its_admin)
    for model, its_admin in admin.site._registry.items()
    if model._meta.app_label == "django_orb"
}
SITES: dict[str, list[Any]] = {
    **{
        f"without {one._meta.model_name}": [model for model in MODELS if model != one]
        for one in MODELS
    },
    "only invoice": [Invoice],
}


@pytest.fixture(params=SITES)
def registered(request: Any, admin_client: Client) -> Iterator[set[str]]:
    """Put a site with some of the models in the place of the usual one."""
    site = admin.AdminSite(name="partial")
    for model in SITES[request.param]:
        site.register(model, MODELS[model])
    urls: Any = ModuleType("urls_of_partial_site")
    urls.urlpatterns = [
        path("admin/", site.urls),
        path("orb/", include("django_orb.urls")),
    ]
    with override_settings(ROOT_URLCONF=urls):
        yield {model._meta.model_name or "" for model in SITES[request.param]}


def open_page(client: Client, url: str) -> str:
    """Open a page, which has no link without an address."""
    response = client.get(url, follow=True)
    assert response.status_code == 200, url
    assert 'href=""' not in response.text, url
    return response.text


def test_every_page_opens_and_leads_to_pages_that_exist(
    registered: set[str], admin_client: Client
) -> None:
    make_one_of_everything("text")
    InvoiceOperation.objects.update(batch="b1")
    found = {"/admin/", "/admin/django_orb/"}
    for model in MODELS:
        name = model._meta.model_name
        if name not in registered:
            continue
        found.add(f"/admin/django_orb/{name}/")
        if name not in WITHOUT_ROWS:
            keys = model._default_manager.values_list("pk", flat=True)
            found |= {f"/admin/django_orb/{name}/{quote(pk)}/change/" for pk in keys}
    if "invoiceoperation" in registered:
        found.add("/admin/django_orb/invoiceoperation/batch/b1/")
    if "invoice" in registered:
        customer = f"{LIST}customer/{Invoice.objects.all()[0].customer_id}/"
        found |= {customer, f"{customer}statement/", f"{LIST}create/"}
    linked: set[str] = set()
    for url in sorted(found):
        text = open_page(admin_client, url)
        linked |= set(re.findall(r'(?:href|action)="/admin/django_orb/(\w+)/', text))

    assert linked <= registered


def test_every_action_says_what_it_did(
    registered: set[str], admin_client: Client, orb: OrbSandbox
) -> None:
    if "invoice" not in registered:
        pytest.skip("these are the actions of invoices")
    issued = orb.invoice_ids("issued")[:6]
    draft = orb.invoice_ids("draft")[0]
    for pk in (*issued, draft):
        services.fetch_invoice(pk)

    def does(url: str, values: Any) -> str:
        response = admin_client.post(url, values, follow=True)
        assert response.status_code == 200, url
        return response.text

    assert "Bringing the mirror up to date" in does(f"{LIST}sync/", {})
    assert "Fetching 6 invoices again" in does(LIST, choose("fetch_from_orb", *issued))
    assert SyncRun.objects.count() == 2

    asked = admin_client.post(LIST, choose("void_selected", *issued))
    assert "6 invoices are queued" in does(LIST, fields_of(asked))
    assert InvoiceOperation.objects.exclude(batch="").count() == 6

    form = page_of(draft, "line-item")
    line = {
        "name": "Support",
        "quantity": "1",
        "amount": "1",
        "start_date": "2026-01-01",
        "end_date": "2026-01-31",
    }
    preview = admin_client.post(form, {**fields_of(admin_client.get(form)), **line})
    assert "Added “Support”" in does(
        form, {**fields_of(preview), **line, "post": "yes"}
    )
    assert InvoiceLineItem.objects.filter(name="Support").exists()


def test_every_action_on_operations_says_what_it_did(
    registered: set[str], admin_client: Client, orb: OrbSandbox
) -> None:
    if "invoiceoperation" not in registered:
        pytest.skip("these are the actions of operations")
    invoice = services.fetch_invoice(orb.invoice_ids("issued")[0])
    waiting = operate(invoice, state="pending", batch="b1")
    unknown = operate(invoice, state="needs_attention")
    pages = "/admin/django_orb/invoiceoperation/"

    stopped = admin_client.post(f"{pages}batch/{waiting.batch}/stop/", follow=True)
    decided = admin_client.post(
        f"{pages}{unknown.pk}/resolve/", {"decision": "done"}, follow=True
    )

    assert "1 were stopped before they were sent" in stopped.text
    assert decided.status_code == 200
    unknown.refresh_from_db()
    assert unknown.state == "succeeded"
