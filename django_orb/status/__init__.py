"""Whether all is well: what is noted for it, what is read, and what it means."""

from __future__ import annotations

from . import gauges
from .findings import Finding, Verdict
from .occurrences import note_refusal, noted
from .report import StatusReport, read_status

__all__ = [
    "Finding",
    "StatusReport",
    "Verdict",
    "gauges",
    "note_refusal",
    "noted",
    "read_status",
]
