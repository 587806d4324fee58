"""
Everything at once: events in any order and twice, workers that die, a full run.

The endpoint, the workers and Orb are processes or servers of their own.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models import F

from django_orb import services, tasks
from django_orb.db.clock import database_now
from django_orb.models import Invoice, InvoiceChange, SyncRun, SyncWindow, WebhookEvent
from django_orb.testing import OrbSandbox
from django_orb.webhooks import attempts
from tests import counting, databases
from tests.deliveries import SECRET
from tests.test_tasks import all_finished, make_workers, send
from tests.workers import Workers, wait_for

pytestmark = pytest.mark.proof

__all__ = ["make_workers"]  # a fixture

DUPLICATES = 0.2
END_SECONDS = 1200


@pytest.fixture
def endpoint(
    process_environment: Callable[[], dict[str, str]],
) -> Iterator[Callable[[Workers], str]]:
    """Start the endpoint beside workers, with ATOMIC_REQUESTS; its URL."""
    started: list[subprocess.Popen[str]] = []

    def start(workers: Workers) -> str:
        environment = {
            **process_environment(),
            "DJANGO_ORB_TEST_ATOMIC_REQUESTS": "1",
            "DJANGO_ORB_TEST_BROKER_URL": workers.broker_url,
            "DJANGO_ORB_TEST_QUEUE": workers.queue,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{process.stdout.readline().strip()}/orb/webhook/"

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Storm:
    """Invoices that change step by step."""

    def __init__(self, orb: OrbSandbox, invoice_ids: list[str], seed: int) -> None:
        self._orb = orb
        self._chance = random.Random(seed)
        self._steps = [(pk, step) for pk in invoice_ids for step in range(6)]
        self._chance.shuffle(self._steps)
        self._steps.sort(key=lambda one: one[1] + self._chance.random() * 2)
        self._at = dict.fromkeys(invoice_ids, 0)

    def __iter__(self) -> Iterator[int]:
        """Change some invoices at a time."""
        size = max(1, len(self._steps) // 40)
        for number, start in enumerate(range(0, len(self._steps), size)):
            for invoice_id, _ in self._steps[start : start + size]:
                self._change(invoice_id)
            yield number

    def _change(self, invoice_id: str) -> None:
        orb, step = self._orb, self._at[invoice_id]
        self._at[invoice_id] += 1
        if step == 0:
            orb.attempt_payment(invoice_id, succeeds=False)
        elif step in (1, 3):
            orb.mark_paid(invoice_id)
        elif step in (2, 4):
            orb.undo_mark_paid(invoice_id)
        elif self._chance.random() < 0.5:
            orb.void(invoice_id)


def let_leases_end() -> None:
    """The workers are dead: what they held need not wait for minutes."""
    now = database_now(databases.current_alias)
    WebhookEvent.objects.update(lease_expires_at=None, next_attempt_at=now)
    InvoiceChange.objects.filter(announced_at=None).update(next_attempt_at=None)
    SyncWindow.objects.exclude(lease="").update(lease_expires_at=now, not_before=None)


def all_settled() -> bool:
    left = WebhookEvent.objects.filter(state__in=attempts.OPEN)
    waiting = InvoiceChange.objects.filter(announced_at=None)
    return not left.exists() and not waiting.exists() and all_finished()


@pytest.mark.parametrize(
    ("orb", "changing", "kills", "seconds"),
    [
        pytest.param({"invoices": 60, "now": None}, 30, 1, 0.05, id="short"),
        pytest.param(
            {"invoices": 2_000, "now": None},
            1_000,
            8,
            1.0,
            id="full",
            marks=pytest.mark.long,
        ),
    ],
    indirect=["orb"],
)
@pytest.mark.django_db(databases=["postgresql"], transaction=True)
def test_storm_leaves_the_mirror_equal_and_each_change_told_once(
    orb: OrbSandbox,
    changing: int,
    kills: int,
    seconds: float,
    rabbitmq_url: str,
    make_workers: Callable[..., Workers],
    endpoint: Callable[[Workers], str],
) -> None:
    ids = [orb.add_invoice(days_ago=3)["id"] for _ in range(changing)]
    services.sync_invoices(mode="full")
    workers = make_workers(
        rabbitmq_url, DJANGO_ORB_TEST_COUNTS="1", DJANGO_ORB_TEST_PAGE_SIZE="20"
    )
    url = endpoint(workers)
    workers.start()
    send(workers, tasks.sync_invoices, kwargs={"mode": "full"})
    begun = time.monotonic()
    orb.webhooks.deliver_to(
        url, secret=SECRET, duplicates=DUPLICATES, shuffle_seconds=4 * seconds
    )
    for number in Storm(orb, ids, seed=20261125):
        time.sleep(seconds)
        if number in range(5, 5 + 4 * kills, 4):
            workers.kill()
            let_leases_end()
            workers.start()
    assert orb.webhooks.wait(END_SECONDS)
    attempts = orb.webhooks.attempts()

    def look_again() -> bool:
        WebhookEvent.objects.filter(lease_expires_at=None).update(
            next_attempt_at=F("received_at")
        )
        send(workers, tasks.recover)
        return wait_for(all_settled, seconds=10)

    assert wait_for(look_again, seconds=END_SECONDS), workers.log_text()[-5000:]
    slowest = max(attempt["elapsed_ms"] for attempt in attempts)
    print(
        f"{len(attempts)} deliveries, slowest {slowest} ms, all in "
        f"{time.monotonic() - begun:.0f} s; requests {dict(orb.request_counts())}, "
        f"{SyncRun.objects.count()} runs"
    )
    assert all(attempt["is_success"] for attempt in attempts)
    check_events(orb, ids)
    check_changes(ids)
    output = StringIO()
    call_command("orb_verify_invoices", stdout=output)  # raises unless equal


def check_events(orb: OrbSandbox, ids: list[str]) -> None:
    """Each event was processed once, and none of them got lost."""
    told = {one["id"] for one in orb.webhook_events() if one["invoice"]["id"] in ids}
    stored = WebhookEvent.objects.filter(source="webhook")
    assert set(stored.values_list("pk", flat=True)) <= told
    assert set(stored.values_list("state", flat=True)) == {"processed"}


def check_changes(ids: list[str]) -> None:
    """Check that each invoice's changes follow one another, and were counted once."""
    expected = {}
    recorded = InvoiceChange.objects.order_by("pk")
    assert set(recorded.values_list("invoice_id", flat=True)) == set(ids)
    status = dict.fromkeys(ids, "issued")
    for change in recorded:
        assert change.previous_status == status[change.invoice_id]
        status[change.invoice_id] = change.status
        if change.previous_status != change.status:
            expected[change.change_id] = 1
    assert counting.counts() == expected
    assert (
        dict(Invoice.objects.filter(pk__in=ids).values_list("pk", "status")) == status
    )
