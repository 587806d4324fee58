from __future__ import annotations

import pytest

from django_orb.db import format_rows, insert, uses_copy
from django_orb.models import OverdueNotice

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
