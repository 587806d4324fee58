"""Read what the pages about one customer show, and do what they ask for."""

from __future__ import annotations

from .erasure import change_erasure, read_erasure
from .forecasts import read_forecasts
from .portal import PortalForm, open_portal
from .sections import find_customer, read_page
from .statements import PeriodForm, read_accounts, read_bill_to

__all__ = [
    "PeriodForm",
    "PortalForm",
    "change_erasure",
    "find_customer",
    "open_portal",
    "read_accounts",
    "read_bill_to",
    "read_erasure",
    "read_forecasts",
    "read_page",
]
