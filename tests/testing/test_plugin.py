"""What pytest loads wherever the package is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from django_orb import services
from django_orb.models import Invoice
from django_orb.testing.environment import use_sandbox

EXAMPLE = Path(__file__).parent.parent.parent / "example_project"


def run(folder: Path, *command: str, **more: str) -> str:
    """What it prints, in an environment that knows nothing of these tests."""
    foreign = re.compile("ORB_|DJANGO_|PYTEST_|SECRET_KEY|CELERY_")
    own = {key: value for key, value in os.environ.items() if not foreign.match(key)}
    result = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**own, **more},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def run_pytest(folder: Path, *options: str, **more: str) -> str:
    return run(folder, "-m", "pytest", "-p", "no:cacheprovider", *options, **more)


def test_it_imports_nothing_until_it_is_used(tmp_path):
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_nothing():\n"
        "    assert 'django_orb.testing.plugin' in sys.modules\n"
        "    for name in ('django', 'requests', 'werkzeug', 'celery'):\n"
        "        assert name not in sys.modules, name\n"
    )
    # Others' plugins bring Django and requests with them.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    assert "1 passed" in run_pytest(
        tmp_path, "-p", "django_orb.testing.plugin", **alone
    )


def test_pytest_finds_it_by_itself(tmp_path):
    assert "orb_webhook" in run_pytest(tmp_path, "--fixtures", "-q")


@pytest.mark.proof
def test_the_example_projects_own_tests_pass_side_by_side():
    assert "9 passed" in run_pytest(EXAMPLE, "-n", "2")


@pytest.mark.proof
def test_they_pass_with_djangos_runner():
    assert "Ran 3 tests" in run(EXAMPLE, "manage.py", "test")


def test_settings_are_as_before_once_the_sandbox_is_gone():
    before = django_settings.DJANGO_ORB
    with use_sandbox(invoices=1) as sandbox:
        assert sandbox.base_url == django_settings.DJANGO_ORB["BASE_URL"]
    assert before == django_settings.DJANGO_ORB


@pytest.mark.django_db
@pytest.mark.orb_sandbox(invoices=7, seed=5, api_key="mine")
def test_the_marker_says_how_the_sandbox_is_made(orb_sandbox):
    services.sync_invoices(mode="full")

    assert django_settings.DJANGO_ORB["API_KEY"] == "mine"
    assert Invoice.objects.count() == sum(orb_sandbox.status_counts().values()) == 7


@pytest.mark.django_db
def test_invoices_of_the_factory_are_in_the_sandbox(orb_invoice_factory, orb_sandbox):
    invoice = orb_invoice_factory()

    assert services.void_invoice(invoice).status == "void"
    assert orb_sandbox.invoice(invoice.pk)["status"] == "void"


@pytest.mark.django_db
def test_without_a_sandbox_nothing_is_served(orb_invoice_factory, request):
    orb_invoice_factory()

    assert "orb_sandbox" not in request.fixturenames


@pytest.mark.django_db
def test_a_reduced_webhook_has_the_invoice_fetched(orb_sandbox, orb_webhook):
    made = orb_sandbox.add_invoice()

    response = orb_webhook("invoice.issued", made, payload_style="id")

    assert response.status_code == 200
    assert Invoice.objects.get().pk == made["id"]
    assert orb_sandbox.request_counts()["fetch_invoice"] == 1


@pytest.mark.django_db
def test_each_event_is_delivered_once(orb_sandbox, orb_webhook):
    made = orb_sandbox.add_invoice()

    first, second = orb_webhook.deliver(), orb_webhook.deliver()
    orb_sandbox.void(made["id"])
    third = orb_webhook.deliver()

    assert [len(answers) for answers in (first, second, third)] == [1, 0, 1]
    assert Invoice.objects.get().status == "void"


@pytest.mark.urls("tests.urls_without_webhooks")
def test_a_project_without_the_endpoint_is_told_what_to_add(orb_webhook):
    with pytest.raises(
        Exception, match=r'path\("orb/", include\("django_orb.urls"\)\)'
    ):
        orb_webhook.deliver_to("http://127.0.0.1:1")
