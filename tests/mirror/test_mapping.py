from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from django_orb import exact_json
from django_orb.exceptions import OrbPayloadError
from django_orb.mirror.hashing import content_hash
from django_orb.mirror.mapping import fit_decimal, map_invoice
from django_orb.models import Invoice, InvoiceLineItem
from django_orb.parsing import parse_datetime, parse_decimal, read_decimal
from tests.payloads import load

UTC = timezone.utc


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2022-05-01T07:01:31+00:00", datetime(2022, 5, 1, 7, 1, 31, tzinfo=UTC)),
        ("2022-05-01T07:01:31Z", datetime(2022, 5, 1, 7, 1, 31, tzinfo=UTC)),
        ("2022-05-01T00:01:31-07:00", datetime(2022, 5, 1, 7, 1, 31, tzinfo=UTC)),
        ("2024-03-27T15:42:29.551", datetime(2024, 3, 27, 15, 42, 29, 551000, UTC)),
        ("2024-03-27T15:42:29.5Z", datetime(2024, 3, 27, 15, 42, 29, 500000, UTC)),
        (
            "2024-03-27T15:42:29.123456789Z",
            datetime(2024, 3, 27, 15, 42, 29, 123456, UTC),
        ),
        ("2022-05-01", datetime(2022, 5, 1, tzinfo=UTC)),
    ],
)
def test_every_form_of_date_that_orb_sends_is_read(
    text: str, expected: datetime
) -> None:
    parsed = parse_datetime(text)

    assert parsed == expected
    assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", ["", "soon", "2022-13-01", None, 20220501])
def test_what_is_no_date_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library words it
        parse_datetime(value)


@pytest.mark.parametrize(
    ("value", "digits", "fitted", "exact"),
    [
        ("12.50", None, "12.50", True),
        ("-0.000000000000000001", None, "-0.000000000000000001", True),
        ("0.0000000000000000001", None, "0", False),
        ("99999999999999999999.99", None, "99999999999999999999.99", True),
        ("99999999999999900001.99", 15, "99999999999999900001.99", False),
        ("99999999999999999999.99", 15, None, False),
        ("-99999999999999999999.99", 15, None, False),
        ("123456789012.345", 15, "123456789012.345", True),
        ("100000000000000000000", None, None, False),
        (
            "99999999999999999999.999999999",
            None,
            "99999999999999999999.999999999",
            True,
        ),
        (
            "-99999999999999999999.999999999999999999",
            None,
            "-99999999999999999999.999999999999999999",
            True,
        ),
        ("99999999999999999999.9999999999999999995", None, None, False),
    ],
)
def test_decimal_says_whether_a_column_holds_it(
    value: str, digits: int | None, fitted: str | None, exact: bool
) -> None:
    expected = None if fitted is None else Decimal(fitted)

    assert fit_decimal(Decimal(value), digits) == (expected, exact)


@pytest.mark.parametrize(
    "text",
    [
        *("1_000.00", " 1.00", "1.00 ", "1.00\n", "\u0661\u0662", "\uff11", "1\u0662"),
        *("1,000.00", "+1", "1.", ".5", "01", "0x1", "1e", "", "-", "NaN", "Infinity"),
    ],
)
def test_what_json_would_not_take_for_a_number_is_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        parse_decimal(text)

    assert read_decimal(text) is None


@pytest.mark.parametrize("text", ["0", "-0.00", "12.50", "1E+3", "1e-7", "9" * 40])
def test_number_is_read_with_all_its_digits(text: str) -> None:
    assert str(parse_decimal(text)) == str(read_decimal(text)) == str(Decimal(text))


def test_sample_of_every_status_maps_to_every_column() -> None:
    for name in ("draft", "issued", "paid", "void"):
        mapped = map_invoice(load(f"invoice_{name}"))

        ours = {"missing_since", "mirrored_at"}
        columns = {field.name for field in Invoice._meta.concrete_fields}
        assert set(mapped.columns) == columns - ours
        assert mapped.columns["status"] == name
        ours = {"id"}
        columns = {field.name for field in InvoiceLineItem._meta.concrete_fields}
        assert all(set(line) == columns - ours for line in mapped.lines)


def test_columns_agree_with_the_sample() -> None:
    columns = map_invoice(load("invoice_paid")).columns

    assert columns["paid_at"] == datetime(2026, 3, 20, 15, 2, 33, tzinfo=UTC)
    assert columns["payment_received_at"].second == 31
    assert columns["invoice_number_key"] == "qxwplm-00042"
    assert columns["will_auto_issue"] is False
    assert columns["memo"] == (load("invoice_paid")["memo"] or "")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "void"},
        {"amount_due": "510.250"},
        {"metadata": {"a": "b"}},
        {"invoice_pdf": "https://orb.test/first.pdf"},
        {"line_items": []},
        {"unknown": None},
    ],
)
def test_every_difference_in_content_changes_the_hash(change: dict[str, Any]) -> None:
    payload = {**load("invoice_issued"), "invoice_pdf": None}

    assert content_hash({**payload, **change}) != content_hash(payload)


def test_signatures_of_links_do_not_change_the_hash() -> None:
    def signed(signature: str) -> dict[str, Any]:
        payload = load("invoice_paid")
        payload["hosted_invoice_url"] = f"https://orb.test/i?{signature}"
        payload["payment_attempts"][0]["receipt_pdf"] = (
            f"https://orb.test/r?{signature}"
        )
        return payload

    assert content_hash(signed("a")) == content_hash(signed("b"))


@pytest.mark.parametrize(
    ("one", "other"), [("1.50", "1.5"), ("100", "1E2"), ("0", "0.0")]
)
def test_equal_numbers_give_equal_hashes(one: str, other: str) -> None:
    def payload(number: str) -> dict[str, Any]:
        text = f'{{"id": "a", "quantity": {number}}}'
        loaded: dict[str, Any] = exact_json.loads(text)
        return loaded

    assert content_hash(payload(one)) == content_hash(payload(other))


def test_line_that_stands_twice_fails_the_invoice() -> None:
    payload = load("invoice_issued")
    payload["line_items"].append(payload["line_items"][0])

    with pytest.raises(OrbPayloadError, match="same id twice"):
        map_invoice(payload)
