from __future__ import annotations

import copy
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections, models, transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from django_orb import exact_json, mirror
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import primary, uses_copy
from django_orb.db.clock import Interval, database_now
from django_orb.mirror.mapping import map_invoice
from django_orb.mirror.page_writer import PageWriter
from django_orb.mirror.writing import Observation
from django_orb.models import (
    Invoice,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceObservation,
)
from tests.payloads import load

NOON = datetime(2026, 3, 5, 12, tzinfo=timezone.utc)


def at(start: float, end: float | None = None) -> Interval:
    """An interval in seconds after noon."""
    end = start if end is None else end
    return Interval(NOON + timedelta(seconds=start), NOON + timedelta(seconds=end))


def make(invoice_id: str = "inv1", **changes: Any) -> dict[str, Any]:
    return {**load("invoice_issued"), "id": invoice_id, **changes}


def see(payload: Any, interval: Interval, **options: Any) -> mirror.WriteResult:
    observations = mirror.read_page([payload], interval)
    return mirror.write(observations, **options)


def fetch(payload: dict[str, Any]) -> mirror.WriteResult:
    """Write the invoice as if it was fetched from Orb now. Return the result."""
    invoice_id = payload["id"]
    known = mirror.versions([invoice_id]).get(invoice_id)
    reading = time.monotonic()
    interval = primary.clock().interval(reading, reading)
    seen = Observation(invoice_id, payload, interval, supersedes=known)
    return mirror.write([seen])


def statuses() -> dict[str, str]:
    return dict(Invoice.objects.values_list("pk", "status"))


def test_new_invoice_is_stored_with_its_lines(any_database: str) -> None:
    payload = make()

    result = see(payload, at(0, 1))

    invoice = Invoice.objects.get()
    assert result.created == ["inv1"]
    assert invoice.total == Decimal("560.25")
    assert invoice.customer_id == "cusW4eR6tYu8IoPa"
    assert invoice.external_customer_id == "acme-001"
    assert invoice.subscription_id == "subD7fG1hJ3kL5zX"
    assert invoice.due_date == datetime(2026, 3, 31, tzinfo=timezone.utc)
    assert invoice.payload == payload
    assert invoice.last_seen_at == at(1).ended_at
    lines = list(invoice.line_items.all())
    assert [line.name for line in lines] == ["Platform fee", "API requests"]
    assert lines[1].quantity == Decimal("42500.5")
    assert lines[1].price_model_type == "tiered"
    assert lines[1].item_id == payload["line_items"][1]["price"]["item"]["id"]
    assert lines[0].adjustments[0]["reason"] == "Launch partner"
    assert lines[0].tax == Decimal("36.00")


def test_numbers_come_back_digit_by_digit(any_database: str) -> None:
    text = exact_json.dumps(make()).replace("42500.5", "1.50")
    text = text.replace("32500.5", "0.10000000000000000000000000001")
    payload = exact_json.loads(text)

    see(payload, at(0, 1))

    line = Invoice.objects.get().payload["line_items"][1]
    assert line["quantity"] == Decimal("1.5")
    tiers = line["sub_line_items"]
    assert tiers[1]["quantity"] == Decimal("0.10000000000000000000000000001")


def test_value_that_a_column_rounds_is_flagged(any_database: str) -> None:
    payload = make(total="0.1234567890123456789012")

    see(payload, at(0, 1))

    invoice = Invoice.objects.get()
    assert invoice.rounded_fields == ["total"]
    assert invoice.payload["total"] == "0.1234567890123456789012"


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "amount",
    [
        "99999999999999900000",
        "99999999999999999999.99",
        "99999999999999999999.999999999",
        "99999999999999999999.999999999999999999",
    ],
)
def test_largest_amounts_can_be_read_once_stored(
    any_database: str, amount: str, sign: str
) -> None:
    see(make(total=sign + amount), at(0, 1))

    stored = [one.total for one in Invoice.objects.all()]
    if not stored:  # SQLite would round it up to more than it can read
        assert connections[any_database].vendor == "sqlite"
        assert amount.startswith("99999999999999999999.99")
        assert "is too large" in InvoiceFailure.objects.get().reason
    else:
        assert stored == [Decimal(sign + amount)]


