"""Never stale: what orders answers is never lost, whatever else happens to a row."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db.models import F

from django_orb import mirror, services, tasks
from django_orb.client.orb_client import OrbClient
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import primary, uses_copy
from django_orb.db.clock import Interval
from django_orb.exceptions import OrbConnectionError, OrbServerError
from django_orb.mirror import fetching, hashing, mapping
from django_orb.mirror.writing import Observation
from django_orb.models import (
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceObservation,
    InvoiceOperation,
    InvoiceRecheck,
    WebhookEvent,
)
from django_orb.testing import OrbSandbox
from django_orb.webhooks import processing
from tests import crash_points
from tests.deliveries import event_of
from tests.webhooks.test_inbox import store

from .test_writing import at, fetch, make, see, statuses


def text(**changes: Any) -> RawInvoice:
    return RawInvoice.of(make(**changes))


# Written again although unchanged


def test_row_is_written_again_although_nothing_changed(any_database: str) -> None:
    see(make(), at(0, 1))
    Invoice.objects.update(total=0)
    InvoiceLineItem.objects.first().delete()  # type: ignore[union-attr]
    assert see(make(), at(2, 3)).unchanged == ["inv1"]

    mirror.write_again(["inv1"])

    assert fetch(make()).updated == ["inv1"]
    assert str(Invoice.objects.get().total).startswith("560.25")
    assert InvoiceLineItem.objects.count() == 2
    assert fetch(make()).unchanged == ["inv1"]


@pytest.mark.parametrize("is_text", [True, False])
def test_older_state_does_not_win_while_a_row_waits_to_be_written_again(
    any_database: str, is_text: bool
) -> None:
    show = text if is_text else make
    see(show(status="issued"), at(0, 1))
    see(show(status="paid"), at(4, 5))

    mirror.write_again(["inv1"])

    assert see(show(status="issued"), at(2, 3)).unchanged == ["inv1"]
    assert see(show(status="issued"), at(2, 4.5)).doubtful == ["inv1"]
    assert statuses() == {"inv1": "paid"}
    assert see(show(status="void"), at(6, 7)).updated == ["inv1"]


def test_answer_from_before_leaves_a_row_to_be_written_again(any_database: str) -> None:
    """Its link is the one from before the PDF was made again."""
    see(text(invoice_pdf="https://orb.test/a.pdf?old"), at(0, 1))
    mirror.write_again(["inv1"])

    see(text(invoice_pdf="https://orb.test/a.pdf?old"), at(2, 3))
    see(text(invoice_pdf="https://orb.test/a.pdf?old", status="paid"), at(4, 5))
    fetch(make(invoice_pdf="https://orb.test/a.pdf?new", status="paid"))

    assert Invoice.objects.get().invoice_pdf == "https://orb.test/a.pdf?new"
    assert Invoice.objects.get().status == "paid"


def test_row_is_written_again_from_the_very_text_that_is_stored(
    any_database: str,
) -> None:
    see(text(), at(0, 1))
    Invoice.objects.update(invoice_number="damaged")
    mirror.write_again(["inv1"])
    version = mirror.versions(["inv1"])["inv1"]

    mirror.write([Observation("inv1", text(), at(2, 3), version)])

    assert Invoice.objects.get().invoice_number == make()["invoice_number"]


def test_missing_invoice_that_is_written_again_keeps_its_date(
    any_database: str,
) -> None:
    see(make(), at(0, 1))
    mirror.write([Observation.absent("inv1", at(2, 3))])
    since = Invoice.objects.get().missing_since
    mirror.write_again(["inv1"])
    version = mirror.versions(["inv1"])["inv1"]

    gone = Observation.absent("inv1", at(4, 5), version)
    assert mirror.write([gone]).missing == ["inv1"]

    assert Invoice.objects.get().missing_since == since


# Failures


def test_failure_of_a_newer_state_outlives_older_answers(any_database: str) -> None:
    see(text(), at(0, 1))
    see(text(total="lots"), at(6, 7))

    assert see(text(memo="older"), at(2, 3)).updated == ["inv1"]
    assert see(text(memo="older"), at(4, 5)).unchanged == ["inv1"]

    assert InvoiceFailure.objects.get().pk == "inv1"
    assert see(text(memo="older"), at(8, 9)).unchanged == ["inv1"]
    assert not InvoiceFailure.objects.exists()


def test_answer_that_overlaps_a_failure_is_fetched_again(any_database: str) -> None:
    see(text(), at(0, 1))
    see(text(total="lots"), at(6, 7))

    for seen in (text(), text(status="paid")):
        assert see(seen, at(5, 8)).doubtful == ["inv1"]
    assert InvoiceFailure.objects.exists()

    assert fetch(make(status="paid")).updated == ["inv1"]
    assert not InvoiceFailure.objects.exists()


def test_older_answer_that_cannot_be_stored_is_not_a_failure_any_more(
    any_database: str,
) -> None:
    see(text(), at(4, 5))

    assert see(text(total="lots"), at(2, 3)).unchanged == ["inv1"]
    assert see(text(total="lots"), at(2, 4.5)).doubtful == ["inv1"]
    assert not InvoiceFailure.objects.exists()


def test_older_failure_does_not_replace_the_reason_of_a_newer_one(
    any_database: str,
) -> None:
    see(text(total="newer"), at(4, 5))
    see(text(total="older"), at(2, 3))
    assert "newer" in InvoiceFailure.objects.get().reason

    see(text(total="newest"), at(6, 7))
    assert "newest" in InvoiceFailure.objects.get().reason


def test_unknown_invoice_that_failed_is_created_by_an_older_answer(
    any_database: str,
) -> None:
    see(text(total="lots"), at(4, 5))

    assert see(text(), at(2, 3)).created == ["inv1"]
    assert InvoiceFailure.objects.exists()
    assert see(text(memo="good"), at(6, 7)).updated == ["inv1"]
    assert not InvoiceFailure.objects.exists()


def test_failure_whose_time_is_not_known_goes_with_the_next_success(
    any_database: str,
) -> None:
    see(text(), at(0, 1))
    InvoiceFailure.objects.create(
        invoice_id="inv1", reason="Restored.", failed_at=at(0).started_at
    )

    assert see(text(status="paid"), at(-2, -1)).unchanged == ["inv1"]  # it is older
    assert InvoiceFailure.objects.exists()

    assert see(text(), at(2, 3)).unchanged == ["inv1"]
    assert not InvoiceFailure.objects.exists()


# Releases side by side


def release(monkeypatch: pytest.MonkeyPatch, mapper: int, hashes: int = 1) -> None:
    monkeypatch.setattr(mapping, "MAPPER_VERSION", mapper)
    monkeypatch.setattr(hashing, "HASH_VERSION", hashes)


@pytest.mark.parametrize("hashes", [1, 2])
@pytest.mark.parametrize("is_text", [True, False])
def test_two_releases_side_by_side_write_a_row_again_once(
    any_database: str, monkeypatch: pytest.MonkeyPatch, is_text: bool, hashes: int
) -> None:
    show = text if is_text else make
    written = []
    for moment in range(8):
        release(monkeypatch, *((1, 1) if moment % 2 == 0 else (2, hashes)))
        status = "issued" if moment < 4 else "paid"
        result = see(show(status=status), at(10 * moment))
        written.append(bool(result.created or result.updated))

    # Both what is new and what has changed are seen by the older release first.
    assert written == [True, True, False, False] * 2


def test_newer_release_that_cannot_map_what_is_stored_says_so(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(text(), at(0, 1))
    release(monkeypatch, mapping.MAPPER_VERSION + 1)
    monkeypatch.setattr(mapping, "_MAX_MONEY", Decimal(1))

    assert see(text(), at(2, 3)).failed
    assert "too large" in InvoiceFailure.objects.get().reason
    assert statuses() == {"inv1": "issued"}


# After our own write


def instant(moment: datetime) -> Interval:
    return Interval(moment, moment)


def operate(
    using: str, finished_at: datetime, kind: str = "mark_invoice_paid"
) -> InvoiceOperation:
    see(make(status="issued"), instant(finished_at - timedelta(hours=1)))
    return InvoiceOperation.objects.using(using).create(
        kind=kind,
        state=InvoiceOperation.State.SUCCEEDED,
        invoice_id="inv1",
        idempotency_key="key",
        created_at=finished_at,
        finished_at=finished_at,
        mirrored_at=finished_at,
    )


def after(operation: InvoiceOperation, seconds: float) -> Interval:
    assert operation.finished_at is not None
    return instant(operation.finished_at + timedelta(seconds=seconds))


def test_answer_that_does_not_show_our_own_write_is_fetched_once_orb_no_longer_lags(
    any_database: str,
) -> None:
    """Paid by us, and undone in Orb at once."""
    operation = operate(any_database, primary.now())
    see(make(status="paid"), after(operation, 1))

    assert see(make(status="issued"), after(operation, 2)).unchanged == ["inv1"]

    assert statuses() == {"inv1": "paid"}
    due_at = after(operation, mirror.LAG.total_seconds()).started_at
    assert InvoiceRecheck.objects.get().due_at == due_at
    assert not fetching.due_rechecks().exists()


def test_answer_lags_behind_a_write_without_answer_that_was_seen(
    any_database: str,
) -> None:
    """Orb voided it, the answer was lost, and a webhook came before a lagging page."""
    asked_at = primary.now() - timedelta(minutes=10)
    operation = operate(any_database, asked_at, "void_invoice")
    operation.state, operation.finished_at = operation.State.PENDING, None
    operation.first_sent_at = asked_at
    operation.save()
    noon = asked_at + timedelta(seconds=100)
    see(make(status="issued"), instant(noon))
    assert statuses() == {"inv1": "issued"}  # nothing tells yet that it is void
    see(text(status="void"), instant(noon + timedelta(seconds=10)))

    assert see(
        text(status="issued"), instant(noon + timedelta(seconds=20))
    ).unchanged == ["inv1"]
    assert statuses() == {"inv1": "void"}
    assert fetching.due_rechecks().get().pk == "inv1"
    see(text(status="void"), instant(noon + timedelta(seconds=30)))

    # Nobody can undo that, but an answer that is late enough is believed.
    see(text(status="issued"), instant(noon + timedelta(seconds=100)))
    assert statuses() == {"inv1": "issued"}


def test_answer_counts_if_an_operation_was_never_sent(any_database: str) -> None:
    operation = operate(any_database, primary.now(), "void_invoice")
    operation.state, operation.finished_at = operation.State.PENDING, None
    operation.save()
    now = primary.now()
    see(make(status="void"), instant(now + timedelta(seconds=10)))
    see(make(status="issued"), instant(now + timedelta(seconds=20)))

    assert statuses() == {"inv1": "issued"}


EDITED, BEFORE = {"po": "7"}, {"po": "6", "of": "me"}


@pytest.mark.parametrize(
    ("later", "shown"),
    [
        ({"net_terms": 30}, EDITED),
        ({"metadata": {"of": "us"}}, {"po": "7", "of": "us"}),
        ({"metadata": {"po": "8"}}, {"po": "8"}),
        ({"metadata": None}, {}),
    ],
)
def test_later_edit_does_not_hide_that_an_answer_lags_behind_an_earlier_one(
    any_database: str, later: dict[str, Any], shown: dict[str, str]
) -> None:
    first = operate(any_database, primary.now(), "update_invoice")
    first.body = {"metadata": EDITED}
    first.save()
    second = copy(first)
    second.pk, second.idempotency_key, second.body = None, "second", later
    second.save()
    see(make(metadata=shown), after(second, 1))
    assert not InvoiceRecheck.objects.exists()

    see(make(metadata={**BEFORE, **(later.get("metadata") or {})}), after(second, 2))

    stored = Invoice.objects.get().payload["metadata"]
    # Of what was edited twice, the later value is all that has to be there.
    is_current = later == {"metadata": {"po": "8"}}
    assert stored == ({**BEFORE, "po": "8"} if is_current else shown)
    assert InvoiceRecheck.objects.exists() == (not is_current)


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_lagging_page_that_was_mapped_ahead_does_not_undo_our_own_write(
    any_database: str, is_known: bool
) -> None:
    """A full sync has filled the pages before it, and takes this one for new, too."""
    operation = operate(any_database, primary.now())
    see(make(status="paid"), after(operation, 1))
    if not is_known:
        Invoice.objects.all().delete()
        InvoiceObservation.objects.all().delete()
    page = [text(id="inv0", status="issued"), text(status="issued")]
    for raw in page:
        mirror.map_ahead(raw, mirror.digits_kept(), to_copy=uses_copy())

    mirror.write(mirror.read_page(page, after(operation, 2)))

    assert statuses() == {"inv0": "issued", **({"inv1": "paid"} if is_known else {})}
    assert InvoiceRecheck.objects.get().pk == "inv1"


def test_answer_that_was_written_late_does_not_undo_our_own_write(
    any_database: str,
) -> None:
    """A worker was silent for minutes between a lagging answer and its writing."""
    long_ago = primary.now() - timedelta(minutes=10)
    operation = operate(any_database, long_ago)
    see(make(status="paid"), after(operation, 1))

    assert see(text(status="issued"), after(operation, 30)).unchanged == ["inv1"]

    assert statuses() == {"inv1": "paid"}
    assert fetching.due_rechecks().get().pk == "inv1"
    assert see(text(status="issued"), after(operation, 90)).updated == ["inv1"]


def test_nothing_is_asked_for_again_when_a_later_answer_has_decided(
    any_database: str,
) -> None:
    now = primary.now()
    operation = operate(any_database, now - timedelta(minutes=10))
    see(make(status="paid"), after(operation, 1))
    see(make(status="issued"), after(operation, 30))
    see(make(status="void"), instant(now + timedelta(seconds=5)))

    without_asking: Any = None
    fetching.recheck(without_asking)

    assert not InvoiceRecheck.objects.exists()
    assert statuses() == {"inv1": "void"}


def test_what_was_asked_for_before_an_answer_was_left_out_does_not_decide_about_it(
    any_database: str,
) -> None:
    """A webhook's interval is wide: it is left out for minutes after our write."""
    operation = operate(any_database, primary.now() - timedelta(minutes=10))
    see(make(status="paid"), after(operation, 90))
    wide = Interval(after(operation, 30).started_at, after(operation, 300).ended_at)
    see(make(status="issued"), wide)

    row = fetching.due_rechecks().get()
    assert not fetching._is_decided(row)


