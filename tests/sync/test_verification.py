from __future__ import annotations

import gc
import json
import re
import threading
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from werkzeug.wrappers import Response

from django_orb import exact_json, mirror, services
from django_orb.db import primary
from django_orb.db.clock import Interval, database_now
from django_orb.exceptions import (
    OrbAuthenticationError,
    OrbInputError,
    OrbResponseError,
)
from django_orb.management.commands import orb_verify_invoices
from django_orb.models import (
    Invoice,
    InvoiceCreditNote,
    InvoiceFailure,
    InvoiceLineItem,
    InvoiceLineTax,
    InvoiceObservation,
    InvoicePaymentAttempt,
    SyncRun,
)
from django_orb.sync import verification
from django_orb.sync.comparison import NOTHING, Difference
from tests import crash_points, times
from tests.payloads import load

if TYPE_CHECKING:
    from django_orb.testing import OrbSandbox


@pytest.fixture(autouse=True)
def _no_patience(request: pytest.FixtureRequest, monkeypatch: Any) -> None:
    """Differences are believed at once, for what the tests damage stays so."""
    if "patience" not in request.fixturenames:
        monkeypatch.setattr(verification, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Verifying waits for nothing; what it would have waited is in the list."""
    seconds: list[float] = []
    times.rule(monkeypatch, among=verification.__name__, sleep=seconds.append)
    return seconds


@pytest.fixture
def mirrored(any_committed_database: str, orb: OrbSandbox) -> OrbSandbox:
    """A sandbox, and a mirror that is right."""
    services.sync_invoices(mode="full")
    orb.clear_requests()
    return orb


def verify(**options: Any) -> list[Difference]:
    return list(services.verify_invoices(**options))


def found(**options: Any) -> list[tuple[str, str, str]]:
    return [(one.invoice_id, one.kind, one.field) for one in verify(**options)]


def invoice_with_lines(orb: OrbSandbox, count: int = 2) -> str:
    return next(
        pk for pk in orb.invoice_ids() if len(orb.invoice(pk)["line_items"]) >= count
    )


def lines_of(invoice_id: str) -> Any:
    return InvoiceLineItem.objects.filter(invoice_id=invoice_id)


def test_right_mirror_has_no_difference(mirrored: OrbSandbox) -> None:
    mirrored.sign_links = True
    progress: list[int] = []

    result = services.verify_invoices(on_page=lambda one: progress.append(one.pages))

    assert list(result) == []
    assert result.is_right
    assert result.invoices == len(mirrored.invoice_ids())
    assert mirrored.request_counts() == {"list_invoices": result.pages}
    assert progress[0] == 1


def test_verifying_writes_nothing(mirrored: OrbSandbox) -> None:
    Invoice.objects.update(total=1)
    before = list(Invoice.objects.values()), list(InvoiceObservation.objects.values())

    verify()

    after = list(Invoice.objects.values()), list(InvoiceObservation.objects.values())
    assert before == after
    assert SyncRun.objects.count() == 1


# Damage, what it is called, and that --fix undoes it

Damage = Callable[["OrbSandbox"], "tuple[str, str, str]"]


def change_column(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("paid")[0]
    Invoice.objects.filter(pk=pk).update(amount_due=Decimal("0.01"))
    return pk, "column", "amount_due"


def change_search_key(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("paid")[1]
    Invoice.objects.filter(pk=pk).update(invoice_number_key="")
    return pk, "column", "invoice_number_key"


def change_date(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("issued")[0]
    due = Invoice.objects.get(pk=pk).due_date
    assert due is not None
    Invoice.objects.filter(pk=pk).update(due_date=due + timedelta(hours=1))
    return pk, "column", "due_date"


def change_payload(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("void")[0]
    payload = Invoice.objects.get(pk=pk).payload
    payload["customer"]["invented"] = 1
    Invoice.objects.filter(pk=pk).update(payload=payload)
    return pk, "payload", "payload.customer.invented"


def flag_nothing_as_rounded(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("draft")[0]
    Invoice.objects.filter(pk=pk).update(rounded_fields=["subtotal"])
    return pk, "column", "rounded_fields"


def drop_link(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("issued")[1]
    Invoice.objects.filter(pk=pk).update(hosted_invoice_url="")
    return pk, "column", "hosted_invoice_url"


def mark_missing(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("paid")[2]
    now = database_now(primary.alias())
    Invoice.objects.filter(pk=pk).update(missing_since=now)
    return pk, "marked_missing", "missing_since"


def delete_invoice(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("paid")[3]
    Invoice.objects.get(pk=pk).delete()
    return pk, "not_mirrored", ""


def forget_to_sync(orb: OrbSandbox) -> tuple[str, str, str]:
    return orb.add_invoice(days_ago=-3)["id"], "not_mirrored", ""


def delete_in_orb(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = orb.invoice_ids("draft")[1]
    orb.delete_draft(pk)
    return pk, "gone", ""


def remove_line(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = invoice_with_lines(orb)
    line = lines_of(pk).order_by("-position")[0]
    line.delete()
    return pk, "line", f"line_items[{line.orb_id}]"


def add_line(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = invoice_with_lines(orb)
    line = lines_of(pk)[0]
    line.pk, line.orb_id, line.position = None, "stranger", 99
    line.save(force_insert=True)
    return pk, "line", "line_items[stranger]"


def move_line(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = invoice_with_lines(orb)
    line = lines_of(pk)[0]
    lines_of(pk).filter(pk=line.pk).update(position=57)
    return pk, "line", f"line_items[{line.orb_id}].position"


def change_line(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = invoice_with_lines(orb)
    line = lines_of(pk)[1]
    lines_of(pk).filter(pk=line.pk).update(amount=line.amount + Decimal("0.01"))
    return pk, "line", f"line_items[{line.orb_id}].amount"


def change_credit_note(orb: OrbSandbox) -> tuple[str, str, str]:
    note = InvoiceCreditNote.objects.order_by("pk")[0]
    InvoiceCreditNote.objects.filter(pk=note.pk).update(total=None)
    return note.invoice_id, "child", f"credit_notes[{note.orb_id}].total"


def remove_tax(orb: OrbSandbox) -> tuple[str, str, str]:
    tax = InvoiceLineTax.objects.select_related("line_item").order_by("pk")[0]
    tax.delete()
    line = tax.line_item
    return line.invoice_id, "child", f"line_items[{line.orb_id}].tax_amounts[0]"


def add_payment_attempt(orb: OrbSandbox) -> tuple[str, str, str]:
    pk = str(InvoicePaymentAttempt.objects.order_by("-pk")[0].invoice_id)
    InvoicePaymentAttempt.objects.create(
        invoice_id=pk, orb_id="stranger", position=9, amount=1
    )
    return pk, "child", "payment_attempts[stranger]"


DAMAGES = [
    change_credit_note,
    remove_tax,
    add_payment_attempt,
    change_column,
    change_search_key,
    change_date,
    change_payload,
    flag_nothing_as_rounded,
    drop_link,
    mark_missing,
    delete_invoice,
    forget_to_sync,
    delete_in_orb,
    remove_line,
    add_line,
    move_line,
    change_line,
]


@pytest.mark.proof
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_fixed(mirrored: OrbSandbox, damage: Damage) -> None:
    expected = damage(mirrored)

    assert found() == [expected]

    result = services.verify_invoices(fix=True)
    fixed = list(result)
    assert [(one.invoice_id, one.kind, one.field) for one in fixed] == [expected]
    assert [one.is_repaired for one in fixed] == [True]
    assert result.is_right
    assert verify() == []


def test_all_damage_at_once_is_fixed(mirrored: OrbSandbox) -> None:
    expected = {damage(mirrored) for damage in DAMAGES}

    assert expected <= set(found())
    assert all(one.is_repaired for one in verify(fix=True))
    assert verify() == []
    assert Invoice.objects.exclude(missing_since=None).count() == 1


def test_state_that_is_old_is_shown_as_it_is_there_and_here(
    mirrored: OrbSandbox,
) -> None:
    pk = mirrored.invoice_ids("issued")[0]
    mirrored.mark_paid(pk)

    differences = {one.field: (one.orb, one.here) for one in verify()}

    assert differences["status"] == ("paid", "issued")
    assert differences["payload.status"] == ("paid", "issued")
    assert differences["paid_at"][1] is None
    verify(fix=True)
    assert Invoice.objects.get(pk=pk).status == "paid"


def test_every_status_is_asked_for(mirrored: OrbSandbox) -> None:
    Invoice.objects.all().delete()

    statuses = {one.orb for one in verify()}

    assert statuses == {
        status for status, count in mirrored.status_counts().items() if count
    }


def test_precision_that_was_lost_is_found(mirrored: OrbSandbox) -> None:
    pk = mirrored.invoice_ids("paid")[0]
    mirrored.update_invoice(pk, total="0.12345678901234567890123")
    services.fetch_invoice(pk)
    assert verify() == []

    Invoice.objects.filter(pk=pk).update(rounded_fields=[])
    assert found() == [(pk, "column", "rounded_fields")]
    verify(fix=True)
    assert Invoice.objects.get(pk=pk).rounded_fields == ["total"]


def test_form_of_a_number_is_no_difference(mirrored: OrbSandbox) -> None:
    pk = invoice_with_lines(mirrored)
    payload = Invoice.objects.get(pk=pk).payload
    for line in payload["line_items"]:
        line["quantity"] += Decimal("0.000")
    Invoice.objects.filter(pk=pk).update(payload=payload)

    assert verify() == []


def test_reason_is_told_and_the_rest_repaired(mirrored: OrbSandbox) -> None:
    bad, good = mirrored.invoice_ids("paid")[:2]
    mirrored.update_invoice(bad, total="a lot")
    mirrored.update_invoice(good, memo="changed")

    result = services.verify_invoices(fix=True)
    differences = list(result)

    assert {one.is_repaired for one in differences if one.invoice_id == good} == {True}
    of_bad = [one for one in differences if one.invoice_id == bad]
    assert {one.is_repaired for one in of_bad} == {False}
    assert all("total is 'a lot'" in one.reason for one in of_bad)
    assert not result.is_right


def test_unmirrored_invoice_tells_why(
    any_committed_database: str, orb: OrbSandbox
) -> None:
    pk = orb.invoice_ids("paid")[0]
    orb.update_invoice(pk, total="a lot")
    services.sync_invoices(mode="full")

    (difference,) = verify()

    assert (difference.invoice_id, difference.kind) == (pk, "not_mirrored")
    assert difference.here is NOTHING
    assert difference.reason == InvoiceFailure.objects.get().reason


def add_to_pages(orb: OrbSandbox, *more: Any) -> None:
    def add(route: str, request: Any, go_on: Callable[[], Response]) -> Response:
        answer = go_on()
        if route == "list_invoices":
            page = answer.get_json()
            answer.set_data(json.dumps({**page, "data": [*page["data"], *more]}))
        return answer

    orb.answer_through(add)


def test_invoices_without_a_usable_id_are_told(mirrored: OrbSandbox) -> None:
    ids: list[Any] = [None, "", 7, "a\0b", "\ud800"]
    add_to_pages(mirrored, *({"id": one} for one in ids), 7)

    differences = verify(fix=True)

    assert [one.orb for one in differences] == [*ids, None]
    for one in differences:
        assert one.kind == "not_mirrored"
        assert "no id" in one.reason
        assert one.is_repaired is None


def test_missing_invoices_are_right_when_marked(mirrored: OrbSandbox) -> None:
    pk = mirrored.invoice_ids("draft")[0]
    mirrored.delete_draft(pk)
    services.sync_invoices(invoice_ids=[pk])
    assert Invoice.objects.get(pk=pk).missing_since is not None
    mirrored.clear_requests()

    assert verify() == []
    assert "fetch_invoice" not in mirrored.request_counts()


def test_many_gone_are_not_believed_unasked(mirrored: OrbSandbox) -> None:
    drafts = [mirrored.add_invoice(status="draft")["id"] for _ in range(51)]
    services.sync_invoices(mode="full")
    for draft in drafts:
        mirrored.delete_draft(draft)

    differences = verify(fix=True)

    assert sorted(one.invoice_id for one in differences) == sorted(drafts)
    assert {one.is_repaired for one in differences} == {False}
    assert "more than the 50 that are accepted without asking" in differences[0].reason
    assert not Invoice.objects.exclude(missing_since=None).exists()


def test_chosen_invoices_are_fetched_and_nothing_else(mirrored: OrbSandbox) -> None:
    chosen = mirrored.invoice_ids("paid")[0]
    Invoice.objects.update(memo="damaged")

    result = services.verify_invoices(invoice_ids=[chosen, chosen])

    assert [one.invoice_id for one in result] == [chosen]
    assert result.invoices == 1
    assert set(mirrored.request_counts()) == {"fetch_invoice"}
    assert found(invoice_ids=["nope"]) == [("nope", "unknown", "")]


def test_since_bounds_both_sides(mirrored: OrbSandbox) -> None:
    old = mirrored.add_invoice(status="draft", days_ago=40)["id"]
    recent = mirrored.add_invoice(status="draft", days_ago=5)["id"]
    services.sync_invoices(mode="full")
    for pk in (old, recent):
        mirrored.delete_draft(pk)
    since = database_now(primary.alias()) - timedelta(days=20)

    result = services.verify_invoices(since=since)

    assert [(one.invoice_id, one.kind) for one in result] == [(recent, "gone")]
    assert result.invoices == Invoice.objects.filter(invoice_date__gte=since).count()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"invoice_ids": ["a"], "since": "2020-01-01T00:00:00+00:00"}, "combined"),
        ({"invoice_ids": [""]}, "is empty"),
        ({"invoice_ids": ["."]}, "is not an id in Orb"),
        ({"invoice_ids": ["a\0"]}, "cannot be recorded"),
        ({"since": "2020-01-01T00:00:00"}, "time zone"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, Any], words: str
) -> None:
    if "since" in arguments:
        arguments = {**arguments, "since": datetime.fromisoformat(arguments["since"])}
    with pytest.raises(OrbInputError, match=words):
        services.verify_invoices(**arguments)


# What changes while it runs


is_acting = threading.Event()


def meanwhile(
    orb: OrbSandbox, route: str, act: Callable[[], None], times: int = 1
) -> None:
    """Act while the next answers of a route are on their way, as another process."""
    left = times

    def answer(asked: str, request: Any, go_on: Callable[[], Response]) -> Response:
        nonlocal left
        response = go_on()
        if asked == route and left and not is_acting.is_set():
            left -= 1
            is_acting.set()
            try:
                act()
            finally:
                is_acting.clear()
                connections[primary.alias()].close()
        return response

    orb.answer_through(answer)


def test_invoices_that_change_behind_the_page_are_no_difference(
    mirrored: OrbSandbox,
) -> None:
    paid, voided = mirrored.invoice_ids("issued")[:2]
    dropped = mirrored.invoice_ids("draft")[0]

    def act() -> None:
        mirrored.mark_paid(paid)
        mirrored.void(voided)
        mirrored.delete_draft(dropped)
        added = mirrored.add_invoice()["id"]
        services.sync_invoices(invoice_ids=[paid, voided, dropped, added])

    meanwhile(mirrored, "list_invoices", act)

    assert verify() == []
    assert Invoice.objects.get(pk=paid).status == "paid"


def test_invoice_that_changes_behind_the_second_look_is_no_difference(
    mirrored: OrbSandbox,
) -> None:
    pk = mirrored.invoice_ids("issued")[0]
    memos = iter(range(100))

    def act() -> None:
        mirrored.update_invoice(pk, memo=f"memo {next(memos)}")
        services.fetch_invoice(pk)

    meanwhile(mirrored, "list_invoices", act)
    meanwhile(mirrored, "fetch_invoice", act, times=3)

    assert verify() == []


def test_invoice_that_never_rests_is_told_as_such(mirrored: OrbSandbox) -> None:
    pk = mirrored.invoice_ids("issued")[0]
    memos = iter(range(100))

    def act() -> None:
        mirrored.update_invoice(pk, memo=f"memo {next(memos)}")
        services.fetch_invoice(pk)

    meanwhile(mirrored, "list_invoices", act)
    meanwhile(mirrored, "fetch_invoice", act, times=99)

    assert found() == [(pk, "unstable", "")]


def test_what_is_on_its_way_here_is_waited_for(
    mirrored: OrbSandbox, patience: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pk = mirrored.invoice_ids("issued")[0]
    mirrored.mark_paid(pk)

    def arrive(seconds: float) -> None:
        patience.append(seconds)
        services.fetch_invoice(pk)

    times.rule(monkeypatch, among=verification.__name__, sleep=arrive)

    assert verify() == []
    assert patience == [0.2]


def test_waiting_is_bounded(mirrored: OrbSandbox, patience: list[float]) -> None:
    Invoice.objects.update(memo="damaged")

    assert len({one.invoice_id for one in verify()}) == len(mirrored.invoice_ids())
    assert 9 < sum(patience) <= 10


def test_invoice_that_two_pages_show_is_compared_once(
    mirrored: OrbSandbox, settings: Any
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    pk = mirrored.invoice_ids("void")[0]
    Invoice.objects.filter(pk=pk).update(memo="damaged")
    payload = mirrored.invoice(pk)
    add_to_pages(mirrored, payload, payload)

    result = services.verify_invoices()

    assert [one.invoice_id for one in result] == [pk]
    assert result.invoices == len(mirrored.invoice_ids())


# Trouble


def test_repeated_cursor_ends_it_loudly(mirrored: OrbSandbox, settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": 10}
    mirrored.repeat_next(1, skip=2)

    with pytest.raises(OrbResponseError, match="same cursor"):
        verify()


def test_trouble_at_orb_is_outlived(mirrored: OrbSandbox, waits: list[float]) -> None:
    mirrored.fail_next(5, status=502, html=True)

    assert verify() == []
    assert mirrored.waiting_faults == 0


def test_wrong_key_is_no_empty_account(mirrored: OrbSandbox, settings: Any) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "API_KEY": "wrong"}

    with pytest.raises(OrbAuthenticationError):
        verify(fix=True)


# Cost


@pytest.mark.parametrize("orb", [{"invoices": 250}], indirect=True)
@pytest.mark.parametrize("size", [25, 100])
def test_statements_for_a_page_are_six(
    mirrored: OrbSandbox, settings: Any, size: int
) -> None:
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "PAGE_SIZE": size}

    with CaptureQueriesContext(primary.connection()) as captured:
        result = services.verify_invoices()
        assert list(result) == []

    statements = [one for one in captured if "django_orb_invoice" in one["sql"]]
    batches = len(mirrored.invoice_ids()) // verification.BATCH + 1
    assert len(statements) <= result.pages * 6 + batches + 1


@pytest.mark.proof
@pytest.mark.django_db
def test_memory_does_not_grow_with_the_account() -> None:
    pages, size = 12, 25
    text = exact_json.dumps(load("invoice_draft"))
    now = database_now(primary.alias())
    interval = Interval(now, now)

    def page(number: int) -> list[dict[str, Any]]:
        ids = [f"inv{number:02}-{position:02}" for position in range(size)]
        return [{**exact_json.loads(text), "id": pk} for pk in ids]

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        url = urlsplit(str(request.url))
        name = url.path.rpartition("/")[2]
        if name != "invoices":
            answered: Any = {**exact_json.loads(text), "id": name}
        else:
            number = int(parse_qs(url.query).get("cursor", ["0"])[0])
            following = str(number + 1) if number + 1 < pages else None
            metadata = {"has_more": bool(following), "next_cursor": following}
            answered = {"data": page(number), "pagination_metadata": metadata}
        return 200, {}, exact_json.dumps(answered)

    def measure(result: verification.Verification) -> None:
        orb.calls.reset()  # what stands in for Orb keeps them, and each answer its own
        for one in orb.registered():
            one.calls.reset()
        gc.collect()
        live.append(tracemalloc.get_traced_memory()[0])

    for number in range(pages):
        mirror.write(mirror.read_page(page(number), interval))
    damaged = [f"inv{number:02}-00" for number in range(pages)]
    Invoice.objects.filter(pk__in=damaged).update(payload={})
    live: list[int] = []

    with responses.RequestsMock(assert_all_requests_are_fired=False) as orb:
        orb.add_callback("GET", re.compile(".*/invoices.*"), answer)
        tracemalloc.start()
        result = services.verify_invoices(on_page=measure)
        count = sum(1 for _ in result)
        tracemalloc.stop()

    assert result.invoices == pages * size
    assert count > pages * 40
    assert max(live[4:pages]) - max(live[:4]) < 80_000


# The command


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def run_command(*args: str) -> tuple[str, str]:
    """What the command prints, and its error, or ""."""
    out = StringIO()
    try:
        call_command("orb_verify_invoices", *args, stdout=out)
    except CommandError as err:
        return out.getvalue(), str(err)
    return out.getvalue(), ""


def test_command_says_that_all_is_well(mirrored: OrbSandbox) -> None:
    out, err = run_command()

    count = len(mirrored.invoice_ids())
    assert out == f"{count} invoices compared, 0 differences.\n"
    assert err == ""


def test_command_prints_a_table(
    mirrored: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    pk, number = mirrored.invoice_ids("paid")[0], "\x1b[31mevil"
    right = Invoice.objects.get(pk=pk)
    Invoice.objects.filter(pk=pk).update(memo=number + "x" * 500, amount_due="12.500")

    out, err = run_command()

    head, rule, due, memo, summary = out.splitlines()
    assert head.split() == ["Invoice", "Field", "Orb", "Here"]
    assert set(rule) == {"-", " "}
    assert right.invoice_number in due
    assert pk in due
    assert due.split()[-3:-1] == ["amount_due", f"{right.amount_due.normalize():f}"]
    assert due.endswith(" 12.5")
    assert "\\x1b[31mevil" in memo
    assert "…" in memo
    assert len(memo) <= 120
    assert summary.endswith("compared, 2 differences.")
    assert err == "The mirror differs from Orb in 2 values; see --fix."


def test_command_prints_json_lines_and_nothing_else(mirrored: OrbSandbox) -> None:
    pk = mirrored.invoice_ids("paid")[0]
    due = Invoice.objects.get(pk=pk).amount_due
    Invoice.objects.filter(pk=pk).update(amount_due=1, due_date=None)
    added = mirrored.add_invoice()["id"]

    out, err = run_command("--json")

    unmirrored, amount, date, summary = map(json.loads, out.splitlines())
    assert unmirrored["invoice_id"] == added
    assert unmirrored["orb"] == "issued"
    assert "here" not in unmirrored
    assert amount == {
        "type": "difference",
        "invoice_id": pk,
        "invoice_number": mirrored.invoice(pk)["invoice_number"],
        "kind": "column",
        "field": "amount_due",
        "orb": f"{due.normalize():f}",
        "here": "1",
        "reason": "",
        "is_repaired": None,
    }
    assert date["here"] is None
    assert date["orb"].endswith("+00:00")
    assert summary == {
        "type": "summary",
        "invoices": len(mirrored.invoice_ids()),
        "pages": 1,
        "differences": 3,
        "repaired": 0,
    }
    assert "3 values" in err


def test_command_fixes(mirrored: OrbSandbox) -> None:
    pk = change_column(mirrored)[0]

    out, err = run_command("--fix", "--invoice", pk)

    assert err == ""
    assert "repaired" in out.splitlines()[2]
    assert out.splitlines()[-1] == "1 invoice compared, 1 difference, 1 repaired."
    assert run_command()[1] == ""


def test_command_says_what_it_could_not_fix(mirrored: OrbSandbox) -> None:
    pk = mirrored.invoice_ids("paid")[0]
    mirrored.update_invoice(pk, total="a lot")

    out, err = run_command("--fix")

    assert "NOT REPAIRED; total is 'a lot'" in out
    assert err == "The mirror differs from Orb in 2 values that could not be repaired."


def test_command_shows_what_only_orb_can_hold(mirrored: OrbSandbox) -> None:
    pk = mirrored.invoice_ids("paid")[0]
    mirrored.update_invoice(pk, memo="a\0b")

    lines = [json.loads(line) for line in run_command("--json")[0].splitlines()]
    out, _ = run_command()

    assert lines[0]["orb"] == "a\0b"
    assert "a\\x00b" in out


def test_command_takes_days_and_refuses_what_is_none(mirrored: OrbSandbox) -> None:
    assert "invoices compared" in run_command("--since", "2020-01-01")[0]
    with pytest.raises(CommandError, match="neither a date such as"):
        call_command("orb_verify_invoices", "--since", "yesterday")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--since", "2020-01-01", "--invoice", "a"], "cannot be combined with since"),
        (["--invoice", " "], "invoice_ids is empty"),
    ],
)
def test_command_fails_in_one_line(
    any_database: str, orb: OrbSandbox, args: list[str], words: str
) -> None:
    out, err = run_command(*args)

    assert out == ""
    assert words in err
    assert "\n" not in err


def test_command_without_a_key_fails_in_one_line(
    any_database: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORB_API_KEY", raising=False)
    settings.DJANGO_ORB = {}

    assert "API_KEY" in run_command()[1]


def test_command_shows_progress_on_a_terminal_only(
    mirrored: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    times.hurry(monkeypatch, orb_verify_invoices)
    change_column(mirrored)
    out, err, log = StringIO(), Terminal(), StringIO()

    for stream in (err, log):
        with pytest.raises(CommandError):
            call_command("orb_verify_invoices", stdout=out, stderr=stream)

    assert "invoices compared" in err.getvalue()
    assert err.getvalue().endswith("\r")
    assert "\r" not in out.getvalue()
    assert log.getvalue() == ""


def test_command_stops_when_interrupted(
    mirrored: OrbSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_points.dies_at_request(monkeypatch, "/invoices")
    err = StringIO()

    with pytest.raises(SystemExit) as caught:
        call_command("orb_verify_invoices", stderr=err)

    assert caught.value.code == 130
    assert err.getvalue() == "Stopped. The rest was not compared.\n"
