"""After an erasure, no table holds anything personal of the customer, whatever comes."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_orb import exact_json, maintenance, mirror, services
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import primary, uses_copy
from django_orb.db.clock import Interval, database_now
from django_orb.exceptions import OrbInputError, OrbTransactionError
from django_orb.maintenance import admin_history, erasing
from django_orb.mirror import erased, ordering, page_writer
from django_orb.mirror.page_writer import PageWriter
from django_orb.models import (
    CustomerErasure,
    Invoice,
    InvoiceChange,
    InvoiceFailure,
    InvoiceFailureReason,
    InvoiceLineItem,
    InvoiceOperation,
    WebhookEvent,
)
from django_orb.webhooks import inbox, processing
from django_orb.webhooks.payload import parse_event
from tests import crash_points
from tests.factories import make_staff
from tests.put_back import break_at, put_back

from .poison import (
    CUSTOMER,
    OTHER,
    WORD,
    event,
    logged,
    observed,
    of_other,
    operated,
    personal,
    places,
)

NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)


def at(start: float) -> Interval:
    return Interval(
        NOON + timedelta(seconds=start), NOON + timedelta(seconds=start + 1)
    )


def see(payload: Any, start: float, **options: Any) -> mirror.WriteResult:
    return mirror.write([observed(payload, at(start), **options)])


def receive(body: dict[str, Any], source: str = "webhook") -> WebhookEvent:
    text = exact_json.dumps(body)
    inbox.store(parse_event(text.encode()), text, source=source)
    return WebhookEvent.objects.get(pk=body["id"])


def fill() -> None:
    """Have the word in every table that may hold it."""
    see(personal(), 0)
    see(personal("inv3"), 0, as_text=False)
    see(of_other(), 0)
    see({**personal("bad"), "total": "?"}, 0)
    receive(event(personal()))
    receive(
        event(
            {"id": "new", "name": WORD},
            "customer.created",
            customer={"id": CUSTOMER, "name": WORD},
        )
    )
    WebhookEvent.objects.update(error=WORD)
    InvoiceChange.objects.filter(invoice="inv1").update(error=WORD)
    InvoiceFailureReason.objects.create(
        invoice_id="inv1", kind="payment", reason=WORD, failed_at=NOON
    )
    operated("inv1")
    operated("", body={"customer_id": CUSTOMER, "memo": WORD}, state="refused")
    operated("", body={"external_customer_id": f"{WORD}@example.com"}, state="refused")
    user = make_staff()
    logged(user, Invoice.objects.get(pk="inv1"))
    logged(user, InvoiceOperation.objects.filter(invoice_id="inv1").get())
    logged(user, Invoice, f"Exported 1 invoices as CSV; filter: q={WORD}@example.com")


def test_nothing_personal_is_left_in_any_table(any_database: str) -> None:
    fill()
    assert len(places()) > 15
    before = {one.pk: one for one in Invoice.objects.all()}

    erasure = services.erase_customer(CUSTOMER)

    assert erasure.error == ""
    assert erasure.finished_at
    # The other customer's invoice stays whole, apart from its memo.
    Invoice.objects.filter(pk="inv2").delete()
    assert places() == []
    assert (erasure.customer_id, erasure.invoices) == (CUSTOMER, 2)
    for invoice in Invoice.objects.all():
        whole = before[invoice.pk]
        for name in ("total", "amount_due", "invoice_number", "status", "due_date"):
            assert getattr(invoice, name) == getattr(whole, name)
        assert invoice.payload["total"] == whole.payload["total"]
        assert invoice.line_items.count() == len(whole.payload["line_items"])
        numbers = [note.credit_note_number for note in invoice.credit_notes.all()]
        assert numbers == ["CN-00007", "CN-00008"]


@pytest.mark.parametrize(
    ("searched", "is_left"),
    [
        (f"{WORD.upper()}@EXAMPLE.com", False),
        (f" {WORD.lower()}@ex, status__exact=issued", False),
        (f"{WORD}@example.org", True),
        ("z", True),
    ],
)
def test_searches_for_the_customer_are_erased_from_the_log(
    any_database: str, searched: str, is_left: bool
) -> None:
    """A search ignores case, and finds a customer by the beginning of the id."""
    see(personal(), 0)
    text = f"Exported 1 invoices as CSV; filter: age=30, q={searched}"
    logged(make_staff(), Invoice, text)

    services.erase_customer(CUSTOMER)

    erased_text = "Exported 1 invoices as CSV; filter: erased"
    assert LogEntry.objects.get().change_message == (text if is_left else erased_text)


@pytest.mark.parametrize(
    ("own_id", "text"),
    [
        *(
            (own_id, f"Opened the portal of customer {other} for 60 minutes.")
            for own_id in ("6", "7", "customer")
            for other in ("cus7other", f"{CUSTOMER}2", CUSTOMER.lower())
        ),
        ("6", "Exported 6 rows of the month 2026-01 as CSV; changes after 2026-02-06"),
        *(
            (own_id, f"Exported 67 invoices as CSV; filter: {chosen}")
            for own_id in ("6", "customer")
            for chosen in (
                "none",
                "age=6, customer=cus7other",
                "q=67",
                "day=2026-01-06&customer=cus7other&show=invoices",
            )
        ),
    ],
)
def test_entries_that_only_look_like_the_customers_stay(
    any_database: str, own_id: str, text: str
) -> None:
    """The project's own ids may be short, and may be words of any entry."""
    customer = {"id": CUSTOMER, "external_customer_id": own_id}
    see(personal(customer=customer), 0)
    logged(make_staff(), Invoice, text)

    services.erase_customer(CUSTOMER)

    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.change_message) == ("-", text)


