"""The example project, as a newcomer starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MANAGE = Path(__file__).parent.parent / "example_project" / "manage.py"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')

Manage = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that knows nothing of Orb or of these tests."""
    foreign = re.compile("ORB_|DJANGO_|SECRET_KEY|PG|CELERY_|COV_|COVERAGE_")
    own = {key: value for key, value in os.environ.items() if not foreign.match(key)}
    return {**own, "EXAMPLE_DATA": str(tmp_path), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def manage(environment: dict[str, str]) -> Manage:
    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(MANAGE), *arguments],
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def heed_interrupts() -> None:
    """Processes that a shell starts in the background ignore interrupts; heed them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def demo(
    environment: dict[str, str], *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    """The demo while the test lasts, whatever becomes of both."""
    with subprocess.Popen(
        [sys.executable, str(MANAGE), "demo", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    process.wait(timeout=20)
    assert process.stderr is not None
    pytest.fail(f"no {text!r} in\n{seen}\n{process.stderr.read()}", pytrace=False)


def interrupt(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=20)


def counts(output: str) -> list[tuple[str, ...]]:
    return re.findall(r"^  (\w+) +([\d,]+) +([\d,]+)$", output, re.MULTILINE)


@pytest.mark.proof
def test_the_demo_mirrors_the_sandbox_as_often_as_it_is_called(manage, tmp_path):
    first = manage("demo", "--no-serve", "--invoices", "200")
    second = manage("demo", "--no-serve", "--invoices", "120")

    for result, size in ((first, 200), (second, 120)):
        assert (result.returncode, result.stderr) == (0, "")
        assert all(mirrored == known for _, mirrored, known in counts(result.stdout))
        assert sum(int(known) for *_, known in counts(result.stdout)) == size
    with sqlite3.connect(tmp_path / "sandbox.sqlite3") as database:
        ((stored,),) = database.execute("SELECT count() FROM django_orb_invoice")
        failing = database.execute(
            "SELECT DISTINCT kind FROM django_orb_invoicefailurereason"
        ).fetchall()
    database.close()
    assert stored == 120
    # So that its pages show what users will see on a bad day.
    assert {kind for (kind,) in failing} == {
        "issue",
        "payment",
        "sync",
        "accounting_sync",
    }


@pytest.mark.proof
def test_the_demo_serves_the_admin_until_it_is_interrupted(environment):
    with demo(environment, "--invoices", "60", "--port", "0") as process:
        output = read_until(process, "Ctrl-C")
        url = re.findall(r"http://\S+", output)[0]
        jar = urllib.request.HTTPCookieProcessor()
        browser = urllib.request.build_opener(jar)
        form = browser.open(f"{url}admin/login/?next=/", timeout=30).read().decode()
        fields = f"csrfmiddlewaretoken={TOKEN.findall(form)[0]}&next=/"
        body = f"{fields}&username=viewer&password=viewer".encode()
        with browser.open(f"{url}admin/login/", body, timeout=30) as answer:
            page = answer.read().decode()
        output, errors = interrupt(process)

    assert "Sync now" not in page  # the viewer may only view
    assert "<title>Invoices | " in page
    assert "60 invoices" in page
    assert process.returncode == 0
    assert output.endswith("\nStopped.\n")
    assert "Traceback" not in errors


@pytest.mark.proof
def test_a_second_demo_does_not_disturb_the_first(environment, manage):
    with demo(environment, "--invoices", "20", "--port", "0") as process:
        read_until(process, "Ctrl-C")
        second = manage("demo", "--no-serve", "--invoices", "20")
        interrupt(process)

    assert second.returncode == 1
    assert second.stderr.startswith("CommandError: Another demo is using")


@pytest.mark.proof
def test_a_port_that_is_taken_is_replaced_by_a_free_one(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with demo(environment, "--invoices", "20", "--port", str(port)) as process:
            output = read_until(process, "Ctrl-C")
            interrupt(process)

    assert f"Port {port}: " in output
    assert f"127.0.0.1:{port}/" not in output
    assert "Open http://127.0.0.1:" in output


@pytest.mark.proof
def test_with_a_key_the_demo_asks_orb_and_keeps_the_mirror(orb, manage, tmp_path):
    account = {"ORB_API_KEY": orb.api_key, "ORB_BASE_URL": orb.base_url}

    first = manage("demo", "--no-serve", **account)
    second = manage("demo", "--no-serve", **account)

    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("ORB_API_KEY is set: this is Orb itself")
    for status, count in orb.status_counts().items():
        assert re.search(rf"^  {status} +{count}$", first.stdout, re.MULTILINE)
    assert second.returncode == 0
    assert not (tmp_path / "sandbox.sqlite3").exists()
    with sqlite3.connect(tmp_path / "orb.sqlite3") as database:
        runs = database.execute("SELECT created FROM django_orb_syncrun ORDER BY id")
        assert [created for (created,) in runs] == [60, 0]
    database.close()


@pytest.mark.proof
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("wrong", "CommandError: Full sync 1 did not finish."),
        ("two words", "SystemCheckError: System check identified some issues:"),
    ],
)
def test_a_bad_key_is_said_in_words(orb, manage, key, message):
    result = manage("demo", ORB_API_KEY=key, ORB_BASE_URL=orb.base_url)

    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    assert key not in result.stderr


def test_a_size_of_nothing_is_refused(manage):
    result = manage("demo", "--invoices", "0")

    assert result.returncode == 2
    assert "0 is not from 1 to 1000000" in result.stderr


@pytest.mark.parametrize("settings", ["example.settings", "example.production"])
def test_its_settings_pass_the_checks(manage, settings):
    result = manage(
        "check",
        "--fail-level=WARNING",
        f"--settings={settings}",
        SECRET_KEY="a-secret",
        ORB_API_KEY="a-key",
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_the_demo_refuses_the_production_settings(manage):
    result = manage(
        "demo", "--settings=example.production", SECRET_KEY="a-secret", ORB_API_KEY="k"
    )

    assert result.stderr.startswith("CommandError: The demo runs on example.settings")


def test_its_worker_knows_the_tasks_of_the_schedule(environment: dict[str, str]):
    code = (
        "from example.production import CELERY_BEAT_SCHEDULE as schedule\n"
        "from example import celery_app\n"
        "celery_app.loader.import_default_modules()\n"
        "print({one['task'] for one in schedule.values()} - set(celery_app.tasks))"
    )
    keys: dict[str, Any] = {"SECRET_KEY": "s", "ORB_API_KEY": "k"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **environment,
            **keys,
            "DJANGO_SETTINGS_MODULE": "example.production",
            "PYTHONPATH": str(MANAGE.parent),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (result.stdout, result.stderr) == ("set()\n", "")


def test_the_demo_says_that_its_folder_is_not_there(manage, tmp_path):
    result = manage("demo", "--no-serve", EXAMPLE_DATA=str(tmp_path / "absent"))

    assert result.returncode == 1
    assert "There is no folder" in result.stderr
    assert "Traceback" not in result.stderr
