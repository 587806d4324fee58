from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.utils import translation

from django_orb import formatting
from django_orb.parsing import parse_datetime


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0", "0.00 USD"),
        ("-0.00", "0.00 USD"),
        ("12.5", "12.50 USD"),
        ("12.000000000000000000", "12.00 USD"),
        ("1234567.891", "1,234,567.891 USD"),
        ("-1234.5", "-1,234.50 USD"),
        ("0.000000000000000001", "0.000000000000000001 USD"),
        ("1E+5", "100,000.00 USD"),
        ("99999999999999999999.123456789012345678",
         "99,999,999,999,999,999,999.123456789012345678 USD"),
    ],
)  # fmt: skip
def test_amounts_keep_every_digit_and_at_least_two_places(
    amount: str, written: str
) -> None:
    assert formatting.money(Decimal(amount), "USD") == written


def test_amounts_follow_the_language_of_the_reader() -> None:
    with translation.override("de"):
        assert formatting.money(Decimal("1234.5"), "EUR") == "1.234,50 EUR"


def test_no_amount_is_nothing() -> None:
    assert formatting.money(None, "USD") == ""


@pytest.mark.parametrize(
    ("value", "written"),
    [("1", "1"), ("42500.50", "42,500.5"), ("1.0", "1"), ("0.25", "0.25")],
)
def test_quantities_have_no_needless_zeros(value: str, written: str) -> None:
    assert formatting.quantity(Decimal(value)) == written


def test_orbs_dates_are_days_of_the_reports_time_zone(settings: Any) -> None:
    midnight_in_los_angeles = parse_datetime("2026-03-01T08:00:00+00:00")

    assert formatting.report_day(midnight_in_los_angeles) == "1 Mar 2026"
    assert formatting.report_short(midnight_in_los_angeles) == "1 Mar 2026, 08:00 UTC"
    assert formatting.utc_moment(midnight_in_los_angeles) == "1 Mar 2026, 08:00 UTC"
    assert formatting.report_short(parse_datetime("2026-03-01")) == "1 Mar 2026"
    zone = "America/Los_Angeles"
    settings.DJANGO_ORB = {**settings.DJANGO_ORB, "REPORT_TIME_ZONE": zone}
    assert formatting.report_short(midnight_in_los_angeles) == "1 Mar 2026"
    in_zone = formatting.report_short(parse_datetime("2026-03-01"))
    assert in_zone == "28 Feb 2026, 16:00 PST"
    assert formatting.report_day(None) == formatting.report_short(None) == ""


def test_our_own_times_are_in_the_sites_zone_and_say_so() -> None:
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)

    assert formatting.local_moment(moment) == "1 Mar 2026, 04:00 PST"


def test_an_age_below_a_minute_is_not_zero_minutes() -> None:
    now = datetime.now(timezone.utc)

    assert formatting.ago(now) == "less than a minute ago"
    assert formatting.ago(now - timedelta(minutes=5)) == "5\xa0minutes ago"


@pytest.mark.parametrize(
    "url", ["https://portal.withorb.com/view?token=x", "http://127.0.0.1:8000/pdf"]
)
def test_http_addresses_are_links(url: str) -> None:
    assert formatting.safe_link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        5,
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\nscript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "//evil.example/x",
        "https:",
        "http://[",
    ],
)
def test_nothing_else_is_a_link(url: object) -> None:
    assert formatting.safe_link(url) == ""
    assert formatting.safe_link(url, or_path=True) == ""


@pytest.mark.parametrize("url", ["/", "/accounts/7/", "/a?next=//b.example/#c", "/ä:b"])
def test_a_path_of_the_site_is_a_link_where_the_project_gives_it(url: str) -> None:
    assert formatting.safe_link(url, or_path=True) == url
    assert formatting.safe_link(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        # Browsers leave these characters out.
        "/\t/evil.example",
        "/\n//evil.example",
        "/\r\\evil.example",
        " //evil.example",
        "\x01//evil.example",
        "accounts/7/",
        "/accounts/\ud800/",
        "//[",
    ],
)
def test_what_a_browser_takes_for_another_site_is_no_path(url: str) -> None:
    assert formatting.safe_link(url, or_path=True) == ""
