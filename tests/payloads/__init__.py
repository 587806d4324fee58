"""
Answers of Orb, as JSON.

The values are invented; the shape is that of Orb's own SDK under strict
validation, and the sums are right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django_orb import exact_json


def load(name: str) -> dict[str, Any]:
    """Read a fresh copy of one sample, numbers exact."""
    text = (Path(__file__).parent / f"{name}.json").read_bytes()
    payload: dict[str, Any] = exact_json.loads(text)
    return payload
