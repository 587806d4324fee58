from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import requests
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import translation

from django_orb import services
from django_orb.account.rate_limit import READS, Pacer
from django_orb.db.threads import in_this_context
from django_orb.models import Invoice
from django_orb.publishing import deadline
from django_orb.testing import OrbSandbox
from tests import databases

trace: ContextVar[str] = ContextVar("trace", default="")


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    token = trace.set("")
    yield
    trace.reset(token)


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection is a tenant's, as django-tenants keeps it: one for each thread."""
    connection: Any = connections[databases.current_alias]

    def set_tenant(self: Any, tenant: str) -> None:
        self.tenant = tenant

    monkeypatch.setattr(BaseDatabaseWrapper, "tenant", None, raising=False)
    monkeypatch.setattr(BaseDatabaseWrapper, "set_tenant", set_tenant, raising=False)
    monkeypatch.setitem(vars(connection), "tenant", "acme")
    return "acme"


def _surroundings() -> tuple[str, str, str]:
    connection: Any = connections[databases.current_alias]
    return trace.get(), translation.get_language(), connection.tenant


@pytest.mark.django_db
def test_message_is_sent_in_the_trace_the_language_and_the_schema_of_its_sender(
    tenant: str,
) -> None:
    seen: list[Any] = []
    trace.set("trace-1")

    def note() -> bool:
        seen.append(_surroundings())
        return True

    with translation.override("de"):
        deadline.Broker().ask(note)

    assert seen == [("trace-1", "de", tenant)]


def test_budget_is_asked_for_in_the_schema_of_the_transaction(
    any_committed_database: str, tenant: str
) -> None:
    """A view under ATOMIC_REQUESTS asks over a connection that lives for the call."""
    seen: list[Any] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(_surroundings())
        return execute(sql, *rest)

    def watch(sender: Any, connection: Any, **kwargs: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            connection.execute_wrappers.append(note)

    if connections[any_committed_database].vendor == "sqlite":
        pytest.skip("SQLite has a single writer, which is the transaction")
    connection_created.connect(watch)
    trace.set("trace-1")
    try:
        with translation.override("de"), transaction.atomic(any_committed_database):
            Pacer(READS, 200).wait()
    finally:
        connection_created.disconnect(watch)

    assert {*seen} == {("trace-1", "de", tenant)}


@pytest.mark.django_db
def test_other_threads_keep_what_is_theirs(tenant: str) -> None:
    seen: list[Any] = []
    call = in_this_context(lambda: seen.append(trace.get()))
    trace.set("later")

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

    assert seen == [""]


def test_page_that_is_read_ahead_is_asked_for_in_the_trace_of_its_run(
    any_committed_database: str,
    orb: OrbSandbox,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    tenant: str,
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    threads: set[threading.Thread] = set()
    seen: set[Any] = set()
    send = requests.Session.send

    def traced(self: Any, request: Any, **options: Any) -> Any:
        """As the instrumentations of requests do it."""
        threads.add(threading.current_thread())
        seen.add(_surroundings())
        return send(self, request, **options)

    monkeypatch.setattr(requests.Session, "send", traced)
    trace.set("run-1")

    with translation.override("de"):
        services.sync_invoices(mode="full")

    assert Invoice.objects.count() == 60
    assert threads - {threading.current_thread()}
    assert seen == {("run-1", "de", tenant)}