def test_ids_that_differ_in_case_or_trailing_space_are_different(
    any_database: str,
) -> None:
    for invoice_id in ("abc", "aBc", "abc "):
        assert see(make(invoice_id), at(0, 1)).created == [invoice_id]

    assert Invoice.objects.filter(pk="abc").count() == 1
    assert Invoice.objects.count() == 3


def test_unchanged_invoice_is_not_written(any_database: str) -> None:
    see(make(), at(0, 1))
    before = Invoice.objects.get().mirrored_at
    line_ids = set(InvoiceLineItem.objects.values_list("pk", flat=True))

    result = see(make(), at(10, 11))

    assert result.unchanged == ["inv1"]
    assert Invoice.objects.get().mirrored_at == before
    assert set(InvoiceLineItem.objects.values_list("pk", flat=True)) == line_ids
    assert Invoice.objects.get().last_seen_at == at(11).ended_at


def test_links_signed_anew_are_no_change(any_database: str) -> None:
    see(make(invoice_pdf="https://orb.test/a.pdf?sig=1"), at(0, 1))

    again = see(make(invoice_pdf="https://orb.test/a.pdf?sig=2"), at(2, 3))
    gone = see(make(invoice_pdf=None), at(4, 5))

    assert again.unchanged == ["inv1"]
    assert gone.updated == ["inv1"]


def test_order_of_keys_and_form_of_numbers_are_no_change(any_database: str) -> None:
    payload = make()
    see(payload, at(0, 1))
    turned = dict(reversed(payload.items()))
    turned["line_items"] = copy.deepcopy(payload["line_items"])
    turned["line_items"][1]["quantity"] = Decimal("42500.500")

    assert see(turned, at(2, 3)).unchanged == ["inv1"]


def test_lines_are_replaced_as_a_set(any_database: str) -> None:
    payload = make()
    see(payload, at(0, 1))
    kept = InvoiceLineItem.objects.get(name="API requests").pk
    first, second = copy.deepcopy(payload["line_items"])
    added = {**copy.deepcopy(first), "id": "liNew", "name": "Support"}
    second["amount"] = "70.00"

    see(make(line_items=[second, added]), at(2, 3))

    lines = InvoiceLineItem.objects.all()
    assert [line.name for line in lines] == ["API requests", "Support"]
    assert lines[0].pk == kept
    assert lines[0].amount == Decimal("70.00")


def test_same_line_id_on_two_invoices_is_two_lines(any_database: str) -> None:
    see(make("inv1"), at(0, 1))
    see(make("inv2"), at(0, 1))

    assert InvoiceLineItem.objects.count() == 4


@pytest.mark.parametrize(
    ("stored", "incoming", "expected"),
    [(at(0, 1), at(2, 3), "paid"), (at(2, 3), at(0, 1), "issued")],
    ids=["later is taken", "earlier is dropped"],
)
def test_order_in_time_decides(
    any_database: str, stored: Interval, incoming: Interval, expected: str
) -> None:
    see(make(status="issued"), stored)

    result = see(make(status="paid"), incoming)

    assert result.doubtful == []
    assert statuses() == {"inv1": expected}


@pytest.mark.parametrize(
    "incoming", [at(1, 3), at(0, 5), at(1.2, 1.5), at(0, 1), at(2, 2)]
)
def test_overlap_with_other_content_is_a_doubt(
    any_database: str, incoming: Interval
) -> None:
    see(make(status="issued"), at(1, 2))

    result = see(make(status="paid"), incoming)

    assert result.doubtful == ["inv1"]
    assert statuses() == {"inv1": "issued"}


def test_fetch_that_began_after_the_stored_commit_ends_a_doubt(
    any_database: str,
) -> None:
    see(make(status="issued"), at(100, 200))
    version = mirror.versions(["inv1"])["inv1"]
    paid = Observation("inv1", make(status="paid"), at(0, 150), supersedes=version)

    assert mirror.write([paid]).updated == ["inv1"]

    late = Observation("inv1", make(status="draft"), at(0, 150), supersedes=version)
    assert mirror.write([late]).doubtful == ["inv1"]


def test_old_page_does_not_undo_a_change_that_was_undone(any_database: str) -> None:
    """A-B-A: the page that saw B is written last."""
    see(make(status="issued"), at(0, 1))
    see(make(status="issued"), at(4, 5))

    see(make(status="paid"), at(2, 3))

    assert statuses() == {"inv1": "issued"}


