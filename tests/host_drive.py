"""
The first day of a project with the app, for real: in a process of its own.

Run as a module with the project's settings; `tests.test_hosts` writes those.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test.utils import setup_test_environment

SECRET = "host-secret"


def main() -> None:
    django.setup()
    setup_test_environment()  # so that responses have their context
    for label in filter(apps.is_installed, ("people", "tenants")):
        call_command("makemigrations", label, verbosity=0)
    if apps.is_installed("tenants"):
        from django_tenants.utils import tenant_context

        for tenant in make_tenants():
            with tenant_context(tenant), publishing_for(tenant.schema_name):
                live_through_a_day()
    else:
        for alias in connections:
            call_command("migrate", database=alias, verbosity=0, skip_checks=False)
        live_through_a_day()
    print("It all works.")


def make_tenants() -> Iterator[Any]:
    """Each in a schema of its own; the same domain is one's and then the other's."""
    from django_tenants.utils import get_tenant_domain_model, get_tenant_model

    call_command("migrate_schemas", shared=True, verbosity=0, skip_checks=False)
    for name in ("acme", "globex"):
        tenant = get_tenant_model().objects.create(schema_name=name)
        get_tenant_domain_model().objects.update_or_create(
            domain="testserver", defaults={"tenant": tenant}
        )
        yield tenant


@contextmanager
def publishing_for(schema: str) -> Iterator[None]:
    """Demand of each task that it is published from this schema, in any thread."""
    from celery.signals import before_task_publish
    from django.db import connection

    from django_orb.publishing.deadline import broker

    seen = []
    # It is not asked for a while after it was out of reach, as for the tenant before.
    while not broker.ask(lambda: True):
        time.sleep(0.2)

    def note(**_: Any) -> None:
        seen.append(getattr(connection, "schema_name"))  # noqa: B009

    before_task_publish.connect(note)
    yield
    before_task_publish.disconnect(note)
    assert {*seen} == {schema}, seen


def live_through_a_day() -> None:
    check()
    start_celery()
    sync()
    live_on()


def check() -> None:
    call_command("check", fail_level="WARNING", databases=list(connections))
    if not settings.MIGRATION_MODULES:  # else they are a later release's
        options = {"check": True, "dry_run": True, "verbosity": 0}
        call_command("makemigrations", "django_orb", **options)


def live_on() -> None:
    if getattr(settings, "ROOT_URLCONF", None):
        receive_webhook()
    void()
    if apps.is_installed("django.contrib.admin"):
        asyncio.run(open_pages_async()) if is_async() else use_admin()


def is_async() -> bool:
    return bool(os.environ.get("HOST_ASYNC"))


def is_eager() -> bool:
    return hasattr(settings, "CELERY_TASK_ALWAYS_EAGER")


def start_celery() -> None:
    from celery import Celery

    if is_eager():
        app = Celery("host")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.set_default()


def sync() -> None:
    from django_orb import tasks
    from django_orb.models import Invoice, InvoiceLineItem, SyncRun

    assert not Invoice.objects.exists()
    call_command("orb_sync_invoices", mode="full", in_process=True)
    count = int(os.environ["HOST_INVOICES"])
    assert Invoice.objects.count() == count, Invoice.objects.count()
    assert InvoiceLineItem.objects.exists()
    call_command("orb_verify_invoices")
    if is_eager():
        tasks.sync_invoices.delay()
        tasks.recover.delay()
    else:
        call_command("orb_sync_invoices")  # without a broker it waits in its row
    call_command("orb_sync_invoices", mode="full", in_process=True)
    tasks.prune()
    assert not SyncRun.objects.filter(state=SyncRun.State.FAILED).exists()


def first_issued() -> Any:
    from django_orb.models import Invoice

    invoice = Invoice.objects.filter(status="issued").order_by("pk").first()
    assert invoice
    return invoice


def receive_webhook(event_id: str = "event1", *, processes: bool = True) -> None:
    from django.test import Client
    from django.urls import reverse

    from django_orb import tasks
    from django_orb.client.orb_client import OrbClient
    from django_orb.models import WebhookEvent
    from django_orb.testing.sandbox.deliveries import signed_headers

    invoice = first_issued()
    with OrbClient.from_settings() as client:
        payload = client.fetch_invoice(invoice.pk)
    event = {
        "id": event_id,
        "type": "invoice.edited",
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "properties": {},
        "invoice": payload,
    }
    body = json.dumps(event, default=float).encode()
    url, headers = reverse("django_orb:webhook"), signed_headers(body, SECRET)
    if is_async():
        status = asyncio.run(deliver_async(url, body, headers))
    else:
        kind = "application/json"
        response = Client().post(url, body, content_type=kind, headers=headers)
        status = response.status_code
    assert status == 200, status
    if not processes:
        return
    if not is_eager():
        tasks.process_webhook_event(event_id)  # as a worker
    stored = WebhookEvent.objects.get(pk=event_id)
    assert stored.state == WebhookEvent.State.PROCESSED, stored.error


async def deliver_async(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Send it to the project's own ASGI application, in two chunks."""
    from asgiref.testing import ApplicationCommunicator
    from django.core.asgi import get_asgi_application

    named = {**headers, "host": "localhost", "content-type": "application/json"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": url,
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in named.items()],
    }
    communicator = ApplicationCommunicator(get_asgi_application(), scope)
    for part, more in ((body[:100], True), (body[100:], False)):
        message = {"type": "http.request", "body": part, "more_body": more}
        await communicator.send_input(message)
    start = await communicator.receive_output(timeout=20)
    return int(start["status"])


