from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_orb import exact_json
from django_orb.client.list_page import split_page

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

    cut = split_page(text.encode())

    read = exact_json.loads(text)
    invoices = read.pop("data")
    ids = [one.get("id") if isinstance(one, dict) else None for one in invoices]
    assert [invoice.value for invoice in cut.invoices] == invoices
    assert [exact_json.loads(one.text) for one in cut.invoices] == invoices
    assert [one.id for one in cut.invoices] == ids
    metadata = read.get("pagination_metadata")
    assert cut.envelope == {"pagination_metadata": metadata}


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
        b'{"data": ' + b"[" * 200_000,
    ],
)
def test_what_is_not_a_page_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
        split_page(body)


@pytest.mark.parametrize(
    "value",
    [
        b'"\xff"',
        b"9" * 5000,
        b"1e99999999999999999999",
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\\uDC00\\uD83D\\uDE00"',
        b'"\\\\\\ud800\\u0041 \\\\ud83d"',
    ],
    ids=[
        "not UTF-8",
        "many digits",
        "exponent",
        "NUL",
        "half of a surrogate pair",
        "half of a pair before a whole one",
        "half of a pair between backslashes",
    ],
)
def test_what_cannot_be_read_is_cut_out_alone(value: bytes) -> None:
    bad = b'{"id": "bad", "memo": ' + value + b"}"
    body = b'{"data": [{"id": "a"}, ' + bad + b', {"id": "b"}]}'

    invoices = split_page(body).invoices

    assert [one.id for one in invoices] == ["a", "bad", "b"]
    assert invoices[1].data == bad


def test_half_of_a_surrogate_pair_in_an_id_or_key_is_cut_out_alone() -> None:
    bad = [b'{"id": "\\ud800"}', b'{"\\udfff": {"\\ud800": 1}, "id": "x"}']
    body = b'{"data": [{"id": "a"}, ' + b", ".join(bad) + b', {"id": "b"}]}'

    invoices = split_page(body).invoices

    assert [one.id for one in invoices] == ["a", "\ud800", "x", "b"]
    assert [one.data for one in invoices[1:3]] == bad