def test_same_content_in_a_narrower_interval_does_not_forget_the_wide_one(
    any_database: str,
) -> None:
    """Issued may have held at 9: a page that saw paid at 6 is then the older one."""
    see(make(status="issued"), at(0, 10))
    see(make(status="issued"), at(4, 5))

    assert see(make(status="paid"), at(6, 7)).doubtful == ["inv1"]


def test_clock_that_stepped_back_is_a_doubt(any_database: str) -> None:
    ahead = database_now(any_database) + timedelta(hours=1)
    see(make(status="issued"), Interval(ahead, ahead))

    assert see(make(status="paid"), at(0, 1)).doubtful == ["inv1"]


def test_absent_is_an_observation_and_the_invoice_can_return(any_database: str) -> None:
    see(make(), at(0, 1))
    gone = Observation.absent("inv1", at(2, 3))

    assert mirror.write([gone]).missing == ["inv1"]
    assert Invoice.objects.get().missing_since is not None
    assert Invoice.objects.open().count() == 0

    assert see(make(), at(4, 5)).updated == ["inv1"]
    assert Invoice.objects.get().missing_since is None


def test_absent_before_what_is_stored_is_dropped(any_database: str) -> None:
    see(make(), at(2, 3))

    mirror.write([Observation.absent("inv1", at(0, 1))])

    assert Invoice.objects.get().missing_since is None


def test_unknown_absent_invoice_is_remembered_as_that(any_database: str) -> None:
    mirror.write([Observation.absent("inv1", at(2, 3))])
    late = see(make(), at(0, 1))

    assert not Invoice.objects.exists()
    assert late.unchanged == ["inv1"]

    again = mirror.write([Observation.absent("inv1", at(4, 5))])
    there = see(make(), at(6, 7))

    assert again.unchanged == ["inv1"]
    assert not again.missing
    assert there.created == ["inv1"]
    assert Invoice.objects.get().missing_since is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total": "lots"}, "total is 'lots'"),
        ({"total": "1_000.00"}, "total is '1_000.00'"),
        ({"total": " 12.00"}, "total is ' 12.00'"),
        ({"total": "12.00\n"}, "total is '12.00"),
        ({"total": "\u0661\u0662.00"}, "total is .*, which is not understood"),
        ({"total": "1e30"}, "too large"),
        ({"total": None}, "total is missing"),
        ({"created_at": "yesterday"}, "created_at is 'yesterday'"),
        ({"memo": "a\0b"}, "NUL"),
        ({"memo": "\ud800"}, "cannot be stored"),
        ({"line_items": None}, "line_items is missing"),
        ({"line_items": [7]}, r"line_items\[0\]"),
        ({"currency": "x" * 70}, "70 characters"),
        ({"customer": {}}, "customer.id is missing"),
    ],
)
def test_invoice_that_cannot_be_stored_fails_alone_with_its_reason(
    any_database: str, changes: dict[str, Any], words: str
) -> None:
    page = mirror.read_page([make("good"), make("bad", **changes)], at(0, 1))

    result = mirror.write(page)

    assert result.created == ["good"]
    assert list(result.failed) == ["bad"]
    failure = InvoiceFailure.objects.get()
    assert failure.pk == "bad"
    assert re.search(words, failure.reason)
    assert "bad" in failure.payload_text


def test_failure_goes_away_with_the_next_success(any_database: str) -> None:
    see(make(total="lots"), at(0, 1))

    see(make(), at(2, 3))

    assert not InvoiceFailure.objects.exists()
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize("payload", [None, 7, [], {}, {"id": None}, {"id": ""}])
def test_what_has_no_id_is_recorded_too(any_database: str, payload: Any) -> None:
    assert see(payload, at(0, 1)).failed
    assert InvoiceFailure.objects.get().pk.startswith(mirror.NO_ID)


