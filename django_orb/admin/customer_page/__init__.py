"""The pages about one customer: what is owed and paid, forecasts, and the portal."""

from __future__ import annotations

from .forecasts import (
    read_forecasts,
)
from .portal import (
    PortalForm,
    open_portal,
)
from .sections import (
    find_customer,
    read_page,
)

__all__ = [
    "PortalForm",
    "find_customer",
    "open_portal",
    "read_forecasts",
    "read_page",
]
