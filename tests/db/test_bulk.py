from __future__ import annotations

import json

import pytest

from django_orb import exact_json, mirror
from django_orb.client.raw_invoice import RawInvoice
from django_orb.db import format_rows, insert, uses_copy
from django_orb.mirror.page_writer import PageWriter
from django_orb.models import Invoice, OverdueNotice
from tests.mirror.test_writing import at, make
from tests.put_back import put_back

pytestmark = pytest.mark.usefixtures("any_database")


def test_rows_that_were_formatted_in_advance_are_inserted_as_they_are_then() -> None:
    if not uses_copy():
        pytest.skip("only PostgreSQL copies")
    rows = format_rows(OverdueNotice, [{"invoice": f"in\t{n}"} for n in range(4)])
    rows[2]["invoice"] = "another"
    for days, row in enumerate(rows):
        row["days"] = days
    rows[3]["days"] = 9

    insert(OverdueNotice, rows)

    stored = OverdueNotice.objects.order_by("days")
    assert [*stored.values_list("invoice", "days")] == [
        ("in\t0", 0),
        ("in\t1", 1),
        ("another", 2),
        ("in\t3", 9),
    ]


def test_rows_with_and_without_a_format_are_inserted_together() -> None:
    plain = {"invoice": "plain", "days": 1}
    formatted = {"invoice": "formatted", "days": 2}

    insert(
        OverdueNotice,
        [plain, *(format_rows(OverdueNotice, [formatted]) if uses_copy() else [])],
    )

    assert OverdueNotice.objects.filter(invoice="plain").exists()
    assert OverdueNotice.objects.count() == 1 + uses_copy()


@pytest.mark.parametrize("space", ["\n", "\r\n", "\r", "\t", "\n\t"])
def test_json_with_white_space_is_copied_as_it_came(
    monkeypatch: pytest.MonkeyPatch, space: str
) -> None:
    def refuse(writer: PageWriter) -> None:
        pytest.fail("the database refused the page")

    put_back(monkeypatch, PageWriter, "distrust", refuse)
    payload = make("inv1", memo="a\tb\\n\\\\c\r\nd\\.")
    text = json.dumps(payload, default=str).replace(", ", f",{space}")

    result = mirror.write(mirror.read_page([RawInvoice(text.encode())], at(0, 1)))

    assert result.created == ["inv1"]
    assert Invoice.objects.get().payload == exact_json.loads(text)