@pytest.mark.parametrize("own_id", ["6", "Doe, Jane & Co", "a=b"])
@pytest.mark.parametrize(
    "chosen",
    [
        "age=30, customer={own_id}, q=x",
        "q= {own_id} ",
        "external_customer_id__in=x,{own_id}",
        "{as_address}",
        f"customer={CUSTOMER}, status__exact=paid",
        f"day=2026-01-06&customer={CUSTOMER}&show=invoices",
    ],
)
def test_filters_that_name_the_customer_are_erased_from_the_log(
    any_database: str, own_id: str, chosen: str
) -> None:
    see(personal(customer={"id": CUSTOMER, "external_customer_id": own_id}), 0)
    address = urlencode({"day": "2026-01-06", "customer": own_id.lower()})
    filters = chosen.format(own_id=own_id, as_address=address)
    logged(make_staff(), Invoice, f"Exported 1 invoices as CSV; filter: {filters}")

    services.erase_customer(CUSTOMER)

    entry = LogEntry.objects.get()
    assert entry.change_message == "Exported 1 invoices as CSV; filter: erased"
    assert entry.object_repr == "-"


def test_other_customers_keep_all(any_database: str) -> None:
    fill()
    before = list(Invoice.objects.filter(pk="inv2").values())
    lines = list(InvoiceLineItem.objects.filter(invoice="inv2").values())

    services.erase_customer(CUSTOMER)

    assert list(Invoice.objects.filter(pk="inv2").values()) == before
    assert list(InvoiceLineItem.objects.filter(invoice="inv2").values()) == lines
    assert before[0]["customer_id"] == OTHER


@pytest.mark.parametrize("as_text", [True, False])
def test_unchanged_invoice_stays_blank_and_quiet(
    any_database: str, as_text: bool
) -> None:
    see(personal(), 0, as_text=as_text)
    services.erase_customer(CUSTOMER)
    before = Invoice.objects.values().get()
    changes = InvoiceChange.objects.count()

    for moment in (10, 20):
        assert see(personal(), moment, as_text=as_text).unchanged == ["inv1"]

    assert Invoice.objects.values().get() == before
    assert InvoiceChange.objects.count() == changes
    assert places() == []