def test_long_texts_and_unknown_values_are_stored(any_database: str) -> None:
    payload = make(
        status="reopened",
        invoice_source="marketplace",
        invoice_number="№" * 3000,
        memo="ü" * 100_000,
        invented_by_orb={"deep": [1, Decimal("2.50")]},
    )
    payload["customer"] = {"id": "c", "external_customer_id": "x" * 5000}
    payload["line_items"][0] = {**payload["line_items"][0], "name": "𐍈" * 9000}

    see(payload, at(0, 1))

    invoice = Invoice.objects.get()
    assert invoice.get_status_display() == "reopened"
    assert invoice.payload == payload
    assert Invoice.objects.for_customer(external_customer_id="x" * 5000).count() == 1
    assert Invoice.objects.for_customer(external_customer_id="X" * 5000).count() == 0
    assert invoice.line_items.all()[0].name == "𐍈" * 9000


def test_older_payload_shapes_do_not_fail(any_database: str) -> None:
    payload = make()
    for name in ("invoice_number", "invoice_source", "metadata", "will_auto_issue"):
        del payload[name]
    line = payload["line_items"][0] = dict(payload["line_items"][0])
    for name in ("adjusted_subtotal", "credits_applied", "adjustments"):
        del line[name]

    assert see(payload, at(0, 1)).created == ["inv1"]
    stored = InvoiceLineItem.objects.all()[0]
    assert stored.adjusted_subtotal is None
    assert stored.adjustments == []


def test_what_also_runs_decides_whether_anything_is_written(
    any_committed_database: str,
) -> None:
    def refuse(result: mirror.WriteResult) -> None:
        raise LookupError(result.created)

    with pytest.raises(LookupError):
        see(make(), at(0, 1), also=refuse)

    assert not Invoice.objects.exists()
    assert not InvoiceObservation.objects.exists()


def page_of(size: int, lines: int, **changes: Any) -> list[dict[str, Any]]:
    template = load("invoice_issued")
    line = template["line_items"][0]
    return [
        make(
            f"inv{index:04}",
            line_items=[{**line, "id": f"li{n}"} for n in range(lines)],
            **changes,
        )
        for index in range(size)
    ]


@pytest.mark.parametrize("lines", [1, 20])
def test_statements_for_a_page_do_not_grow_with_its_lines(
    any_database: str, lines: int
) -> None:
    def count(payloads: list[dict[str, Any]], interval: Interval) -> int:
        texts = [RawInvoice.of(payload) for payload in payloads]
        seen = mirror.read_page(texts, interval)
        with CaptureQueriesContext(connections[any_database]) as captured:
            mirror.write(seen)
        return sum(
            "SAVEPOINT" not in query["sql"] for query in captured.captured_queries
        )

    primary.alias()
    see(make("warm-up"), at(0, 1))  # the clock is measured once a minute
    # SQLite needs one in each transaction that writes nothing, and first.
    more = connections[any_database].vendor == "sqlite"
    assert count(page_of(100, lines), at(0, 1)) == 11 + more
    assert count(page_of(100, lines), at(2, 3)) == 2 + more
    assert count(page_of(100, lines, status="paid"), at(4, 5)) == 9 + 2 * more
    # Some of it unknown, some changed, all with other lines than before.
    assert count(page_of(150, lines + 1)[50:], at(6, 7)) == 14 + more
    # Texts that say the same otherwise are compared once.
    others = [dict(reversed(one.items())) for one in page_of(150, lines + 1)[50:]]
    assert count(others, at(8, 9)) > 2 + more
    assert count(others, at(10, 11)) == 2 + more


def reordered(payload: dict[str, Any]) -> RawInvoice:
    return RawInvoice.of(dict(reversed(payload.items())))


def test_text_that_says_the_same_otherwise_is_no_change(any_database: str) -> None:
    see(RawInvoice.of(make(total="560.250")), at(0, 1))
    before = Invoice.objects.values().get()

    for moment in (2, 4):
        assert see(reordered(before["payload"]), at(moment)).unchanged == ["inv1"]
        assert see(RawInvoice.of(make(total="560.250")), at(moment + 1)).unchanged

    assert Invoice.objects.values().get() == before
    assert see(reordered(make(total="560.26")), at(6)).updated == ["inv1"]


def test_numbers_that_a_database_writes_otherwise_are_no_change(
    any_database: str,
) -> None:
    odd = make()
    odd["metadata"] = {
        "a": Decimal("-0.0"),
        "b": Decimal("1.50"),
        "c": Decimal("1E+50"),
    }
    see(RawInvoice.of(odd), at(0, 1))

    assert see(reordered(odd), at(2, 3)).unchanged == ["inv1"]