def let_time_pass(seconds: float) -> None:
    """As it looks from the rows: what is noted in them was so much longer ago."""
    for model, names in (
        (InvoiceRecheck, ["due_at"]),
        (InvoiceOperation, ["finished_at"]),
        (InvoiceObservation, ["started_at", "ended_at"]),
    ):
        step = timedelta(seconds=seconds)
        model.objects.update(**{name: F(name) - step for name in names})


def undo_what_was_just_paid(orb: OrbSandbox) -> str:
    """Paid by us, and undone in Orb at once, of which a webhook tells."""
    invoice_id = orb.invoice_ids("issued")[0]
    services.mark_invoice_paid(invoice_id, payment_received_date=date(2026, 1, 31))
    undone = orb.undo_mark_paid(invoice_id)
    body = event_of(undone)
    event_id = store(body)
    processing.process_event(event_id)
    assert WebhookEvent.objects.get().state == WebhookEvent.State.PROCESSED
    return invoice_id


def test_change_by_another_party_right_after_ours_arrives(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = undo_what_was_just_paid(orb)
    orb.clear_requests()

    tasks.recover()
    assert orb.request_counts() == {}  # Orb may still lag

    let_time_pass(seconds=70)
    tasks.recover()
    tasks.recover()
    assert Invoice.objects.get().payload == orb.invoice(invoice_id)
    assert orb.request_counts() == {"fetch_invoice": 1}


@pytest.mark.parametrize("timeout", [30, 1000])
def test_worker_that_dies_before_it_asks_again_loses_nothing(
    any_committed_database: str,
    orb: OrbSandbox,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    timeout: int,
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "TIMEOUT_SECONDS": timeout}
    longest = OrbClient("test-key", timeout_seconds=timeout).worst_case_seconds
    invoice_id = undo_what_was_just_paid(orb)
    let_time_pass(seconds=70)
    with monkeypatch.context() as patch:
        crash_points.dies_at_request(patch, f"/invoices/{invoice_id}")
        with pytest.raises(KeyboardInterrupt):
            tasks.recover()

    for seconds in (0, longest):  # it may still get its answer
        let_time_pass(seconds=seconds)
        tasks.recover()
        assert Invoice.objects.get().status == "paid"

    let_time_pass(seconds=61)
    tasks.recover()
    assert Invoice.objects.get().status == "issued"
    assert not InvoiceRecheck.objects.exists()


def test_many_answers_that_do_not_show_our_own_write_are_asked_for_once(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    invoice_id = undo_what_was_just_paid(orb)
    shown = orb.invoice(invoice_id)
    clock = primary.clock()
    for _ in range(5):
        reading = time.monotonic()
        mirror.write(mirror.read_page([shown], clock.interval(reading, reading)))
    orb.clear_requests()

    let_time_pass(seconds=70)
    for _ in range(3):
        tasks.recover()

    assert orb.request_counts() == {"fetch_invoice": 1}


def test_what_changes_faster_than_it_is_fetched_is_fetched_later(
    any_database: str,
) -> None:
    see(make(), at(0, 1))
    doubt = mirror.WriteResult(doubtful=["inv1"])
    client: Any = SimpleNamespace(fetch_invoice=lambda _: RawInvoice.of(make()))

    fetching.fetch_until_ordered(client, ["inv1"], write=lambda _: doubt)

    assert fetching.due_rechecks().get().pk == "inv1"


class FakeOrb:
    """Shows an invoice, and does something else while it is asked for that."""

    def __init__(self, meanwhile: Callable[[str], object]) -> None:
        self.meanwhile = meanwhile
        self.asked: list[str] = []
        self.answers = True

    def fetch_invoice(self, invoice_id: str) -> RawInvoice:
        self.asked.append(invoice_id)
        self.meanwhile(invoice_id)
        return RawInvoice.of(make(invoice_id, memo=f"answer {len(self.asked)}"))

    def read_invoices_page(self, **filters: Any) -> None:
        if not self.answers:
            raise OrbConnectionError("Orb is away.")


def recheck(orb: FakeOrb) -> None:
    fetching.recheck(cast("OrbClient", orb))


def test_invoice_that_changes_during_each_recheck_is_fetched_later(
    any_database: str,
) -> None:
    see(make(), at(0, 1))
    serials = itertools.count()

    def change(invoice_id: str) -> None:
        see(make(memo=f"another {next(serials)}"), instant(primary.now()))

    mirror.fetch_later(["inv1"])
    orb = FakeOrb(change)
    recheck(orb)
    assert len(orb.asked) == 1 + fetching.MAX_ROUNDS

    let_time_pass(seconds=1)
    orb = FakeOrb(lambda _: None)
    recheck(orb)
    assert Invoice.objects.get().payload["memo"] == "answer 1"
    assert not InvoiceRecheck.objects.exists()


def test_doubt_that_comes_during_a_recheck_is_fetched_after_it(
    any_database: str,
) -> None:
    """The answer that is awaited may be the one that is in doubt."""
    see(make(), at(0, 1))
    mirror.fetch_later(["inv1"])
    recheck(FakeOrb(lambda invoice_id: mirror.fetch_later([invoice_id])))

    assert fetching.due_rechecks().get().pk == "inv1"


def away(invoice_id: str) -> None:
    raise OrbServerError("Orb answered 503", status_code=503)


def die(invoice_id: str) -> None:
    raise KeyboardInterrupt


def break_down(invoice_id: str) -> None:
    raise RuntimeError("It cannot be read.")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (away, "Orb answered 503"),
        (die, "attempts to fetch it did not end"),
        (break_down, "It cannot be read."),
    ],
)
def test_invoice_that_can_never_be_fetched_holds_up_no_other_and_is_failed_at_last(
    any_database: str, trouble: Callable[[str], None], reason: str
) -> None:
    see(make("bad"), at(0, 1))
    mirror.fetch_later(["bad"])

    def meanwhile(invoice_id: str) -> None:
        if invoice_id == "bad":
            trouble(invoice_id)

    orb, rounds = FakeOrb(meanwhile), 0
    while not InvoiceFailure.objects.exists():
        with suppress(KeyboardInterrupt, OrbServerError):
            recheck(orb)
        assert rounds == 0 or not InvoiceRecheck.objects.filter(pk="good").exists()
        mirror.fetch_later(["good"])
        let_time_pass(seconds=300)
        rounds += 1
        assert rounds < 200

    assert orb.asked.count("bad") == fetching.MAX_ATTEMPTS
    assert rounds > 40  # with waits that grew
    assert reason in InvoiceFailure.objects.get().reason
    assert InvoiceRecheck.objects.get().pk == "good"
    assert fetch(make("bad", memo="well again")).updated == ["bad"]
    assert not InvoiceFailure.objects.exists()


