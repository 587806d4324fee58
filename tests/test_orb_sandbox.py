from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request

import pytest
from django.core.management import call_command

from django_orb.management.commands import orb_sandbox
from django_orb.testing.__main__ import parser

WITHOUT_WERKZEUG = """
import sys
sys.modules["werkzeug"] = None
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "orb_sandbox"])
"""


@pytest.fixture
def given(monkeypatch):
    """Do not run the sandbox, but note what it would be told."""
    arguments: list[str] = []
    monkeypatch.setattr(orb_sandbox, "main", arguments.extend)
    return arguments


def test_its_defaults_are_those_of_the_module(given):
    call_command("orb_sandbox")

    assert parser().parse_args(given) == parser().parse_args([])


def test_it_passes_its_options_on(given):
    options = {
        "host": "::1",
        "port": 9000,
        "invoices": 7,
        "seed": 3,
        "latency_ms": 1.5,
        "api_key": "-key",
    }
    call_command("orb_sandbox", **options)

    assert vars(parser().parse_args(given)) == options


def test_it_serves_until_it_is_told_to_stop():
    command = [sys.executable, "-m", "django", "orb_sandbox", "--invoices", "50"]
    with subprocess.Popen(
        [*command, "--settings", "tests.settings"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        hint = process.stdout.readline().strip()
        request = urllib.request.Request(
            base_url + "/invoices?limit=3",
            headers={"Authorization": "Bearer sandbox-key"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            page = json.load(answer)
        process.terminate()
        _, errors = process.communicate(timeout=20)

    assert len(page["data"]) == 3
    way = f"{{'BASE_URL': '{base_url}', 'API_KEY': 'sandbox-key'}}"
    assert hint == f"The API key is 'sandbox-key': set DJANGO_ORB = {way}"
    assert (process.returncode, errors) == (0, "")


def test_without_werkzeug_it_names_the_pip_command():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_WERKZEUG],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 1
    assert result.stderr == (
        'CommandError: The sandbox needs werkzeug: pip install "django-orb[testing]"\n'
    )


def test_write_that_does_not_lag_outlives_one_that_did(orb):
    invoice_id = orb.invoice_ids("draft")[0]
    orb.lag_reads(1)
    orb.update_invoice(invoice_id, memo="first")
    orb.lag_reads(0)

    orb.update_invoice(invoice_id, memo="second")

    assert [orb.invoice(invoice_id)["memo"] for _ in range(3)] == ["second"] * 3


@pytest.mark.parametrize(
    "option",
    [
        "--port=70000",
        "--port=x",
        "--invoices=-1",
        "--latency-ms=inf",
        "--latency-ms=nan",
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_words(option, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([option])

    assert "is not from 0 to" in capsys.readouterr().err