def test_writer_that_another_one_overtook_looks_again(any_database: str) -> None:
    """Between the look at what came and the write, somebody else writes."""
    old, new = RawInvoice.of(make()), RawInvoice.of(make(status="paid"))
    see(reordered(make()), at(0, 1))
    page = PageWriter(mirror.read_page([old], at(2, 3)))
    with transaction.atomic(using=any_database):
        assert page.see_again() is None
    page.prepare()
    see(new, at(4, 5))

    with transaction.atomic(using=any_database):
        result = page.write()

    assert result.unchanged == ["inv1"]  # dropped: it is older
    assert statuses() == {"inv1": "paid"}


def test_invoice_that_somebody_else_finds_meanwhile_is_compared(
    any_database: str,
) -> None:
    """Between the look, which finds nothing, and the write."""
    page = PageWriter(mirror.read_page([reordered(make())], at(2, 3)))
    with transaction.atomic(using=any_database):
        assert page.see_again() is None
    page.prepare()
    see(RawInvoice.of(make()), at(4, 5))

    with transaction.atomic(using=any_database):
        result = page.write()

    assert result.unchanged == ["inv1"]


def test_text_that_came_again_holds_against_what_was_read_before(
    any_database: str,
) -> None:
    text = RawInvoice.of(make())
    see(text, at(0, 1))
    see(text, at(4, 5))

    assert see(RawInvoice.of(make(status="paid")), at(2, 3)).unchanged == ["inv1"]
    assert statuses() == {"inv1": "issued"}


def test_invoice_with_two_ids_fails(any_database: str) -> None:
    text = RawInvoice(b'{"id": "other",' + RawInvoice.of(make()).data[1:], id="other")

    assert see(text, at(0, 1)).failed == {"other": "It has more than one id."}