def test_invoice_is_not_failed_while_orb_is_away(any_database: str) -> None:
    see(make(), at(0, 1))
    mirror.fetch_later(["inv1"])
    orb = FakeOrb(away)
    orb.answers = False
    for _ in range(3 * fetching.MAX_ATTEMPTS):
        let_time_pass(seconds=3600)
        with pytest.raises(OrbServerError):
            recheck(orb)
    let_time_pass(seconds=3600)
    orb.meanwhile = lambda _: None
    recheck(orb)

    assert not InvoiceFailure.objects.exists()
    assert not InvoiceRecheck.objects.exists()
    assert Invoice.objects.get().payload["memo"].startswith("answer")


def test_older_state_does_not_win_while_orb_fails_after_a_new_pdf(
    any_committed_database: str, orb: OrbSandbox, waits: list[float]
) -> None:
    """A full run has read its page when the invoice is paid and gets another PDF."""
    invoice_id = orb.invoice_ids("issued")[0]
    services.fetch_invoice(invoice_id)
    clock, reading = primary.clock(), time.monotonic()
    page = RawInvoice.of(orb.invoice(invoice_id))
    interval = clock.interval(reading, reading)
    orb.mark_paid(invoice_id)
    services.fetch_invoice(invoice_id)
    orb.cut_next(99, route="fetch_invoice")
    services.regenerate_invoice_pdf(invoice_id)
    orb.clear_faults()

    mirror.write(mirror.read_page([page], interval))

    assert Invoice.objects.get().status == "paid"
    let_time_pass(seconds=70)
    tasks.recover()
    stored = Invoice.objects.get()
    assert stored.payload["invoice_pdf"] == orb.invoice(invoice_id)["invoice_pdf"]
    kinds = InvoiceChange.objects.values_list("previous_status", "status")
    assert ("paid", "issued") not in kinds
