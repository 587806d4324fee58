from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_orb import exact_json, pages
from django_orb.pages import RawPage, guess_page

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

    cut = pages._split(text.encode())
    cut_fast = pages._split_fast(text.encode())

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
@pytest.mark.parametrize("split", [pages._split, pages._split_fast])
def test_what_is_no_page_is_refused(split: Any, body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
        split(body)


@pytest.fixture(params=[True, False], ids=["fast", "core"])
def any_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra [fast], and without."""
    monkeypatch.setattr(pages, "HAS_FAST", request.param)


def page_of(*invoices: Any, **dump: Any) -> bytes:
    metadata = {"has_more": True, "next_cursor": "next"}
    page = {"data": invoices, "pagination_metadata": metadata}
    return json.dumps(page, default=float, **dump).encode()


def texts(page: RawPage) -> list[tuple[str, bytes]]:
    return [(invoice.id, invoice.data) for invoice in page.invoices]


@pytest.mark.usefixtures("any_reader")
@pytest.mark.parametrize("dump", [{}, {"indent": 2}, {"separators": (",", ":")}])
def test_guess_finds_the_invoices_of_a_page_like_orbs(dump: dict[str, Any]) -> None:
    invoices = [{**load("invoice_issued"), "id": f"inv{number}"} for number in range(3)]
    body = page_of(*invoices, **dump)

    guessed = guess_page(body)
    is_guess = not guessed.is_certain

    assert is_guess
    assert guessed.envelope == pages.split_page(body).envelope | guessed.envelope
    assert texts(guessed) == texts(pages.split_page(body))
    guessed.ascertain()
    assert guessed.is_certain
    assert texts(guessed) == texts(pages.split_page(body))


@pytest.mark.usefixtures("any_reader")
@pytest.mark.parametrize(
    "body",
    [
        page_of(),
        page_of(7),
        page_of({"number": 1}),
        page_of({"id": 1, "number": 2}),
        page_of({"id": "a", "number": 1}, {"id": "a", "number": 2}),
        b'{"pagination_metadata": {}, "data": [{"id": "a", "n": 1}]}',
        b'{"data": [{"id": "a", "n": 1}], "x": 1, "pagination_metadata": {}}',
        b'{"data": [{"id": "a", "n": {"pagination_metadata": 1}}]}',
    ],
)
def test_where_there_is_nothing_to_guess_by_it_is_read(body: bytes) -> None:
    page = guess_page(body)

    assert page.is_certain
    assert texts(page) == texts(pages.split_page(body))


@pytest.mark.usefixtures("any_reader")
def test_what_is_no_text_is_not_guessed_at() -> None:
    body = page_of({"id": "x", "number": 1}).replace(b"x", b"\x80")

    with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
        guess_page(body)


@given(invoices=st.lists(st.dictionaries(st.sampled_from("ab") | st.just("id"), JSON)))
def test_guess_leaves_nothing_of_the_list_out(invoices: list[Any]) -> None:
    """So where each text is an invoice that was known, there is nothing else."""
    body = page_of(*invoices)

    page = guess_page(body)

    between, left = [], body
    for invoice in page.invoices:
        found, _, left = left.partition(invoice.data)
        between.append(found.strip())
    assert between == [b'{"data": [', *[b","] * (len(invoices) - 1)][: len(between)]
    assert left.startswith(b"], ") or not invoices