def test_writers_of_overlapping_pages_neither_deadlock_nor_fail(
    any_committed_database: str,
) -> None:
    errors: list[Exception] = []
    pages = [page_of(60, 3, status=status) for status in Invoice.Status.values]

    def keep_writing(offset: int) -> None:
        try:
            for index in range(6):
                number = offset + index
                page = pages[number % len(pages)][offset * 5 :]
                if number % 2:
                    page = page[::-1]
                seen = mirror.read_page(page, at(number * 10, number * 10 + 5))
                mirror.write(seen)
        except Exception as err:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(err)
        finally:
            connections[any_committed_database].close()

    threads = [threading.Thread(target=keep_writing, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert Invoice.objects.count() == 60
    assert InvoiceLineItem.objects.count() == 180
    newest = {int((one.ended_at - NOON).total_seconds()) for one in observations()}
    assert max(newest) == 85


@pytest.mark.proof
def test_processes_that_write_overlapping_pages_do_not_fail(
    any_committed_database: str, process_environment: Callable[[], dict[str, str]]
) -> None:
    command = [sys.executable, "-m", "tests.write_pages"]
    processes = [
        subprocess.Popen(
            [*command, str(number)],
            env=process_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]

    errors = [process.communicate(timeout=120)[1] for process in processes]

    assert errors == ["", "", ""]
    assert Invoice.objects.count() == 60
    assert InvoiceLineItem.objects.count() == 180
    # The newest page of all was the last of process 2, number 9: draft.
    assert set(statuses().values()) <= {"draft", "issued", "paid"}
    assert statuses()["inv0059"] == "draft"


def observations() -> list[Any]:
    assert connection is not None
    return list(InvoiceObservation.objects.exclude(ended_at=None))


REFUSING = {
    "postgresql": "ALTER TABLE {table} ADD CHECK (memo <> 'never')",
    "sqlite": "CREATE TRIGGER never BEFORE INSERT ON {table} WHEN new.memo = 'never' "
    "BEGIN SELECT RAISE(ABORT, 'never'); END",
}


def test_invoice_that_the_database_refuses_fails_alone(any_database: str) -> None:
    """The mapper cannot foresee it, such as a constraint that the host has added."""
    connection = connections[any_database]
    if connection.vendor not in REFUSING:
        pytest.skip("MariaDB would commit the transaction of this test.")
    with connection.cursor() as cursor:
        cursor.execute(REFUSING[connection.vendor].format(table=Invoice._meta.db_table))
    bad = make("bad", memo="never")
    page = mirror.read_page([make("good"), bad, make("fine")], at(0, 1))

    result = mirror.write(page)

    assert sorted(result.created) == ["fine", "good"]
    assert list(result.failed) == ["bad"]
    assert "The database refused it" in InvoiceFailure.objects.get().reason


class Note(models.Model):
    """A row of a project's own that points to a line."""

    class Meta:
        app_label = "shop"
        managed = False

    def __str__(self) -> str:
        return "Ada Lovelace"


@pytest.mark.parametrize("error", [ProtectedError, RestrictedError])
def test_reason_why_a_line_cannot_be_deleted_names_only_models(
    any_database: str, error: type[ProtectedError | RestrictedError]
) -> None:
    """As its foreign key does, which would stay in the registry of the other tests."""

    def forbid(**kwargs: Any) -> None:
        raise error("Cannot delete some instances.", {Note(pk=1), Note(pk=2)})

    see(make(), at(0, 1))
    pre_delete.connect(forbid, sender=InvoiceLineItem)
    try:
        result = see(make(line_items=[]), at(2, 3))
    finally:
        pre_delete.disconnect(forbid, sender=InvoiceLineItem)

    assert list(result.failed) == ["inv1"]
    assert InvoiceFailure.objects.get().reason == (
        "Rows of shop.Note point to what would be deleted, and their on_delete forbids "
        "that."
    )


def test_rows_left_by_a_partial_restore_are_overwritten(any_database: str) -> None:
    see(make(status="issued"), at(0, 1))
    InvoiceObservation.objects.all().delete()

    assert see(make(status="paid"), at(2, 3)).created == ["inv1"]

    assert statuses() == {"inv1": "paid"}
    assert InvoiceLineItem.objects.count() == 2


def test_every_path_leaves_the_same_rows(any_database: str) -> None:
    """
    New rows are copied in where the database can, and may be formatted ahead; changed
    ones are upserted.
    """
    odd = make(
        memo='tab\t newline\n return\r backslash\\ \\N quote" ü 𐍈 \x01',
        invoice_number="\\.",
    )
    odd["line_items"][0]["name"] = "\\N"

    def rows() -> tuple[Any, Any]:
        hidden = {"mirrored_at", "id"}
        invoice = Invoice.objects.values().get()
        lines = InvoiceLineItem.objects.values()
        return (
            {key: value for key, value in invoice.items() if key != "mirrored_at"},
            [{k: v for k, v in line.items() if k not in hidden} for line in lines],
        )

    see(RawInvoice.of(odd), at(0, 1))
    copied = rows()
    mirror.write_again(["inv1"])
    InvoiceLineItem.objects.all().delete()
    assert fetch(odd).updated == ["inv1"]
    upserted = rows()
    Invoice.objects.all().delete()
    InvoiceObservation.objects.all().delete()
    raw = RawInvoice.of(odd)
    mirror.map_ahead(raw, mirror.digits_kept(), to_copy=uses_copy())
    assert see(raw, at(4, 5)).created == ["inv1"]
    copied_ahead = rows()
    Invoice.objects.all().delete()
    mapped = map_invoice(odd)
    invoice = Invoice.objects.create(**mapped.columns, mirrored_at=NOON)
    for line in mapped.lines:
        InvoiceLineItem.objects.create(**{**line, "invoice": invoice})
    by_orm = rows()

    assert copied == upserted == copied_ahead == by_orm
    assert copied[0]["payload"] == odd


def test_pages_of_text_are_judged_like_values(any_database: str) -> None:
    see(make(), at(0, 1))

    assert see(RawInvoice.of(make()), at(2, 3)).unchanged == ["inv1"]
    assert see(RawInvoice.of(make()), at(4, 5)).unchanged == ["inv1"]
    assert see(RawInvoice.of(make(status="paid")), at(4, 6)).doubtful == ["inv1"]
    assert see(RawInvoice.of(make(status="paid")), at(7, 8)).updated == ["inv1"]
    assert see(make(status="paid"), at(9, 10)).unchanged == ["inv1"]
    assert Invoice.objects.get().last_seen_at == at(10).ended_at
