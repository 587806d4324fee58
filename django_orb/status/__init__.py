"""Tell whether all is well: note occurrences, read facts, draw findings."""

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
