"""The copy of Orb's invoices: which answer counts, and how it is written."""

from __future__ import annotations

from . import blanking, change_log, erased, failure_reasons, fetching, personal
from .change_log import Origin
from .failure_reasons import Told
from .fetching import (
    fetch_until_ordered,
    observe_existing,
    observe_invoice,
    observe_invoices,
    store,
)
from .mapping import digits_kept, map_columns
from .observation_sql import claim_observations
from .ordering import NO_ID, map_ahead
from .receivers import call_receivers, send_robust
from .upcoming import UpcomingInvoice, UpcomingLineItem, read_upcoming
from .writing import (
    LAG,
    Observation,
    WriteResult,
    fetch_later,
    read_page,
    versions,
    write,
    write_again,
)

__all__ = [
    "LAG",
    "NO_ID",
    "Observation",
    "Origin",
    "Told",
    "UpcomingInvoice",
    "UpcomingLineItem",
    "WriteResult",
    "blanking",
    "call_receivers",
    "change_log",
    "claim_observations",
    "digits_kept",
    "erased",
    "failure_reasons",
    "fetch_later",
    "fetch_until_ordered",
    "fetching",
    "map_ahead",
    "map_columns",
    "observe_existing",
    "observe_invoice",
    "observe_invoices",
    "personal",
    "read_page",
    "read_upcoming",
    "send_robust",
    "store",
    "versions",
    "write",
    "write_again",
]