def void() -> None:
    from django_orb import services
    from django_orb.models import Invoice

    invoice = Invoice.objects.filter(status="issued").order_by("-pk").first()
    assert invoice
    assert services.void_invoice(invoice).status == "void"


def make_superuser() -> Any:
    from django.contrib.auth import get_user_model

    manager: Any = get_user_model()._default_manager
    return manager.create_superuser("ada", "ada@example.org", "secret")


def pages() -> list[str]:
    from django.contrib.admin import site
    from django.urls import reverse

    found = [reverse("admin:index"), reverse("admin:app_list", args=["django_orb"])]
    for model in site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"admin:{name}_changelist"))
        # A page in the place of a list has no pages of rows.
        is_list = model._meta.app_label == "django_orb" and not model._meta.proxy
        row = model._default_manager.first() if is_list else None
        if row is not None:
            for view in ("change", "history"):
                found.append(reverse(f"admin:{name}_{view}", args=[row.pk]))
    return found


def lists() -> list[tuple[str, Any]]:
    """The lists of our models that have rows, each with the key of one."""
    from django.contrib.admin import site
    from django.urls import reverse

    found = []
    for model in apps.get_app_config("django_orb").get_models():
        if model in site._registry and (row := model._default_manager.first()):
            name = f"django_orb_{model._meta.model_name}_changelist"
            found.append((reverse(f"admin:{name}"), row.pk))
    return found


def views_of(invoice: Any) -> list[str]:
    """Every page of the admin that is about this invoice."""
    from django.contrib.admin import site
    from django.urls import NoReverseMatch, reverse

    found = []
    for pattern in site._registry[type(invoice)].get_urls():
        # Others are about a customer.
        if pattern.name and "object_id" in str(pattern.pattern):
            with suppress(NoReverseMatch):
                found.append(reverse(f"admin:{pattern.name}", args=[invoice.pk]))
    assert len(found) > 5, found
    return found


def use_admin() -> None:
    """Open every page, run every action on an invoice, and void one."""
    from django.contrib.admin.models import LogEntry
    from django.test import Client

    from django_orb.models import Invoice, InvoiceOperation

    from .admin.pages import LIST, choose, confirm_void, fields_of

    user = make_superuser()
    client = Client()
    client.force_login(user)
    for url in pages():
        assert client.get(url, follow=True).status_code == 200, url
    issued = Invoice.objects.filter(status="issued").order_by("pk")
    chosen = list(issued[:2])
    for url, key in lists():
        response = client.get(url)
        form = response.context.get("action_form")
        for action, _ in form.fields["action"].choices if form else ():
            if action:
                answer = client.post(url, choose(action, key))
                assert answer.status_code in (200, 302), (url, action)
    for url in views_of(chosen[0]):
        assert client.get(url).status_code in (200, 302, 403, 405), url
    fetched = client.post(LIST, choose("fetch_from_orb", chosen[0].pk), follow=True)
    assert "Fetched again from Orb." in fetched.content.decode()
    confirmed = client.post(LIST, choose("void_selected", chosen[0].pk))
    answer = client.post(LIST, fields_of(confirmed), follow=True)
    assert answer.status_code == 200
    call_command("orb_sync_invoices", in_process=True)  # sends what is queued
    assert confirm_void(client, chosen[1].pk).status_code == 302
    for invoice in chosen:
        invoice.refresh_from_db()
        assert invoice.status == "void", invoice.pk
        assert LogEntry.objects.filter(object_id=invoice.pk).exists()
    mine = InvoiceOperation.objects.filter(actor_id=str(user.pk))
    assert mine.count() == 2
    for url in pages():
        assert client.get(url, follow=True).status_code == 200, url


async def open_pages_async() -> None:
    from asgiref.sync import sync_to_async
    from django.test import AsyncClient

    client = AsyncClient()
    await client.aforce_login(await sync_to_async(make_superuser)())
    for url in await sync_to_async(pages)():
        response = await client.get(url, follow=True)
        assert response.status_code == 200, url


if __name__ == "__main__":
    main()