def test_unchanged_page_of_erased_takes_as_few_statements(any_database: str) -> None:
    page = [personal(f"inv{number}") for number in range(20)]

    def write(start: float) -> int:
        interval = at(start)
        seen = [observed(payload, interval) for payload in page]
        with CaptureQueriesContext(connections[any_database]) as captured:
            mirror.write(seen)
        texts = [query["sql"] for query in captured.captured_queries]
        return sum("SAVEPOINT" not in text for text in texts)

    write(0)
    services.erase_customer(CUSTOMER)

    assert write(10) == 2 + (connections[any_database].vendor == "sqlite")


def test_same_content_in_another_text_is_no_change(any_database: str) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    before = Invoice.objects.values().get()

    reordered = dict(reversed(personal().items()))
    assert see(reordered, 10).unchanged == ["inv1"]
    elsewhere = personal(memo=f"{WORD} moved")
    assert see(elsewhere, 20).unchanged == ["inv1"]

    assert Invoice.objects.values().get() == before
    assert places() == []


@pytest.mark.parametrize("as_text", [True, False])
def test_what_comes_later_is_blank(any_database: str, as_text: bool) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)

    changed = personal(total="1.00", status="void")
    assert see(changed, 10, as_text=as_text).updated == ["inv1"]
    assert see(personal("new"), 10, as_text=as_text).created == ["new"]
    assert see({**personal("bad"), "total": "?"}, 10, as_text=as_text).failed

    assert places() == []
    assert Invoice.objects.get(pk="inv1").total == 1
    assert InvoiceChange.objects.latest("pk").invoice_id == "new"
    # What stays of a failure is blank, too, and says of what.
    assert InvoiceFailure.objects.get().payload_text.startswith("{")


@pytest.mark.parametrize("customer", [None, {}, {"id": 7}, WORD, [WORD]])
def test_failure_that_names_no_customer_keeps_no_text(
    any_database: str, customer: Any
) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)

    for start, as_text in ((10, True), (20, False)):
        payload = {**personal("bad"), "customer": customer, "memo": [WORD]}
        assert see(payload, start, as_text=as_text).failed

    assert places() == []
    assert "which customer" in InvoiceFailure.objects.get().reason


def test_events_are_stored_blank_and_lead_to_a_fetch(any_database: str) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)

    whole = receive(event(personal()))
    listed = receive(event(personal("new")), source="feed")
    other = receive(event("inv1", "invoice.manually_marked_as_paid"))
    receive(event(None, "customer.edited", customer={"id": CUSTOMER, "email": WORD}))

    assert places() == []
    assert [one.invoice_id for one in (whole, listed, other)] == ["inv1", "new", "inv1"]
    for one in (whole, listed):
        assert parse_event(one.body.encode()).invoice is None


def test_process_that_knows_of_no_erasure_stores_events_blank(
    any_committed_database: str,
) -> None:
    """As one that only answers webhooks does."""
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    erased._latest.clear()

    receive(event(personal("new")))
    receive(event("inv1", "invoice.manually_marked_as_paid"))

    assert places() == []


