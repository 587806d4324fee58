"""The check for django-health-check, as its own view runs it."""

from __future__ import annotations

import importlib
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F
from django.test import AsyncRequestFactory
from health_check.views import HealthCheckView

from django_orb import services
from django_orb.models import SyncRun

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox

CHECK = "django_orb.status.health.OrbMirror"


def ask(**options: Any) -> Any:
    from asgiref.sync import async_to_sync

    view = HealthCheckView.as_view(checks=[(CHECK, options)])
    request = AsyncRequestFactory().get("/health/?format=json")
    return async_to_sync(view)(request)


@pytest.mark.django_db(transaction=True)
def test_it_is_healthy_unless_something_fails(orb: OrbSandbox) -> None:
    services.sync_invoices(mode="full")
    services.sync_invoices()
    orb.clear_requests()
    answer = ask()
    assert (answer.status_code, orb.requests) == (200, [])

    assert ask(ask_orb=True).status_code == 200
    assert [one.path for one in orb.requests] == ["/v1/ping"]

    run = SyncRun.objects.latest("pk")
    run.pk, run.state, run.error = None, "failed", "Orb's own words"
    run.save()
    assert ask().status_code == 200
    answer = ask(strict=True)
    assert answer.status_code == 500
    assert b"The latest run failed." in answer.content
    assert b"own words" not in answer.content

    SyncRun.objects.update(finished_at=F("finished_at") - timedelta(days=1))
    answer = ask()
    assert answer.status_code == 500
    assert b"Last brought up to date with Orb 1" in answer.content


def test_without_the_package_it_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "health_check.base", None)
    monkeypatch.delitem(sys.modules, "django_orb.status.health", raising=False)

    with pytest.raises(ImportError, match=r'pip install "django-orb\[health\]"'):
        importlib.import_module("django_orb.status.health")
