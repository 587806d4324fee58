from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_orb import exact_json, raw
from django_orb.raw import RawInvoice

from .payloads import load

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(
    data=st.lists(JSON, max_size=5),
    more=st.dictionaries(st.text().filter(lambda name: name != "data"), JSON),
    indent=st.sampled_from([None, 0, 3]),
    first=st.booleans(),
)
def test_cutting_a_page_is_reading_it(
    data: list[Any], more: dict[str, Any], indent: int | None, first: bool
) -> None:
    page = {"data": data, **more} if first else {**more, "data": data}
    text = json.dumps(page, indent=indent)

    cut = raw._split(text.encode())
    cut_fast = raw._split_fast(text.encode())

    read = exact_json.loads(text)
    invoices = read.pop("data")
    ids = [one.get("id") if isinstance(one, dict) else None for one in invoices]
    for split in (cut, cut_fast):
        assert [invoice.value for invoice in split.invoices] == invoices
        assert [exact_json.loads(one.text) for one in split.invoices] == invoices
        assert [one.id for one in split.invoices] == ids
    assert cut.envelope == read
    metadata = read.get("pagination_metadata")
    assert cut_fast.envelope == {"pagination_metadata": metadata}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": {}}',
        b'{"data": []',
        b'{"data": [1 2]}',
        b'{"data": [1]} x',
        b'{"data": [NaN]}',
        b'{"data" []}',
        b'{"data": [], }',
        b'{"data": [\xff]}',
        b'{"data": ' + b"[" * 200_000,
    ],
)
@pytest.mark.parametrize("split", [raw._split, raw._split_fast])
def test_what_is_no_page_is_refused(split: Any, body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
        split(body)


def invoice(**changes: Any) -> RawInvoice:
    return RawInvoice.of({**load("invoice_issued"), **changes})


def test_signatures_of_the_invoices_own_links_leave_the_digest_alone() -> None:
    assert (
        invoice(hosted_invoice_url="https://orb.test/i?sig=1", invoice_pdf=None).digest
        == invoice(
            hosted_invoice_url="https://orb.test/i?sig=2", invoice_pdf=None
        ).digest
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hosted_invoice_url": "https://orb.test/a?x"}, {"hosted_invoice_url": None}),
        (
            {"hosted_invoice_url": "https://orb.test/a?x"},
            {"hosted_invoice_url": "https://orb.test/b?x"},
        ),
        (
            {"metadata": {"invoice_pdf": "https://mine.test/?1"}},
            {"metadata": {"invoice_pdf": "https://mine.test/?2"}},
        ),
        ({"memo": '"invoice_pdf": "a?1"'}, {"memo": '"invoice_pdf": "a?2"'}),
        ({"total": "1.0"}, {"total": "1.00"}),
    ],
)
def test_every_other_difference_changes_the_digest(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert invoice(**one).digest != invoice(**other).digest


def test_value_is_exact() -> None:
    assert RawInvoice('{"quantity": 1.10}').value == {"quantity": Decimal("1.1")}
