"""Verify, store and process Orb's webhook events, and read Orb's list of them."""

from __future__ import annotations

from . import attempts, inbox, polling, processing
from .payload import OrbEvent, parse_event
from .signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign, verify_signature

__all__ = [
    "SIGNATURE_HEADER",
    "TIMESTAMP_HEADER",
    "OrbEvent",
    "attempts",
    "inbox",
    "parse_event",
    "polling",
    "processing",
    "sign",
    "verify_signature",
]