def test_event_of_a_killed_process_is_blanked_when_it_comes_again(
    any_committed_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had stored the event, and had not yet checked who is erased."""
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    erased._latest.clear()
    issued = event(personal())
    with monkeypatch.context() as killed:
        break_at(killed, erased, "customers", KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            receive(issued)
    assert places() == ["django_orb_webhookevent.body"]

    erased.customers()  # another process, which knows
    receive(issued)

    assert places() == []


class Orb:
    """A client that answers with what it is given."""

    def __init__(self, **invoices: dict[str, Any]) -> None:
        self.invoices = invoices

    def fetch_invoice(self, invoice_id: str) -> dict[str, Any]:
        return self.invoices[invoice_id]


def test_event_that_waited_is_processed_blank(any_database: str) -> None:
    see(personal(), 0)
    failed = event(personal(status="void"), "invoice.payment_failed")
    receive(failed)
    services.erase_customer(CUSTOMER)
    orb: Any = Orb(inv1=personal(status="void", payment_failed_at=NOON.isoformat()))

    assert processing.process_event(failed["id"], client=orb) == 1

    assert Invoice.objects.get().status == "void"
    assert places() == []


def test_reasons_of_failures_are_blank(any_database: str) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    told = mirror.Told(
        InvoiceFailureReason.Kind.ACCOUNTING_SYNC, NOON, "evt", reason=WORD
    )

    mirror.failure_reasons.keep("inv1", [told])

    assert InvoiceFailureReason.objects.get().reason == ""


def test_what_was_read_and_mapped_ahead_is_written_blank(any_database: str) -> None:
    """The process knows of no erasure when it prepares the page."""
    see(of_other(), 0)
    see(personal("known"), 0)
    seen = [observed(personal(name), at(10)) for name in ("inv1", "known")]
    raw = seen[0].payload
    ordering.map_ahead(raw, mirror.digits_kept(), to_copy=uses_copy())
    seen.append(observed({**personal("bad"), "memo": [WORD]}, at(10)))
    writer = PageWriter(seen)
    with transaction.atomic(using=any_database):
        writer.see_again()
    writer.prepare()
    services.erase_customer(CUSTOMER)

    with transaction.atomic(using=any_database):
        result = writer.write()

    Invoice.objects.filter(pk="inv2").delete()
    assert places() == []
    assert "inv1" in result.created
    # What was wrong with it is no longer quoted.
    assert result.failed == {"bad": "memo is [], which is not understood."}


def test_undone_during_a_page_it_is_written_whole(any_database: str) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    see(personal("other"), 5)  # the process knows of the erasure
    writer = PageWriter([observed(personal("new"), at(10))])
    writer.prepare()
    services.undo_erasure(CUSTOMER)

    with transaction.atomic(using=any_database):
        writer.write()

    assert Invoice.objects.get(pk="new").memo == WORD


def test_undoing_lets_the_next_answer_fill_it_again(any_database: str) -> None:
    see(personal(), 0)
    see(personal("inv3"), 0, as_text=False)
    services.erase_customer(CUSTOMER)
    see(personal("late"), 10)

    erasure = services.undo_erasure(CUSTOMER)

    assert places() == []
    now = (primary.now() - NOON).total_seconds()
    for name in ("inv1", "inv3", "late"):
        mirror.write([observed(personal(name), at(now + 10), as_text=name != "inv3")])
        invoice = Invoice.objects.get(pk=name)
        assert invoice.payload == personal(name)
        assert invoice.external_customer_id == f"{WORD}@example.com"
        assert {note.memo for note in invoice.credit_notes.all()} == {WORD}
        assert invoice.line_items.get(position=0).grouping == WORD
    assert erasure.undone_at
    with pytest.raises(OrbInputError, match="not erased"):
        services.undo_erasure(CUSTOMER)


def test_erased_again_after_undoing_there_are_two_records(any_database: str) -> None:
    see(personal(), 0)
    user = make_staff(name="dpo")

    services.erase_customer(CUSTOMER, actor=user)
    services.undo_erasure(CUSTOMER, actor=user)
    services.erase_customer(CUSTOMER)

    again, first = CustomerErasure.objects.all()
    assert (first.erased_by, first.undone_by, again.erased_by) == ("dpo", "dpo", "")
    assert first.active_customer_id is None
    assert again.active_customer_id == CUSTOMER


def test_two_walks_at_a_time_both_end(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a double click; the one that is behind leaves the rest to the other."""
    monkeypatch.setattr(erasing, "BATCH", 1)
    for name in ("inv1", "new"):
        see(personal(name), 0)
    second: list[CustomerErasure] = []

    def erase_too(erasure: CustomerErasure) -> None:
        if erasure.stage == erasing.INVOICES and not second:
            second.append(services.erase_customer(CUSTOMER))

    first = erasing.erase_customer(CUSTOMER, on_step=erase_too)

    assert [one.finished_at is not None for one in (first, *second)] == [True, True]
    assert places() == []


def test_walk_blanks_nothing_that_was_filled_again_meanwhile(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process undoes the erasure between the walk's reading and its locks."""
    see(personal(), 0)
    blank_entries = admin_history.blank_entries
    now = (primary.now() - NOON).total_seconds()
    undone: list[CustomerErasure] = []

    def undo(model: Any, rows: Any) -> None:
        blank_entries(model, rows)
        if model is Invoice and not undone:
            undone.append(services.undo_erasure(CUSTOMER))
            assert see(personal(), now + 10).updated == ["inv1"]

    put_back(monkeypatch, admin_history, "blank_entries", undo)
    services.erase_customer(CUSTOMER)

    assert see(personal(), now + 20).unchanged == ["inv1"]
    assert Invoice.objects.get().memo == WORD


def test_walk_that_another_process_has_just_resumed_is_left_to_it(
    any_committed_database: str,
) -> None:
    fill()
    services.erase_customer(CUSTOMER, seconds=-1)
    taken: list[str] = []

    def take_first(sql: str, params: Any) -> None:
        if "customererasure" in sql and sql.startswith("UPDATE") and not taken:
            taken.append(sql)
            later = database_now(any_committed_database) + timedelta(minutes=5)
            CustomerErasure.objects.update(lease_expires_at=later)

    with crash_points.before_statements(any_committed_database, take_first):
        maintenance.finish_operations()

    assert taken
    assert CustomerErasure.objects.get().cursor == ""
    assert CustomerErasure.objects.get().stage == erasing.TEXTS


@pytest.mark.parametrize("number", range(1, 9))
def test_killed_walk_goes_on_where_it_stopped(
    any_committed_database: str, number: int
) -> None:
    fill()
    seen = [0]

    def is_the_last(sql: str, params: Any) -> bool:
        seen[0] += "customererasure" in sql and sql.startswith("UPDATE")
        return seen[0] == number

    with (
        suppress(KeyboardInterrupt),  # it may be over before
        crash_points.dying_at_statement(any_committed_database, is_the_last),
    ):
        services.erase_customer(CUSTOMER)
    CustomerErasure.objects.update(lease_expires_at=None)

    maintenance.finish_operations()

    Invoice.objects.filter(pk="inv2").delete()
    assert places() == []
    assert CustomerErasure.objects.get().finished_at


def test_failure_whose_text_was_too_long_quotes_nothing(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells whose it is: MariaDB takes no text of that length."""
    see(personal(), 0)
    with monkeypatch.context() as small:
        put_back(small, page_writer, "is_text_taken", lambda text: False)
        assert see({**personal("bad"), "memo": [WORD]}, 0).failed

    services.erase_customer(CUSTOMER)

    assert places() == []


def test_event_does_not_quote_what_may_be_of_the_erased(any_database: str) -> None:
    """The invoice that Orb sends cannot be stored, and does not name its customer."""
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    hint = event("inv1", "invoice.manually_marked_as_paid")
    receive(hint)
    odd: Any = Orb(inv1={**personal(), "customer": None, "memo": [WORD]})

    processing.process_event(hint["id"], client=odd)

    assert "which customer it is for" in WebhookEvent.objects.get().error
    assert places() == []


def test_operation_keeps_what_it_needs_until_it_is_over(any_database: str) -> None:
    see(personal(), 0)
    pending = operated("inv1", state="pending", finished_at=None, mirrored_at=None)
    services.erase_customer(CUSTOMER)
    pending.refresh_from_db()
    assert pending.body == {"metadata": {"contact": WORD}}
    # Neither is needed to send it.
    assert WORD not in str(pending.result) + pending.note

    now = primary.now()
    InvoiceOperation.objects.update(state="succeeded", finished_at=now, mirrored_at=now)
    maintenance.finish_operations()

    assert places() == []
    pending.refresh_from_db()
    assert pending.result["total"] == personal()["total"]


@pytest.mark.parametrize(
    "named",
    [{"customer_id": CUSTOMER}, {"external_customer_id": f"{WORD}@example.com"}],
)
@pytest.mark.parametrize("state", ["refused", "succeeded"])
def test_operation_without_an_invoice_here_is_blanked_once_it_is_over(
    any_database: str, named: dict[str, str], state: str
) -> None:
    """The operation was refused, or its invoice is gone from Orb again."""
    see(personal(), 0)
    body = {**named, "memo": WORD}
    asked: dict[str, Any] = {
        "finished_at": None,
        "mirrored_at": None,
        "before": {},
        "result": {},
    }
    pending = operated("", state="pending", body=body, **asked)
    services.erase_customer(CUSTOMER)
    pending.refresh_from_db()
    assert pending.body == body

    invoice_id = "gone" if state == "succeeded" else ""
    finished_at = primary.now() - timedelta(days=1)
    InvoiceOperation.objects.update(
        state=state, finished_at=finished_at, invoice_id=invoice_id
    )
    maintenance.finish_operations()

    assert places() == []


def test_operation_that_is_refused_after_the_erasure_is_blanked(
    any_database: str,
) -> None:
    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    body = {"customer_id": CUSTOMER, "memo": WORD}
    operated("", state="refused", body=body, mirrored_at=None, result={})

    maintenance.finish_operations()

    assert places() == []


def test_orbs_answer_to_an_operation_is_recorded_blank(any_database: str) -> None:
    from django_orb.operations import sending

    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    quiet: dict[str, Any] = {"body": {}, "before": {}, "note": "", "detail": ""}
    asked = {"state": "pending", "finished_at": None, "result": {}, **quiet}
    for result in (personal(), {**personal()["line_items"][0], "id": "line"}):
        operation = operated("inv1", **asked)
        sending.finish(operation, "succeeded", "", result=result)
        assert operation.result["id"] == result["id"]

    assert places() == []


def test_verification_finds_no_difference(any_database: str) -> None:
    from django_orb.sync.verification import Verification

    see(personal(), 0)
    services.erase_customer(CUSTOMER)
    check = Verification(False, None, [], lambda _: None)
    orb: Any = Orb(inv1=personal())
    check._client = orb

    assert check._look("inv1") == []
    (difference,) = check._compare(
        "inv1", personal(total="9.00"), check._read(["inv1"])["inv1"]
    )[:1]
    assert WORD not in str(difference)


def test_it_is_refused_inside_a_transaction(any_committed_database: str) -> None:
    see(personal(), 0)

    with (
        transaction.atomic(using=any_committed_database),
        pytest.raises(OrbTransactionError, match="inside a database transaction"),
    ):
        services.erase_customer(CUSTOMER)

    assert not CustomerErasure.objects.exists()


@pytest.mark.parametrize("unknown", ["", "nobody", CUSTOMER.lower(), "a\0b", "\ud800"])
def test_mistyped_customer_is_refused(any_database: str, unknown: str) -> None:
    see(personal(), 0)

    with pytest.raises(OrbInputError):
        services.erase_customer(unknown)

    assert not CustomerErasure.objects.exists()


def test_erasure_waits_for_a_page_that_is_being_written(
    any_committed_database: str,
) -> None:
    """The page was begun before, is of a new invoice, and is committed after."""
    see(personal(), 0)
    writing, may_end = threading.Event(), threading.Event()

    def pause(result: mirror.WriteResult) -> None:
        if result.created:
            writing.set()
            may_end.wait(5)

    def write() -> None:
        try:
            mirror.write([observed(personal("slow"), at(10))], also=pause)
        finally:
            connections.close_all()

    def erase() -> None:
        try:
            services.erase_customer(CUSTOMER)
        finally:
            connections.close_all()

    page = threading.Thread(target=write)
    page.start()
    assert writing.wait(10)
    erasure = threading.Thread(target=erase)
    erasure.start()
    erasure.join(0.3)
    assert erasure.is_alive()
    may_end.set()
    page.join()
    erasure.join()

    assert Invoice.objects.filter(pk="slow").exists()
    assert places() == []


def test_large_customer_takes_batches(any_database: str) -> None:
    count = 2 * erasing.BATCH + 1
    mirror.write([observed(personal(f"i{n:04}"), at(0)) for n in range(count)])

    erasure = services.erase_customer(CUSTOMER)

    assert erasure.invoices == count
    assert places() == []


def test_text_of_an_invoice_is_not_parsed_unless_customers_are_erased(
    any_database: str,
) -> None:
    see(of_other(), 0)
    raw = RawInvoice.of(of_other())
    one = ordering.Incoming(mirror.Observation("inv2", raw, at(0)), None)

    assert not one.keep_blank(frozenset())
    assert "customer_id" not in one.__dict__
