"""Read the options of commands that are days and times, each in one form."""

from __future__ import annotations

import argparse
from datetime import date, datetime

from django_orb.parsing import parse_day, parse_moment


def read_day(text: str) -> date:
    try:
        return parse_day(text)
    except ValueError as err:
        message = f"{text!r} is not a date such as 2026-01-31."
        raise argparse.ArgumentTypeError(message) from err


def read_moment(text: str) -> datetime:
    """Read a day, which stands for its beginning, or a time; UTC without an offset."""
    try:
        return parse_moment(text)
    except ValueError as err:
        message = (
            f"{text!r} is neither a date such as 2026-01-31 nor a time such as "
            "2026-01-31T09:30+01:00."
        )
        raise argparse.ArgumentTypeError(message) from err
